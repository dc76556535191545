# SPDX-License-Identifier: Apache-2.0
"""The health of the image restorer as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .diagnostics import WINDOW, milliseconds
from .mask_stream import MaskStream

ERROR_SECONDS = 2.0  # how long an error of a callback is shown


@dataclass
class RestorerHealth:
    """Running figures of the node. Times are seconds of a steady clock.

    Attributes:
        lifecycle: label of the lifecycle state.
        problem: why the last lifecycle transition failed; empty when it did not.
        device: where the solver runs.
        restored, refused: images.
        residual, agreement: of the last one, see :class:`~dfips_ros.tasks.deblocking.Restoration`.
        stream: arrivals of the compressed images.
    """

    lifecycle: str = "unconfigured"
    problem: str = ""
    device: str = ""
    restored: int = 0
    refused: int = 0
    residual: float = 0.0
    agreement: float = 0.0
    last_error: str = ""
    last_error_time: float | None = None
    active_since: float | None = None
    stream: MaskStream = field(default_factory=MaskStream)
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    node_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an image that was refused, or of another error in a callback."""
        self.refused += site == "image"
        self.last_error, self.last_error_time = f"{site}: {text}", now

    def message(self, name: str, now: float) -> DiagnosticStatus:
        """The message."""
        level, text = self._verdict(now)
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
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=text, hardware_id=self.device, values=pairs)

    def _verdict(self, now: float) -> tuple[bytes, str]:
        if self.problem:
            return DiagnosticStatus.ERROR, self.problem
        if self.active_since is None:
            return DiagnosticStatus.OK, f"{self.lifecycle}: not restoring"
        if self.last_error_time is not None and now - self.last_error_time < ERROR_SECONDS:
            return DiagnosticStatus.ERROR, self.last_error
        silence = self.stream.silence(now)
        if silence is None or silence > ERROR_SECONDS:
            return DiagnosticStatus.WARN, "no images"
        return DiagnosticStatus.OK, f"restoring at {self.stream.rate(now):.1f} Hz"
