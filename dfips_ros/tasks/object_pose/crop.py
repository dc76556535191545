# SPDX-License-Identifier: Apache-2.0
"""The virtual camera: a square crop whose axis passes through the mask's center.

Looking straight at the object removes the perspective of an off-axis view, so one network serves every image position,
focal length and image size. The crop is a rotation of the real camera about its own center: a homography, exact for any
depth. (The same idea is used by GoTrack, 2025, and others.)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import MaskError
from ...geometry import make_pose

CROP_SIZE = 128
CROP_MARGIN = 1.5  # side of the crop over the longer side of the mask's bounding box


@dataclass(frozen=True)
class VirtualCamera:
    """A camera at the real camera's center, turned towards the object.

    Attributes:
        R_virtual_camera: (3, 3), maps real optical coordinates to virtual ones.
        camera_matrix: (3, 3) pinhole matrix of the crop, square pixels.
        size: side of the crop, pixels.
    """

    R_virtual_camera: np.ndarray
    camera_matrix: np.ndarray
    size: int

    def resized(self, size: int, zoom: float = 1.0) -> VirtualCamera:
        """The same camera with pixels of another size: side of the crop, and how much larger things are in it."""
        focal = self.camera_matrix[0, 0] * zoom * size / self.size
        center = (size - 1) / 2.0
        matrix = np.array([[focal, 0, center], [0, focal, center], [0, 0, 1.0]])
        return VirtualCamera(self.R_virtual_camera, matrix, size)

    def to_virtual(self, T_camera_object: np.ndarray) -> np.ndarray:
        """Poses (..., 4, 4) from the real to the virtual camera's frame."""
        return make_pose(self.R_virtual_camera, np.zeros(3)) @ T_camera_object

    def to_real(self, T_virtual_object: np.ndarray) -> np.ndarray:
        """Poses (..., 4, 4) from the virtual to the real camera's frame."""
        return make_pose(self.R_virtual_camera.T, np.zeros(3)) @ T_virtual_object

    def homography(self, camera_matrix: np.ndarray) -> np.ndarray:
        """(3, 3) map from pixels of the real image to pixels of the crop."""
        return self.camera_matrix @ self.R_virtual_camera @ np.linalg.inv(camera_matrix)

    def warp(
        self, mask: np.ndarray, camera_matrix: np.ndarray, bounds: tuple[int, int, int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Resample a full mask.

        Args:
            mask: (H, W) bool.
            camera_matrix: (3, 3) of the real camera.
            bounds: left, top, right, bottom of what is set in the mask, inclusive; the rest is not read then.

        Returns:
            The crop (S, S) uint8 in {0, 1}, and (S, S) uint8 that is 1 where the crop lies inside the image.
        """
        h = self.homography(camera_matrix)
        side = (self.size, self.size)
        source, h_source = _reduced(mask, h, bounds)
        crop = np.asarray(cv2.warpPerspective(source, h_source, side, flags=cv2.INTER_LINEAR))
        corners = cv2.perspectiveTransform(
            np.array([[[0, 0], [self.size - 1, 0], [self.size - 1, self.size - 1], [0, self.size - 1]]], np.float64),
            np.linalg.inv(h),
        )[0]
        height, width = mask.shape
        inside = (corners >= 0).all() and (corners[:, 0] <= width - 1).all() and (corners[:, 1] <= height - 1).all()
        if inside:
            valid: np.ndarray = np.ones((self.size, self.size), np.uint8)
        else:
            known = np.ones(mask.shape, np.uint8)
            valid = np.asarray(cv2.warpPerspective(known, h, side, flags=cv2.INTER_NEAREST))
        return (crop > 127).astype(np.uint8), valid


def _reduced(
    mask: np.ndarray, h: np.ndarray, bounds: tuple[int, int, int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """What is within the bounds, as 0 and 255, and the homography from there.

    Where the crop would skip pixels the mask is shrunk first, so that thin parts are averaged and not lost.
    """
    factor = int(np.floor(1.0 / np.sqrt(abs(np.linalg.det(h[:2, :2] / h[2, 2]))) + 0.25))
    factor = max(min(factor, *mask.shape), 1)
    left, top, right, bottom = bounds or (0, 0, mask.shape[1] - 1, mask.shape[0] - 1)
    columns, rows = mask.shape[1] // factor, mask.shape[0] // factor  # blocks of the whole image
    left, top = min(left // factor, columns - 1) * factor, min(top // factor, rows - 1) * factor
    right, bottom = min(right // factor + 1, columns) * factor, min(bottom // factor + 1, rows) * factor
    image: np.ndarray = mask[top:bottom, left:right].astype(np.uint8) * np.uint8(255)
    if factor > 1:
        size = (image.shape[1] // factor, image.shape[0] // factor)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    middle = (factor - 1) / 2
    to_full = np.array([[factor, 0, left + middle], [0, factor, top + middle], [0, 0, 1]], np.float64)
    return image, h @ to_full


def mask_bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of a mask, inclusive pixels.

    Raises:
        MaskError: the mask is empty.
    """
    left, top, width, height = cv2.boundingRect((mask if mask.dtype == np.bool_ else mask != 0).view(np.uint8))
    if width == 0:
        raise MaskError("mask: no pixel is set. The object is out of view, or label_value is wrong.")
    return left, top, left + width - 1, top + height - 1


def covers_border(mask: np.ndarray) -> bool:
    """Whether most of the image's outermost pixels are set: an inverted mask, or an object that fills the view."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return 2 * np.count_nonzero(border) > border.size


def look_at_box(
    bounds: tuple[float, float, float, float],
    camera_matrix: np.ndarray,
    size: int = CROP_SIZE,
    margin: float = CROP_MARGIN,
) -> VirtualCamera:
    """The virtual camera that centers a box of the image.

    Args:
        bounds: left, top, right, bottom in pixels, inclusive.
        camera_matrix: (3, 3) of the real camera.
        size: side of the crop in pixels.
        margin: side of the crop over the longer side of the box.
    """
    left, top, right, bottom = bounds
    inverse = np.linalg.inv(camera_matrix)
    middle = inverse @ np.array([(left + right) / 2.0, (top + bottom) / 2.0, 1.0])
    rotation = _rotation_to_axis(middle / np.linalg.norm(middle))
    u0, v0, u1, v1 = left - 0.5, top - 0.5, right + 0.5, bottom + 0.5
    outline = np.array([[u0, v0, 1], [u1, v0, 1], [u1, v1, 1], [u0, v1, 1]], np.float64)
    rays = outline @ inverse.T @ rotation.T
    plane = rays[:, :2] / np.maximum(rays[:, 2:], 1e-6)
    extent = 2.0 * np.abs(plane).max()
    focal = size / (margin * max(extent, 1e-9))
    center = (size - 1) / 2.0
    matrix = np.array([[focal, 0, center], [0, focal, center], [0, 0, 1.0]])
    return VirtualCamera(rotation, matrix, size)


def _rotation_to_axis(ray: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes a unit ray to the optical axis (0, 0, 1)."""
    x, y, z = (float(value) for value in ray)
    common = -x * y / (1.0 + z)  # of exp of the cross product with (0, 0, 1), written out: this runs for every mask
    return np.array([[1.0 - x * x / (1.0 + z), common, -x], [common, 1.0 - y * y / (1.0 + z), -y], [x, y, z]])
