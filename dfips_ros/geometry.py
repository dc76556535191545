# SPDX-License-Identifier: Apache-2.0
"""SO(3) and SE(3): every sign and order convention of the package lives here.

Convention:
    ``T_a_b`` maps coordinates in frame b to frame a: ``x_a = T_a_b @ x_b``.
    Camera frames are ROS optical frames: x right, y down, z forward.
    Rotation vectors are axis times angle in radians; ``so3_exp([0, 0, pi/2])`` turns x into y.
    Quaternions are ``(x, y, z, w)``, as in ROS messages.
    Small rotations multiply from the left: ``R' = exp(w) R``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:  # functions of tensors import torch themselves: it takes a second, and most callers have arrays
    from torch import Tensor


def hat(vector: Tensor) -> Tensor:
    """Cross-product matrix: ``hat(a) @ b == cross(a, b)``. (..., 3) -> (..., 3, 3)."""
    import torch

    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y, z, zero, -x, -y, x, zero)
    return torch.stack(rows, dim=-1).reshape(*vector.shape[:-1], 3, 3)


def so3_exp(rotation_vector: Tensor) -> Tensor:
    """Rodrigues' formula. (..., 3) radians -> (..., 3, 3); differentiable at zero."""
    import torch

    square = (rotation_vector * rotation_vector).sum(-1)[..., None, None]
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1.0 - square / 6.0, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - square / 24.0, (1.0 - torch.cos(angle)) / safe)
    k = hat(rotation_vector)
    identity = torch.eye(3, dtype=k.dtype, device=k.device)
    return identity + a * k + b * (k @ k)


def so3_log(rotation: np.ndarray) -> np.ndarray:
    """Rotation vectors of rotation matrices. (..., 3, 3) -> (..., 3) radians, norm at most pi."""
    flat = np.asarray(rotation, dtype=np.float64).reshape(-1, 3, 3)
    return Rotation.from_matrix(flat).as_rotvec().reshape(*np.shape(rotation)[:-2], 3)


def rotation_angle(rotation_a: np.ndarray, rotation_b: np.ndarray) -> np.ndarray:
    """Geodesic angle between rotations. (..., 3, 3) twice -> (...) radians."""
    relative = np.swapaxes(np.asarray(rotation_a, np.float64), -1, -2) @ np.asarray(rotation_b, np.float64)
    # The chord |R - I| is accurate near zero, where arccos of the trace is not: |R - I|_F = 2 sqrt(2) sin(a/2).
    chord = np.linalg.norm(relative - np.eye(3), axis=(-2, -1))
    return 2.0 * np.arcsin(np.clip(chord / (2.0 * np.sqrt(2.0)), 0.0, 1.0))


def rotation_angle_torch(rotation_a: Tensor, rotation_b: Tensor) -> Tensor:
    """As :func:`rotation_angle` for tensors (no gradient is needed of it)."""
    import torch

    relative = rotation_a.transpose(-1, -2) @ rotation_b
    identity = torch.eye(3, dtype=relative.dtype, device=relative.device)
    chord = torch.linalg.matrix_norm(relative - identity)
    return 2.0 * torch.asin((chord / (2.0 * 2.0**0.5)).clamp(0.0, 1.0))


def project_to_so3(matrix: Tensor) -> Tensor:
    """Nearest rotation in the Frobenius norm. (..., 3, 3) -> (..., 3, 3)."""
    import torch

    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.det(u @ vt)
    diagonal = torch.ones_like(matrix[..., 0])
    diagonal = torch.cat([diagonal[..., :2], sign[..., None]], dim=-1)
    return u @ (diagonal[..., None] * vt)


def make_pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Stack a rotation (..., 3, 3) and a translation (..., 3) into (..., 4, 4), keeping the wider dtype."""
    rotation, translation = np.asarray(rotation), np.asarray(translation)
    pose = np.zeros((*rotation.shape[:-2], 4, 4), dtype=np.result_type(rotation, translation))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def make_pose_torch(rotation: Tensor, translation: Tensor) -> Tensor:
    """As :func:`make_pose` for tensors."""
    import torch

    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device)
    return torch.cat([top, bottom.expand(*top.shape[:-2], 1, 4)], dim=-2)


def invert_pose(pose: np.ndarray) -> np.ndarray:
    """Inverse of rigid transforms. (..., 4, 4) -> (..., 4, 4)."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return make_pose(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def transform_points(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply one pose (4, 4) to points (N, 3) -> (N, 3)."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def quaternion_xyzw_from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternion with w >= 0. (3, 3) -> (4,) in the order x, y, z, w."""
    quaternion = Rotation.from_matrix(np.asarray(rotation, dtype=np.float64)).as_quat()
    return quaternion if quaternion[3] >= 0 else -quaternion


def matrix_from_quaternion_xyzw(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Rotation matrix of a quaternion of any positive length. (4,) -> (3, 3).

    Raises:
        ValueError: the quaternion has zero length or is not finite.
    """
    quaternion = np.asarray(quaternion_xyzw, dtype=np.float64)
    length = np.linalg.norm(quaternion)
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError(f"quaternion_xyzw={quaternion.tolist()}: expected a finite quaternion of non-zero length.")
    return Rotation.from_quat(quaternion / length).as_matrix()


def pose_from_position_quaternion(position: np.ndarray, quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Pose (4, 4) from a position (3,) in metres and a quaternion (4,) in the order x, y, z, w."""
    return make_pose(matrix_from_quaternion_xyzw(quaternion_xyzw), np.asarray(position, dtype=np.float64))


def random_rotations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Rotations uniform over SO(3). -> (count, 3, 3) float64."""
    quaternions = rng.normal(size=(count, 4))
    return Rotation.from_quat(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).as_matrix()


def random_perturbations(count: int, max_angle: float, rng: np.random.Generator) -> np.ndarray:
    """Rotations about uniform axes by an angle uniform in [0, max_angle] radians. -> (count, 3, 3)."""
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = rng.uniform(0.0, max_angle, (count, 1))
    return Rotation.from_rotvec(axes * angles).as_matrix()


def fibonacci_directions(count: int) -> np.ndarray:
    """Unit vectors spread evenly over the sphere (Fibonacci lattice). -> (count, 3)."""
    index = np.arange(count) + 0.5
    z = 1.0 - 2.0 * index / count
    azimuth = np.pi * (1.0 + 5.0**0.5) * index
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)
