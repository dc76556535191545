# SPDX-License-Identifier: Apache-2.0
"""The learned stages unrolled in compiled code, for small batches on a processor.

The same solver as :class:`~dfips_ros.solver.FeedbackSolver` with :class:`ContourGaussNewtonStage` (a test compares the
two): comparison, network, update and acceptance of one initial pose run without a tensor library in between, which
takes a fifth of the time. Several initial poses run on several cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from ...errors import CheckpointError, ConfigError
from ...networks.damping import EPSILON, ROTATION_KNEE
from ...processes.contour import GLOBAL_FEATURES, NUM_ROWS, ROW_FEATURES, compare_one, known_iou, moments
from ...processes.observation import SilhouetteObservation, TensorOrArray, as_array
from ...processes.rasterizer import raster_one
from ...processes.threads import for_each
from ...solver import Solution, SolverConfig
from .config import ObjectPoseConfig
from .gauss_newton import damped_step, moved, solution_like
from .mesh_set import MeshSet

if TYPE_CHECKING:
    from ...solver import FeedbackSolver

_ROWS_BLOCK, _VECTOR_BLOCK = 4, 8
_HEAD = (160, 96)  # widths of the head's hidden layers


_ROWS = ("row_in.0", "row_in.2", "row_mix", "row_out")
_VECTORS = ("context_mix", "head.0", "head.2", "head.4")


def _shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a stage's weights."""
    context = 2 * width + GLOBAL_FEATURES
    matrices = {
        "row_in.0": (width, ROW_FEATURES), "row_in.2": (width, width), "row_mix": (width, width), "row_out": (2, width),
        "context_mix": (width, context), "head.0": (_HEAD[0], context + 12), "head.2": (_HEAD[1], _HEAD[0]),
        "head.4": (12, _HEAD[1]),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"base_damping": (6,)}
    for name, shape in matrices.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def _pack(state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[int, ...]]:
    """One flat float32 array of a stage's weights, and where each layer starts.

    Layers of rows come first, as (outputs, inputs) with outputs padded to a multiple of four; then layers of one
    vector, as (inputs, outputs) with inputs padded to a multiple of eight.
    """
    parts: list[np.ndarray] = []
    starts: list[int] = []
    for layer in _ROWS + _VECTORS:
        starts.append(sum(len(part) for part in parts))
        matrix, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        if layer in _ROWS:
            extra = -len(matrix) % _ROWS_BLOCK
            parts += [np.pad(matrix, ((0, extra), (0, 0))).reshape(-1), np.pad(bias, (0, extra))]
        else:
            parts += [np.pad(matrix.T, ((0, -matrix.shape[1] % _VECTOR_BLOCK), (0, 0))).reshape(-1), bias]
    starts.append(sum(len(part) for part in parts))
    parts.append(state["base_damping"])
    return np.concatenate(parts).astype(np.float32), tuple(starts)


@nb.njit(cache=True, nogil=True, fastmath=True)
def _dense_rows(x, count, weights, start, out, relu):
    """``out = W x + b`` for the first ``count`` columns; x (inputs, N), out (outputs, N); sizes multiples of four."""
    inputs, outputs = x.shape[0], out.shape[0]
    w = weights[start : start + inputs * outputs].reshape(outputs, inputs)
    bias = start + inputs * outputs
    for j in range(0, outputs, 4):
        y0, y1, y2, y3 = out[j], out[j + 1], out[j + 2], out[j + 3]
        b0, b1, b2, b3 = weights[bias + j], weights[bias + j + 1], weights[bias + j + 2], weights[bias + j + 3]
        for i in range(count):
            y0[i], y1[i], y2[i], y3[i] = b0, b1, b2, b3
        for k in range(0, inputs, 4):
            w00, w01, w02, w03 = w[j, k], w[j, k + 1], w[j, k + 2], w[j, k + 3]
            w10, w11, w12, w13 = w[j + 1, k], w[j + 1, k + 1], w[j + 1, k + 2], w[j + 1, k + 3]
            w20, w21, w22, w23 = w[j + 2, k], w[j + 2, k + 1], w[j + 2, k + 2], w[j + 2, k + 3]
            w30, w31, w32, w33 = w[j + 3, k], w[j + 3, k + 1], w[j + 3, k + 2], w[j + 3, k + 3]
            for i in range(count):
                x0, x1, x2, x3 = x[k, i], x[k + 1, i], x[k + 2, i], x[k + 3, i]
                y0[i] += w00 * x0 + w01 * x1 + w02 * x2 + w03 * x3
                y1[i] += w10 * x0 + w11 * x1 + w12 * x2 + w13 * x3
                y2[i] += w20 * x0 + w21 * x1 + w22 * x2 + w23 * x3
                y3[i] += w30 * x0 + w31 * x1 + w32 * x2 + w33 * x3
        if relu:
            for i in range(count):
                y0[i], y1[i] = max(y0[i], np.float32(0.0)), max(y1[i], np.float32(0.0))
                y2[i], y3[i] = max(y2[i], np.float32(0.0)), max(y3[i], np.float32(0.0))


