# SPDX-License-Identifier: Apache-2.0
"""The health of the light estimator as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .diagnostics import WINDOW, milliseconds
from .mask_stream import MaskStream

STATUS_NAMES = ("REFUSED", "ESTIMATED", "UNCERTAIN")  # as dfips_ros/msg/LightEstimate numbers them
ERROR_SECONDS = 2.0  # how long an error of a callback is shown


@dataclass
class LightHealth:
    """Running figures of the node. Times are seconds of a steady clock.

    Attributes:
        lifecycle: label of the lifecycle state.
        problem: why the last lifecycle transition failed; empty when it did not.
        status, reason, residual: of the last image.
        camera_problem: why the last camera_info was refused; empty when it was not.
        images, poses: arrivals.
        counts: images by status.
    """

    lifecycle: str = "unconfigured"
    problem: str = ""
    status: str = "none"
    reason: str = ""
    residual: float = 0.0
    last_error: str = ""
    last_error_time: float | None = None
    camera_time: float | None = None
    camera_problem: str = ""
    active_since: float | None = None
    images: MaskStream = field(default_factory=MaskStream)
    poses: MaskStream = field(default_factory=MaskStream)
    counts: Counter[str] = field(default_factory=Counter)
    answers: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    node_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an error in a callback."""
        self.last_error, self.last_error_time = f"{site}: {text}", now

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
        level, text = self._verdict(now, timeout, topics)
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
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware_id, values=pairs)

    def _verdict(self, now: float, timeout: float, topics: dict[str, str]) -> tuple[bytes, str]:
        if self.problem:
            return DiagnosticStatus.ERROR, self.problem
        if self.active_since is None:
            return DiagnosticStatus.OK, f"{self.lifecycle}: not estimating"
        waited = now - self.active_since
        if self.camera_time is None:
            level = DiagnosticStatus.ERROR if waited > timeout or self.camera_problem else DiagnosticStatus.WARN
            cause = f": {self.camera_problem}" if self.camera_problem else ""
            return level, f"no usable camera_info on {topics['camera_info']} for {waited:.1f} s{cause}"
        silence = self.images.silence(now)
        silence = waited if silence is None else min(silence, waited)
        if silence > timeout:
            return DiagnosticStatus.WARN, f"no image on {topics['image']} for {silence:.1f} s"
        if self.last_error_time is not None and now - self.last_error_time < ERROR_SECONDS:
            return DiagnosticStatus.ERROR, self.last_error
        if self.camera_problem:
            return DiagnosticStatus.WARN, f"camera_info refused, the previous one is used: {self.camera_problem}"
        if self.status != "ESTIMATED":
            return DiagnosticStatus.WARN, f"{self.status}: {self.reason}" if self.reason else "no answer yet"
        return DiagnosticStatus.OK, f"estimating at {self.rate(now):.1f} Hz"
