# SPDX-License-Identifier: Apache-2.0
"""Training examples made on a device: what ``data`` makes one by one, as operations on a whole batch.

Drawn with the same distributions; other numbers than there, as the generators differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...processes.device_meshes import DeviceMeshes
from ...processes.device_observation import observe
from ...processes.observation import SilhouetteObservation
from .config import ObjectPoseConfig, PoseDataConfig
from .crop import CROP_MARGIN
from .device_covariance import posed
from .device_crop import look_at_boxes
from .device_degradation import Chance, degrade
from .problem import perturbed

_FOCAL = 1000.0
_COARSE = 0.4  # of the masks: some objects are small and their crops are blown up


def padded_vertices(meshes: DeviceMeshes) -> Tensor:
    """The vertices of every mesh, the last one repeated to the number of the largest. -> (M, V, 3) float32."""
    starts = meshes.packed.vertex_start
    counts = np.diff(starts)
    index = starts[:-1, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    return torch.from_numpy(meshes.packed.vertices[index]).to(meshes.device)


def random_rotations(count: int, chance: Chance) -> Tensor:
    """Rotations uniform over SO(3). -> (count, 3, 3) float64."""
    q = chance.normal(count, 4).double()
    x, y, z, w = (q / torch.sqrt((q * q).sum(1, keepdim=True))).unbind(1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def projected_bounds(vertices: Tensor, pose: Tensor) -> Tensor:
    """Boxes (B, 4) of vertices (B, V, 3) at poses (B, 4, 4), focal length 1000 px, centered at (0, 0)."""
    points = vertices @ pose[:, :3, :3].transpose(1, 2).float() + pose[:, None, :3, 3].float()
    image = points[..., :2] * (_FOCAL / points[..., 2:])
    return torch.cat([image.amin(1), image.amax(1)], dim=1).double()


def jittered_crops(bounds: Tensor, size: int, jitter: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Virtual cameras whose centers and sides are a little off, as those of degraded masks are.

    Args:
        bounds: (B, 4) float64.
        size: side of the crops.
        jitter: (B,) of the side.
        chance: where it comes from.

    Returns:
        ``R_virtual_camera`` and the crops' pinhole matrices, (B, 3, 3) float64 each.
    """
    side = (bounds[:, 2:] - bounds[:, :2]).amax(1)
    shift = chance.uniform(-1.0, 1.0, len(bounds), 2) * (jitter * side)[:, None]
    margin = CROP_MARGIN * (1.0 + jitter * chance.uniform(-1.0, 1.5, len(bounds)))
    camera = torch.eye(3, dtype=torch.float64, device=bounds.device)
    camera[:2] *= _FOCAL
    return look_at_boxes(bounds + shift.repeat(1, 2), camera.expand(len(bounds), 3, 3), size, margin.double())


def render_masks(
    meshes: DeviceMeshes, index: Tensor, poses: Tensor, cameras: Tensor, size: int, small: int, coarse: Tensor
) -> Tensor:
    """Masks (B, S, S) bool; those that are ``coarse`` (B,) bool from images of side ``small``, blown up."""
    fine = meshes.inverse_depth(index, poses, cameras, size, active=~coarse) > 0
    factor = small / size
    scaled = cameras.clone()
    scaled[:, :2] *= factor
    scaled[:, :2, 2] += 0.5 * factor - 0.5
    low = (meshes.inverse_depth(index, poses, scaled, small, active=coarse) > 0).float()
    blown = interpolate(low[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0] >= 0.5
    return torch.where(coarse[:, None, None], blown, fine)


def initial_poses(true: Tensor, data: PoseDataConfig, chance: Chance) -> Tensor:
    """Initial poses that are off by the configured amounts. (B, 4, 4) -> (B, 4, 4)."""
    count, device = len(true), true.device
    angles = torch.deg2rad(torch.tensor(data.angles, device=device))
    likely = torch.tensor(data.angle_weights, device=device).cumsum(0)
    pick = torch.searchsorted(likely, chance.uniform(0.0, 1.0, count)).clamp_max(len(angles) - 1)
    axis = chance.normal(count, 3)
    axis = axis / torch.sqrt((axis * axis).sum(1, keepdim=True))
    turn = axis * (angles[pick] * chance.uniform(0.0, 1.0, count))[:, None]
    shift = chance.uniform(-data.initial_shift, data.initial_shift, count, 2)
    return perturbed(true, turn, shift, chance.uniform(-data.initial_log_depth, data.initial_log_depth, count, 1))


def device_pose_batches(
    meshes: DeviceMeshes, config: ObjectPoseConfig, data: PoseDataConfig
) -> Iterator[tuple[SilhouetteObservation, Tensor, dict[str, Tensor]]]:
    """Endless training batches on the device of the meshes, as ``data.pose_batches``; nothing in it waits."""
    chance = Chance(torch.Generator(meshes.device).manual_seed(data.seed))
    host = np.random.default_rng(data.seed)  # for what shapes depend on
    vertices, points = padded_vertices(meshes), meshes.surface[:, :, :3].contiguous()
    count, size = data.batch_size, config.crop_size
    near, far = (math.log(depth) for depth in data.depth_range)
    while True:
        index = chance.whole(0, len(vertices), count)
        degraded = chance.uniform(0.0, 1.0, count) < data.degraded
        depth = torch.exp(chance.uniform(near, far, count)).double()
        pose = posed(random_rotations(count, chance), torch.stack([0 * depth, 0 * depth, depth], dim=1))
        jitter = torch.where(degraded, 0.12, 0.03)
        rotation, cameras = jittered_crops(projected_bounds(vertices[index], pose), size, jitter, chance)
        true = posed(rotation @ pose[:, :3, :3], (rotation @ pose[:, :3, 3:])[..., 0]).float()
        cameras = cameras.float()
        coarse = chance.uniform(0.0, 1.0, count) < _COARSE
        small = int(host.integers(size // 3, size))
        clean = render_masks(meshes, index, true, cameras, size, small, coarse)
        spoilt, known = degrade(clean, chance)
        mask = torch.where(degraded[:, None, None], spoilt, clean).to(torch.uint8)
        valid = (known | ~degraded[:, None, None]).to(torch.uint8)
        observation = observe(mask, valid, cameras, index, chance.uniform(0.0, 1.0, count))
        yield observation, initial_poses(true, data, chance), {"pose": true, "points": points[index]}
