# SPDX-License-Identifier: Apache-2.0
"""How wrong a pose is: symmetry-aware errors, for evaluation only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...checks import check_pose
from ...errors import ShapeError
from ...geometry import rotation_angle


def _members(T_true: np.ndarray, symmetries: Sequence[np.ndarray] | None) -> np.ndarray:
    true = check_pose(T_true, "T_true")
    if symmetries is None or len(symmetries) == 0:
        return true[None]
    return np.stack([true @ check_pose(s, "symmetry") for s in symmetries] + [true])


def rotation_error_deg(
    T_estimate: np.ndarray, T_true: np.ndarray, symmetries: Sequence[np.ndarray] | None = None
) -> float:
    """Smallest angle to a member of the true pose's symmetry class, degrees.

    Args:
        T_estimate: (4, 4) T_camera_object.
        T_true: (4, 4) T_camera_object.
        symmetries: object-to-object transforms (4, 4) that leave the object looking the same, as in BOP
            ``models_info.json``; the identity is always among them.
    """
    members = _members(T_true, symmetries)
    return float(np.rad2deg(rotation_angle(members[:, :3, :3], np.asarray(T_estimate)[None, :3, :3]).min()))


def translation_error(
    T_estimate: np.ndarray,
    T_true: np.ndarray,
    symmetries: Sequence[np.ndarray] | None = None,
    center: np.ndarray | None = None,
) -> float:
    """Distance between the estimated and the true position of a point of the object, metres.

    Args:
        T_estimate: (4, 4) T_camera_object.
        T_true: (4, 4) T_camera_object.
        symmetries: as for :func:`rotation_error_deg`; the member nearest in rotation is compared.
        center: (3,) the point, in the object's frame; the origin by default. With symmetries, pass their common center.
    """
    estimate = check_pose(T_estimate, "T_estimate")
    members = _members(T_true, symmetries)
    nearest = members[int(np.argmin(rotation_angle(members[:, :3, :3], estimate[None, :3, :3])))]
    point = np.append(np.zeros(3) if center is None else np.asarray(center, np.float64), 1.0)
    return float(np.linalg.norm(((estimate - nearest) @ point)[:3]))


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks (H, W); 1 when both are empty.

    Raises:
        ShapeError: the masks differ in size.
    """
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    if a.shape != b.shape:
        raise ShapeError(f"mask_iou: expected masks of one size, got {a.shape} and {b.shape}.")
    either = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / either) if either else 1.0


def mssd(T_estimate: np.ndarray, T_true: np.ndarray, points: np.ndarray, symmetries: np.ndarray) -> float:
    """Maximum symmetry-aware surface distance (BOP 2019).

    Args:
        T_estimate: (4, 4).
        T_true: (4, 4).
        points: (N, 3) on the object, metres.
        symmetries: (S, 4, 4), the identity among them.

    Returns:
        Smallest over the symmetries of the largest distance of a point, metres.
    """
    true = T_true @ symmetries
    here = points @ T_estimate[:3, :3].T + T_estimate[:3, 3]
    there = points @ np.swapaxes(true[:, :3, :3], 1, 2) + true[:, None, :3, 3]
    return float(np.linalg.norm(there - here, axis=2).max(axis=1).min())


def mspd(
    T_estimate: np.ndarray, T_true: np.ndarray, points: np.ndarray, symmetries: np.ndarray, camera_matrix: np.ndarray
) -> float:
    """Maximum symmetry-aware projection distance (BOP 2019).

    Args:
        T_estimate: (4, 4).
        T_true: (4, 4).
        points: (N, 3) on the object, metres.
        symmetries: (S, 4, 4), the identity among them.
        camera_matrix: (3, 3).

    Returns:
        Smallest over the symmetries of the largest distance of a projected point, pixels.
    """

    def project(poses: np.ndarray) -> np.ndarray:
        image = (points @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]) @ camera_matrix.T
        return image[..., :2] / np.maximum(image[..., 2:], 1e-6)

    return float(np.linalg.norm(project(T_true @ symmetries) - project(T_estimate[None]), axis=2).max(axis=1).min())
