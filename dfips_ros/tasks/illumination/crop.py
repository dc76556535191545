# SPDX-License-Identifier: Apache-2.0
"""The pixels of an image that show the object, with the surface that each one shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ...checks import check_camera_matrix, check_mask, check_pose, check_pose_in_view
from ...errors import CameraError, InputError, MaskError, PoseError, ShapeError
from ...geometry import make_pose
from ...processes.mesh import Mesh
from ...processes.shading_geometry import ShadingMesh
from .data import camera_of, exposure_level, sample_pixels, surface_points, view_vectors
from .problem import LightObservation

SATURATED = 0.985  # image values 0 to 1
TOO_DARK = 0.04  # below this level an 8-bit image tells next to nothing of shading
MIN_PIXELS = 60
MIN_DISTANCE = 0.6  # of the object's center from the camera, diameters


@dataclass(frozen=True)
class ObjectView:
    """What one image shows of the object.

    Attributes:
        observation: of one element; what the stages compare.
        fine: the same with more pixels, for the refinement.
        R_virtual_camera: (3, 3), maps optical coordinates of the camera to those of the crop.
        pose: (4, 4) of the normalised mesh (diameter one, center at the origin) in the crop's frame.
        camera_matrix: (3, 3) of the crop.
        crop: (S, S, 3) uint8 RGB, the object through the virtual camera.
        seen: (S, S) bool, pixels of the object that can be used.
        center: (3,) metres, camera frame.
        tint: (3,) mean linear colour of the object over its strongest channel.
        saturated: part of the object's pixels that are saturated.
        level: image value 0 to 1 of the object's brighter pixels.
    """

    observation: LightObservation
    fine: LightObservation
    R_virtual_camera: np.ndarray
    pose: np.ndarray
    camera_matrix: np.ndarray
    crop: np.ndarray
    seen: np.ndarray
    center: np.ndarray
    tint: np.ndarray
    saturated: float
    level: float


def check_image(image: object) -> np.ndarray:
    """Return the image as (H, W, 3) uint8 RGB; a grey one is repeated.

    Raises:
        ShapeError: not (H, W) or (H, W, 3), or not uint8.
    """
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] != 3):
        hint = " Drop the alpha channel." if array.ndim == 3 and array.shape[2] == 4 else ""
        raise ShapeError(f"image: expected (H, W, 3) RGB or (H, W) grey, got shape {array.shape}.{hint}")
    if array.dtype != np.uint8:
        more = " Scale it first, for example (image / 257).astype(np.uint8)." if array.dtype == np.uint16 else ""
        raise ShapeError(f"image: expected uint8, 0 to 255 and gamma-encoded, got {array.dtype}.{more}")
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)


def check_camera_fits(camera_matrix: object, height: int, width: int) -> np.ndarray:
    """Return the matrix as (3, 3) float64.

    Raises:
        CameraError: no camera matrix, or its principal point lies outside of the image.
    """
    matrix = check_camera_matrix(camera_matrix)
    cx, cy = float(matrix[0, 2]), float(matrix[1, 2])
    if not (0 <= cx < width and 0 <= cy < height):
        raise CameraError(
            f"camera_matrix: expected its principal point inside the image of {width}x{height} pixels, got "
            f"({cx:.1f}, {cy:.1f}). The matrix belongs to another image size: scale it, or pass the full image."
        )
    return matrix


def _rotation_to_axis(ray: np.ndarray) -> np.ndarray:
    """(3, 3) smallest rotation that takes a direction to the optical axis."""
    unit = ray / np.linalg.norm(ray)
    axis = np.cross(unit, [0.0, 0.0, 1.0])
    sine = float(np.linalg.norm(axis))
    angle = float(np.arctan2(sine, unit[2]))
    return np.asarray(cv2.Rodrigues(axis / max(sine, 1e-12) * angle)[0])


def _warped(image: np.ndarray, homography: np.ndarray, size: int) -> np.ndarray:
    """The crop; a much larger image is averaged down first, so that no pixel is skipped."""
    shrink = float(np.sqrt(abs(np.linalg.det(homography[:2, :2] / homography[2, 2]))))
    factor = min(max(int(1.0 / max(shrink, 1e-6) + 0.25), 1), *image.shape[:2])
    if factor > 1:
        height, width = image.shape[0] // factor, image.shape[1] // factor
        image = cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
        middle = (factor - 1) / 2.0
        homography = homography @ np.array([[factor, 0.0, middle], [0.0, factor, middle], [0.0, 0.0, 1.0]])
    return np.asarray(cv2.warpPerspective(image, homography, (size, size), flags=cv2.INTER_LINEAR))


def look_at_object(
    image: object,
    camera_matrix: object,
    T_camera_object: object,
    mesh: Mesh,
    shading: ShadingMesh,
    size: int,
    pixels: int,
    fine_pixels: int,
    mask: object = None,
) -> ObjectView:
    """Find the object's pixels and what each of them shows.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey.
        camera_matrix: (3, 3) pixels.
        T_camera_object: (4, 4) metres.
        mesh: the object.
        shading: the same, normalised.
        size: side of the crop.
        pixels: how many the stages compare.
        fine_pixels: how many the refinement compares.
        mask: (H, W), non-zero where the object is seen; None for all of it.

    Raises:
        ShapeError, CameraError, MaskError, PoseError: the input is of the wrong kind, or the object is out of view.
        InputError: the object is black or saturated all over.
    """
    rgb = check_image(image)
    height, width = rgb.shape[:2]
    matrix = check_camera_fits(camera_matrix, height, width)
    pose = check_pose_in_view(check_pose(T_camera_object), center=mesh.center)
    center = pose[:3, :3] @ mesh.center + pose[:3, 3]
    depth = float(np.linalg.norm(center)) / mesh.diameter
    if depth < MIN_DISTANCE:
        raise PoseError(
            f"T_camera_object: the object's center is {depth:.2f} of its diameters away from the camera, at least "
            f"{MIN_DISTANCE} are needed. Is the mesh in metres?"
        )
    turn = _rotation_to_axis(center)
    virtual = make_pose(turn @ pose[:3, :3], np.array([0.0, 0.0, depth]))
    camera = camera_of(depth, size)
    homography = camera @ turn @ np.linalg.inv(matrix)
    clear, position, normal = surface_points(shading, virtual, camera, size)
    valid = np.ones((height, width), np.uint8)
    if mask is not None:
        seen_mask = check_mask(mask)
        if seen_mask.shape != (height, width):
            raise MaskError(f"mask: expected the image's size {(height, width)}, got {seen_mask.shape}.")
        valid = np.asarray(cv2.erode(seen_mask.astype(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)
    inside = cv2.warpPerspective(valid, homography, (size, size), flags=cv2.INTER_NEAREST) > 0
    usable = clear & inside
    if usable.sum() < MIN_PIXELS:
        raise PoseError(
            f"T_camera_object: only {int(usable.sum())} of the object's {int(clear.sum())} pixels lie in the image, at "
            f"least {MIN_PIXELS} are needed. The object is out of view or hidden, or the pose is wrong."
        )
    crop = _warped(rgb, homography, size)
    colors = crop[usable].astype(np.float32) / 255.0
    values = torch.from_numpy(colors.max(axis=1))[None]  # the strongest channel: of one material, the same one all over
    scale = exposure_level(values)
    level, saturated = float(scale[0]), float((values >= SATURATED).float().mean())
    if level < TOO_DARK:
        raise InputError(f"image: the object is black (level {level:.3f} of 1). It is under-exposed: expose longer.")
    if saturated > 0.98:
        raise InputError(f"image: {100 * saturated:.0f} % of the object's pixels are saturated. Expose shorter.")

    def compared(count: int) -> LightObservation:
        chosen, weight = sample_pixels(values, count)
        where = np.flatnonzero(usable)[chosen[0].numpy()]
        points = torch.from_numpy(position.reshape(-1, 3)[where])[None]
        normals = torch.from_numpy(normal.reshape(-1, 3)[where])[None]
        return LightObservation(
            values.gather(1, chosen) / scale[:, None], points, normals,
            view_vectors(points, torch.tensor([depth], dtype=torch.float32)), weight, 1.0 / scale, scale,
            torch.zeros(1, dtype=torch.long), torch.from_numpy(where)[None],
        )  # fmt: skip

    linear = (colors**2.2).mean(axis=0)
    tint = linear / max(float(linear.max()), 1e-6)
    return ObjectView(
        compared(pixels), compared(fine_pixels), turn, virtual, camera, crop, usable, center, tint, saturated, level
    )  # fmt: skip
