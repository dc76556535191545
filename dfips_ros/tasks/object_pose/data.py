# SPDX-License-Identifier: Apache-2.0
"""Training examples, made on the fly: meshes at random poses, their masks, and initial poses that are off."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from ...geometry import make_pose, random_perturbations, random_rotations, so3_log
from ...processes.observation import SilhouetteObservation, observe
from ...processes.rasterizer import PackedMeshes, rasterize_numpy
from .config import ObjectPoseConfig, PoseDataConfig
from .crop import CROP_MARGIN, VirtualCamera, look_at_box
from .degradation import degrade
from .problem import MeshSet, perturbed

_FOCAL = 1000.0
_CAMERA = np.array([[_FOCAL, 0, 0], [0, _FOCAL, 0], [0, 0, 1.0]])


def projected_bounds(vertices: np.ndarray, pose: np.ndarray) -> tuple[float, float, float, float]:
    """Bounding box of the projected vertices under a camera of focal length 1000 px centered at (0, 0)."""
    points = vertices @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
    image = points[:, :2] * (_FOCAL / points[:, 2:])
    low, high = image.min(axis=0), image.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def jittered_crop(
    bounds: tuple[float, float, float, float], size: int, jitter: float, rng: np.random.Generator
) -> VirtualCamera:
    """The crop of a box whose center and side are a little off, as those of a degraded mask are."""
    left, top, right, bottom = bounds
    side = max(right - left, bottom - top)
    du, dv = rng.uniform(-jitter, jitter, 2) * side
    margin = CROP_MARGIN * rng.uniform(1.0 - jitter, 1.0 + 1.5 * jitter)
    return look_at_box((left + du, top + dv, right + du, bottom + dv), _CAMERA, size, margin)


def render_masks(
    packed: PackedMeshes, index: np.ndarray, poses: np.ndarray, cameras: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Masks as a full-resolution image gives them: some objects are small and their crops are blown up.

    Returns:
        (B, size, size) uint8.
    """
    count = len(index)
    masks = np.empty((count, size, size), np.uint8)
    coarse = rng.uniform(size=count) < 0.4
    fine = np.flatnonzero(~coarse)
    if len(fine):
        masks[fine] = rasterize_numpy(packed, index[fine], poses[fine], cameras[fine], (size, size)) > 0
    rows = np.flatnonzero(coarse)
    if len(rows):
        small = int(rng.integers(size // 3, size))
        factor = small / size
        scaled = cameras[rows].copy()
        scaled[:, :2] *= factor
        scaled[:, :2, 2] += 0.5 * factor - 0.5
        low = rasterize_numpy(packed, index[rows], poses[rows], scaled, (small, small)) > 0
        for row, image in zip(rows, low, strict=True):
            masks[row] = cv2.resize(image.astype(np.uint8) * 255, (size, size), interpolation=cv2.INTER_LINEAR) > 127
    return masks


def pose_batches(
    meshes: MeshSet, config: ObjectPoseConfig, data: PoseDataConfig
) -> Iterator[tuple[SilhouetteObservation, Tensor, dict[str, Tensor]]]:
    """Endless training batches: observation, initial (B, 4, 4), ground truth (``pose`` and ``points``)."""
    rng = np.random.default_rng(data.seed)
    vertices = [m.normalised_vertices() for m in meshes.meshes]
    near, far = data.depth_range
    points = torch.from_numpy(meshes.surface[:, :, :3].copy())
    while True:
        index = rng.integers(0, len(meshes), data.batch_size)
        degraded = rng.uniform(size=data.batch_size) < data.degraded
        depth = np.exp(rng.uniform(math.log(near), math.log(far), data.batch_size))
        rotations = random_rotations(data.batch_size, rng)
        poses = make_pose(rotations, np.stack([0 * depth, 0 * depth, depth], axis=1))
        cameras = np.empty((data.batch_size, 3, 3))
        for b in range(data.batch_size):
            jitter = 0.12 if degraded[b] else 0.03
            bounds = projected_bounds(vertices[index[b]], poses[b])
            camera = jittered_crop(bounds, config.crop_size, jitter, rng)
            poses[b] = camera.to_virtual(poses[b])
            cameras[b] = camera.camera_matrix
        masks = render_masks(meshes.packed, index, poses, cameras, config.crop_size, rng)
        valid = np.ones_like(masks)
        for b in np.flatnonzero(degraded).tolist():
            masks[b], valid[b] = degrade(masks[b], rng)
        offset = rng.uniform(0, 1, data.batch_size)
        observation = observe(masks, cameras, valid, index, offset)
        true = torch.from_numpy(poses).float()
        yield observation, initial_poses(true, data, rng), {"pose": true, "points": points[torch.from_numpy(index)]}


def initial_poses(true: Tensor, data: PoseDataConfig, rng: np.random.Generator) -> Tensor:
    """Initial poses that are off by the configured amounts. (B, 4, 4) -> (B, 4, 4)."""
    count = len(true)
    limits = np.deg2rad(rng.choice(data.angles, count, p=data.angle_weights))
    unit = so3_log(random_perturbations(count, 1.0, rng))
    vectors = torch.from_numpy(unit * limits[:, None]).float()
    shift = torch.from_numpy(rng.uniform(-data.initial_shift, data.initial_shift, (count, 2))).float()
    log_depth = torch.from_numpy(rng.uniform(-data.initial_log_depth, data.initial_log_depth, (count, 1))).float()
    return perturbed(true, vectors, shift, log_depth)
