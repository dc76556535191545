# SPDX-License-Identifier: Apache-2.0
"""How certain a pose is: the inverse of the contour's information matrix, moved to the camera frame."""

from __future__ import annotations

import numpy as np

from ...geometry import make_pose

# What is known before looking: a direction that the silhouette does not constrain keeps this spread.
_PRIOR_SIGMA = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.3])  # radians, diameters, log-depth
_CORRELATED_ROWS = 8.0  # neighbouring contour points share their error: so many rows count as one measurement


def update_covariance(
    jacobian: np.ndarray, residual: np.ndarray, weight: np.ndarray, pixel: float, inflation: float = 1.0
) -> np.ndarray:
    """Covariance of the last update of ``Se3ImageSpace``.

    Args:
        jacobian: (N, 6) contour rows at the estimate.
        residual: (N,) in diameters.
        weight: (N,) robust weights, 0 for rows that are not known.
        pixel: size of a pixel in diameters; the contour is not known better than a fraction of it.
        inflation: factor on the standard deviation.

    Returns:
        (6, 6): rotation about the object's center (radians), image shift (diameters), log-depth.
    """
    total = max(weight.sum(), 1.0)
    variance = float((weight * residual**2).sum() / total) + (0.3 * pixel) ** 2
    information = (jacobian * weight[:, None]).T @ jacobian / (_CORRELATED_ROWS * variance * inflation**2)
    return np.linalg.inv(information + np.diag(_PRIOR_SIGMA**-2.0))


def pose_covariance(
    covariance: np.ndarray,
    T_virtual_object: np.ndarray,
    diameter: float,
    center: np.ndarray,
    R_virtual_camera: np.ndarray,
) -> np.ndarray:
    """Covariance in the order of ROS.

    Args:
        covariance: (6, 6) from :func:`update_covariance`.
        T_virtual_object: (4, 4) pose of the normalised object in the virtual camera.
        diameter: of the object, metres.
        center: (3,) of the mesh, metres; rotations turn about it.
        R_virtual_camera: (3, 3).

    Returns:
        (6, 6): position of the object's origin (x, y, z, metres), then rotation about the fixed axes of the real
        camera's frame (radians).
    """
    x, y, z = T_virtual_object[:3, 3]
    arm = T_virtual_object[:3, :3] @ center
    skew = np.array([[0, -arm[2], arm[1]], [arm[2], 0, -arm[0]], [-arm[1], arm[0], 0]])
    moved = np.zeros((6, 6))
    # The origin is the center minus the rotated arm: d(origin) = d(center) - w x arm = d(center) + arm x w.
    moved[:3, :3] = skew
    moved[:3, 3:] = diameter * np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, z]])
    moved[3:, :3] = np.eye(3)
    back = np.zeros((6, 6))
    back[:3, :3] = back[3:, 3:] = R_virtual_camera.T
    transform = back @ moved
    out = transform @ covariance @ transform.T
    return (out + out.T) / 2.0


def normalised_pose(T_camera_object: np.ndarray, center: np.ndarray, diameter: float) -> np.ndarray:
    """Poses (..., 4, 4) of a mesh in metres -> of the mesh centered at the origin with diameter one."""
    rotation = T_camera_object[..., :3, :3]
    return make_pose(rotation, (T_camera_object[..., :3, 3] + rotation @ center) / diameter)


def metric_pose(T_normalised: np.ndarray, center: np.ndarray, diameter: float) -> np.ndarray:
    """The inverse of :func:`normalised_pose`."""
    rotation = T_normalised[..., :3, :3]
    return make_pose(rotation, T_normalised[..., :3, 3] * diameter - rotation @ center)
