# SPDX-License-Identifier: Apache-2.0
"""The health of the inverse kinematics node as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from .health import WINDOW, NodeHealth, Verdict, milliseconds, status_message
from .mask_stream import MaskStream

STATUS_NAMES = ("SOLVED", "APPROXIMATE", "FAILED", "REFUSED")
READY = "waiting for a target"


@dataclass
class IkHealth(NodeHealth):
    """Running figures of the node.

    Attributes:
        status, reason: of the last target.
        counts: targets by status.
        targets: arrivals of the targets.
        notes: what does not change while configured: weights, service, odd things in the URDF.
    """

    status: str = "none"
    reason: str = ""
    position_error: float = 0.0
    orientation_error: float = 0.0
    jump: float = 0.0
    failures: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    targets: MaskStream = field(default_factory=MaskStream)
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reported = 0

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an error in a callback."""
        self.failures += 1
        super().note_error(site, text, now)

    def message(
        self, name: str, hardware_id: str, now: float, joint_problem: str, joint_age: float | None
    ) -> DiagnosticStatus:
        """The message. ``joint_problem``: why the joints are no seed; empty when they are."""
        level, text = self._verdict(now, joint_problem)
        unsolved = self.targets.received - self.counts["SOLVED"] - self.counts["APPROXIMATE"]
        new, self._reported = unsolved - self._reported, unsolved
        if new > 0 and self.active_since is not None:
            level = max(level, DiagnosticStatus.WARN)
            text = f"{text}; {new} targets without a solution since the last report"
        return status_message(name, hardware_id, (level, text), {**self.notes, **self._values(now, joint_age)})

    def _verdict(self, now: float, joint_problem: str) -> Verdict:
        fault = self.idle("not solving") or self.recent_error(now)
        if fault is not None:
            return fault
        if joint_problem:
            return DiagnosticStatus.WARN, joint_problem
        if self.status == "none":
            return DiagnosticStatus.OK, READY
        good = self.status == "SOLVED"
        return (DiagnosticStatus.OK if good else DiagnosticStatus.WARN), (
            f"{self.status}: {self.reason}" if self.reason else self.status
        )

    def _values(self, now: float, joint_age: float | None) -> dict[str, str]:
        return {
            "lifecycle state": self.lifecycle,
            "last status": self.status,
            "last reason": self.reason,
            "position error (mm)": f"{1e3 * self.position_error:.4f}",
            "orientation error (rad)": f"{self.orientation_error:.6f}",
            "jump from the seed": f"{self.jump:.4f}",
            "solve time median (ms)": milliseconds(self.solve_times, 50),
            "solve time p99 (ms)": milliseconds(self.solve_times, 99),
            "target rate (Hz)": f"{self.targets.rate(now):.1f}",
            "targets received": str(self.targets.received),
            "targets dropped": str(self.targets.dropped),
            "targets late": str(self.targets.late),
            **{f"targets {name.lower()}": str(self.counts[name]) for name in STATUS_NAMES},
            "failures": str(self.failures),
            "last error": self.last_error,
            "joint_states age (s)": "none" if joint_age is None else f"{joint_age:.2f}",
        }
