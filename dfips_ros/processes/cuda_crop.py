# SPDX-License-Identifier: Apache-2.0
"""Triton kernel that resamples full masks into crops of virtual cameras, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


@triton.jit
def _ends(x, factor, length):
    """Where the two neighbouring blocks of ``factor`` pixels around x begin and end, and their weights."""
    small = (x - (factor - 1) / 2.0) / factor
    low = tl.minimum(tl.maximum(tl.floor(small), -2.0), 1e6)
    fraction = tl.minimum(tl.maximum(small - low, 0.0), 1.0)
    first = low.to(tl.int32)
    count = length // factor
    w0 = tl.where((first >= 0) & (first < count), 1.0 - fraction, 0.0).to(tl.float32)
    w1 = tl.where((first >= -1) & (first + 1 < count), fraction, 0.0).to(tl.float32)
    e0 = tl.minimum(tl.maximum(first * factor, 0), length)
    e1 = tl.minimum(tl.maximum((first + 1) * factor, 0), length)
    e2 = tl.minimum(tl.maximum((first + 2) * factor, 0), length)
    return e0, e1, e2, w0, w1


@triton.jit
def _block(p00, p01, p10, p11, inside):
    value = tl.load(p11, mask=inside, other=0) - tl.load(p01, mask=inside, other=0)
    return (value - tl.load(p10, mask=inside, other=0) + tl.load(p00, mask=inside, other=0)).to(tl.float32)


@triton.jit
def _warp(table, cameras, rotations, crops, mask, valid, size, height, width, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = k < size * size
    camera, r, crop = cameras + b * 9, rotations + b * 9, crops + b * 9
    fx, fy, cx, cy = tl.load(camera), tl.load(camera + 4), tl.load(camera + 2), tl.load(camera + 5)
    focal, middle_u, middle_v = tl.load(crop), tl.load(crop + 2), tl.load(crop + 5)
    r00, r01, r02 = tl.load(r), tl.load(r + 1), tl.load(r + 2)
    r10, r11, r12 = tl.load(r + 3), tl.load(r + 4), tl.load(r + 5)
    r20, r21, r22 = tl.load(r + 6), tl.load(r + 7), tl.load(r + 8)
    # By which whole number the image is shrunk first: its pixels per pixel of the crop, where they are alike.
    last = r22 - r20 * cx / fx - r21 * cy / fy
    a0, a1 = focal * r00 + middle_u * r20, focal * r01 + middle_u * r21
    b0, b1 = focal * r10 + middle_v * r20, focal * r11 + middle_v * r21
    scale = tl.maximum(tl.abs((a0 * b1 - a1 * b0) / (fx * fy * last * last)), 1e-12)
    factor = tl.floor(1.0 / tl.sqrt(scale) + 0.25).to(tl.int32)
    factor = tl.minimum(tl.maximum(factor, 1), tl.minimum(height, width))
    row = k // size
    u, v = ((k - row * size).to(tl.float64) - middle_u) / focal, (row.to(tl.float64) - middle_v) / focal
    z = u * r02 + v * r12 + r22
    x = fx * (u * r00 + v * r10 + r20) / z + cx
    y = fy * (u * r01 + v * r11 + r21) / z + cy
    known = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    x0, x1, x2, wx0, wx1 = _ends(x, factor, width)
    y0, y1, y2, wy0, wy1 = _ends(y, factor, height)
    stride = width + 1
    t = table + b * stride * (height + 1)
    t0, t1, t2 = t + y0 * stride, t + y1 * stride, t + y2 * stride
    total = wy0 * wx0 * _block(t0 + x0, t0 + x1, t1 + x0, t1 + x1, inside)
    total += wy0 * wx1 * _block(t0 + x1, t0 + x2, t1 + x1, t1 + x2, inside)
    total += wy1 * wx0 * _block(t1 + x0, t1 + x1, t2 + x0, t2 + x1, inside)
    total += wy1 * wx1 * _block(t1 + x1, t1 + x2, t2 + x1, t2 + x2, inside)
    half = 0.5 * (factor * factor).to(tl.float32) - 1e-3
    tl.store(mask + b * size * size + k, (total >= half).to(tl.uint8), mask=inside)
    tl.store(valid + b * size * size + k, known.to(tl.uint8), mask=inside)


def warp(
    table: Tensor, camera_matrix: Tensor, rotation: Tensor, crop_matrix: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Resample full masks; the operations of PyTorch that do the same are in the task's ``device_crop.warp``.

    Args:
        table: (B, H + 1, W + 1) int32 sums over areas of the masks.
        camera_matrix: (B, 3, 3) float64 of the real cameras.
        rotation: (B, 3, 3) float64, from the real to the virtual cameras.
        crop_matrix: (B, 3, 3) float64 of the crops.
        size: side of the crops.

    Returns:
        Crops (B, S, S) uint8 in {0, 1}, and (B, S, S) uint8 that is 1 where the crop lies inside the image.
    """
    count, height, width = table.shape
    mask = torch.empty((count, size, size), device=table.device, dtype=torch.uint8)
    valid = torch.empty_like(mask)
    _warp[(count, triton.cdiv(size * size, _BLOCK))](
        table.contiguous(), camera_matrix.contiguous(), rotation.contiguous(), crop_matrix.contiguous(), mask, valid,
        size, height - 1, width - 1, BLOCK=_BLOCK,
    )  # fmt: skip
    return mask, valid
