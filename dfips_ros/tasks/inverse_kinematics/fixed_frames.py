# SPDX-License-Identifier: Apache-2.0
"""Where links lie that do not move with respect to the base, or the tip, of an arm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import PoseError


class FixedFrames:
    """Poses of a robot's links relative to a base link, where no joint lies between the two.

    Args:
        model: the whole robot in Pinocchio.
        base: link that stands for an empty name.
    """

    def __init__(self, model: Any, base: str) -> None:
        import pinocchio

        body = pinocchio.FrameType.BODY
        self.base = base
        self._frames = {f.name: (f.parentJoint, f.placement.homogeneous) for f in model.frames if f.type == body}
        self._joints = list(model.names)

    def pose(self, link: str) -> np.ndarray:
        """T_base_link (4, 4).

        Raises:
            PoseError: no such link, or a joint moves it with respect to the base.
        """
        if not link:
            return np.eye(4)
        if link not in self._frames:
            hint = " A frame name does not begin with '/'." if link.startswith("/") else ""
            raise PoseError(
                f"frame_id='{link}': the robot has no such link, so where it lies is not known.{hint} Transform the "
                f"pose to '{self.base}' first."
            )
        joint, placement = self._frames[link]
        base_joint, base_placement = self._frames[self.base]
        if joint != base_joint:
            mover = self._joints[joint] if joint else self._joints[base_joint]
            raise PoseError(
                f"frame_id='{link}': joint '{mover}' moves it with respect to '{self.base}'. Transform the pose to "
                f"'{self.base}' first."
            )
        return np.linalg.inv(base_placement) @ placement
