# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the polish: Gauss-Newton on contour distances, four launches a step.

They stand for some hundred operations of PyTorch each, which a single pose would spend its time on launching. As in
``cuda_stages``, every step has entries of its own for what it decides. The images of a pose and of its trials take
turns: an image is not copied where a trial is taken, its place is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_contour import distance_at, jacobian_of
from .cuda_least_squares import diagonal, solution, store_moved, summed, tile_of
from .cuda_silhouette import SUMS, iou_of, traced
from .observation import SilhouetteObservation

_BLOCK = 128  # rows that are summed in one step
_ROWS = 8  # image rows of one program


@triton.jit
def _crossing(mask, u, v, nu, nv, there, size, steps, REACH: tl.constexpr):
    """Where a mask ends along normals -> signed distance, last pixel inside (a place), whether there is such an end."""
    # Truncated towards zero, as a conversion to integers does it.
    here = tl.load(mask + v.to(tl.int32) * size + u.to(tl.int32), mask=there, other=0) > 0
    direction = tl.where(here, 0.5, -0.5)
    k = 1 + tl.arange(0, REACH)[None, :]
    x = (u[:, None] + direction[:, None] * k * nu[:, None] + 0.5).to(tl.int32)
    y = (v[:, None] + direction[:, None] * k * nv[:, None] + 0.5).to(tl.int32)
    inside = there[:, None] & (x >= 0) & (y >= 0) & (x < size) & (y < size)
    other = (tl.load(mask + y * size + x, mask=inside, other=0) > 0) != here[:, None]
    first = tl.min(tl.where((k <= steps) & (other | (inside == 0)), k, REACH + 1), axis=1)
    hit = tl.sum(((k == first[:, None]) & inside).to(tl.int32), axis=1) > 0
    last = direction * tl.where(here, first - 1, first)
    x, y = (u + last * nu + 0.5).to(tl.int32), (v + last * nv + 0.5).to(tl.int32)
    return tl.where(hit, direction * first, 0.0), tl.where(hit, y * size + x, 0), hit


@triton.jit
def _reach(seen, contour, reach, reached, size, wanted, steps, REACH: tl.constexpr, LANES: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, LANES)
    there = i < wanted
    query = contour + (b * wanted + i) * 4
    u, v = tl.load(query, mask=there, other=0.0), tl.load(query + 1, mask=there, other=0.0)
    nu, nv = tl.load(query + 2, mask=there, other=0.0), tl.load(query + 3, mask=there, other=0.0)
    far, _, found = _crossing(seen + b * size * size, u, v, nu, nv, there, size, steps, REACH)
    tl.store(reach + b * wanted + i, far, mask=there)
    tl.store(reached + b * wanted + i, found.to(tl.int32), mask=there)


@triton.jit
def _settled(
    initial, sums, trials, history, norms, best, damping, running, present, active, b, t, count, least_gain, writes,
    ATTEMPTS: tl.constexpr, STEPS: tl.constexpr, DAMPING: tl.constexpr,
):  # fmt: skip
    """Take the first trial of step t - 1 that raises the IoU -> whether the element goes on, and its image's slot."""
    k = tl.arange(0, 16)
    source = initial + b * 16
    slot = tl.full([], 0, tl.int32)
    go = t == 0
    iou = iou_of(sums + (t * ATTEMPTS * count + b) * 9)
    factor = tl.full([], DAMPING, tl.float64)
    if t > 0:
        last = (t - 1) * count + b
        source = history + last * 16
        before = tl.load(best + last)
        factor = tl.load(damping + last)
        slot = tl.load(present + last)
        was = tl.load(active + last) != 0
        taken = -1
        iou = before
        lifted = factor
        for a in tl.static_range(ATTEMPTS):
            now = iou_of(sums + ((t * ATTEMPTS + a) * count + b) * 9)
            better = was & (taken < 0) & (now > before)
            taken = tl.where(better, a, taken)
            iou = tl.where(better, now, iou)
            lifted = tl.where(taken < 0, lifted * 5.0, lifted)
        go = (taken >= 0) & (iou - before >= least_gain)
        if taken >= 0:
            source = trials + (((t - 1) * ATTEMPTS + taken) * count + b) * 16
            slot = (slot + 1 + taken) % (ATTEMPTS + 1)
            factor = tl.maximum(lifted / 5.0, 1e-4)
    if writes:
        at = t * count + b
        tl.store(history + at * 16 + k, tl.load(source + k))
        tl.store(norms + b * STEPS + t, 1.0 - iou)
        tl.store(best + at, iou)
        tl.store(damping + at, factor)
        tl.store(running + at, go)
        tl.store(present + at, slot)
    return go, slot


