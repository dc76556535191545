# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of small least-squares problems: one program builds, solves and applies one pose's 6x6 system.

What the learned stages (``cuda_stages``) and the polish share, and the polish. They stand for some hundred operations
of PyTorch each, which a single pose would spend its time on launching. Systems are summed and solved in float64, as 8x8
tiles: the matrix, the right side in column 6, and padding.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_contour import distance_at, jacobian_of
from .observation import SilhouetteObservation

_BLOCK = 32  # rows that are summed in one step
_COPIED = 1024


@triton.jit
def summed(tile, weight):
    """``sum_i w_i t_i t_i^T`` of rows (N, 8) -> (8, 8) float64."""
    t = tile.to(tl.float64)
    return tl.sum((t * weight.to(tl.float64)[:, None])[:, :, None] * t[:, None, :], axis=0)


@triton.jit
def _tile(j0, j1, j2, j3, j4, j5, r):
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


@triton.jit
def _crossing(inverse, u, v, nu, nv, there, size, steps):
    """Where a mask ends along normals -> signed distance, last pixel inside (a place), whether there is such an end."""
    x, y = u.to(tl.int32), v.to(tl.int32)
    here = tl.load(inverse + y * size + x, mask=there, other=0.0) > 0
    direction = tl.where(here, 0.5, -0.5)
    active = there & (x >= 0)
    before = (v + 0.5).to(tl.int32) * size + (u + 0.5).to(tl.int32)
    far = tl.zeros_like(u)
    place = tl.zeros_like(x)
    found = active & (x < 0)
    for k in range(1, steps + 1):
        # Truncated towards zero, as a conversion to integers does it.
        x, y = (u + direction * k * nu + 0.5).to(tl.int32), (v + direction * k * nv + 0.5).to(tl.int32)
        active = active & (x >= 0) & (y >= 0) & (x < size) & (y < size)
        now = y * size + x
        hit = active & ((tl.load(inverse + now, mask=active, other=0.0) > 0) != here)
        far = tl.where(hit, direction * k, far)
        place = tl.where(hit, tl.where(here, before, now), place)
        before = tl.where(active, now, before)
        found = found | hit
        active = active & (hit == 0)
    return far, place, found


@triton.jit
def _reach(seen, contour, reach, reached, size, wanted, steps, LANES: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, LANES)
    there = i < wanted
    query = contour + (b * wanted + i) * 4
    u, v = tl.load(query, mask=there, other=0.0), tl.load(query + 1, mask=there, other=0.0)
    nu, nv = tl.load(query + 2, mask=there, other=0.0), tl.load(query + 3, mask=there, other=0.0)
    far, _, found = _crossing(seen + b * size * size, u, v, nu, nv, there, size, steps)
    tl.store(reach + b * wanted + i, far, mask=there)
    tl.store(reached + b * wanted + i, found.to(tl.int32), mask=there)


def observed_reach(observation: SilhouetteObservation, steps: int) -> tuple[Tensor, Tensor]:
    """Where the observed masks end along the normals of their contour points, in ``steps`` of half a pixel.

    Returns:
        Signed distances (B, N) float32, and (B, N) int32 whether there is an end nearby.
    """
    count, wanted, _ = observation.contour.shape
    reach = torch.empty((count, wanted), device=observation.mask.device)
    reached = torch.empty_like(reach, dtype=torch.int32)
    _reach[(count,)](
        observation.mask.to(torch.float32), observation.contour, reach, reached, observation.mask.shape[-1], wanted,
        steps, LANES=triton.next_power_of_2(wanted),
    )  # fmt: skip
    return reach, reached


