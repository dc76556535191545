# SPDX-License-Identifier: Apache-2.0
"""The health of the grasp target node as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .mask_stream import MaskStream

ERROR_SECONDS = 2.0  # how long an error of a callback is shown, and a silence is none


@dataclass
class GraspHealth:
    """Running figures of the node. Times are seconds of a steady clock.

    Attributes:
        lifecycle: label of the lifecycle state.
        problem: why the last lifecycle transition failed; empty when it did not.
        reason: why the last pose gave no target; empty when it did.
        offset: how far the last target stayed back [m].
        deviations: standard deviations of the last pose: grasp point [m], rotation [rad].
        poses: arrivals.
        notes: what does not change while configured.
    """

    lifecycle: str = "unconfigured"
    problem: str = ""
    reason: str = ""
    targets: int = 0
    refused: int = 0
    offset: float = 0.0
    age: float = 0.0
    iou: float = 0.0
    deviations: tuple[float, float] = (0.0, 0.0)
    last_error: str = ""
    last_error_time: float | None = None
    active_since: float | None = None
    poses: MaskStream = field(default_factory=MaskStream)
    notes: Mapping[str, str] = field(default_factory=dict)

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an error in a callback."""
        self.last_error, self.last_error_time = f"{site}: {text}", now

    def message(self, name: str, hardware_id: str, now: float, topic: str) -> DiagnosticStatus:
        """The message. ``topic``: where the poses come from."""
        level, text = self._verdict(now, topic)
        values = {
            **self.notes,
            "lifecycle state": self.lifecycle,
            "last reason": self.reason,
            "poses received": str(self.poses.received),
            "pose rate (Hz)": f"{self.poses.rate(now):.1f}",
            "targets published": str(self.targets),
            "poses without a target": str(self.refused),
            "standoff now (m)": f"{self.offset:.4f}",
            "pose age (s)": f"{self.age:.3f}",
            "silhouette IoU": f"{self.iou:.3f}",
            "grasp point deviation (mm)": f"{1e3 * self.deviations[0]:.2f}",
            "rotation deviation (rad)": f"{self.deviations[1]:.4f}",
            "last error": self.last_error,
        }
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware_id, values=pairs)

    def _verdict(self, now: float, topic: str) -> tuple[bytes, str]:
        if self.problem:
            return DiagnosticStatus.ERROR, self.problem
        if self.active_since is None:
            return DiagnosticStatus.OK, f"{self.lifecycle}: no targets"
        if self.last_error_time is not None and now - self.last_error_time < ERROR_SECONDS:
            return DiagnosticStatus.ERROR, self.last_error
        silence = self.poses.silence(now)
        if silence is None or silence > ERROR_SECONDS:
            since = "" if silence is None else f" for {silence:.1f} s"
            return DiagnosticStatus.WARN, f"no pose on {topic}{since}"
        if self.reason:
            return DiagnosticStatus.WARN, f"no target: {self.reason}"
        return DiagnosticStatus.OK, f"targets at {self.poses.rate(now):.1f} Hz, {1e3 * self.offset:.0f} mm back"
