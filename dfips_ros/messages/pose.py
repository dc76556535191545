# SPDX-License-Identifier: Apache-2.0
"""geometry_msgs/Pose -> a rigid transform."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import PoseError
from ..geometry import make_pose, matrix_from_quaternion_xyzw

QUATERNION_TOLERANCE = 0.01


def matrix_from_pose(pose: Any, name: str = "pose") -> np.ndarray:
    """Rigid transform of a pose message. -> (4, 4) float64.

    Raises:
        PoseError: NaN, or a quaternion whose length is off 1 by more than 0.01.
    """
    position = np.array([pose.position.x, pose.position.y, pose.position.z])
    quaternion = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
        raise PoseError(
            f"{name}: expected finite numbers, got position {position.tolist()} and quaternion {quaternion.tolist()}."
        )
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > QUATERNION_TOLERANCE:
        raise PoseError(
            f"{name}: expected a unit quaternion (x, y, z, w), got {quaternion.tolist()} of length "
            f"{length:.4g}. Normalise it; no rotation is (0, 0, 0, 1)."
        )
    return make_pose(matrix_from_quaternion_xyzw(quaternion), position)
