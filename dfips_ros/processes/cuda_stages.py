# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that unroll learned stages: one launch takes or leaves the last trials, reads the rows, and makes new.

They stand for some sixty operations of PyTorch each stage, which a single pose would spend its time on launching. The
network is small, so that one program does all of one pose; products in float32, the system in float64.

What a launch finds in memory it does not change: every stage has entries of its own for what it decides. So no thread
of a program reads what another one of it has just overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_contour import PARTS, features_of
from .cuda_least_squares import diagonal, solution, store_moved, summed
from .cuda_silhouette import SUMS, iou_of

_BLOCK = 32  # rows that are read in one step
_HEAD, _SECOND, _CHUNK = 160, 96, 32  # sizes of the head's hidden layers; so many of the first are made in one step
_CLEARED = 4096
LAYERS = ("row_in.0", "row_in.2", "context_mix", "row_mix", "row_out", "head.0", "head.2", "head.4")


@triton.jit
def _columns(weights, first, i, k, outputs, inputs, stride):
    """A part of a matrix (outputs, stride): rows ``i`` and the columns from ``first`` on -> (I, K), padded with 0."""
    inside = (i < outputs)[:, None] & (k < inputs)[None, :]
    return tl.load(weights + i[:, None] * stride + first + k[None, :], mask=inside, other=0.0)


@triton.jit
def _times(weights, first, i, vector, k, outputs, inputs, stride):
    """A part of a matrix times a vector (K,), padded with 0 -> (I,)."""
    part = _columns(weights, first, i, k, outputs, inputs, stride)
    return tl.sum(part * tl.where(k < inputs, vector, 0.0)[None, :], axis=1)


@triton.jit
def _bias(bias, i, outputs):
    return tl.load(bias + i, mask=i < outputs, other=0.0)


@triton.jit
def _first_layers(rows, known, row, there, w0, b0, w2, b2, INPUTS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr):
    """Two layers for some rows -> (N, D), zero for rows that are not there or not known."""
    f, d = tl.arange(0, INPUTS), tl.arange(0, D)
    x = tl.load(rows + row[:, None] * INPUTS + f[None, :], mask=there[:, None], other=0.0)
    # Weights are (outputs, inputs); the product needs them the other way round.
    first = tl.load(w0 + d[None, :] * INPUTS + f[:, None], mask=(d < WIDTH)[None, :], other=0.0)
    h = tl.maximum(tl.dot(x, first, input_precision="ieee") + _bias(b0, d, WIDTH)[None, :], 0.0)
    inside = (d < WIDTH)[None, :] & (d < WIDTH)[:, None]
    second = tl.load(w2 + d[None, :] * WIDTH + d[:, None], mask=inside, other=0.0)
    h = tl.maximum(tl.dot(h, second, input_precision="ieee") + _bias(b2, d, WIDTH)[None, :], 0.0)
    return h * known[:, None]


