# SPDX-License-Identifier: Apache-2.0
"""Triton kernels from full masks to virtual cameras: sums over areas, boxes, cameras and initial poses in two launches.

They stand for some hundred and thirty operations of PyTorch on a handful of numbers each; the tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096  # of one program at a time
_COLUMNS = 8
_LARGEST = tl.constexpr(3e38)  # of a pose's numbers, which are float32 later on


@dataclass(frozen=True)
class Views:
    """What a batch of masks is seen through.

    Attributes:
        table: (B, H + 1, W + 1) int32 sums over all pixels above and left.
        rotation: (B, 3, 3) float64, from the real to the virtual cameras.
        matrices: (2, B, 3, 3) float64, pinhole matrices of the crops of the stages and of the polish.
        cameras: the same in float32.
        start: (B, 4, 4) float32 initial poses of the normalised mesh in the virtual cameras' frames.
        useful: (B,) bool; where false, the pose is another one.
        pixels: (B,) int32 of each mask.
        mesh_index: (B,) int64 zeros.
    """

    table: Tensor
    rotation: Tensor
    matrices: Tensor
    cameras: Tensor
    start: Tensor
    useful: Tensor
    pixels: Tensor
    mesh_index: Tensor


@triton.jit
def _along_rows(mask, table, ends, height, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Sums along rows, and where the object begins and ends in each and how many pixels it has."""
    b = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = rows < height
    x = tl.arange(0, WIDTH)[None, :]
    inside = there[:, None] & (x < width)
    seen = tl.load(mask + (b * height + rows[:, None]) * width + x, mask=inside, other=0) > 0
    n = seen.to(tl.int32)
    line = table + (b * (height + 1) + rows + 1) * (width + 1)
    tl.store(line, 0, mask=there)
    tl.store(line[:, None] + 1 + x, tl.cumsum(n, axis=1), mask=inside)
    out = ends + (b * height + rows) * 3
    tl.store(out, tl.min(tl.where(seen, x, width), axis=1), mask=there)
    tl.store(out + 1, tl.max(tl.where(seen, x, -1), axis=1), mask=there)
    tl.store(out + 2, tl.sum(n, axis=1), mask=there)


@triton.jit
def _turned(pose, k: tl.constexpr, x, y, z):
    """A direction times column k of a pose in memory."""
    return x * tl.load(pose + k) + y * tl.load(pose + 4 + k) + z * tl.load(pose + 8 + k)


@triton.jit
def _finite(pose, r0, r1, r2):
    """The turned row of a pose, and whether all of it is finite in float32."""
    fine = (tl.abs(r0) < _LARGEST) & (tl.abs(r1) < _LARGEST)
    return fine & (tl.abs(r2) < _LARGEST) & (tl.abs(pose) < _LARGEST)


@triton.jit
def _stored_camera(matrix, camera, b, focal, center):
    """A pinhole matrix in both types, its principal point in the middle."""
    i = tl.arange(0, 16)
    value = tl.where((i == 0) | (i == 4), focal, 0.0)
    value = tl.where((i == 2) | (i == 5), center, tl.where(i == 8, 1.0, value))
    tl.store(matrix + b * 9 + i, value, mask=i < 9)
    tl.store(camera + b * 9 + i, value.to(tl.float32), mask=i < 9)


@triton.jit
def _reach(u, v, r00, r01, r02, r10, r11, r12, r20, r21, r22, reach):
    """How far from the middle a ray (u, v, 1) is seen at a focal length of one, or ``reach`` if that is further."""
    x, y, z = r00 * u + r01 * v + r02, r10 * u + r11 * v + r12, r20 * u + r21 * v + r22
    z = tl.maximum(z, 1e-6)
    return tl.maximum(reach, tl.maximum(tl.abs(x / z), tl.abs(y / z)))


