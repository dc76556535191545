# SPDX-License-Identifier: Apache-2.0
"""How certain a pose is: the inverse of the contour's information matrix, moved to the camera frame."""

from __future__ import annotations

import numpy as np

from ...geometry import make_pose

# What is known before looking: a direction that the silhouette does not constrain keeps this spread.
_PRIOR_SIGMA = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.3])  # radians, diameters, log-depth
_CORRELATED_ROWS = 8.0  # neighbouring contour points share their error: so many rows count as one measurement


def update_covariance(
    jacobian: np.ndarray, residual: np.ndarray, weight: np.ndarray, pixel: float | np.ndarray, inflation: float = 1.0
) -> np.ndarray:
    """Covariance of the last update of ``Se3ImageSpace``.

    Args:
        jacobian: (..., N, 6) contour rows at the estimate.
        residual: (..., N) in diameters.
        weight: (..., N) robust weights, 0 for rows that are not known.
        pixel: (...) size of a pixel in diameters; the contour is not known better than a fraction of it.
        inflation: factor on the standard deviation.

    Returns:
        (..., 6, 6): rotation about the object's center (radians), image shift (diameters), log-depth.
    """
    total = np.maximum(weight.sum(-1), 1.0)
    variance = (weight * residual**2).sum(-1) / total + (0.3 * pixel) ** 2
    weighted = (jacobian * weight[..., None]).swapaxes(-1, -2)
    information = weighted @ jacobian / (_CORRELATED_ROWS * inflation**2 * np.asarray(variance)[..., None, None])
    return np.linalg.inv(information + np.diag(_PRIOR_SIGMA**-2.0))


def pose_covariance(
    covariance: np.ndarray,
    T_virtual_object: np.ndarray,
    diameter: float | np.ndarray,
    center: np.ndarray,
    R_virtual_camera: np.ndarray,
) -> np.ndarray:
    """Covariance in the order of ROS.

    Args:
        covariance: (..., 6, 6) from :func:`update_covariance`.
        T_virtual_object: (..., 4, 4) pose of the normalised object in the virtual camera.
        diameter: (...) of the object, metres.
        center: (..., 3) of the mesh, metres; rotations turn about it.
        R_virtual_camera: (..., 3, 3).

    Returns:
        (..., 6, 6): position of the object's origin (x, y, z, metres), then rotation about the fixed axes of the real
        camera's frame (radians).
    """
    arm = _turned(T_virtual_object[..., :3, :3], center)
    moved = np.zeros(covariance.shape)
    # The origin is the center minus the rotated arm: d(origin) = d(center) - w x arm = d(center) + arm x w.
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        moved[..., i, j], moved[..., j, i] = -arm[..., k], arm[..., k]
    moved[..., 0, 3] = moved[..., 1, 4] = diameter
    moved[..., :3, 5] = np.asarray(diameter)[..., None] * T_virtual_object[..., :3, 3]
    moved[..., 3:, :3] = np.eye(3)
    back = np.zeros(covariance.shape)
    back[..., :3, :3] = back[..., 3:, 3:] = R_virtual_camera.swapaxes(-1, -2)
    transform = back @ moved
    out = transform @ covariance @ transform.swapaxes(-1, -2)
    return (out + out.swapaxes(-1, -2)) / 2.0


def normalised_pose(T_camera_object: np.ndarray, center: np.ndarray, diameter: float | np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) of a mesh in metres -> of the mesh centered at the origin with diameter one.

    ``center`` (..., 3) and ``diameter`` (...) are those of one mesh, or of one for each pose.
    """
    rotation = T_camera_object[..., :3, :3]
    moved = T_camera_object[..., :3, 3] + _turned(rotation, center)
    return make_pose(rotation, moved / np.asarray(diameter)[..., None])


def metric_pose(T_normalised: np.ndarray, center: np.ndarray, diameter: float | np.ndarray) -> np.ndarray:
    """The inverse of :func:`normalised_pose`."""
    rotation = T_normalised[..., :3, :3]
    moved = T_normalised[..., :3, 3] * np.asarray(diameter)[..., None] - _turned(rotation, center)
    return make_pose(rotation, moved)


def _turned(rotation: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(..., 3, 3) and (..., 3) -> (..., 3)."""
    return np.asarray((rotation @ point[..., None])[..., 0])
