# SPDX-License-Identifier: Apache-2.0
"""One voice for bad input: what was expected, what came, what to do.

Each check returns the value in the form that the rest of the package works with.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from .errors import CameraError, ConfigError, MaskError, PoseError, ShapeError

ROTATION_TOLERANCE = 1e-3
CAMERA_LAST_ROW, POSE_LAST_ROW = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0])
# As np.allclose judges them, which takes longer than the rest of a check together.
CAMERA_LAST_ROW_TOLERANCE = 1e-8 + 1e-5 * CAMERA_LAST_ROW
POSE_LAST_ROW_TOLERANCE = 1e-6 + 1e-5 * POSE_LAST_ROW
T = TypeVar("T")


def check_shape(name: str, array: object, shape: tuple[int | None, ...]) -> None:
    """Raise :class:`ShapeError` unless ``array.shape`` matches ``shape`` (``None`` matches any size)."""
    actual = tuple(getattr(array, "shape", ()))
    matches = len(actual) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, actual, strict=True)
    )
    if not matches:
        wanted = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
        raise ShapeError(f"{name}: expected shape {wanted}, got {actual} ({type(array).__name__}).")


def check_range(
    name: str, value: float, low: float | None = None, high: float | None = None, error: type = ConfigError,
    whole: bool = False,
) -> float:  # fmt: skip
    """Return ``value`` if it is finite and within ``[low, high]`` (and whole, if asked for), else raise ``error``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    too_low = low is not None and number < low
    too_high = high is not None and number > high
    if not np.isfinite(number) or too_low or too_high or (whole and number != int(number)):
        span = f"[{'-inf' if low is None else low}, {'inf' if high is None else high}]"
        raise error(f"{name}={value!r}: expected a {'whole' if whole else 'finite'} number in {span}.")
    return number


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise :class:`ConfigError` that lists them."""
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(choices)}.")
    return value


def check_camera_matrix(camera_matrix: object, name: str = "camera_matrix") -> np.ndarray:
    """Return the pinhole matrix as (3, 3) float64.

    Raises:
        CameraError: wrong shape, NaN, a focal length that is not positive, a last row unlike (0, 0, 1).
    """
    try:
        matrix = np.array(camera_matrix, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise CameraError(f"{name}: expected a 3x3 array of numbers, got {camera_matrix!r}.") from cause
    if matrix.shape == (9,):
        matrix = matrix.reshape(3, 3)
    if matrix.shape != (3, 3):
        raise CameraError(f"{name}: expected shape (3, 3), got {matrix.shape}. Pass K from CameraInfo.")
    if not np.isfinite(matrix).all():
        raise CameraError(f"{name}: expected finite numbers, got {matrix.tolist()}. Calibrate the camera.")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CameraError(
            f"{name}: expected positive focal lengths in pixels, got fx={matrix[0, 0]}, fy={matrix[1, 1]}. "
            "An uncalibrated camera publishes zeros: calibrate it, or set its camera_info_url."
        )
    if abs(matrix[0, 1]) > 1e-3 * matrix[0, 0]:
        raise CameraError(f"{name}: expected square axes, got a skew of {matrix[0, 1]} pixels. Rectify the image.")
    if (np.abs(matrix[2] - CAMERA_LAST_ROW) > CAMERA_LAST_ROW_TOLERANCE).any() or matrix[1, 0] != 0.0:
        raise CameraError(f"{name}: expected rows (fx, s, cx), (0, fy, cy), (0, 0, 1), got {matrix.tolist()}.")
    return matrix


def check_mask(mask: object, name: str = "mask") -> np.ndarray:
    """Return the mask as (H, W) bool, True on the object; any non-zero value counts.

    Raises:
        MaskError: not a 2-D bool or integer array, or of zero size.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        hint = " Pass one channel, not a colour image." if array.ndim == 3 else ""
        raise MaskError(f"{name}: expected a non-empty (height, width) array, got shape {array.shape}.{hint}")
    if array.dtype == np.bool_:
        return array
    if not np.issubdtype(array.dtype, np.integer):
        raise MaskError(
            f"{name}: expected bool or an integer type, got {array.dtype}. "
            "Threshold a probability map first, for example mask > 0.5."
        )
    return array != 0


def check_pose(pose: object, name: str = "T_camera_object") -> np.ndarray:
    """Return a rigid transform as (4, 4) float64, its rotation orthonormal.

    Raises:
        PoseError: wrong shape, NaN, a rotation part that is off by more than 1e-3, or a wrong last row.
    """
    try:
        matrix = np.array(pose, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise PoseError(f"{name}: expected a 4x4 array of numbers, got {type(pose).__name__}.") from cause
    if matrix.shape != (4, 4):
        raise PoseError(f"{name}: expected shape (4, 4), got {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise PoseError(f"{name}: expected finite numbers, got NaN or infinity.")
    if (np.abs(matrix[3] - POSE_LAST_ROW) > POSE_LAST_ROW_TOLERANCE).any():
        raise PoseError(f"{name}: expected the last row (0, 0, 0, 1), got {matrix[3].tolist()}.")
    rotation = matrix[:3, :3]
    deviation = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if deviation > ROTATION_TOLERANCE or np.linalg.det(rotation) <= 0:
        raise PoseError(
            f"{name}: expected a rotation matrix (orthonormal, determinant +1); R R^T is off by {deviation:.2g}, "
            f"determinant {np.linalg.det(rotation):.3f}. Normalise the quaternion, and keep scale out of the pose."
        )
    if deviation > 1e-12:
        u, _, vt = np.linalg.svd(rotation)
        matrix[:3, :3] = u @ vt
    return matrix


def check_pose_in_view(
    pose: np.ndarray, name: str = "T_camera_object", center: np.ndarray | None = None
) -> np.ndarray:
    """Raise :class:`PoseError` unless the object lies in front of the camera (z > 0).

    Args:
        pose: (4, 4).
        name: of the value, for the message.
        center: (3,) of the object in its own frame; its origin by default, which may lie far outside of a CAD model.
    """
    depth = float(pose[2, 3] if center is None else pose[2, :3] @ center + pose[2, 3])
    if depth <= 0:
        raise PoseError(
            f"{name}: the object must lie in front of the camera, but z = {depth:.4g} m. "
            "Poses are in the ROS optical frame: x right, y down, z forward."
        )
    return pose


def config_from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build a config dataclass from a mapping; an unknown key raises :class:`ConfigError` that lists the known ones."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{kind.__name__}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    return kind(**values)
