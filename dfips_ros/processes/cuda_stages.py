# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that unroll learned stages: one launch reads the rows and moves the pose, one more accepts it.

They stand for some sixty operations of PyTorch each stage, which a single pose would spend its time on launching. The
network is small, so that one program does all of one pose; products in float32, the system in float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_contour import PARTS
from .cuda_least_squares import diagonal, solution, store_moved, summed

_BLOCK = 32  # rows that are read in one step
_HEAD, _SECOND, _CHUNK = 160, 96, 32  # sizes of the head's hidden layers; so many of the first are made in one step
_COPIED = 256
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
def _stage(
    rows, jacobian, residual, weight, context, poses, trials, base_damping,
    w0, b0, w2, b2, wc, bc, wm, bm, wo, bo, w3, b3, w4, b4, w5, b5, poses_count, count, scaling, epsilon, knee,
    SCALES: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, INPUTS: tl.constexpr, CONTEXT: tl.constexpr,
    HEAD: tl.constexpr, SECOND: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
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
    plain = tl.zeros([8, 8], tl.float64)
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
        plain += summed(tile, robust)

    free = solution(system, 0.01 * diagonal(system) + epsilon)
    free = tl.minimum(tl.maximum(free, -2.0), 2.0).to(tl.float32)
    stiffness = tl.log(diagonal(plain) + 1e-4).to(tl.float32)
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
        store_moved(poses + b * 16, update, trials + (s * poses_count + b) * 16)
        update = update * scaling


def stage_trials(
    weights: Mapping[str, Tensor], features: Mapping[str, Tensor], pose: Tensor, scales: int, scaling: float,
    epsilon: float, knee: float,
) -> Tensor:  # fmt: skip
    """Poses moved by a learned stage's update, as a whole and scaled down again and again.

    Args:
        weights: of the stage, not wider than 128, or it takes too much of a program's memory.
        features: of the comparison at the poses, from ``cuda_contour.comparison``.
        pose: (B, 4, 4) float32, contiguous.
        scales: so many trials.
        scaling: from each trial to the next.
        epsilon: least damping.
        knee: radians beyond which rotations are compressed.

    Returns:
        (scales, B, 4, 4).
    """
    count, rows, inputs = features["rows"].shape
    width, context = len(weights["row_mix.bias"]), features["context"].shape[1]
    trials = torch.empty((scales, *pose.shape), device=pose.device)
    layers = [weights[f"{name}.{kind}"] for name in LAYERS for kind in ("weight", "bias")]
    _stage[(count,)](
        *(features[name] for name in PARTS[:5]), pose, trials, weights["base_damping"], *layers, count, rows,
        scaling, epsilon, knee, SCALES=scales, WIDTH=width, D=max(16, triton.next_power_of_2(width)), INPUTS=inputs,
        CONTEXT=context, HEAD=_HEAD, SECOND=_SECOND, CHUNK=_CHUNK, BLOCK=_BLOCK, num_warps=8,
    )  # fmt: skip
    return trials


@triton.jit
def _copied(source, target, length, BLOCK: tl.constexpr):
    for start in range(0, length, BLOCK):
        i = start + tl.arange(0, BLOCK)
        tl.store(target + i, tl.load(source + i, mask=i < length), mask=i < length)


@triton.jit
def _accept(
    trials, found_norm, found, features, history, norms, best, best_norm, wanted, count, rows, limit, enough, far,
    FIRST: tl.constexpr, LAST: tl.constexpr, ADAPTIVE: tl.constexpr, KEEP_BEST: tl.constexpr, COPY: tl.constexpr,
    INPUTS: tl.constexpr, CONTEXT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, 16)
    before = tl.load(norms + b)
    now = tl.load(found_norm + b)
    trial = tl.load(trials + b * 16 + k)
    if FIRST:
        asked = (before <= enough) == 0  # what is not a number is asked for
        pose = tl.load(history + b * 16 + k)
        norm = before
    else:
        asked = tl.load(wanted + b) != 0
        pose = tl.load(history + (count + b) * 16 + k)
        norm = tl.load(norms + count + b)
    # Not a number is not less either.
    accepted = asked & (tl.sum((tl.abs(trial) < far).to(tl.int32), axis=0) == 16)
    if ADAPTIVE:
        accepted = accepted & (now <= before * limit)
    pose = tl.where(accepted, trial, pose)
    norm = tl.where(accepted, now, norm)
    tl.store(history + (count + b) * 16 + k, pose)
    tl.store(norms + count + b, norm)
    tl.store(wanted + b, (asked & (accepted == 0)).to(tl.int32))
    if LAST:
        better = norm <= tl.load(best_norm + b)
        if not KEEP_BEST:
            better = b >= 0
        if better:
            tl.store(best + b * 16 + k, pose)
            tl.store(best_norm + b, norm)
    if COPY:
        if accepted:
            _copied(found + b * rows * INPUTS, features + b * rows * INPUTS, rows * INPUTS, BLOCK)
            first = count * rows * INPUTS
            _copied(found + first + b * rows * 6, features + first + b * rows * 6, rows * 6, BLOCK)
            first += count * rows * 6
            _copied(found + first + b * rows, features + first + b * rows, rows, BLOCK)
            first += count * rows
            _copied(found + first + b * rows, features + first + b * rows, rows, BLOCK)
            first += count * rows
            _copied(found + first + b * CONTEXT, features + first + b * CONTEXT, CONTEXT, BLOCK)


def accept(
    trials: Tensor,
    found_norm: Tensor,
    found: Mapping[str, Tensor] | None,
    features: Mapping[str, Tensor],
    state: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    t: int,
    ends: tuple[bool, bool],
    rule: tuple[float, float, float, bool, bool],
) -> None:
    """Take the trials that make the residual smaller; all in place.

    Args:
        trials: (B, 4, 4) poses.
        found_norm: (B,) their residual norms.
        found: their features; None where nobody needs them any more.
        features: those of the poses before; overwritten where a trial is taken.
        state: poses (T+1, B, 4, 4) and norms (T+1, B) of all stages, the best of both, and (B,) int32 scratch memory.
        t: the stage; what comes out is the entry t + 1 of the state.
        ends: whether these are the first and the last trials of the stage.
        rule: factor on the norm that is let pass, norm from which on no more is asked for, largest number of a pose,
            whether the norm is looked at, and whether the best of all stages is wanted, not the last.
    """
    history, norms, best, best_norm, wanted = state
    count, rows, inputs = features["rows"].shape
    limit, enough, far, adaptive, keep_best = rule
    _accept[(count,)](
        trials, found_norm, features["rows"] if found is None else found["rows"], features["rows"], history[t:],
        norms[t:], best, best_norm, wanted, count, rows, limit, enough, far, FIRST=ends[0], LAST=ends[1],
        ADAPTIVE=adaptive, KEEP_BEST=keep_best, COPY=found is not None, INPUTS=inputs,
        CONTEXT=features["context"].shape[1], BLOCK=_COPIED,
    )  # fmt: skip
