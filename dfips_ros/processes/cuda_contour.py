# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the explicit comparison: contours of simulated masks, and rows of the Gauss-Newton system.

What ``device_contour.compare`` does with some two hundred operations of PyTorch, in four launches; the tests compare
the two. All sums over images are whole numbers, so that the result does not depend on the order in which programs run.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .contour import GLOBAL_FEATURES, NUM_ROWS, NUM_SIMULATED, NUM_SURFACE, ROW_FEATURES
from .observation import NUM_OBSERVED, SilhouetteObservation

assert NUM_SIMULATED == NUM_OBSERVED == NUM_SURFACE  # the kinds of rows, which one launch makes

SUMS = 9  # of an image: contour, common and either pixels, then sums of 1, x, y, x^2, y^2, x y from its middle
PARTS = ("rows", "jacobian", "residual", "weight", "context", "norm")  # of a comparison, in this order in memory
_ROWS = 8  # image rows of one program
_POINTS = 32  # contour points that are matched in one step
_LANES = 128


@triton.jit
def edges(inverse, image, x, y, size):
    """Which pixels of an image are seen, and which of them have a background neighbour and are not at the border."""
    there = (x < size) & (y < size)
    k = image + y * size + x
    seen = tl.load(inverse + k, mask=there, other=0.0) > 0
    inner = there & (x > 0) & (y > 0) & (x < size - 1) & (y < size - 1)
    around = (tl.load(inverse + k - size, mask=inner, other=1.0) > 0) & (
        tl.load(inverse + k + size, mask=inner, other=1.0) > 0
    )
    around = around & (tl.load(inverse + k - 1, mask=inner, other=1.0) > 0)
    around = around & (tl.load(inverse + k + 1, mask=inner, other=1.0) > 0)
    return seen, seen & inner & (around == 0)