@triton.jit
def _view(
    ends, real, initial, frame, rotation, matrices, cameras, start, useful, pixels, mesh_index, b, count, height,
    width, least, SIZE: tl.constexpr, MARGIN: tl.constexpr, NEXT: tl.constexpr, NEXT_MARGIN: tl.constexpr,
    HEIGHT: tl.constexpr,
):  # fmt: skip
    """Box, virtual camera and initial pose of one mask; see the task's ``device_crop.look_at_boxes``."""
    y = tl.arange(0, HEIGHT)
    line = ends + (b * height + y) * 3
    left = tl.min(tl.load(line, mask=y < height, other=width), axis=0)
    last = tl.load(line + 1, mask=y < height, other=-1)
    right = tl.max(last, axis=0)
    top, bottom = tl.min(tl.where(last >= 0, y, height), axis=0), tl.max(tl.where(last >= 0, y, -1), axis=0)
    total = tl.sum(tl.load(line + 2, mask=y < height, other=0), axis=0)
    tl.store(pixels + b, total)
    tl.store(mesh_index + b, 0)
    empty = right < 0
    left, top = tl.where(empty, 0, left).to(tl.float64), tl.where(empty, 0, top).to(tl.float64)
    right = tl.where(empty, width - 1, right).to(tl.float64)
    bottom = tl.where(empty, height - 1, bottom).to(tl.float64)

    real += b * 9
    fx, fy, cx, cy = tl.load(real), tl.load(real + 4), tl.load(real + 2), tl.load(real + 5)
    u, v = ((left + right) / 2.0 - cx) / fx, ((top + bottom) / 2.0 - cy) / fy
    length = tl.sqrt(u * u + v * v + 1.0)
    r20, r21, r22 = u / length, v / length, 1.0 / length
    r00, r11 = 1.0 - r20 * r20 / (1.0 + r22), 1.0 - r21 * r21 / (1.0 + r22)
    r01, r02, r12 = -r20 * r21 / (1.0 + r22), -r20, -r21
    i = tl.arange(0, 16)
    value = tl.where(i == 0, r00, tl.where((i == 1) | (i == 3), r01, tl.where(i == 2, r02, 0.0)))
    value = tl.where(i == 4, r11, tl.where(i == 5, r12, value))
    value = tl.where(i == 6, r20, tl.where(i == 7, r21, tl.where(i == 8, r22, value)))
    tl.store(rotation + b * 9 + i, value, mask=i < 9)
    u0, u1 = (left - 0.5 - cx) / fx, (right + 0.5 - cx) / fx
    v0, v1 = (top - 0.5 - cy) / fy, (bottom + 0.5 - cy) / fy
    reach = _reach(u0, v0, r00, r01, r02, r01, r11, r12, r20, r21, r22, 5e-10)
    reach = _reach(u1, v0, r00, r01, r02, r01, r11, r12, r20, r21, r22, reach)
    reach = _reach(u1, v1, r00, r01, r02, r01, r11, r12, r20, r21, r22, reach)
    reach = _reach(u0, v1, r00, r01, r02, r01, r11, r12, r20, r21, r22, reach)
    focal = SIZE / MARGIN / (2.0 * reach)
    _stored_camera(matrices, cameras, b, focal, (SIZE - 1) / 2.0)
    focal = NEXT / NEXT_MARGIN / (2.0 * reach)
    _stored_camera(matrices + count * 9, cameras + count * 9, b, focal, (NEXT - 1) / 2.0)

    pose = initial + b * 16
    mx, my, mz, diameter = tl.load(frame), tl.load(frame + 1), tl.load(frame + 2), tl.load(frame + 3)
    a0, a1, a2 = _turned(pose, 0, r00, r01, r02), _turned(pose, 1, r00, r01, r02), _turned(pose, 2, r00, r01, r02)
    b0, b1, b2 = _turned(pose, 0, r01, r11, r12), _turned(pose, 1, r01, r11, r12), _turned(pose, 2, r01, r11, r12)
    c0, c1, c2 = _turned(pose, 0, r20, r21, r22), _turned(pose, 1, r20, r21, r22), _turned(pose, 2, r20, r21, r22)
    tx = (_turned(pose, 3, r00, r01, r02) + a0 * mx + a1 * my + a2 * mz) / diameter
    ty = (_turned(pose, 3, r01, r11, r12) + b0 * mx + b1 * my + b2 * mz) / diameter
    tz = (_turned(pose, 3, r20, r21, r22) + c0 * mx + c1 * my + c2 * mz) / diameter
    fine = (total >= least) & (tz > 0) & _finite(tx, a0, a1, a2) & _finite(ty, b0, b1, b2) & _finite(tz, c0, c1, c2)
    first = tl.where(i == 0, a0, tl.where(i == 1, a1, tl.where(i == 2, a2, tl.where(i == 3, tx, 0.0))))
    second = tl.where(i == 4, b0, tl.where(i == 5, b1, tl.where(i == 6, b2, tl.where(i == 7, ty, first))))
    value = tl.where(i == 8, c0, tl.where(i == 9, c1, tl.where(i == 10, c2, tl.where(i == 11, tz, second))))
    value = tl.where(i == 15, 1.0, value)
    anywhere = tl.where(i == 11, 3.0, tl.where((i == 0) | (i == 5) | (i == 10) | (i == 15), 1.0, 0.0))
    tl.store(start + b * 16 + i, tl.where(fine, value, anywhere).to(tl.float32))
    tl.store(useful + b, fine.to(tl.int8))


