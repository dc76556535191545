# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of small least-squares problems: one program builds, solves and applies one pose's 6x6 system.

What the learned stages (``cuda_stages``) and the polish (``cuda_polish``) share. Systems are summed and solved in
float64, as 8x8 tiles: the matrix, the right side in column 6, and padding.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def summed(tile, weight):
    """``sum_i w_i t_i t_i^T`` of rows (N, 8), the first six lines of it -> (8, 8) float64."""
    # Line by line: all at once, as a product (N, 8, 8), every thread would make many rows of the tile for itself.
    t = tile.to(tl.float64)
    weighted = t * weight.to(tl.float64)[:, None]
    p, q = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    out = tl.zeros([8, 8], tl.float64)
    for k in tl.static_range(6):
        column = tl.sum(tl.where(q == k, weighted, 0.0), axis=1)
        out = tl.where(p == k, tl.sum(t * column[:, None], axis=0)[None, :], out)
    return out


@triton.jit
def tile_of(j0, j1, j2, j3, j4, j5, r):
    """Seven columns (N,) side by side, and one of zeros -> (N, 8)."""
    q = tl.arange(0, 8)[None, :]
    tile = tl.where(q == 0, j0[:, None], tl.where(q == 1, j1[:, None], tl.where(q == 2, j2[:, None], 0.0)))
    tile = tl.where(q == 3, j3[:, None], tl.where(q == 4, j4[:, None], tile))
    return tl.where(q == 5, j5[:, None], tl.where(q == 6, r[:, None], tile))


@triton.jit
def diagonal(m):
    """The diagonal (8,) of a tile."""
    p, q = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    return tl.sum(tl.where(p == q, m, 0.0), axis=1)


@triton.jit
def solution(m, lift):
    """``-(A + diag(lift))^-1 b`` (8,) of a tile by Gauss-Jordan elimination; the last two are of no meaning."""
    i = tl.arange(0, 8)
    p, q = i[:, None], i[None, :]
    m = m + tl.where((p == q) & (p < 6), lift[:, None], 0.0)
    for k in tl.static_range(6):
        row = tl.sum(tl.where(p == k, m, 0.0), axis=0)
        row = row / tl.sum(tl.where(i == k, row, 0.0), axis=0)
        column = tl.sum(tl.where(q == k, m, 0.0), axis=1)
        m = tl.where(p == k, row[None, :], m - column[:, None] * row[None, :])
    return -tl.sum(tl.where(q == 6, m, 0.0), axis=1)


@triton.jit
def _at(vector, k: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, 8) == k, vector, 0.0), axis=0)


@triton.jit
def store_moved(pose, update, out):
    """``Se3ImageSpace.apply`` of one pose (4, 4), in memory, and an update (8,)."""
    a, b, c = _at(update, 0), _at(update, 1), _at(update, 2)
    square = a * a + b * b + c * c
    small = square < 1e-8
    safe = tl.where(small, 1.0, square)
    angle = tl.sqrt(safe)
    s = tl.where(small, 1.0 - square / 6.0, tl.sin(angle) / angle)
    h = tl.where(small, 0.5 - square / 24.0, (1.0 - tl.cos(angle)) / safe)
    for column in tl.static_range(3):
        x = tl.load(pose + column).to(tl.float64)
        y = tl.load(pose + 4 + column).to(tl.float64)
        z = tl.load(pose + 8 + column).to(tl.float64)
        cx, cy, cz = b * z - c * y, c * x - a * z, a * y - b * x  # Rodrigues' formula, column by column
        along = a * x + b * y + c * z
        tl.store(out + column, x + s * cx + h * (a * along - square * x))
        tl.store(out + 4 + column, y + s * cy + h * (b * along - square * y))
        tl.store(out + 8 + column, z + s * cz + h * (c * along - square * z))
    growth = tl.exp(tl.minimum(tl.maximum(_at(update, 5), -10.0), 10.0))
    tl.store(out + 3, growth * (tl.load(pose + 3).to(tl.float64) + _at(update, 3)))
    tl.store(out + 7, growth * (tl.load(pose + 7).to(tl.float64) + _at(update, 4)))
    tl.store(out + 11, growth * tl.load(pose + 11).to(tl.float64))
    for column in tl.static_range(4):
        tl.store(out + 12 + column, 1.0 if column == 3 else 0.0)