@triton.jit
def _sums(inverse, mask, valid, row_counts, sums, size, observations, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    image, observed = b * size * size, (b % observations) * size * size
    y = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    x = tl.arange(0, WIDTH)[None, :]
    there = (x < size) & (y < size)
    seen, edge = edges(inverse, image, x, y, size)
    counts = tl.sum(edge.to(tl.int32), axis=1)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tl.store(row_counts + b * size + rows, counts, mask=rows < size)
    known = tl.load(valid + observed + y * size + x, mask=there, other=0) > 0
    other = tl.load(mask + observed + y * size + x, mask=there, other=0) > 0
    out = sums + b * 9
    tl.atomic_add(out, tl.sum(counts).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 1, tl.sum((seen & other & known).to(tl.int32)).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 2, tl.sum(((seen | other) & known).to(tl.int32)).to(tl.int64), sem="relaxed")
    n = (seen & known).to(tl.int32)
    u, v = x - size // 2, y - size // 2
    tl.atomic_add(out + 3, tl.sum(n).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 4, tl.sum(n * u).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 5, tl.sum(n * v).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 6, tl.sum(n * u * u).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 7, tl.sum(n * v * v).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 8, tl.sum(n * u * v).to(tl.int64), sem="relaxed")


def image_sums(inverse: Tensor, observation: SilhouetteObservation) -> tuple[Tensor, Tensor]:
    """Numbers that describe simulated masks, and how they overlap with the observed ones.

    Args:
        inverse: (A * B, S, S) inverse depth, A images for each of the B observations, the observation last.
        observation: B observations.

    Returns:
        (A * B, SUMS) int64 and the contour pixels in each row (A * B, S) int32.
    """
    count, size, _ = inverse.shape
    sums = torch.zeros((count, SUMS), device=inverse.device, dtype=torch.int64)
    row_counts = torch.empty((count, size), device=inverse.device, dtype=torch.int32)
    _sums[(count, triton.cdiv(size, _ROWS))](
        inverse, observation.mask, observation.valid, row_counts, sums, size, len(observation), ROWS=_ROWS,
        WIDTH=triton.next_power_of_2(size),
    )  # fmt: skip
    return sums, row_counts


def overlap(sums: Tensor) -> Tensor:
    """IoU (B,) float32 from the sums (B, SUMS)."""
    return sums[:, 1] / sums[:, 2].clamp_min(1)


@triton.jit
def _outline(inverse, row_counts, places, normals, size, most, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    image = b * size * size
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x, y = tl.arange(0, WIDTH)[None, :], rows[:, None]
    every = tl.arange(0, WIDTH)
    counts = tl.load(row_counts + b * size + every, mask=every < size, other=0)
    above = tl.sum(tl.where(every[None, :] < y, counts[None, :], 0), axis=1)
    _, edge = edges(inverse, image, x, y, size)
    n = edge.to(tl.int32)
    j = above[:, None] + tl.cumsum(n, axis=1) - n
    keep = edge & (j < most)
    tl.store(places + b * most + j, (y * size + x).to(tl.int32), mask=keep)
    nx = tl.zeros([ROWS, WIDTH], tl.float32)
    ny = tl.zeros([ROWS, WIDTH], tl.float32)
    for dy in tl.static_range(-2, 3):
        for dx in tl.static_range(-2, 3):
            v = tl.minimum(tl.maximum(y + dy, 0), size - 1)
            u = tl.minimum(tl.maximum(x + dx, 0), size - 1)
            inside = tl.load(inverse + image + v * size + u, mask=keep, other=0.0) > 0
            nx -= tl.where(inside, dx * 1.0, 0.0)
            ny -= tl.where(inside, dy * 1.0, 0.0)
    length = tl.sqrt(nx * nx + ny * ny)
    scale = tl.where(length < 1e-6, 0.0, 1.0 / tl.maximum(length, 1e-6))
    tl.store(normals + (b * most + j) * 2, nx * scale, mask=keep)
    tl.store(normals + (b * most + j) * 2 + 1, ny * scale, mask=keep)


def outline(inverse: Tensor, row_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Contour pixels in raster order, and their outward normals.

    A contour may have a quarter as many pixels as the image has; what is beyond is left out.

    Args:
        inverse: (B, S, S).
        row_counts: (B, S) from :func:`image_sums`.

    Returns:
        (B, S * S / 4) int32 flat places and (B, S * S / 4, 2) float32 normals, not filled beyond the count.
    """
    count, size, _ = inverse.shape
    most = size * size // 4
    places = torch.empty((count, most), device=inverse.device, dtype=torch.int32)
    normals = torch.empty((count, most, 2), device=inverse.device)
    _outline[(count, triton.cdiv(size, _ROWS))](
        inverse, row_counts, places, normals, size, most, ROWS=_ROWS, WIDTH=triton.next_power_of_2(size)
    )
    return places, normals


@triton.jit
def distance_at(distance, u, v, size, there):
    """Bilinear signed distance of one image and its gradient at points; see ``contour.distance_at``."""
    last = size - 2.001
    uc, vc = tl.minimum(tl.maximum(u, 1.0), last), tl.minimum(tl.maximum(v, 1.0), last)
    x, y = uc.to(tl.int32), vc.to(tl.int32)
    a, b = uc - x, vc - y
    k = distance + y * size + x
    s00, s10 = tl.load(k, mask=there, other=0.0), tl.load(k + 1, mask=there, other=0.0)
    s01, s11 = tl.load(k + size, mask=there, other=0.0), tl.load(k + size + 1, mask=there, other=0.0)
    s = (1 - b) * ((1 - a) * s00 + a * s10) + b * ((1 - a) * s01 + a * s11)
    m = distance + (vc + 0.5).to(tl.int32) * size + (uc + 0.5).to(tl.int32)
    n00, n10 = tl.load(m - size - 1, mask=there, other=0.0), tl.load(m - size + 1, mask=there, other=0.0)
    n01, n11 = tl.load(m + size - 1, mask=there, other=0.0), tl.load(m + size + 1, mask=there, other=0.0)
    left, right = tl.load(m - 1, mask=there, other=0.0), tl.load(m + 1, mask=there, other=0.0)
    up, down = tl.load(m - size, mask=there, other=0.0), tl.load(m + size, mask=there, other=0.0)
    gx = 0.125 * (n10 - n00 + 2.0 * (right - left) + n11 - n01)
    gy = 0.125 * (n01 - n00 + 2.0 * (down - up) + n11 - n10)
    du, dv = u - uc, v - vc
    beyond = tl.sqrt(du * du + dv * dv)
    outside = beyond > 0
    inverse = 1.0 / tl.maximum(beyond, 1e-20)
    s = tl.where(outside, tl.maximum(s, 0.0) + beyond, s)
    return s, tl.where(outside, du * inverse, gx), tl.where(outside, dv * inverse, gy)


@triton.jit
def jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz):
    """See ``device_contour.jacobian_of``: six columns, the points less the translation, and diameters per pixel."""
    scale = z / focal
    px, py, pz = (u - cx) * scale - tx, (v - cy) * scale - ty, z - tz
    jz = -(gu * (u - cx) + gv * (v - cy)) / focal
    along = gu * tx + gv * ty + jz * tz
    return py * jz - pz * gv, pz * gu - px * jz, px * gv - py * gu, along, px, py, pz, scale


@triton.jit
def _write(
    rows, jacobian, residual, weight, row, lane, there, r, gu, gv, u, v, z, focal, cx, cy, tx, ty, tz, nx, ny, nz,
    eu, ev, cosine, extra, KIND: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    j0, j1, j2, j5, px, py, pz, scale = jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz)
    r = r * scale
    tl.store(residual + row, tl.where(there, r, 0.0), mask=lane)
    tl.store(weight + row, there.to(tl.float32), mask=lane)
    out = jacobian + row * 6
    tl.store(out, tl.where(there, j0, 0.0), mask=lane)
    tl.store(out + 1, tl.where(there, j1, 0.0), mask=lane)
    tl.store(out + 2, tl.where(there, j2, 0.0), mask=lane)
    tl.store(out + 3, tl.where(there, gu, 0.0), mask=lane)
    tl.store(out + 4, tl.where(there, gv, 0.0), mask=lane)
    tl.store(out + 5, tl.where(there, j5, 0.0), mask=lane)
    out = rows + row * FEATURES
    for k in tl.static_range(3):
        tl.store(out + k, tl.where(there, 1.0 if k == KIND else 0.0, 0.0), mask=lane)
    tl.store(out + 3, tl.where(there, 4.0 * r, 0.0), mask=lane)
    tl.store(out + 4, tl.where(there, gu, 0.0), mask=lane)
    tl.store(out + 5, tl.where(there, gv, 0.0), mask=lane)
    tl.store(out + 6, tl.where(there, 2.0 * px, 0.0), mask=lane)
    tl.store(out + 7, tl.where(there, 2.0 * py, 0.0), mask=lane)
    tl.store(out + 8, tl.where(there, 2.0 * pz, 0.0), mask=lane)
    tl.store(out + 9, tl.where(there, nx, 0.0), mask=lane)
    tl.store(out + 10, tl.where(there, ny, 0.0), mask=lane)
    tl.store(out + 11, tl.where(there, nz, 0.0), mask=lane)
    tl.store(out + 12, tl.where(there, 4.0 * eu * scale, 0.0), mask=lane)
    tl.store(out + 13, tl.where(there, 4.0 * ev * scale, 0.0), mask=lane)
    tl.store(out + 14, tl.where(there, cosine, 0.0), mask=lane)
    tl.store(out + 15, tl.where(there, extra, 0.0), mask=lane)


@triton.jit
def _nearest(places, normals, count, size, most, qu, qv, gu, gv, LANES: tl.constexpr, POINTS: tl.constexpr):
    """The contour point that fits each query best; contours that face the same way fit better."""
    least = tl.full([LANES], 3e38, tl.float32)
    best = tl.zeros([LANES], tl.int32)
    for start in range(0, count, POINTS):
        j = start + tl.arange(0, POINTS)
        there = j < count
        place = tl.load(places + j, mask=there, other=0)
        nu, nv = tl.load(normals + 2 * j, mask=there, other=0.0), tl.load(normals + 2 * j + 1, mask=there, other=0.0)
        y = place // size
        du = (place - y * size).to(tl.float32)[None, :] - qu[:, None]
        dv = y.to(tl.float32)[None, :] - qv[:, None]
        facing = nu[None, :] * gu[:, None] + nv[None, :] * gv[:, None]
        cost = tl.where(there[None, :], (du * du + dv * dv) * (2.5 - 1.5 * facing), 3e38)
        low = tl.min(cost, axis=1)
        at = tl.min(tl.where(cost == low[:, None], j[None, :], 2147483647), axis=1)  # the first of equals
        best = tl.where(low < least, at, best)
        least = tl.minimum(low, least)
    return best


@triton.jit
def central(sums, size):
    """Area, centroid and second central moments of a mask from its sums; see ``device_contour.central_moments``."""
    area = tl.load(sums + 3).to(tl.float32)
    n = tl.maximum(area, 1.0)
    mu, mv = tl.load(sums + 4).to(tl.float32) / n, tl.load(sums + 5).to(tl.float32) / n
    uu = tl.load(sums + 6).to(tl.float32) / n - mu * mu
    vv = tl.load(sums + 7).to(tl.float32) / n - mv * mv
    uv = tl.load(sums + 8).to(tl.float32) / n - mu * mv
    middle = tl.where(area > 0, (size // 2).to(tl.float32), 0.0)
    return area, mu + middle, mv + middle, uu, vv, uv


@triton.jit
def _context(sums, observed, context, norm, b, size, focal, tz, GLOBALS: tl.constexpr):
    common, either = tl.load(sums + 1).to(tl.float32), tl.load(sums + 2).to(tl.float32)
    away = 1.0 - common / tl.maximum(either, 1.0)
    area, mu, mv, uu, vv, uv = central(sums, size)
    other = observed + b * 6
    seen = tl.load(other)
    scale = tz / focal
    square = scale * scale
    out = context + b * GLOBALS
    tl.store(norm + b, away)
    tl.store(out, away)
    tl.store(out + 1, 0.5 * tl.log((area + 1.0) / (seen + 1.0)))
    tl.store(out + 2, 4.0 * (mu - tl.load(other + 1)) * scale)
    tl.store(out + 3, 4.0 * (mv - tl.load(other + 2)) * scale)
    tl.store(out + 4, 20.0 * uu * square)
    tl.store(out + 5, 20.0 * vv * square)
    tl.store(out + 6, 20.0 * uv * square)
    tl.store(out + 7, 20.0 * tl.load(other + 3) * square)
    tl.store(out + 8, 20.0 * tl.load(other + 4) * square)
    tl.store(out + 9, 20.0 * tl.load(other + 5) * square)
    tl.store(out + 10, area * square)
    tl.store(out + 11, seen * square)
    tl.store(out + 12, 1.0 / tz)
    tl.store(out + 13, tl.log(1.0 / (64.0 * scale)))


@triton.jit
def _rows(
    inverse, sums, places, normals, poses, cameras, valid, distance, contour, contour_valid, surface, mesh_index,
    offset, observed, rows, jacobian, residual, weight, context, norm, size, most,
    COUNT: tl.constexpr, FEATURES: tl.constexpr, GLOBALS: tl.constexpr, LANES: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    kind = tl.program_id(1)
    image = b * size * size
    i = tl.arange(0, LANES)
    lane = i < COUNT
    row = (b * 3 + kind) * COUNT + i
    pose, camera = poses + b * 16, cameras + b * 9
    focal, cx, cy = tl.load(camera), tl.load(camera + 2), tl.load(camera + 5)
    tx, ty, tz = tl.load(pose + 3), tl.load(pose + 7), tl.load(pose + 11)
    count = tl.minimum(tl.load(sums + b * 9), most).to(tl.int32)
    places += b * most
    normals += b * most * 2
    if kind == 0:
        _context(sums + b * 9, observed, context, norm, b, size, focal, tz, GLOBALS)
        there = tl.where(count > 0, i, COUNT) < COUNT
        j = tl.minimum(((i + tl.load(offset + b)) * count / COUNT).to(tl.int32), count - 1)
        place = tl.load(places + j, mask=there, other=0)
        nx, ny = tl.load(normals + 2 * j, mask=there, other=0.0), tl.load(normals + 2 * j + 1, mask=there, other=0.0)
        y = place // size
        u, v = (place - y * size).to(tl.float32), y.to(tl.float32)
        s, gu, gv = distance_at(distance + image, u, v, size, there)
        length = tl.sqrt(gu * gu + gv * gv)
        there = there & (tl.load(valid + image + place, mask=there, other=0) > 0) & (length >= 0.1)
        gu, gv = gu / tl.maximum(length, 0.1), gv / tl.maximum(length, 0.1)
        z = 1.0 / tl.maximum(tl.load(inverse + image + place, mask=there, other=1.0), 1e-12)
        r = s + 0.5
        _write(
            rows, jacobian, residual, weight, row, lane, there, r, gu, gv, u, v, z, focal, cx, cy, tx, ty, tz,
            nx, ny, tl.zeros_like(nx), r * gu, r * gv, nx * gu + ny * gv, length, 0, FEATURES,
        )  # fmt: skip
    if kind == 1:
        query = contour + (b * COUNT + i) * 4
        qu, qv = tl.load(query, mask=lane, other=0.0), tl.load(query + 1, mask=lane, other=0.0)
        gu, gv = tl.load(query + 2, mask=lane, other=0.0), tl.load(query + 3, mask=lane, other=0.0)
        there = tl.where(count > 0, i, COUNT) < COUNT
        there = there & (tl.load(contour_valid + b * COUNT + i, mask=lane, other=0.0) > 0)
        best = _nearest(places, normals, count, size, most, qu, qv, gu, gv, LANES, POINTS)
        place = tl.load(places + best, mask=there, other=0)
        nx = tl.load(normals + 2 * best, mask=there, other=0.0)
        ny = tl.load(normals + 2 * best + 1, mask=there, other=0.0)
        y = place // size
        u, v = (place - y * size).to(tl.float32), y.to(tl.float32)
        eu, ev = u - qu, v - qv
        z = 1.0 / tl.maximum(tl.load(inverse + image + place, mask=there, other=1.0), 1e-12)
        _write(
            rows, jacobian, residual, weight, row, lane, there, eu * gu + ev * gv, gu, gv, u, v, z, focal, cx, cy,
            tx, ty, tz, nx, ny, tl.zeros_like(nx), eu, ev, nx * gu + ny * gv, tl.full([LANES], 1.0, tl.float32),
            1, FEATURES,
        )  # fmt: skip
    if kind == 2:
        p = surface + (tl.load(mesh_index + b) * COUNT + i) * 6
        a0, a1 = tl.load(p, mask=lane, other=0.0), tl.load(p + 1, mask=lane, other=0.0)
        a2, b0 = tl.load(p + 2, mask=lane, other=0.0), tl.load(p + 3, mask=lane, other=0.0)
        b1, b2 = tl.load(p + 4, mask=lane, other=0.0), tl.load(p + 5, mask=lane, other=0.0)
        r00, r01, r02 = tl.load(pose), tl.load(pose + 1), tl.load(pose + 2)
        r10, r11, r12 = tl.load(pose + 4), tl.load(pose + 5), tl.load(pose + 6)
        r20, r21, r22 = tl.load(pose + 8), tl.load(pose + 9), tl.load(pose + 10)
        z = r20 * a0 + r21 * a1 + r22 * a2 + tz
        there = lane & (z >= 0.05)
        safe = tl.maximum(z, 0.05)
        u = focal * (r00 * a0 + r01 * a1 + r02 * a2 + tx) / safe + cx
        v = focal * (r10 * a0 + r11 * a1 + r12 * a2 + ty) / safe + cy
        nx, ny = r00 * b0 + r01 * b1 + r02 * b2, r10 * b0 + r11 * b1 + r12 * b2
        nz = r20 * b0 + r21 * b1 + r22 * b2
        s, gu, gv = distance_at(distance + image, u, v, size, there)
        x = tl.minimum(tl.maximum(u + 0.5, 0.0), size - 1.0).to(tl.int32)
        y = tl.minimum(tl.maximum(v + 0.5, 0.0), size - 1.0).to(tl.int32)
        front = tl.load(inverse + image + y * size + x, mask=there, other=0.0)
        seen = (front > 0) & (z < 1.0 / tl.maximum(front, 1e-12) + 0.03)
        length = tl.sqrt(gu * gu + gv * gv)
        known = (tl.load(valid + image + y * size + x, mask=there, other=0) > 0) & (length > 0.1)
        gu, gv = tl.where(known, gu / tl.maximum(length, 0.1), gu), tl.where(known, gv / tl.maximum(length, 0.1), gv)
        r = tl.where(known, tl.maximum(s, 0.0), 0.0)
        _write(
            rows, jacobian, residual, weight, row, lane, there, r, gu, gv, u, v, z, focal, cx, cy, tx, ty, tz,
            nx, ny, nz, s * gu, s * gv, nx * gu + ny * gv, seen.to(tl.float32), 2, FEATURES,
        )  # fmt: skip


def comparison(
    inverse: Tensor,
    observation: SilhouetteObservation,
    pose: Tensor,
    surface: Tensor,
    observed_moments: Tensor,
    offset: Tensor,
) -> dict[str, Tensor]:
    """What ``device_contour.compare`` returns, of simulated inverse depths (B, S, S); the arguments are as there."""
    count, size, _ = inverse.shape
    sums, row_counts = image_sums(inverse, observation)
    places, normals = outline(inverse, row_counts)
    shapes = ((NUM_ROWS, ROW_FEATURES), (NUM_ROWS, 6), (NUM_ROWS,), (NUM_ROWS,), (GLOBAL_FEATURES,), ())
    lengths = [count * math.prod(shape) for shape in shapes]
    memory = torch.empty(sum(lengths), device=inverse.device).split(lengths)  # one piece, for `cuda_stages.accept`
    out = {n: part.view(count, *shape) for n, part, shape in zip(PARTS, memory, shapes, strict=True)}
    _rows[(count, 3)](
        inverse, sums, places, normals, pose, observation.camera.contiguous(), observation.valid,
        observation.signed_distance, observation.contour.contiguous(), observation.contour_valid.contiguous(),
        surface, observation.mesh_index, offset, observed_moments, *out.values(), size, places.shape[1],
        COUNT=NUM_ROWS // 3, FEATURES=ROW_FEATURES, GLOBALS=GLOBAL_FEATURES, LANES=_LANES, POINTS=_POINTS, num_warps=8,
    )  # fmt: skip
    return {**out, "inverse_depth": inverse}