@triton.jit
def _settled(
    initial, sums, trials, history, norms, present, b, t, poses, limit, enough, far,
    SCALES: tl.constexpr, ADAPTIVE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Take the first trial of stage t - 1 that makes the residual smaller -> the pose's place, norm and slot."""
    k = tl.arange(0, 16)
    source = initial + b * 16
    slot = tl.full([], 0, tl.int32)
    norm = 1.0 - iou_of(sums + (t * SCALES * poses + b) * 9)
    if t > 0:
        before = tl.load(norms + b * STEPS + t - 1)
        slot = tl.load(present + (t - 1) * poses + b)
        source = history + ((t - 1) * poses + b) * 16
        asked = (before <= enough) == 0  # what is not a number is asked for
        norm = before
        taken = -1
        for a in tl.static_range(SCALES):
            now = 1.0 - iou_of(sums + ((t * SCALES + a) * poses + b) * 9)
            trial = tl.load(trials + (((t - 1) * SCALES + a) * poses + b) * 16 + k)
            # Not a number is not less either.
            good = asked & (taken < 0) & (tl.sum((tl.abs(trial) < far).to(tl.int32), axis=0) == 16)
            if ADAPTIVE:
                good = good & (now <= before * limit)
            taken = tl.where(good, a, taken)
            norm = tl.where(good, now, norm)
        if taken >= 0:
            source = trials + (((t - 1) * SCALES + taken) * poses + b) * 16
            slot = (slot + 1 + taken) % (SCALES + 1)
    tl.store(history + (t * poses + b) * 16 + k, tl.load(source + k))
    tl.store(norms + b * STEPS + t, norm)
    tl.store(present + t * poses + b, slot)
    return source, norm, slot


@triton.jit(do_not_specialize=["t"])
def _stage(
    rows, jacobian, residual, weight, context, initial, sums, history, norms, present, trials, images, base_damping,
    w0, b0, w2, b2, wc, bc, wm, bm, wo, bo, w3, b3, w4, b4, w5, b5, t, poses, count, pixels, scaling, epsilon, knee,
    limit, enough, far, ADAPTIVE: tl.constexpr, STEPS: tl.constexpr,
    SCALES: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, INPUTS: tl.constexpr, CONTEXT: tl.constexpr,
    HEAD: tl.constexpr, SECOND: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr, CLEARED: tl.constexpr,
):  # fmt: skip
    pose_index = tl.program_id(0).to(tl.int64)
    source, _, slot = _settled(
        initial, sums, trials, history, norms, present, pose_index, t, poses, limit, enough, far, SCALES, ADAPTIVE,
        STEPS,
    )  # fmt: skip
    for a in tl.static_range(SCALES):  # for the next trials
        image = images + (a * poses + pose_index) * pixels
        for start in range(0, pixels, CLEARED):
            i = start + tl.arange(0, CLEARED)
            tl.store(image + i, 0.0, mask=i < pixels)
    b = slot * poses + pose_index  # where its features are
    d, c, e = tl.arange(0, D), tl.arange(0, 16), tl.arange(0, 8)
    q = e[None, :]
    described = tl.load(context + b * CONTEXT + c, mask=c < CONTEXT, other=0.0)

    largest = tl.zeros([D], tl.float32)  # what is relu's output is not below
    total = tl.zeros([D], tl.float32)
    rows_known = tl.sum(total, axis=0)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        there = i < count
        known = tl.load(weight + b * count + i, mask=there, other=0.0)
        h = _first_layers(rows, known, b * count + i, there, w0, b0, w2, b2, INPUTS, WIDTH, D)
        largest = tl.maximum(largest, tl.max(h, axis=0))
        total += tl.sum(h, axis=0)
        rows_known += tl.sum(known, axis=0)
    n = tl.maximum(rows_known, 1.0)
    stride = 2 * WIDTH + CONTEXT
    shared = _bias(bc, d, WIDTH) + _times(wc, 0, d, largest, d, WIDTH, WIDTH, stride)
    shared += _times(wc, WIDTH, d, total / n, d, WIDTH, WIDTH, stride)
    shared += _times(wc, 2 * WIDTH, d, described, c, WIDTH, CONTEXT, stride)

    largest = tl.zeros([D], tl.float32)
    total = tl.zeros([D], tl.float32)
    system = tl.zeros([8, 8], tl.float64)
    squares = tl.zeros([8], tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        there = i < count
        row = b * count + i
        known = tl.load(weight + row, mask=there, other=0.0)
        h = _first_layers(rows, known, row, there, w0, b0, w2, b2, INPUTS, WIDTH, D)
        inside = (d < WIDTH)[None, :] & (d < WIDTH)[:, None]
        mix = tl.load(wm + d[None, :] * WIDTH + d[:, None], mask=inside, other=0.0)
        h = tl.dot(h, mix, input_precision="ieee") + (_bias(bm, d, WIDTH) + shared)[None, :]
        h = tl.maximum(h, 0.0) * known[:, None]
        largest = tl.maximum(largest, tl.max(h, axis=0))
        total += tl.sum(h, axis=0)
        log_weight = tl.sum(h * _bias(wo, d, WIDTH)[None, :], axis=1) + tl.load(bo)
        correction = tl.sum(h * _bias(wo + WIDTH, d, WIDTH)[None, :], axis=1) + tl.load(bo + 1)
        r = tl.load(residual + row, mask=there, other=0.0)
        tile = tl.load(jacobian + row[:, None] * 6 + q, mask=there[:, None] & (q < 6), other=0.0)
        robust = known / (1.0 + 10.0 * tl.abs(r)) / count
        factor = tl.exp(tl.minimum(tl.maximum(log_weight, -6.0), 5.0)) * robust
        system += summed(tl.where(q == 6, (r + 0.1 * correction)[:, None], tile), factor)
        squares += tl.sum((tile * tile).to(tl.float64) * robust.to(tl.float64)[:, None], axis=0)

    free = solution(system, 0.01 * diagonal(system) + epsilon)
    free = tl.minimum(tl.maximum(free, -2.0), 2.0).to(tl.float32)
    stiffness = tl.log(squares + 1e-4).to(tl.float32)
    second = tl.arange(0, 128)
    stride = stride + 12
    out = _bias(b4, second, SECOND)
    for start in tl.static_range(0, HEAD, CHUNK):
        i = start + tl.arange(0, CHUNK)
        h = _bias(b3, i, HEAD) + _times(w3, 0, i, largest, d, HEAD, WIDTH, stride)
        h += _times(w3, WIDTH, i, total / n, d, HEAD, WIDTH, stride)
        h += _times(w3, 2 * WIDTH, i, described, c, HEAD, CONTEXT, stride)
        h += _times(w3, 2 * WIDTH + CONTEXT, i, free, e, HEAD, 6, stride)
        h += _times(w3, 2 * WIDTH + CONTEXT + 6, i, stiffness, e, HEAD, 6, stride)
        h = tl.maximum(h, 0.0)
        k = tl.arange(0, CHUNK)
        out += _times(w4, start, second, h, k, SECOND, CHUNK, HEAD)
    out = tl.maximum(out, 0.0)
    six = e < 6
    log_damping = _bias(b5, e, 6) + _times(w5, 0, e, out, second, 6, SECOND, SECOND)
    added = _bias(b5 + 6, e, 6) + _times(w5 + 6 * SECOND, 0, e, out, second, 6, SECOND, SECOND)
    log_damping += tl.load(base_damping + e, mask=six, other=0.0)
    damping = tl.exp(tl.minimum(tl.maximum(log_damping, -9.0), 6.0))
    update = solution(system, diagonal(system) * damping + epsilon) + 0.3 * added
    square = tl.sum(tl.where(e < 3, update * update, 0.0), axis=0)
    update = tl.where(e < 3, update / tl.sqrt(1.0 + square / (knee * knee)), update)
    for s in tl.static_range(SCALES):
        store_moved(source, update, trials + ((t * SCALES + s) * poses + pose_index) * 16)
        update = update * scaling


@triton.jit(do_not_specialize=["t"])
def _unrolled(
    initial, sums, trials, history, norms, present, best, t, poses, limit, enough, far,
    ADAPTIVE: tl.constexpr, STEPS: tl.constexpr, SCALES: tl.constexpr, KEEP_BEST: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    source, norm, _ = _settled(
        initial, sums, trials, history, norms, present, b, t, poses, limit, enough, far, SCALES, ADAPTIVE, STEPS
    )  # fmt: skip
    k = tl.arange(0, 16)
    pose = tl.load(source + k)
    if KEEP_BEST:
        for s in range(t - 1, -1, -1):  # of equals the last one
            now = tl.load(norms + b * STEPS + s)
            better = (now < norm) | (norm != norm)
            norm = tl.where(better, now, norm)
            pose = tl.where(better, tl.load(history + (s * poses + b) * 16 + k), pose)
    tl.store(best + b * 16 + k, pose)


@dataclass(frozen=True)
class Rule:
    """Which trials are taken.

    Attributes:
        scales: trials of each stage, the first of which that is good is taken.
        scaling: of the update from each trial to the next.
        limit: factor on the norm that is let pass.
        enough: norm from which on no more is asked for.
        far: largest number of a pose.
        adaptive: whether the norm is looked at.
        keep_best: whether the best of all stages is wanted, not the last.
        epsilon: least damping.
        knee: radians beyond which rotations are compressed.
    """

    scales: int
    scaling: float
    limit: float
    enough: float
    far: float
    adaptive: bool
    keep_best: bool
    epsilon: float
    knee: float


class Unrolling:
    """The memory of stages that are unrolled, and their launches.

    Each stage makes ``rule.scales`` trials of each pose, which are drawn and compared together.

    Args:
        initial: (B, 4, 4) float32 poses, contiguous.
        size: side of the images.
        stages: T.
        rule: which trials are taken.

    Attributes:
        images: (A * B, S, S) float32 zeros that the initial poses, and after each stage the trials, are drawn on.
        sums: (T+1, A * B, SUMS) int64 zeros, to be filled by the comparison of the initial poses (the first B) and of
            each stage's trials.
        trials: (T, A * B, 4, 4), filled by each stage.
        features: of A + 1 comparisons of each pose; ``present`` (T+1, B) int32 says which is that of the pose.
        history, norms: poses (T+1, B, 4, 4) and residual norms (B, T+1).
    """

    def __init__(self, initial: Tensor, size: int, stages: int, rule: Rule) -> None:
        count, device = len(initial), initial.device
        self._initial, self._stages, self._rule = initial, stages, rule
        self.images = torch.zeros((rule.scales * count, size, size), device=device)
        self.sums = torch.zeros((stages + 1, rule.scales * count, SUMS), device=device, dtype=torch.int64)
        self.trials = torch.empty((stages, rule.scales * count, 4, 4), device=device)
        self.features = features_of(count, rule.scales + 1, device)
        self.present = torch.empty((stages + 1, count), device=device, dtype=torch.int32)
        self.history = torch.empty((stages + 1, count, 4, 4), device=device)
        self.norms = torch.empty((count, stages + 1), device=device)

    def step(self, weights: Mapping[str, Tensor], t: int) -> None:
        """Settle what stage t - 1 tried, and fill the trials of stage t; clears the images.

        Args:
            weights: of the stage, not wider than 128, or it takes too much of a program's memory.
            t: the stage, counted from 0.
        """
        r, count = self._rule, len(self._initial)
        rows, inputs = self.features["rows"].shape[1:]
        width, context = len(weights["row_mix.bias"]), self.features["context"].shape[1]
        layers = [weights[f"{name}.{kind}"] for name in LAYERS for kind in ("weight", "bias")]
        _stage[(count,)](
            *(self.features[name] for name in PARTS[:5]), self._initial, self.sums, self.history, self.norms,
            self.present, self.trials, self.images, weights["base_damping"], *layers, t, count, rows,
            self.images[0].numel(), r.scaling, r.epsilon, r.knee, r.limit, r.enough, r.far,
            ADAPTIVE=r.adaptive, STEPS=self._stages + 1, SCALES=r.scales, WIDTH=width,
            D=max(16, triton.next_power_of_2(width)), INPUTS=inputs, CONTEXT=context, HEAD=_HEAD, SECOND=_SECOND,
            CHUNK=_CHUNK, BLOCK=_BLOCK, CLEARED=_CLEARED, num_warps=8,
        )  # fmt: skip

    def best(self) -> Tensor:
        """Settle what the last stage tried. -> (B, 4, 4), the best of all poses or the last one."""
        r, t, best = self._rule, self._stages, torch.empty_like(self._initial)
        _unrolled[(len(best),)](
            self._initial, self.sums, self.trials, self.history, self.norms, self.present, best, t, len(best),
            r.limit, r.enough, r.far, ADAPTIVE=r.adaptive, STEPS=t + 1, SCALES=r.scales,
            KEEP_BEST=r.keep_best, num_warps=1,
        )  # fmt: skip
        return best
