# SPDX-License-Identifier: Apache-2.0
"""The health of the image restorer as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from .health import ERROR_SECONDS, WINDOW, NodeHealth, Verdict, milliseconds, status_message
from .mask_stream import MaskStream


@dataclass
class RestorerHealth(NodeHealth):
    """Running figures of the node.

    Attributes:
        device: where the solver runs.
        restored, refused: images.
        residual, agreement: of the last one, see :class:`~dfips_ros.tasks.deblocking.Restoration`.
        stream: arrivals of the compressed images.
    """

    device: str = ""
    restored: int = 0
    refused: int = 0
    residual: float = 0.0
    agreement: float = 0.0
    stream: MaskStream = field(default_factory=MaskStream)
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    node_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def __post_init__(self) -> None:
        self._reported_late = 0

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an image that was refused, or of another error in a callback."""
        self.refused += site == "image"
        super().note_error(site, text, now)

    def message(self, name: str, now: float) -> DiagnosticStatus:
        """The message."""
        values = {
            "lifecycle state": self.lifecycle,
            "device": self.device,
            "images received": str(self.stream.received),
            "images restored": str(self.restored),
            "images refused": str(self.refused),
            "images dropped": str(self.stream.dropped),
            "images late": str(self.stream.late),
            "input rate (Hz)": f"{self.stream.rate(now):.1f}",
            "solve time median (ms)": milliseconds(self.solve_times, 50),
            "solve time p99 (ms)": milliseconds(self.solve_times, 99),
            "callback median (ms)": milliseconds(self.node_times, 50),
            "residual (grey levels)": f"{self.residual:.3f}",
            "coefficients that agree (%)": f"{100.0 * self.agreement:.3f}",
            "last error": self.last_error,
        }
        return status_message(name, self.device, self._verdict(now), values)

    def _verdict(self, now: float) -> Verdict:
        new_late, self._reported_late = self.stream.late - self._reported_late, self.stream.late
        fault = self.idle("not restoring") or self.recent_error(now)
        if fault is not None:
            return fault
        silence = self.stream.silence(now)
        if silence is None or silence > ERROR_SECONDS:
            return DiagnosticStatus.WARN, "no images"
        if new_late > 0:
            return DiagnosticStatus.WARN, f"{new_late} images left out since the last report: stamps repeated or older"
        return DiagnosticStatus.OK, f"restoring at {self.stream.rate(now):.1f} Hz"