@triton.jit
def _along_columns(
    table, ends, real, initial, frame, rotation, matrices, cameras, start, useful, pixels, mesh_index, count, height,
    width, least, SIZE: tl.constexpr, MARGIN: tl.constexpr, NEXT: tl.constexpr, NEXT_MARGIN: tl.constexpr,
    HEIGHT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums along columns; the first program of each mask looks for its camera instead."""
    b = tl.program_id(0).to(tl.int64)
    if tl.program_id(1) == 0:
        _view(
            ends, real, initial, frame, rotation, matrices, cameras, start, useful, pixels, mesh_index, b, count,
            height, width, least, SIZE, MARGIN, NEXT, NEXT_MARGIN, HEIGHT,
        )  # fmt: skip
    else:
        x = (tl.program_id(1) - 1) * COLUMNS + tl.arange(0, COLUMNS)
        column = table + b * (height + 1) * (width + 1) + x
        tl.store(column, 0, mask=x <= width)
        above = tl.zeros([COLUMNS], tl.int32)
        for first in range(0, height, ROWS):
            y = (first + tl.arange(0, ROWS))[:, None]
            inside = (y < height) & (x <= width)[None, :]
            place = column[None, :] + (y + 1) * (width + 1)
            sums = tl.cumsum(tl.load(place, mask=inside, other=0), axis=0) + above[None, :]
            tl.store(place, sums, mask=inside)
            above = tl.max(sums, axis=0)  # they do not fall


def views(
    masks: Tensor, camera_matrix: Tensor, initial: Tensor, frame: Tensor, least: int, size: int, margin: float,
    next_size: int, next_margin: float,
) -> Views:  # fmt: skip
    """The cameras that center masks, and what else is to be known of them.

    Args:
        masks: (B, H, W) uint8, contiguous, non-zero on the object.
        camera_matrix: (B, 3, 3) float64 of the real cameras, contiguous.
        initial: (B, 4, 4) float64 poses, metres.
        frame: (4,) float64, center and diameter of the object.
        least: a mask with fewer pixels is of no use.
        size, margin: side of the crops of the stages, pixels, and over the longer side of the box.
        next_size, next_margin: the same of the polish.
    """
    (count, height, width), device = masks.shape, masks.device
    found = Views(
        table=torch.empty((count, height + 1, width + 1), device=device, dtype=torch.int32),
        rotation=torch.empty((count, 3, 3), device=device, dtype=torch.float64),
        matrices=torch.empty((2, count, 3, 3), device=device, dtype=torch.float64),
        cameras=torch.empty((2, count, 3, 3), device=device), start=torch.empty((count, 4, 4), device=device),
        useful=torch.empty(count, device=device, dtype=torch.bool),
        pixels=torch.empty(count, device=device, dtype=torch.int32),
        mesh_index=torch.empty(count, device=device, dtype=torch.int64),
    )  # fmt: skip
    ends = torch.empty((count, height, 3), device=device, dtype=torch.int32)
    across = triton.next_power_of_2(width)
    rows = max(1, _ELEMENTS // across)
    _along_rows[(count, triton.cdiv(height, rows))](masks, found.table, ends, height, width, ROWS=rows, WIDTH=across)
    _along_columns[(count, 1 + triton.cdiv(width + 1, _COLUMNS))](
        found.table, ends, camera_matrix, initial.contiguous(), frame, found.rotation, found.matrices,
        found.cameras, found.start, found.useful.view(torch.int8), found.pixels, found.mesh_index, count, height,
        width, least, SIZE=size, MARGIN=margin, NEXT=next_size, NEXT_MARGIN=next_margin,
        HEIGHT=triton.next_power_of_2(height), ROWS=_ELEMENTS // _COLUMNS, COLUMNS=_COLUMNS,
    )  # fmt: skip
    return found
