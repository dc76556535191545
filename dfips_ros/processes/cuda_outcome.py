# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that end a solve: which pose is kept, its covariance, and everything in metres; two launches.

They stand for some hundred and twenty operations of PyTorch on matrices of 3x3 to 6x6; one program does all of one
pose, in float64. The tests compare the two.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_least_squares import summed

_BLOCK = 64  # rows that are summed in one step


@triton.jit
def _kept(learned, polished, norms, pose, narrow, iou, least, STEPS: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, 16)
    before, after = 1.0 - tl.load(norms + b * STEPS), 1.0 - tl.load(norms + b * STEPS + STEPS - 1)
    kept = after >= least
    value = tl.where(kept, tl.load(polished + b * 16 + k), tl.load(learned + b * 16 + k).to(tl.float64))
    tl.store(pose + b * 16 + k, value)
    tl.store(narrow + b * 16 + k, value.to(tl.float32))
    tl.store(iou + b, tl.where(kept, after, before))


def kept(learned: Tensor, polished: Tensor, norms: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """The polished pose where its IoU is large enough, the learned one elsewhere.

    Args:
        learned: (B, 4, 4) float32, what the polish began with.
        polished: (B, 4, 4) float64.
        norms: (B, T+1) float32, 1 - IoU at each step of the polish.
        least: IoU of a polished pose that is kept.

    Returns:
        Poses (B, 4, 4) in float64 and in float32, and the IoU (B,) of what was kept.
    """
    pose, narrow, iou = torch.empty_like(polished), torch.empty_like(learned), torch.empty_like(norms[:, 0])
    _kept[(len(pose),)](learned, polished, norms, pose, narrow, iou, least, STEPS=norms.shape[1], num_warps=1)
    return pose, narrow, iou


@triton.jit
def _product(a, b):
    """The product of two tiles (8, 8)."""
    return tl.sum(a[:, :, None] * b[None, :, :], axis=1)


@triton.jit
def _put(tile, i: tl.constexpr, j: tl.constexpr, value):
    """A tile (8, 8) with another value in one place."""
    p, q = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    return tl.where((p == i) & (q == j), value, tile)


@triton.jit
def _inverse(m):
    """The inverse of the positive definite 6x6 part of a tile, padded with 0, by Gauss-Jordan elimination in place."""
    i = tl.arange(0, 8)
    p, q = i[:, None], i[None, :]
    m = tl.where((p < 6) & (q < 6), m, 0.0)
    for k in tl.static_range(6):
        row = tl.sum(tl.where(p == k, m, 0.0), axis=0)
        row = tl.where(i == k, 1.0, row) / tl.sum(tl.where(i == k, row, 0.0), axis=0)
        column = tl.sum(tl.where(q == k, m, 0.0), axis=1)
        m = tl.where(p == k, row[None, :], tl.where(q == k, 0.0, m) - column[:, None] * row[None, :])
    return m


@triton.jit
def _times(pose, k: tl.constexpr, x, y, z):
    """Row k of a pose's rotation, in memory, times a vector."""
    return tl.load(pose + 4 * k) * x + tl.load(pose + 4 * k + 1) * y + tl.load(pose + 4 * k + 2) * z


@triton.jit
def _information(residual, jacobian, weight, count, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    """Of robustly weighted rows: the information (8, 8), and the sums of their squared residuals and of weights."""
    q = tl.arange(0, 8)[None, :]
    system = tl.zeros([8, 8], tl.float64)
    squares = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        there = i < count
        r = tl.load(residual + i, mask=there, other=0.0).to(tl.float64)
        tile = tl.load(jacobian + i[:, None] * 6 + q, mask=there[:, None] & (q < 6), other=0.0)
        known = tl.load(weight + i, mask=there, other=0.0).to(tl.float64)
        w = known / (1.0 + r / SCALE * (r / SCALE))
        system += summed(tile, w)
        squares += w * r * r
        total += w
    return system, tl.sum(squares, axis=0), tl.sum(total, axis=0)


@triton.jit
def _covariance(
    system, squares, total, pose, focal, rotation, frame, prior, axes, arms, num_axes, out,
    FREE: tl.constexpr, CORRELATED: tl.constexpr,
):  # fmt: skip
    """See the task's ``device_covariance.DeviceCovariance``."""
    i = tl.arange(0, 8)
    p, q = i[:, None], i[None, :]
    pixel = 0.3 * tl.load(pose + 11) / focal
    variance = squares / tl.maximum(total, 1.0) + pixel * pixel
    before = tl.load(prior + i, mask=i < 6, other=0.0)
    local = _inverse(system / (CORRELATED * variance) + tl.where(p == q, before[:, None], 0.0))
    for n in range(num_axes):
        ax, ay, az = tl.load(axes + 3 * n), tl.load(axes + 3 * n + 1), tl.load(axes + 3 * n + 2)
        x, y, z = _times(pose, 0, ax, ay, az), _times(pose, 1, ax, ay, az), _times(pose, 2, ax, ay, az)
        ax, ay, az = tl.load(arms + 3 * n), tl.load(arms + 3 * n + 1), tl.load(arms + 3 * n + 2)
        u, v, w = _times(pose, 0, ax, ay, az), _times(pose, 1, ax, ay, az), _times(pose, 2, ax, ay, az)
        free = tl.where(i == 0, x, tl.where(i == 1, y, tl.where(i == 2, z, 0.0)))
        free = tl.where(i == 3, y * w - z * v, tl.where(i == 4, z * u - x * w, free))
        local += FREE * free[:, None] * free[None, :]

    mx, my, mz, diameter = tl.load(frame), tl.load(frame + 1), tl.load(frame + 2), tl.load(frame + 3)
    x, y, z = _times(pose, 0, mx, my, mz), _times(pose, 1, mx, my, mz), _times(pose, 2, mx, my, mz)
    # Of the update: w, then the shift in the image and the logarithm of the depth; the origin moves by arm x w.
    moves = tl.where((p == q + 3) & (p < 6), 1.0, tl.zeros([8, 8], tl.float64))
    moves = _put(_put(_put(moves, 0, 1, -z), 0, 2, y), 1, 0, z)
    moves = _put(_put(_put(moves, 1, 2, -x), 2, 0, -y), 2, 1, x)
    moves = _put(_put(moves, 0, 3, diameter), 1, 4, diameter)
    for k in tl.static_range(3):
        moves = _put(moves, k, 5, diameter * tl.load(pose + 4 * k + 3))
    same = (p < 6) & (q < 6) & ((p < 3) == (q < 3))
    back = tl.load(rotation + (q % 3) * 3 + p % 3, mask=same, other=0.0)
    moves = _product(back, moves)
    found = _product(_product(moves, local), tl.trans(moves))
    found = (found + tl.trans(found)) / 2.0
    tl.store(out + p * 6 + q, found, mask=(p < 6) & (q < 6))


@triton.jit
def _in_metres(pose, rotation, frame):
    """A normalised pose, in memory, in metres and the real camera's frame -> (16,) float64."""
    i = tl.arange(0, 16)
    p, q = i // 4, i % 4
    diameter = tl.load(frame + 3)
    out = tl.where(i == 15, 1.0, tl.zeros([16], tl.float64))
    for k in tl.static_range(3):
        middle = _times(pose, k, tl.load(frame), tl.load(frame + 1), tl.load(frame + 2))
        shift = tl.load(pose + 4 * k + 3).to(tl.float64) * diameter - middle
        value = tl.where(q == 3, shift, tl.load(pose + 4 * k + q).to(tl.float64))
        out += tl.where(p < 3, tl.load(rotation + 3 * k + p, mask=p < 3, other=0.0) * value, 0.0)
    return out


@triton.jit
def _finish(
    residual, jacobian, weight, pose, matrix, rotation, frame, prior, axes, arms, num_axes, learned, norms, initial,
    useful, iou, pixels, first, last, out_pose, out_covariance, out_history, out_iou, out_contour, out_norms,
    out_pixels, out_solved, out_truncated, count, rows, contour_rows, first_size, last_size,
    STEPS: tl.constexpr, FREE: tl.constexpr, CORRELATED: tl.constexpr, SCALE: tl.constexpr, FIRST: tl.constexpr,
    LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    pose, turn = pose + b * 16, rotation + b * 9
    system, squares, total = _information(
        residual + b * rows, jacobian + b * rows * 6, weight + b * rows, contour_rows, SCALE, BLOCK
    )  # fmt: skip
    _covariance(
        system, squares, total, pose, tl.load(matrix + b * 9), turn, frame, prior, axes, arms, num_axes,
        out_covariance + b * 36, FREE, CORRELATED,
    )  # fmt: skip
    k = tl.arange(0, 16)
    solved = tl.load(useful + b) != 0
    tl.store(out_pose + b * 16 + k, tl.where(solved, _in_metres(pose, turn, frame), tl.load(initial + b * 16 + k)))
    for t in range(STEPS):
        tl.store(out_history + (b * STEPS + t) * 16 + k, _in_metres(learned + (t * count + b) * 16, turn, frame))
        tl.store(out_norms + b * STEPS + t, tl.load(norms + b * STEPS + t))
    i = tl.arange(0, LAST)
    line = last + b * 3 * last_size + i
    contour = tl.sum(tl.load(line, mask=i < last_size, other=0), axis=0)
    area = tl.sum(tl.load(line + last_size, mask=i < last_size, other=0), axis=0)
    i = tl.arange(0, FIRST)
    line = first + (b * 3 + 2) * first_size + i
    unknown = tl.sum(tl.load(line, mask=i < first_size, other=0), axis=0)
    found = tl.load(iou + b)
    tl.store(out_iou + b, tl.where(solved, found, 0.0))
    tl.store(out_contour + b, (1.0 - found) * area.to(tl.float32) / tl.maximum(contour, 1).to(tl.float32))
    tl.store(out_pixels + b, tl.load(pixels + b))
    tl.store(out_solved + b, solved.to(tl.int8))
    tl.store(out_truncated + b, (unknown > 0).to(tl.int8))


def finish(
    rows: dict[str, Tensor], kept: tuple[Tensor, Tensor], camera: tuple[Tensor, Tensor], frame: Tensor,
    beliefs: tuple[Tensor, Tensor, Tensor], unrolled: tuple[Tensor, Tensor], given: tuple[Tensor, Tensor, Tensor],
    lines: tuple[Tensor, Tensor], out: tuple[Tensor, ...], numbers: tuple[int, float, float, float],
) -> None:  # fmt: skip
    """Fill the outputs of a solve.

    Args:
        rows: of the comparison at the poses: ``residual``, ``weight`` and ``jacobian``.
        kept: poses (B, 4, 4) float64 of the normalised mesh in the virtual cameras' frames, and their IoU (B,).
        camera: matrices of the crop (B, 3, 3) and rotations from the real to the virtual cameras, float64.
        frame: (4,) float64, center and diameter of the object.
        beliefs: information that is there before (6,), and symmetry axes (N, 3) and their arms, float64.
        unrolled: poses (T+1, B, 4, 4) and norms (B, T+1) of the stages, float32.
        given: initial poses (B, 4, 4) float64, whether the solve was of use (B,) bool, and pixels (B,) int32.
        lines: of the observations of the stages and of the polish, see ``device_observation.observe``.
        out: contiguous tensors in the order: poses (B, 4, 4), covariances (B, 6, 6) and histories (B, T+1, 4, 4) in
            float64; IoU (B,), contour pixels (B,) and norms (B, T+1) in float32; pixels (B,) int32; solved (B,) and
            truncated (B,) bool.
        numbers: rows of the contour, variance of an angle that may be anything, rows that count as one, and the
            residual of half the weight.
    """
    poses, iou = kept
    history, norms = unrolled
    initial, useful, pixels = given
    first, last = lines
    contour_rows, free, correlated, scale = numbers
    count, total = rows["residual"].shape
    _finish[(count,)](
        rows["residual"], rows["jacobian"], rows["weight"], poses, camera[0], camera[1], frame, beliefs[0],
        beliefs[1], beliefs[2], len(beliefs[1]), history, norms, initial.contiguous(), useful.view(torch.int8), iou,
        pixels, first, last, *out[:7], out[7].view(torch.int8), out[8].view(torch.int8), count, total, contour_rows,
        first.shape[2], last.shape[2], STEPS=len(history), FREE=free, CORRELATED=correlated, SCALE=scale,
        FIRST=triton.next_power_of_2(first.shape[2]), LAST=triton.next_power_of_2(last.shape[2]), BLOCK=_BLOCK,
    )  # fmt: skip
