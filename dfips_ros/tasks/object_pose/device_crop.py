# SPDX-License-Identifier: Apache-2.0
"""Virtual cameras and crops of a batch of masks on a device: what ``crop`` does, as operations of fixed shape."""

from __future__ import annotations

import torch
from torch import Tensor

from ...processes.device_meshes import has_kernels
from .crop import CROP_MARGIN


def mask_bounds(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Bounding boxes of masks.

    Args:
        mask: (B, H, W) bool.

    Returns:
        (B, 4) float64 left, top, right, bottom, inclusive pixels (the whole image where a mask is empty), and the
        number of pixels (B,) int32.
    """
    ends = []
    for line in (mask.any(1), mask.any(2)):
        size = line.shape[1]
        i = torch.arange(size, device=mask.device)
        first = torch.where(line, i, size).amin(1)
        last = torch.where(line, i, -1).amax(1)
        empty = last < 0
        ends.append((torch.where(empty, 0, first), torch.where(empty, size - 1, last)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1).double(), mask.sum((1, 2), dtype=torch.int32)


def look_at_boxes(
    bounds: Tensor, camera_matrix: Tensor, size: int, margin: float | Tensor = CROP_MARGIN
) -> tuple[Tensor, Tensor]:
    """The virtual cameras that center boxes of the image, as ``crop.look_at_box``.

    Args:
        bounds: (B, 4) float64 left, top, right, bottom in pixels, inclusive.
        camera_matrix: (B, 3, 3) float64 of the real cameras, without skew.
        size: side of the crop in pixels.
        margin: side of the crop over the longer side of the box, or (B,) of each.

    Returns:
        ``R_virtual_camera`` and the crops' pinhole matrices, (B, 3, 3) float64 each.
    """
    left, top, right, bottom = bounds.unbind(1)
    middle = _rays((left + right) / 2.0, (top + bottom) / 2.0, camera_matrix)
    x, y, z = (middle / torch.sqrt((middle * middle).sum(-1, keepdim=True))).unbind(-1)
    common = -x * y / (1.0 + z)
    rows = (1.0 - x * x / (1.0 + z), common, -x, common, 1.0 - y * y / (1.0 + z), -y, x, y, z)
    rotation = torch.stack(rows, dim=-1).reshape(-1, 3, 3)
    u = torch.stack([left - 0.5, right + 0.5, right + 0.5, left - 0.5], dim=1)
    v = torch.stack([top - 0.5, top - 0.5, bottom + 0.5, bottom + 0.5], dim=1)
    rays = _rays(u, v, camera_matrix[:, None]) @ rotation.transpose(1, 2)
    extent = 2.0 * (rays[..., :2] / rays[..., 2:].clamp_min(1e-6)).abs().amax((1, 2))
    focal = size / (margin * extent.clamp_min(1e-9))
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    center = (size - 1) / 2.0 * one
    matrix = torch.stack([focal, zero, center, zero, focal, center, zero, zero, one], dim=-1).reshape(-1, 3, 3)
    return rotation, matrix


def resized(crop_matrix: Tensor, size: int, margin: float, new_size: int, new_margin: float) -> Tensor:
    """The pinhole matrices (B, 3, 3) of the same virtual cameras for crops of another size and margin."""
    matrix = crop_matrix * (new_size / new_margin * margin / size)
    matrix[:, :2, 2] = (new_size - 1) / 2.0
    matrix[:, 2, 2] = 1.0
    return matrix


def _rays(u: Tensor, v: Tensor, camera: Tensor) -> Tensor:
    """Directions (..., 3) of pixels under pinhole matrices (..., 3, 3), whose third component is one."""
    x = (u - camera[..., 0, 2]) / camera[..., 0, 0]
    y = (v - camera[..., 1, 2]) / camera[..., 1, 1]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def area_table(mask: Tensor) -> Tensor:
    """Sums over all pixels above and left: masks (B, H, W) bool -> (B, H + 1, W + 1) int32."""
    sums = mask.to(torch.int32).cumsum(2, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return torch.nn.functional.pad(sums, (1, 0, 1, 0))


def warp(
    table: Tensor, camera_matrix: Tensor, rotation: Tensor, crop_matrix: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Resample full masks, as ``VirtualCamera.warp``: bilinearly, averaged first where the crop would skip pixels.

    Args:
        table: (B, H + 1, W + 1) int32 from :func:`area_table`.
        camera_matrix: (B, 3, 3) float64 of the real cameras.
        rotation: (B, 3, 3) float64 ``R_virtual_camera``.
        crop_matrix: (B, 3, 3) float64 of the crops.
        size: side of the crops.

    Returns:
        Crops (B, S, S) uint8 in {0, 1}, and (B, S, S) uint8 that is 1 where the crop lies inside the image.
    """
    if has_kernels(table.device):
        from ...processes.cuda_crop import warp as warp_with_kernel

        return warp_with_kernel(table, camera_matrix, rotation, crop_matrix, size)
    height, width = table.shape[1] - 1, table.shape[2] - 1
    i = torch.arange(size, device=table.device, dtype=torch.float64)
    v, u = (k.flatten() for k in torch.meshgrid(i, i, indexing="ij"))
    rays = _rays(u, v, crop_matrix[:, None]) @ rotation
    x = camera_matrix[:, 0, 0, None] * rays[..., 0] / rays[..., 2] + camera_matrix[:, 0, 2, None]
    y = camera_matrix[:, 1, 1, None] * rays[..., 1] / rays[..., 2] + camera_matrix[:, 1, 2, None]
    valid = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)

    factor = _reduction(camera_matrix, rotation, crop_matrix).clamp(1, min(height, width))[:, None]
    corners_x, weights_x = _blocks(x, factor, width)
    corners_y, weights_y = _blocks(y, factor, height)
    flat = table.flatten(1)
    sums = [[flat.gather(1, cy * (width + 1) + cx) for cx in corners_x] for cy in corners_y]
    inside = torch.zeros_like(weights_x[0])
    for r in range(2):
        for c in range(2):
            block = sums[r + 1][c + 1] - sums[r][c + 1] - sums[r + 1][c] + sums[r][c]
            inside = inside + weights_y[r] * weights_x[c] * block
    crop = inside >= 0.5 * (factor * factor) - 1e-3
    shape = (-1, size, size)
    return crop.to(torch.uint8).reshape(shape), valid.to(torch.uint8).reshape(shape)