@nb.njit(cache=True, nogil=True, fastmath=True)
def _dense_vector(x, inputs, weights, start, outputs, relu, out):
    """``out = x W + b`` for one vector; the weights of ``inputs`` are padded to a multiple of eight."""
    inputs = -(-inputs // _VECTOR_BLOCK) * _VECTOR_BLOCK
    w = weights[start : start + inputs * outputs].reshape(inputs, outputs)
    out[:outputs] = weights[start + inputs * outputs : start + inputs * outputs + outputs]
    for k in range(0, inputs, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
        for j in range(outputs):
            out[j] += (
                a0 * w[k, j] + a1 * w[k + 1, j] + a2 * w[k + 2, j] + a3 * w[k + 3, j]
                + a4 * w[k + 4, j] + a5 * w[k + 5, j] + a6 * w[k + 6, j] + a7 * w[k + 7, j]
            )  # fmt: skip
    if relu:
        for j in range(outputs):
            out[j] = max(out[j], np.float32(0.0))


@nb.njit(cache=True, nogil=True, fastmath=True)
def _pool(hidden, count, out):
    """Largest and mean value over the first columns of hidden (width, N), never negative -> ``out`` (2 width)."""
    width = hidden.shape[0]
    for j in range(width):
        row = hidden[j]
        largest, total = np.float32(0.0), np.float32(0.0)
        for i in range(count):
            largest = max(largest, row[i])
            total += row[i]
        out[j] = largest
        out[width + j] = total / np.float32(max(count, 1))


@nb.njit(cache=True, nogil=True)
def _stage_update(features, weights, starts, scratch, update):
    """``ContourGaussNewtonStage.forward`` for one element."""
    rows_in, jacobian, residual, known, context = features
    rows, hidden, mixed, last, vector, wide = scratch
    width = hidden.shape[0]
    index = np.empty(NUM_ROWS, np.int64)
    count = 0
    for i in range(NUM_ROWS):
        if known[i] > 0:
            index[count] = i
            for j in range(ROW_FEATURES):
                rows[j, count] = rows_in[i, j]
            count += 1
    _dense_rows(rows, count, weights, starts[0], mixed, True)
    _dense_rows(mixed, count, weights, starts[1], hidden, True)
    vector[:] = 0.0
    _pool(hidden, count, vector)
    context_end = 2 * width + GLOBAL_FEATURES
    vector[2 * width : context_end] = context
    _dense_vector(vector, context_end, weights, starts[4], width, False, wide)
    _dense_rows(hidden, count, weights, starts[2], mixed, False)
    for j in range(width):
        row = mixed[j]
        shared = wide[j]
        for i in range(count):
            row[i] = max(row[i] + shared, np.float32(0.0))
    _pool(mixed, count, vector)
    _dense_rows(mixed, count, weights, starts[3], last, False)

    plain = np.zeros(6)
    matrix, right = np.zeros((6, 6)), np.zeros(6)
    for n in range(count):
        i = index[n]
        robust = 1.0 / (1.0 + 10.0 * abs(residual[i]))
        weight = math.exp(min(max(last[0, n], -6.0), 5.0)) * robust / NUM_ROWS
        r = residual[i] + 0.1 * last[1, n]
        for p in range(6):
            jp = np.float64(jacobian[i, p])
            plain[p] += robust / NUM_ROWS * jp * jp
            wj = weight * jp
            right[p] += wj * r
            for q in range(p + 1):
                matrix[p, q] += wj * jacobian[i, q]
    damping = np.empty(6)
    free = np.zeros(6)
    for p in range(6):
        damping[p] = 0.01 * matrix[p, p] + EPSILON
    damped_step(matrix, right, damping, free)
    for p in range(6):
        vector[context_end + p] = min(max(free[p], -2.0), 2.0)
        vector[context_end + 6 + p] = math.log(plain[p] + 1e-4)
    _dense_vector(vector, context_end + 12, weights, starts[5], _HEAD[0], True, wide)
    _dense_vector(wide, _HEAD[0], weights, starts[6], _HEAD[1], True, vector)
    _dense_vector(vector, _HEAD[1], weights, starts[7], 12, False, wide)
    for p in range(6):
        damping[p] = matrix[p, p] * math.exp(min(max(weights[starts[8] + p] + wide[p], -9.0), 6.0)) + EPSILON
    damped_step(matrix, right, damping, update)
    for p in range(6):
        update[p] += 0.3 * wide[6 + p]
    square = update[0] * update[0] + update[1] * update[1] + update[2] * update[2]
    shrink = 1.0 / math.sqrt(1.0 + square / (ROTATION_KNEE * ROTATION_KNEE))
    for p in range(3):
        update[p] *= shrink


@nb.njit(cache=True, nogil=True)
def _empty_features():
    return (
        np.empty((NUM_ROWS, ROW_FEATURES), np.float32), np.empty((NUM_ROWS, 6), np.float32),
        np.empty(NUM_ROWS, np.float32), np.empty(NUM_ROWS, np.float32), np.empty(GLOBAL_FEATURES, np.float32),
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _unroll(mesh, surface, observed, index, weights, starts, width, numbers, o, history, norms):
    """Unroll all stages on observation ``o`` from ``history[0]``; fills ``history`` (T+1, 4, 4) and ``norms`` (T+1)."""
    adaptive, max_scalings, scaling, tolerance, enough = numbers
    m = index[o]
    vertices = mesh[0][mesh[2][m] : mesh[2][m + 1]]
    faces = mesh[1][mesh[3][m] : mesh[3][m + 1]]
    camera, mask, valid = observed[0][o], observed[1][o], observed[2][o]
    distance, contour, contour_valid = observed[3][o], observed[4][o], observed[5][o]
    size = mask.shape[0]
    projected = np.empty((vertices.shape[0], 3), np.float32)
    points = np.empty((size * size, 2), np.int32)
    depth = np.empty((size, size), np.float32)
    present, trial = _empty_features(), _empty_features()
    scratch = (
        np.empty((ROW_FEATURES, NUM_ROWS), np.float32), np.empty((width, NUM_ROWS), np.float32),
        np.empty((width, NUM_ROWS), np.float32), np.empty((_ROWS_BLOCK, NUM_ROWS), np.float32),
        np.empty(2 * width + GLOBAL_FEATURES + 32, np.float32), np.empty(max(_HEAD[0], width), np.float32),
    )  # fmt: skip
    seen = moments(mask, valid)
    update, here, there = np.zeros(6), np.empty((4, 4)), np.empty((4, 4))
    pose = history[0].copy()
    stages, scalings = history.shape[0] - 1, 0
    t = -1  # the first comparison, at the initial pose, comes before stage 0
    while True:
        f, j, r, k, c = trial
        norm = compare_one(
            vertices, faces, mesh[4][m], surface[m], pose, camera, mask, valid, distance, contour, contour_valid,
            np.float32(0.5), seen, projected, points, depth, f, j, r, k, c,
        )  # fmt: skip
        if t < 0 or adaptive == 0.0 or norm <= norms[t] * (1.0 + tolerance):
            present, trial = trial, present
            history[t + 1], norms[t + 1] = pose, norm
        elif scalings < max_scalings:
            scalings += 1
            for p in range(6):
                update[p] *= scaling
            moved(here, update, there)
            pose[:] = there
            continue
        else:
            history[t + 1], norms[t + 1] = history[t], norms[t]
        t += 1
        if t == stages or (enough > 0.0 and norms[t] <= enough):
            break
        _stage_update(present, weights[min(t, weights.shape[0] - 1)], starts, scratch, update)
        scalings = 0
        here[:] = history[t]
        moved(here, update, there)
        pose[:] = there
    for later in range(t + 1, stages + 1):
        history[later], norms[later] = history[t], norms[t]


@nb.njit(cache=True, nogil=True)
def _compare_starts(mesh, observed, index, o, poses, norms):
    """1 - IoU of observation ``o`` at each of ``poses`` (K, 4, 4), without the rows that a stage would read."""
    m = index[o]
    vertices = mesh[0][mesh[2][m] : mesh[2][m + 1]]
    faces = mesh[1][mesh[3][m] : mesh[3][m + 1]]
    camera, mask, valid = observed[0][o], observed[1][o], observed[2][o]
    focal, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    projected = np.empty((vertices.shape[0], 3), np.float32)
    buffer = np.empty(mask.shape, np.float32)
    for k in range(len(poses)):
        raster_one(vertices, faces, mesh[4][m], poses[k], focal, focal, cx, cy, projected, buffer)
        norms[k] = 1.0 - known_iou(buffer, mask, valid)


def can_compile(solver: FeedbackSolver) -> bool:
    """Whether a solver is of the kind that :class:`CompiledStages` takes."""
    from ...networks.contour_gauss_newton import ContourGaussNewtonStage
    from .problem import ContourFeedback

    if not isinstance(solver.feedback, ContourFeedback):
        return False
    stages = [stage for stage in solver.stages if isinstance(stage, ContourGaussNewtonStage)]
    return len(stages) == len(solver.stages) and stages[0].row_mix.out_features % _ROWS_BLOCK == 0


def can_compile_config(config: ObjectPoseConfig) -> bool:
    """As :func:`can_compile`, for the solver that a configuration describes."""
    return config.feedback == "contour" and config.width % _ROWS_BLOCK == 0


class CompiledStages:
    """A :class:`FeedbackSolver` of the contour kind, compiled; an ``Estimator`` on the CPU.

    Args:
        solver: whose weights, meshes and configuration are taken; later changes of its weights are not noticed.

    Raises:
        ConfigError: the solver's feedback or stages are of another kind.
    """

    def __init__(self, solver: FeedbackSolver) -> None:
        if not can_compile(solver):
            raise ConfigError(
                "CompiledStages: expected contour feedback and stages whose width is a multiple of four. "
                "Unroll other solvers with FeedbackSolver.estimate."
            )
        weights = {name: as_array(value) for name, value in solver.stages.state_dict().items()}
        self._take(weights, solver.config, solver.feedback.meshes)  # type: ignore[attr-defined]

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], config: SolverConfig, meshes: MeshSet) -> CompiledStages:
        """The stages of a weights file, without tensors in between.

        Args:
            weights: arrays by the names that ``FeedbackSolver.stages`` gives them.
            config: how the stages are unrolled.
            meshes: what may be seen.

        Raises:
            CheckpointError: these are not the weights of contour stages.
        """
        made = cls.__new__(cls)
        made._take(weights, config, meshes)
        return made

    def _take(self, weights: Mapping[str, np.ndarray], config: SolverConfig, meshes: MeshSet) -> None:
        self.config, self.meshes = config, meshes
        count = 1 if config.shared_weights else config.num_stages
        self._width = len(weights.get("0.row_mix.bias", ()))
        expected = {f"{t}.{name}": shape for t in range(count) for name, shape in _shapes(self._width).items()}
        found = {name: value.shape for name, value in weights.items()}
        if found != expected:
            wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise CheckpointError(
                f"weights: do not fit {count} stages of their own config; missing, unknown or of another shape: "
                f"{', '.join(wrong[:5])}."
            )
        packed = [_pack({name: weights[f"{t}.{name}"] for name in _shapes(self._width)}) for t in range(count)]
        self._weights = np.stack([flat for flat, _ in packed])
        self._starts = packed[0][1]

    def best_start(self, observation: SilhouetteObservation, initial: np.ndarray) -> int:
        """Which of the initial poses (K, 4, 4) float32 has the silhouette that fits a single observation best."""
        norms = np.empty(len(initial))
        index = as_array(observation.mesh_index)
        _compare_starts(self.meshes.packed.arrays, observation.arrays(), index, 0, initial, norms)
        return int(norms.argmin())

    def estimate(
        self,
        observation: SilhouetteObservation,
        initial: TensorOrArray | None = None,
        num_stages: int | None = None,
    ) -> Solution:
        """As :meth:`FeedbackSolver.estimate`; a single observation may have several initial poses.

        The solution is in tensors or in arrays, as ``initial`` is.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: the feedback solver needs an initial estimate (B, 4, 4), got None.")
        c = self.config
        count, length = len(initial), (self.config.num_stages if num_stages is None else num_stages) + 1
        history = np.empty((count, length, 4, 4), np.float32)
        history[:, 0] = as_array(initial)
        norms = np.empty((count, length), np.float32)
        numbers = (float(c.adaptive), float(c.max_scalings), c.scaling, c.tolerance, c.enough)
        fixed = (
            self.meshes.packed.arrays, self.meshes.surface, observation.arrays(), as_array(observation.mesh_index),
            self._weights, self._starts, self._width, numbers,
        )  # fmt: skip
        single = len(observation) == 1
        for_each(count, lambda b: _unroll(*fixed, 0 if single else b, history[b], norms[b]))
        last = length - 1 - norms[:, ::-1].argmin(1) if c.keep_best else np.full(count, length - 1)
        return solution_like(initial, history[np.arange(count), last], history, norms)
