# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the explicit comparison: rows of the Gauss-Newton system.

What ``device_contour.compare`` does with some two hundred operations of PyTorch, in four launches with those of
``cuda_silhouette``; the tests compare the two.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .contour import GLOBAL_FEATURES, NUM_ROWS, NUM_SIMULATED, NUM_SURFACE, ROW_FEATURES
from .cuda_silhouette import central, image_sums, iou_of, outline, slot_of
from .observation import NUM_OBSERVED, SilhouetteObservation

assert NUM_SIMULATED == NUM_OBSERVED == NUM_SURFACE  # the kinds of rows, which one launch makes

PARTS = ("rows", "jacobian", "residual", "weight", "context", "norm")  # of a comparison, in the order of its kernel
_POINTS = 32  # contour points that are matched in one step
_LANES = 128


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
def _context(sums, other, context, norm, size, focal, tz):
    away = 1.0 - iou_of(sums)
    area, mu, mv, uu, vv, uv = central(sums, size)
    seen = tl.load(other)
    scale = tz / focal
    square = scale * scale
    tl.store(norm, away)
    tl.store(context, away)
    tl.store(context + 1, 0.5 * tl.log((area + 1.0) / (seen + 1.0)))
    tl.store(context + 2, 4.0 * (mu - tl.load(other + 1)) * scale)
    tl.store(context + 3, 4.0 * (mv - tl.load(other + 2)) * scale)
    tl.store(context + 4, 20.0 * uu * square)
    tl.store(context + 5, 20.0 * vv * square)
    tl.store(context + 6, 20.0 * uv * square)
    tl.store(context + 7, 20.0 * tl.load(other + 3) * square)
    tl.store(context + 8, 20.0 * tl.load(other + 4) * square)
    tl.store(context + 9, 20.0 * tl.load(other + 5) * square)
    tl.store(context + 10, area * square)
    tl.store(context + 11, seen * square)
    tl.store(context + 12, 1.0 / tz)
    tl.store(context + 13, tl.log(1.0 / (64.0 * scale)))


