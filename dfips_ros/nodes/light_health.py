# SPDX-License-Identifier: Apache-2.0
"""The health of the light estimator as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from .health import WINDOW, CameraHealth, Verdict, milliseconds, status_message
from .mask_stream import MaskStream

STATUS_NAMES = ("REFUSED", "ESTIMATED", "UNCERTAIN")  # as dfips_ros/msg/LightEstimate numbers them


@dataclass
class LightHealth(CameraHealth):
    """Running figures of the node.

    Attributes:
        status, reason, residual: of the last image.
        images, poses: arrivals.
        counts: images by status.
        period: shortest time between two answers [s].
    """

    status: str = "none"
    reason: str = ""
    residual: float = 0.0
    period: float = 0.0
    images: MaskStream = field(default_factory=MaskStream)
    poses: MaskStream = field(default_factory=MaskStream)
    counts: Counter[str] = field(default_factory=Counter)
    answers: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    node_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def note_answer(self, status: int, reason: str, now: float) -> None:
        """Take note of an answer."""
        self.status, self.reason = STATUS_NAMES[status], reason
        self.counts[self.status] += 1
        self.answers.append(now)

    def rate(self, now: float) -> float:
        """Answers per second over the last ones; 0 when none came for two seconds."""
        if len(self.answers) < 2 or now - self.answers[-1] > 2.0:
            return 0.0
        return (len(self.answers) - 1) / max(self.answers[-1] - self.answers[0], 1e-9)

    def message(
        self, name: str, hardware_id: str, now: float, timeout: float, topics: dict[str, str]
    ) -> DiagnosticStatus:
        """The message. ``timeout``: silence [s] of the images that is a fault. ``topics``: of image, camera_info."""
        values = {
            "lifecycle state": self.lifecycle,
            "last status": self.status,
            "last reason": self.reason,
            "residual": f"{self.residual:.4f}",
            "solve time median (ms)": milliseconds(self.solve_times, 50),
            "solve time p99 (ms)": milliseconds(self.solve_times, 99),
            "callback median (ms)": milliseconds(self.node_times, 50),
            "answers per second": f"{self.rate(now):.1f}",
            "image rate (Hz)": f"{self.images.rate(now):.1f}",
            "pose rate (Hz)": f"{self.poses.rate(now):.1f}",
            "images received": str(self.images.received),
            "images late": str(self.images.late),
            **{f"images {name.lower()}": str(self.counts[name]) for name in STATUS_NAMES},
            "camera_info problem": self.camera_problem,
            "last error": self.last_error,
        }
        return status_message(name, hardware_id, self._verdict(now, timeout, topics), values)

    def _verdict(self, now: float, timeout: float, topics: dict[str, str]) -> Verdict:
        if (idle := self.idle("not estimating")) is not None:
            return idle
        silence, what = self.images.silence(now), f"image on {topics['image']}"
        fault = (
            self.inputs(now, timeout, topics["camera_info"], silence, what)
            or self.recent_error(now)
            or self.camera_refused()
        )
        if fault is not None:
            return fault
        if self.answers and now - self.answers[-1] > timeout + self.period:
            late = f"; {self.images.late} had stamps that are repeated or older" if self.images.late else ""
            return DiagnosticStatus.WARN, f"no answer for {now - self.answers[-1]:.1f} s, though images come{late}"
        if self.status != "ESTIMATED":
            return DiagnosticStatus.WARN, f"{self.status}: {self.reason}" if self.reason else "no answer yet"
        return DiagnosticStatus.OK, f"estimating at {self.rate(now):.1f} Hz"