@triton.jit
def _polish(
    inverse, sums, places, valid, distance, contour, contour_valid, reach, reached, poses, cameras, damping, best,
    running, trials, count, size, most, wanted, steps, least, stride_rows, robust, enough,
    ATTEMPTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    image = b * size * size
    found = tl.load(sums + b * 9).to(tl.int32)
    go = (tl.load(running + b) != 0) & (found >= least) & (tl.load(best + b) < enough)
    tl.store(running + b, go.to(tl.int32))
    if go:
        pose, camera = poses + b * 16, cameras + b * 9
        focal, cx, cy = tl.load(camera), tl.load(camera + 2), tl.load(camera + 5)
        tx, ty = tl.load(pose + 3).to(tl.float32), tl.load(pose + 7).to(tl.float32)
        tz = tl.load(pose + 11).to(tl.float32)
        system = tl.zeros([8, 8], tl.float64)
        points = tl.minimum(found, most)
        stride = tl.maximum(found // stride_rows, 1)
        for start in range(0, (points + stride - 1) // stride, BLOCK):
            j = (start + tl.arange(0, BLOCK)) * stride
            there = j < points
            place = tl.load(places + b * most + j, mask=there, other=0)
            row = place // size
            u, v = (place - row * size).to(tl.float32), row.to(tl.float32)
            s, gu, gv = distance_at(distance + image, u, v, size, there)
            length = tl.sqrt(gu * gu + gv * gv)
            there = there & (tl.load(valid + image + place, mask=there, other=0) > 0) & (length > 0.3)
            gu, gv = gu / tl.maximum(length, 0.3), gv / tl.maximum(length, 0.3)
            z = 1.0 / tl.load(inverse + image + place, mask=there, other=1.0)
            j0, j1, j2, j5, _, _, _, scale = jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz)
            r = s + 0.5
            weight = tl.where(there, 1.0 / (1.0 + tl.abs(r) / robust), 0.0)
            system += summed(_tile(j0, j1, j2, gu, gv, j5, r * scale), weight)
        for start in range(0, wanted, BLOCK):
            i = start + tl.arange(0, BLOCK)
            there = i < wanted
            query = contour + (b * wanted + i) * 4
            u, v = tl.load(query, mask=there, other=0.0), tl.load(query + 1, mask=there, other=0.0)
            gu, gv = tl.load(query + 2, mask=there, other=0.0), tl.load(query + 3, mask=there, other=0.0)
            far, place, crossed = _crossing(inverse + image, u, v, gu, gv, there, size, steps)
            there = crossed & (tl.load(contour_valid + b * wanted + i, mask=there, other=0.0) > 0)
            there = there & (tl.load(reached + b * wanted + i, mask=there, other=0) > 0)
            w = tl.load(inverse + image + place, mask=there, other=0.0)
            there = there & (w > 0)
            row = place // size
            u, v = (place - row * size).to(tl.float32), row.to(tl.float32)
            z = 1.0 / tl.where(there, w, 1.0)
            j0, j1, j2, j5, _, _, _, scale = jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz)
            r = tl.where(there, far - tl.load(reach + b * wanted + i, mask=there, other=0.0), 0.0)
            weight = tl.where(there, 1.0 / (1.0 + tl.abs(r) / robust), 0.0)
            system += summed(_tile(j0, j1, j2, gu, gv, j5, r * scale), weight)
        i = tl.arange(0, 8)
        lift = tl.load(damping + b) * (diagonal(system) + 1e-3)
        for a in tl.static_range(ATTEMPTS):
            limit = tl.where(i < 3, 0.7, 0.4)
            update = tl.minimum(tl.maximum(solution(system, lift + 1e-6), -limit), limit)
            store_moved(pose, update, trials + (a * count + b) * 16)
            lift = lift * 5.0


def polish_trials(
    inverse: Tensor,
    sums: Tensor,
    places: Tensor,
    observation: SilhouetteObservation,
    reach: Tensor,
    reached: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    trials: Tensor,
    numbers: tuple[int, int, int, float, float],
) -> None:
    """Fill ``trials`` with poses of one step of the polish, one for each damping that is tried.

    Args:
        inverse: (B, S, S) simulated inverse depth at the present poses.
        sums, places: of them, see ``cuda_contour``.
        observation: B observations.
        reach, reached: (B, N) float32 and int32, the same crossings of the observed masks.
        state: poses (B, 4, 4) float64, damping (B,) float64, best IoU (B,) float32, and running (B,) int32, which
            is set to zero where an element is done.
        trials: (A, B, 4, 4) float64; elements that are done keep what is there.
        numbers: steps of half a pixel along a normal, least contour pixels, rows from which a contour is thinned,
            pixels of half weight, IoU that is enough.
    """
    poses, damping, best, running = state
    attempts, count = trials.shape[:2]
    _polish[(count,)](
        inverse, sums, places, observation.valid, observation.signed_distance, observation.contour,
        observation.contour_valid, reach, reached, poses, observation.camera, damping, best, running, trials, count,
        inverse.shape[-1], places.shape[1], reach.shape[1], *numbers, ATTEMPTS=attempts, BLOCK=_BLOCK,
    )  # fmt: skip


@triton.jit
def _choose(
    sums, trials, poses, damping, best, running, picked, history, ious, count, least_gain, ATTEMPTS: tl.constexpr
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, 16)
    before = tl.load(best + b)
    tl.store(picked + b, -1)
    tl.store(ious + b, before)
    tl.store(history + b * 16 + k, tl.load(poses + b * 16 + k))
    if tl.load(running + b) != 0:
        factor = tl.load(damping + b)
        attempt = -1
        iou = before
        for a in tl.static_range(ATTEMPTS):
            common = tl.load(sums + (a * count + b) * 9 + 1).to(tl.float32)
            either = tl.load(sums + (a * count + b) * 9 + 2).to(tl.float32)
            now = common / tl.maximum(either, 1.0)
            better = (attempt < 0) & (now > before)
            attempt = tl.where(better, a, attempt)
            iou = tl.where(better, now, iou)
            factor = tl.where(attempt < 0, factor * 5.0, factor)
        tl.store(picked + b, attempt)
        tl.store(running + b, ((attempt >= 0) & (iou - before >= least_gain)).to(tl.int32))
        if attempt >= 0:
            pose = tl.load(trials + (attempt * count + b) * 16 + k)
            tl.store(best + b, iou)
            tl.store(ious + b, iou)
            tl.store(damping + b, tl.maximum(factor / 5.0, 1e-4))
            tl.store(poses + b * 16 + k, pose)
            tl.store(history + b * 16 + k, pose)


@triton.jit
def _take(picked, drawn, inverse, drawn_sums, sums, drawn_rows, row_counts, count, pixels, size, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    attempt = tl.load(picked + b)
    if attempt >= 0:
        source = attempt * count + b
        k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = k < pixels
        tl.store(inverse + b * pixels + k, tl.load(drawn + source * pixels + k, mask=inside), mask=inside)
        if tl.program_id(1) == 0:
            i = tl.arange(0, BLOCK)
            tl.store(sums + b * 9 + i, tl.load(drawn_sums + source * 9 + i, mask=i < 9), mask=i < 9)
            rows = tl.load(drawn_rows + source * size + i, mask=i < size)
            tl.store(row_counts + b * size + i, rows, mask=i < size)


def polish_choice(
    drawn: tuple[Tensor, Tensor, Tensor],
    present: tuple[Tensor, Tensor, Tensor],
    trials: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    history: tuple[Tensor, Tensor],
    least_gain: float,
) -> None:
    """Take the first trial of each element that raises its IoU; all in place.

    Args:
        drawn: inverse depths (A * B, S, S), sums and contour pixels by row of the trials.
        present: the same of the present poses (B, ...); overwritten where a trial is taken.
        trials: (A, B, 4, 4) float64.
        state: as in :func:`polish_trials`; all four are brought up to date.
        history: (B, 4, 4) float64 and (B,) float32; the poses and IoUs afterwards are written there.
        least_gain: an element that gains less is done.
    """
    poses, damping, best, running = state
    attempts, count = trials.shape[:2]
    pixels, size = present[0][0].numel(), present[0].shape[-1]
    picked = torch.empty_like(running)
    _choose[(count,)](
        drawn[1], trials, poses, damping, best, running, picked, *history, count, least_gain, ATTEMPTS=attempts
    )  # fmt: skip
    _take[(count, triton.cdiv(pixels, _COPIED))](
        picked, drawn[0], present[0], drawn[1], present[1], drawn[2], present[2], count, pixels, size, BLOCK=_COPIED
    )
