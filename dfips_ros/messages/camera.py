# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CameraInfo -> the pinhole camera of a mask, with rectification where the lens distorts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..checks import check_camera_matrix, check_choice
from ..errors import CameraError

DISTORTION_MODES = ("rectify", "refuse", "ignore", "rectified")

# Distortion models of CameraInfo: how many coefficients each takes.
DISTORTION_MODELS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
    "fisheye": (4,),
}


@dataclass(frozen=True, eq=False)
class CameraView:
    """The pinhole camera of a mask of one size, and how to rectify that mask.

    Attributes:
        camera_matrix: (3, 3) float64, in pixels of the mask.
        size: (height, width) of the mask.
        maps: the two maps of ``cv2.remap``, or None when nothing is to be rectified.
    """

    camera_matrix: np.ndarray
    size: tuple[int, int]
    maps: tuple[np.ndarray, np.ndarray] | None = None

    def rectify_mask(self, mask: np.ndarray) -> np.ndarray:
        """Mask as the pinhole camera sees it. (H, W) bool, twice."""
        if self.maps is None:
            return mask
        rectified = cv2.remap(mask.view(np.uint8), self.maps[0], self.maps[1], cv2.INTER_NEAREST)
        return rectified.view(np.bool_)

    def rectify_image(self, image: np.ndarray) -> np.ndarray:
        """Colour image as the pinhole camera sees it. (H, W, 3) uint8 -> the same shape."""
        if self.maps is None:
            return image
        return cv2.remap(np.ascontiguousarray(image), self.maps[0], self.maps[1], cv2.INTER_LINEAR)


class CameraModel:
    """A checked CameraInfo. :meth:`view` adapts it to the size of a mask.

    Args:
        message: the CameraInfo; it is read once and not kept.
        distortion: what to do about lens distortion. ``rectify``: undistort each mask. ``refuse``: raise when
            there is distortion. ``ignore``: use K as if there were none. ``rectified``: the masks are made
            from rectified images (``image_rect``), so use the left 3x3 part of P.

    Raises:
        CameraError: NaN or a focal length that is not positive, size zero, a region of interest outside the
            image, a distortion that this mode cannot handle. The message says which.
    """

    def __init__(self, message: Any, distortion: str = "rectify") -> None:
        check_choice("distortion", distortion, DISTORTION_MODES)
        self.frame_id: str = message.header.frame_id
        matrix = _matrix(message, distortion)
        self._coefficients, self._model = _distortion(message, distortion)
        self.size, self.camera_matrix = _window(message, matrix)
        self._views: dict[tuple[int, int], CameraView] = {}

    def view(self, size: tuple[int, int]) -> CameraView:
        """The camera of a mask of ``size`` (height, width); K is scaled where the mask is a resized image.

        Pixel centres lie at whole numbers, so ``cx' = (cx + 0.5) s - 0.5``. Views are cached.

        Raises:
            CameraError: the aspect ratios of mask and CameraInfo differ by more than rounding.
        """
        cached = self._views.get(size)
        if cached is None:
            if len(self._views) >= 8:  # somebody sends masks of ever-changing size
                self._views.clear()
            cached = self._views[size] = self._make_view(size)
        return cached

    def _make_view(self, size: tuple[int, int]) -> CameraView:
        height, width = size
        scale_y, scale_x = height / self.size[0], width / self.size[1]
        rounding = min(abs(width - self.size[1] * scale_y), abs(height - self.size[0] * scale_x))
        if rounding > 1.0:
            raise CameraError(
                f"the mask is {width}x{height}, but camera_info describes {self.size[1]}x{self.size[0]} "
                "pixels: the aspect ratios differ, so the mask is not a resized image of this camera. "
                "Publish the mask at the image's size, or set the region of interest in camera_info."
            )
        matrix = _scaled(self.camera_matrix, scale_x, scale_y)
        if self._coefficients is None:
            return CameraView(matrix, size)
        lens = cv2.fisheye if self._model == "equidistant" else cv2
        maps = lens.initUndistortRectifyMap(
            matrix, self._coefficients, np.eye(3), matrix, (width, height), cv2.CV_16SC2
        )
        return CameraView(matrix, size, (maps[0], maps[1]))