# Parts of the memory of stages begin anywhere: one kernel for all of them.
@triton.jit(do_not_specialize_on_alignment=["sums", "poses", "cameras", "mesh_index", "offset", "observed", "slots"])
def _rows(
    inverse, sums, places, normals, poses, cameras, valid, distance, contour, contour_valid, surface, mesh_index,
    offset, observed, slots, rows, jacobian, residual, weight, context, norm, size, most, observations,
    COUNT: tl.constexpr, FEATURES: tl.constexpr, GLOBALS: tl.constexpr, LANES: tl.constexpr, POINTS: tl.constexpr,
    DRAWN: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    n = b % observations
    out = slot_of(b, observations, slots, SLOTS)
    kind = tl.program_id(1)
    image = b * size * size
    valid += n * size * size
    distance += n * size * size
    i = tl.arange(0, LANES)
    lane = i < COUNT
    row = (out * 3 + kind) * COUNT + i
    pose, camera = poses + b * 16, cameras + n * 9
    focal, cx, cy = tl.load(camera), tl.load(camera + 2), tl.load(camera + 5)
    tx, ty, tz = tl.load(pose + 3), tl.load(pose + 7), tl.load(pose + 11)
    count = tl.minimum(tl.load(sums + b * 9), most).to(tl.int32)
    places += b * most
    normals += b * most * 2
    if kind == 0:
        _context(sums + b * 9, observed + n * 6, context + out * GLOBALS, norm + out, size, focal, tz)
        there = tl.where(count > 0, i, COUNT) < COUNT
        begin = 0.5
        if DRAWN:
            begin = tl.load(offset + n)
        j = tl.minimum(((i + begin) * count / COUNT).to(tl.int32), count - 1)
        place = tl.load(places + j, mask=there, other=0)
        nx, ny = tl.load(normals + 2 * j, mask=there, other=0.0), tl.load(normals + 2 * j + 1, mask=there, other=0.0)
        y = place // size
        u, v = (place - y * size).to(tl.float32), y.to(tl.float32)
        s, gu, gv = distance_at(distance, u, v, size, there)
        length = tl.sqrt(gu * gu + gv * gv)
        there = there & (tl.load(valid + place, mask=there, other=0) > 0) & (length >= 0.1)
        gu, gv = gu / tl.maximum(length, 0.1), gv / tl.maximum(length, 0.1)
        z = 1.0 / tl.maximum(tl.load(inverse + image + place, mask=there, other=1.0), 1e-12)
        r = s + 0.5
        _write(
            rows, jacobian, residual, weight, row, lane, there, r, gu, gv, u, v, z, focal, cx, cy, tx, ty, tz,
            nx, ny, tl.zeros_like(nx), r * gu, r * gv, nx * gu + ny * gv, length, 0, FEATURES,
        )  # fmt: skip
    if kind == 1:
        query = contour + (n * COUNT + i) * 4
        qu, qv = tl.load(query, mask=lane, other=0.0), tl.load(query + 1, mask=lane, other=0.0)
        gu, gv = tl.load(query + 2, mask=lane, other=0.0), tl.load(query + 3, mask=lane, other=0.0)
        there = tl.where(count > 0, i, COUNT) < COUNT
        there = there & (tl.load(contour_valid + n * COUNT + i, mask=lane, other=0.0) > 0)
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
        p = surface + (tl.load(mesh_index + n) * COUNT + i) * 6
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
        s, gu, gv = distance_at(distance, u, v, size, there)
        x = tl.minimum(tl.maximum(u + 0.5, 0.0), size - 1.0).to(tl.int32)
        y = tl.minimum(tl.maximum(v + 0.5, 0.0), size - 1.0).to(tl.int32)
        front = tl.load(inverse + image + y * size + x, mask=there, other=0.0)
        seen = (front > 0) & (z < 1.0 / tl.maximum(front, 1e-12) + 0.03)
        length = tl.sqrt(gu * gu + gv * gv)
        known = (tl.load(valid + y * size + x, mask=there, other=0) > 0) & (length > 0.1)
        gu, gv = tl.where(known, gu / tl.maximum(length, 0.1), gu), tl.where(known, gv / tl.maximum(length, 0.1), gv)
        r = tl.where(known, tl.maximum(s, 0.0), 0.0)
        _write(
            rows, jacobian, residual, weight, row, lane, there, r, gu, gv, u, v, z, focal, cx, cy, tx, ty, tz,
            nx, ny, nz, s * gu, s * gv, nx * gu + ny * gv, seen.to(tl.float32), 2, FEATURES,
        )  # fmt: skip


def features_of(count: int, slots: int, device: torch.device) -> dict[str, Tensor]:
    """Memory for the features of ``slots`` comparisons of each of ``count`` observations, (slots * count, ...) each."""
    shapes = ((NUM_ROWS, ROW_FEATURES), (NUM_ROWS, 6), (NUM_ROWS,), (NUM_ROWS,), (GLOBAL_FEATURES,), ())
    return {name: torch.empty((slots * count, *s), device=device) for name, s in zip(PARTS, shapes, strict=True)}


def comparison(
    inverse: Tensor,
    observation: SilhouetteObservation,
    pose: Tensor,
    surface: Tensor,
    observed_moments: Tensor,
    offset: Tensor | None = None,
    sums: Tensor | None = None,
    kept: tuple[Tensor | None, dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """What ``device_contour.compare`` returns, of simulated inverse depths (A * B, S, S), the observation last.

    The arguments are as there, and:

    Args:
        sums: (A * B, SUMS) int64 zeros to be filled; made by default.
        kept: where A + 1 comparisons are kept, one of them the present one: which one that is (B,) int32, and the
            memory of all from :func:`features_of`. Where it is None instead, the first ones are filled.
    """
    count, size, _ = inverse.shape
    sums, row_counts = image_sums(inverse, observation, sums)
    places, normals = outline(inverse, row_counts)
    present, out = kept or (None, features_of(count, 1, inverse.device))
    slots = 0 if present is None else 1 + count // len(observation)
    _rows[(count, 3)](
        inverse, sums, places, normals, pose, observation.camera.contiguous(), observation.valid,
        observation.signed_distance, observation.contour.contiguous(), observation.contour_valid.contiguous(),
        surface, observation.mesh_index, sums if offset is None else offset, observed_moments,
        sums if present is None else present, *out.values(), size, places.shape[1], len(observation),
        COUNT=NUM_ROWS // 3, FEATURES=ROW_FEATURES, GLOBALS=GLOBAL_FEATURES, LANES=_LANES, POINTS=_POINTS,
        DRAWN=offset is not None, SLOTS=slots, num_warps=8,
    )  # fmt: skip
    return {**out, "inverse_depth": inverse}
