# SPDX-License-Identifier: Apache-2.0
"""Where a body will be that goes on as between two poses."""

from __future__ import annotations

import cv2
import numpy as np

from ...checks import check_range
from ...geometry import make_pose


def predict_pose(before: np.ndarray, last: np.ndarray, ratio: float, center: np.ndarray) -> np.ndarray:
    """The pose after ``ratio`` times the motion from ``before`` to ``last``, at constant velocity.

    The body turns about ``center``, which moves in a straight line: c = c_last + ratio (c_last - c_before),
    R = exp(ratio log(R_last R_before^T)) R_last.

    Args:
        before, last: (4, 4) poses T_camera_object.
        ratio: time ahead over the time between the two, >= 0.
        center: (3,) in the object's frame.

    Returns:
        (4, 4).
    """
    check_range("ratio", ratio, 0.0)
    turn, _ = cv2.Rodrigues(last[:3, :3] @ before[:3, :3].T)
    rotation = cv2.Rodrigues(turn * ratio)[0] @ last[:3, :3]
    here, there = (pose[:3, :3] @ center + pose[:3, 3] for pose in (last, before))
    return make_pose(rotation, here + ratio * (here - there) - rotation @ center)


def predicted_covariance(covariance: np.ndarray, ratio: float) -> np.ndarray:
    """Covariance (6, 6) of :func:`predict_pose`, for two poses that are equally sure and independent.

    x = (1 + ratio) x_last - ratio x_before, so it is ((1 + ratio)^2 + ratio^2) times that of one pose, to first order.
    """
    return np.asarray(covariance) * ((1.0 + ratio) ** 2 + ratio**2)