def camera_key(message: Any) -> tuple[object, ...]:
    """What tells two calibrations apart: every field but the header. Cheap, hashable."""
    roi = message.roi
    return (
        message.width,
        message.height,
        message.distortion_model,
        bytes(memoryview(message.d)),
        message.k.tobytes(),
        message.p.tobytes(),
        message.binning_x,
        message.binning_y,
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
    )


def _matrix(message: Any, distortion: str) -> np.ndarray:
    if distortion != "rectified":
        return check_camera_matrix(np.asarray(message.k).reshape(3, 3), "camera_info.k")
    projection = np.asarray(message.p).reshape(3, 4)
    matrix = check_camera_matrix(projection[:, :3], "camera_info.p")
    if projection[0, 3] != 0.0 or projection[1, 3] != 0.0:
        raise CameraError(
            f"camera_info.p: expected no baseline (Tx = Ty = 0), got Tx={projection[0, 3]}, "
            f"Ty={projection[1, 3]}: this is the second camera of a stereo pair. Use the first camera's "
            "masks and camera_info."
        )
    return matrix


def _distortion(message: Any, mode: str) -> tuple[np.ndarray | None, str]:
    """Coefficients to undo (None: nothing to undo) and the model that they belong to."""
    model = message.distortion_model
    coefficients = np.array(message.d, dtype=np.float64)
    if mode in ("ignore", "rectified") or not np.any(coefficients):
        return None, ""
    if not np.isfinite(coefficients).all():
        raise CameraError(f"camera_info.d: expected finite numbers, got {coefficients.tolist()}.")
    if mode == "refuse":
        raise CameraError(
            f"camera_info: the lens distorts ({model}, d={coefficients.tolist()}) and the parameter "
            "distortion is 'refuse'. Set distortion to 'rectify' for masks of raw images, or to 'rectified' "
            "for "
            "masks of image_rect."
        )
    counts = DISTORTION_MODELS.get(model)
    if counts is None:
        raise CameraError(
            f"camera_info.distortion_model='{model}': expected one of {', '.join(DISTORTION_MODELS)}. "
            "Make the masks from rectified images and set the parameter distortion to 'rectified'."
        )
    if len(coefficients) not in counts:
        expected = " or ".join(str(count) for count in counts)
        raise CameraError(f"camera_info.d: expected {expected} coefficients for '{model}', got {len(coefficients)}.")
    return coefficients, "equidistant" if model in ("equidistant", "fisheye") else model


def _window(message: Any, matrix: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """Size (height, width) and camera matrix of the image, after region of interest and binning."""
    if message.width == 0 or message.height == 0:
        raise CameraError(
            f"camera_info: expected the image's size, got width {message.width} and height {message.height}. "
            "Without it K cannot be related to the mask."
        )
    roi = message.roi
    left, top = roi.x_offset, roi.y_offset
    width = roi.width or message.width - left
    height = roi.height or message.height - top
    if width <= 0 or height <= 0 or left + width > message.width or top + height > message.height:
        raise CameraError(
            f"camera_info.roi: {width}x{height} at ({left}, {top}) does not lie inside the image of "
            f"{message.width}x{message.height} pixels."
        )
    bin_x, bin_y = max(message.binning_x, 1), max(message.binning_y, 1)
    if bin_x > width or bin_y > height:
        raise CameraError(f"camera_info: binning {bin_x}x{bin_y} leaves nothing of {width}x{height} pixels.")
    moved = matrix.copy()
    moved[0, 2] -= left
    moved[1, 2] -= top
    return (height // bin_y, width // bin_x), _scaled(moved, 1.0 / bin_x, 1.0 / bin_y)


def _scaled(matrix: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    """Camera matrix of the image resized by these factors (pixel centres at whole numbers)."""
    scaled = matrix.copy()
    scaled[0, :2] *= scale_x
    scaled[1, 1] *= scale_y
    scaled[0, 2] = (matrix[0, 2] + 0.5) * scale_x - 0.5
    scaled[1, 2] = (matrix[1, 2] + 0.5) * scale_y - 0.5
    return scaled
