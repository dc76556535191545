# SPDX-License-Identifier: Apache-2.0
"""The health of the grasp target node as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from .health import ERROR_SECONDS, NodeHealth, Verdict, status_message
from .mask_stream import MaskStream


@dataclass
class GraspHealth(NodeHealth):
    """Running figures of the node.

    Attributes:
        reason: why the last pose gave no target; empty when it did.
        offset, standoff: how far the last target stayed back, and how far it is to [m].
        deviations: standard deviations of the last pose: grasp point [m], rotation [rad].
        poses: arrivals.
        notes: what does not change while configured.
    """

    reason: str = ""
    targets: int = 0
    refused: int = 0
    offset: float = 0.0
    standoff: float = 0.0
    age: float = 0.0
    iou: float = 0.0
    deviations: tuple[float, float] = (0.0, 0.0)
    poses: MaskStream = field(default_factory=MaskStream)
    notes: Mapping[str, str] = field(default_factory=dict)

    def message(self, name: str, hardware_id: str, now: float, topic: str) -> DiagnosticStatus:
        """The message. ``topic``: where the poses come from."""
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
        return status_message(name, hardware_id, self._verdict(now, topic), values)

    def _verdict(self, now: float, topic: str) -> Verdict:
        fault = self.idle("no targets") or self.recent_error(now)
        if fault is not None:
            return fault
        silence = self.poses.silence(now)
        if silence is None or silence > ERROR_SECONDS:
            since = "" if silence is None else f" for {silence:.1f} s"
            return DiagnosticStatus.WARN, f"no pose on {topic}{since}"
        if self.reason:
            return DiagnosticStatus.WARN, f"no target: {self.reason}"
        text = f"targets at {self.poses.rate(now):.1f} Hz, {1e3 * self.offset:.0f} mm back"
        moves = abs(self.standoff - self.offset) > 1e-6
        return DiagnosticStatus.OK, f"{text}, on the way to {1e3 * self.standoff:.0f} mm" if moves else text