@triton.jit(do_not_specialize=["t"])
def _outline(
    initial, sums, trials, history, norms, best, damping, running, present, active, images, row_counts, places, t,
    count, size, most, least_gain, ATTEMPTS: tl.constexpr, STEPS: tl.constexpr,
    DAMPING: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    go, slot = _settled(
        initial, sums, trials, history, norms, best, damping, running, present, active, b, t, count, least_gain,
        tl.program_id(1) == 0, ATTEMPTS, STEPS, DAMPING,
    )  # fmt: skip
    if go:
        rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        x = tl.arange(0, WIDTH)[None, :]
        inside = (rows < size)[:, None] & (x < size)
        for a in tl.static_range(1, ATTEMPTS + 1):  # for the next trials
            other = ((slot + a) % (ATTEMPTS + 1) * count + b) * size * size
            tl.store(images + other + rows[:, None] * size + x, 0.0, mask=inside)
        image = slot * count + b
        traced(
            images, image * size * size, row_counts + image * size, places + b * most, places, rows, size, most, False,
            WIDTH,
        )  # fmt: skip


@triton.jit(do_not_specialize=["t"])
def _trials(
    images, row_counts, places, valid, distance, contour, contour_valid, reach, reached, cameras, history, best,
    damping, running, present, active, trials, t, count, size, most, wanted, steps, least, stride_rows, robust, enough,
    ATTEMPTS: tl.constexpr, REACH: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    at = t * count + b
    image = tl.load(present + at) * count + b
    every = tl.arange(0, WIDTH)
    found = tl.sum(tl.load(row_counts + image * size + every, mask=every < size, other=0), axis=0)
    go = (tl.load(running + at) != 0) & (found >= least) & (tl.load(best + at) < enough)
    tl.store(active + at, go.to(tl.int32))
    if go:
        inverse = images + image * size * size
        observed = b * size * size
        pose, camera = history + at * 16, cameras + b * 9
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
            s, gu, gv = distance_at(distance + observed, u, v, size, there)
            length = tl.sqrt(gu * gu + gv * gv)
            there = there & (tl.load(valid + observed + place, mask=there, other=0) > 0) & (length > 0.3)
            gu, gv = gu / tl.maximum(length, 0.3), gv / tl.maximum(length, 0.3)
            z = 1.0 / tl.load(inverse + place, mask=there, other=1.0)
            j0, j1, j2, j5, _, _, _, scale = jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz)
            r = s + 0.5
            weight = tl.where(there, 1.0 / (1.0 + tl.abs(r) / robust), 0.0)
            system += summed(tile_of(j0, j1, j2, gu, gv, j5, r * scale), weight)
        for start in range(0, wanted, BLOCK):
            i = start + tl.arange(0, BLOCK)
            there = i < wanted
            query = contour + (b * wanted + i) * 4
            u, v = tl.load(query, mask=there, other=0.0), tl.load(query + 1, mask=there, other=0.0)
            gu, gv = tl.load(query + 2, mask=there, other=0.0), tl.load(query + 3, mask=there, other=0.0)
            far, place, crossed = _crossing(inverse, u, v, gu, gv, there, size, steps, REACH)
            there = crossed & (tl.load(contour_valid + b * wanted + i, mask=there, other=0.0) > 0)
            there = there & (tl.load(reached + b * wanted + i, mask=there, other=0) > 0)
            w = tl.load(inverse + place, mask=there, other=0.0)
            there = there & (w > 0)
            row = place // size
            u, v = (place - row * size).to(tl.float32), row.to(tl.float32)
            z = 1.0 / tl.where(there, w, 1.0)
            j0, j1, j2, j5, _, _, _, scale = jacobian_of(gu, gv, u, v, z, focal, cx, cy, tx, ty, tz)
            r = tl.where(there, far - tl.load(reach + b * wanted + i, mask=there, other=0.0), 0.0)
            weight = tl.where(there, 1.0 / (1.0 + tl.abs(r) / robust), 0.0)
            system += summed(tile_of(j0, j1, j2, gu, gv, j5, r * scale), weight)
        i = tl.arange(0, 8)
        lift = tl.load(damping + at) * (diagonal(system) + 1e-3)
        for a in tl.static_range(ATTEMPTS):
            limit = tl.where(i < 3, 0.7, 0.4)
            update = tl.minimum(tl.maximum(solution(system, lift + 1e-6), -limit), limit)
            store_moved(pose, update, trials + ((t * ATTEMPTS + a) * count + b) * 16)
            lift = lift * 5.0


@triton.jit(do_not_specialize=["t"])
def _end(
    initial, sums, trials, history, norms, best, damping, running, present, active, t, count, least_gain,
    ATTEMPTS: tl.constexpr, STEPS: tl.constexpr, DAMPING: tl.constexpr,
):  # fmt: skip
    _settled(
        initial, sums, trials, history, norms, best, damping, running, present, active,
        tl.program_id(0).to(tl.int64), t, count, least_gain, True, ATTEMPTS, STEPS, DAMPING,
    )  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a polish is told.

    Attributes:
        iterations, attempts: steps, and dampings that are tried in each.
        damping: the first one.
        least_gain: an element whose IoU gains less is done.
        enough: IoU from which on an element is done.
        robust: pixels of half the weight.
        steps: of half a pixel that a normal is followed.
        least_points: an element whose contour has fewer pixels is done.
        stride_rows: a contour of at least twice so many pixels is thinned.
    """

    iterations: int
    attempts: int
    damping: float
    least_gain: float
    enough: float
    robust: float
    steps: int
    least_points: int
    stride_rows: int


class Polishing:
    """The memory of a polish, and its launches.

    Args:
        observation: B observations.
        initial: (B, 4, 4) float64 poses, contiguous.
        limits: when to stop, and how far to look.

    Attributes:
        images: ((A + 1) * B, S, S) float32, zeros at first; the initial poses are drawn on the first B.
        row_counts: contour pixels in the rows of each ((A + 1) * B, S) int32, to be filled with those of the images.
        sums: (T+1, A * B, SUMS) int64 zeros, to be filled for the initial poses (the first B) and each step's trials.
        trials: (T, A * B, 4, 4) float64, filled by each step.
        active, present: (T, B) and (T+1, B) int32, whether there are trials, and which image is that of the pose.
        history, norms: poses (T+1, B, 4, 4) float64, and 1 - IoU (B, T+1).
    """

    def __init__(self, observation: SilhouetteObservation, initial: Tensor, limits: Limits) -> None:
        self._observation, self._initial, self._limits = observation, initial, limits
        (count, size, _), device = observation.mask.shape, initial.device
        t, attempts, wanted = limits.iterations, limits.attempts, observation.contour.shape[1]

        def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        self.images = torch.zeros(((attempts + 1) * count, size, size), device=device)
        self.sums = torch.zeros((t + 1, attempts * count, SUMS), device=device, dtype=torch.int64)
        self.row_counts = numbers((attempts + 1) * count, size, dtype=torch.int32)
        self.trials = numbers(t, attempts * count, 4, 4, dtype=torch.float64)
        self.history = numbers(t + 1, count, 4, 4, dtype=torch.float64)
        self.norms, self._best = numbers(count, t + 1), numbers(t + 1, count)
        self._damping = numbers(t + 1, count, dtype=torch.float64)
        self._running, self.present = (numbers(t + 1, count, dtype=torch.int32) for _ in range(2))
        self.active = numbers(t, count, dtype=torch.int32)
        self._places = numbers(count, size * size // 4, dtype=torch.int32)
        self._reach, self._reached = numbers(count, wanted), numbers(count, wanted, dtype=torch.int32)
        self._state = (
            initial, self.sums, self.trials, self.history, self.norms, self._best, self._damping, self._running,
            self.present, self.active,
        )  # fmt: skip
        self._across = triton.next_power_of_2(limits.steps)
        _reach[(count,)](
            observation.mask, observation.contour, self._reach, self._reached, size, wanted, limits.steps,
            REACH=self._across, LANES=triton.next_power_of_2(wanted),
        )  # fmt: skip

    def step(self, t: int) -> None:
        """Settle what step t - 1 tried, and fill the trials of step t; clears the images that they are drawn on."""
        o, c, size = self._observation, self._limits, self.images.shape[1]
        count, most, width = len(o), self._places.shape[1], triton.next_power_of_2(size)
        _outline[(count, triton.cdiv(size, _ROWS))](
            *self._state, self.images, self.row_counts, self._places, t, count, size, most, c.least_gain,
            ATTEMPTS=c.attempts, STEPS=c.iterations + 1, DAMPING=c.damping, ROWS=_ROWS, WIDTH=width,
        )  # fmt: skip
        _trials[(count,)](
            self.images, self.row_counts, self._places, o.valid, o.signed_distance, o.contour, o.contour_valid,
            self._reach, self._reached, o.camera, self.history, self._best, self._damping, self._running, self.present,
            self.active, self.trials, t, count, size, most, self._reach.shape[1], c.steps, c.least_points,
            c.stride_rows, c.robust, c.enough, ATTEMPTS=c.attempts, REACH=self._across, BLOCK=_BLOCK, WIDTH=width,
            num_warps=8,
        )  # fmt: skip

    def end(self) -> None:
        """Settle what the last step tried."""
        c = self._limits
        _end[(len(self._initial),)](
            *self._state, c.iterations, len(self._initial), c.least_gain, ATTEMPTS=c.attempts,
            STEPS=c.iterations + 1, DAMPING=c.damping, num_warps=1,
        )  # fmt: skip