def _reduction(camera_matrix: Tensor, rotation: Tensor, crop_matrix: Tensor) -> Tensor:
    """By which whole number (B,) int64 the image is shrunk first: its pixels per pixel of the crop."""
    r = rotation
    fx, fy = camera_matrix[:, 0, 0], camera_matrix[:, 1, 1]
    cx, cy = camera_matrix[:, 0, 2], camera_matrix[:, 1, 2]
    last = r[:, 2, 2] - r[:, 2, 0] * cx / fx - r[:, 2, 1] * cy / fy
    rows = crop_matrix[:, :2] @ r  # (B, 2, 3)
    det = (rows[:, 0, 0] * rows[:, 1, 1] - rows[:, 0, 1] * rows[:, 1, 0]) / (fx * fy * last * last)
    return torch.floor(1.0 / torch.sqrt(det.abs().clamp_min(1e-12)) + 0.25).long()


def _blocks(x: Tensor, factor: Tensor, length: int) -> tuple[list[Tensor], list[Tensor]]:
    """Ends (three of them) and weights (two) of the blocks of ``factor`` pixels around x, along one axis."""
    count = torch.div(length, factor, rounding_mode="floor")
    small = (x - (factor - 1) / 2.0) / factor
    low = torch.floor(small).clamp(-2.0, 1e6)
    fraction = (small - low).clamp(0.0, 1.0)
    first = low.long()
    weights = []
    for k, weight in enumerate((1.0 - fraction, fraction)):
        there = (first + k >= 0) & (first + k < count)
        weights.append((weight * there).float())
    ends = [((first + k) * factor).clamp(0, length) for k in range(3)]
    return ends, weights
