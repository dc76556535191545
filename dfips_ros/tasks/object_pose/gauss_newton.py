# SPDX-License-Identifier: Apache-2.0
"""Contour Gauss-Newton: the classical peer of the learned solver, and its polish at full resolution.

Minimises robust contour distances in both directions (simulated contour pixels against the observation's signed
distance; observed contour points against the simulated contour along their normals) with Levenberg damping. A step is
accepted if it raises the silhouette IoU, as in ViSP's and RAPID-like trackers; the whole loop is compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np

from ...checks import check_range
from ...errors import ConfigError
from ...processes.contour import distance_at, known_iou
from ...processes.observation import SilhouetteObservation, TensorOrArray, as_array, boundary
from ...processes.rasterizer import raster_one, to_depth
from ...processes.threads import for_each
from ...solver import Solution
from .mesh_set import MeshSet

_MAX_REACH = 14.0  # pixels that a normal is followed for the simulated contour
_MAX_ROWS = 512


@dataclass(frozen=True)
class GaussNewtonConfig:
    """When to stop, and how much to trust.

    Attributes:
        iterations: accepted steps at most.
        attempts: dampings that are tried per step.
        damping: first Levenberg factor.
        robust_pixels: residuals of this size get half the weight.
        enough: stop at this IoU.
        least_gain: stop when a step gains less IoU than this.
    """

    iterations: int = 30
    attempts: int = 4
    damping: float = 1.0
    robust_pixels: float = 10.0
    enough: float = 0.9999
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1)
        check_range("attempts", self.attempts, 1)
        check_range("damping", self.damping, 1e-12)
        check_range("robust_pixels", self.robust_pixels, 1e-3)
        check_range("enough", self.enough, 0.0, 1.0)
        check_range("least_gain", self.least_gain, 0.0, 1.0)


@nb.njit(cache=True, nogil=True)
def _crossing(mask, u, v, nu, nv):
    """Distance along the normal at which a mask ends, seen from near its contour; NaN if it is not near."""
    height, width = mask.shape
    start = mask[int(v), int(u)] > 0
    direction = 1.0 if start else -1.0
    step = 0.5
    while step <= _MAX_REACH:
        x = int(u + direction * step * nu + 0.5)
        y = int(v + direction * step * nv + 0.5)
        if x < 0 or y < 0 or x >= width or y >= height:
            return np.nan, 0, 0
        if (mask[y, x] > 0) != start:
            if start:  # the last pixel that was still inside
                x = int(u + direction * (step - 0.5) * nu + 0.5)
                y = int(v + direction * (step - 0.5) * nv + 0.5)
            return direction * step, x, y
        step += 0.5
    return np.nan, 0, 0


@nb.njit(cache=True, nogil=True)
def _add_row(a, b, r, gu, gv, u, v, z, focal, cx, cy, t, robust):
    scale = z / focal
    x, y = (u - cx) * scale - t[0], (v - cy) * scale - t[1]
    dz = z - t[2]
    jz = -(gu * (u - cx) + gv * (v - cy)) / focal
    j0, j1, j2 = y * jz - dz * gv, dz * gu - x * jz, x * gv - y * gu
    j5 = gu * t[0] + gv * t[1] + jz * t[2]
    weight = 1.0 / (1.0 + abs(r) / robust)
    residual = r * scale
    row = (np.float64(j0), np.float64(j1), np.float64(j2), np.float64(gu), np.float64(gv), np.float64(j5))
    for i in range(6):
        wi = weight * row[i]
        b[i] += wi * residual
        for j in range(i, 6):
            a[i, j] += wi * row[j]


@nb.njit(cache=True, nogil=True)
def _system(depth, valid, distance, contour, contour_valid, reach, camera, pose, robust, points, a, b):
    focal, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    t = pose[:3, 3]
    a[:] = 0.0
    b[:] = 0.0
    count = boundary(depth, points)
    stride = max(1, count // _MAX_ROWS)
    for j in range(0, count, stride):
        x, y = points[j, 0], points[j, 1]
        if valid[y, x] == 0:
            continue
        s, gu, gv = distance_at(distance, np.float32(x), np.float32(y))
        length = math.sqrt(gu * gu + gv * gv)
        if length > 0.3:
            z = depth[y, x]
            _add_row(a, b, s + 0.5, gu / length, gv / length, x, y, z, focal, cx, cy, t, robust)
    for i in range(contour.shape[0]):
        if contour_valid[i] == 0.0 or not math.isfinite(reach[i]):
            continue
        u, v, nu, nv = contour[i, 0], contour[i, 1], contour[i, 2], contour[i, 3]
        found, x, y = _crossing(depth, u, v, nu, nv)
        if math.isfinite(found) and depth[y, x] > 0:
            z = depth[y, x]
            _add_row(a, b, found - reach[i], nu, nv, x, y, z, focal, cx, cy, t, robust)
    for i in range(6):
        for j in range(i):
            a[i, j] = a[j, i]
    return count


@nb.njit(cache=True, nogil=True)
def moved(pose, u, out):
    """``Se3ImageSpace.apply`` for one pose."""
    square = u[0] * u[0] + u[1] * u[1] + u[2] * u[2]
    angle = math.sqrt(square)
    p = 1.0 - square / 6.0 if angle < 1e-4 else math.sin(angle) / angle
    q = 0.5 - square / 24.0 if angle < 1e-4 else (1.0 - math.cos(angle)) / square
    k = np.array([[0.0, -u[2], u[1]], [u[2], 0.0, -u[0]], [-u[1], u[0], 0.0]])
    turn = np.eye(3) + p * k + q * (k @ k)
    out[:] = pose
    for i in range(3):
        for j in range(3):
            out[i, j] = turn[i, 0] * pose[0, j] + turn[i, 1] * pose[1, j] + turn[i, 2] * pose[2, j]
    growth = math.exp(min(max(u[5], -10.0), 10.0))
    out[0, 3] = growth * (pose[0, 3] + u[3])
    out[1, 3] = growth * (pose[1, 3] + u[4])
    out[2, 3] = growth * pose[2, 3]


@nb.njit(cache=True, nogil=True)
def damped_step(a, b, damping, out):
    """``out = -(a + diag(damping))^-1 b`` by Cholesky, for a symmetric positive definite 6x6 system."""
    size = 6
    factor = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = a[i, j]
            if i == j:
                total += damping[i]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / factor[j, j]
    for i in range(size):
        total = b[i]
        for k in range(i):
            total -= factor[i, k] * out[k]
        out[i] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, size):
            total -= factor[k, i] * out[k]
        out[i] = total / factor[i, i]
    for i in range(size):
        out[i] = -out[i]


@nb.njit(cache=True, nogil=True)
def _minimise(mesh, index, observed, numbers, o, pose, history, ious):
    """Levenberg-Marquardt on observation ``o`` from ``pose`` (changed in place) -> number of accepted steps."""
    iterations, attempts, damping, robust, enough, least_gain = numbers
    m = index[o]
    front = mesh[4][m]
    vertices = mesh[0][mesh[2][m] : mesh[2][m + 1]]
    faces = mesh[1][mesh[3][m] : mesh[3][m + 1]]
    camera, mask, valid = observed[0][o], observed[1][o], observed[2][o]
    distance, contour, contour_valid = observed[3][o], observed[4][o], observed[5][o]
    size = mask.shape[0]
    focal, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    projected = np.empty((vertices.shape[0], 3), np.float32)
    depth = np.empty((size, size), np.float32)
    trial_depth = np.empty((size, size), np.float32)
    points = np.empty((size * size, 2), np.int32)
    reach = np.empty(contour.shape[0])
    for i in range(contour.shape[0]):
        reach[i], _, _ = _crossing(mask, contour[i, 0], contour[i, 1], contour[i, 2], contour[i, 3])
    raster_one(vertices, faces, front, pose.astype(np.float32), focal, focal, cx, cy, projected, depth)
    to_depth(depth)
    best = known_iou(depth, mask, valid)
    a, b = np.empty((6, 6)), np.empty(6)
    trial, diagonal, update = np.empty((4, 4)), np.empty(6), np.empty(6)
    history[0] = pose
    ious[0] = best
    accepted = 0
    for _ in range(int(iterations)):
        count = _system(depth, valid, distance, contour, contour_valid, reach, camera, pose, robust, points, a, b)
        if count < 8 or best >= enough:
            break
        improved = False
        gain = 0.0
        for _ in range(int(attempts)):
            for i in range(6):
                diagonal[i] = damping * (a[i, i] + 1e-3) + 1e-6
            damped_step(a, b, diagonal, update)
            for i in range(3):
                update[i] = min(max(update[i], -0.7), 0.7)
                update[3 + i] = min(max(update[3 + i], -0.4), 0.4)
            moved(pose, update, trial)
            raster_one(vertices, faces, front, trial.astype(np.float32), focal, focal, cx, cy, projected, trial_depth)
            to_depth(trial_depth)
            iou = known_iou(trial_depth, mask, valid)
            if iou > best:
                gain = iou - best
                improved = True
                break
            damping *= 5.0
        if not improved:
            break
        damping = max(damping / 5.0, 1e-4)
        pose[:] = trial
        best = iou
        depth, trial_depth = trial_depth, depth
        accepted += 1
        history[accepted] = pose
        ious[accepted] = best
        if gain < least_gain:
            break
    return accepted


class ContourGaussNewton:
    """Levenberg-damped Gauss-Newton on contour distances; an ``Estimator`` of silhouette observations.

    Args:
        meshes: what may be seen.
        config: see :class:`GaussNewtonConfig`.
    """

    def __init__(self, meshes: MeshSet, config: GaussNewtonConfig | None = None) -> None:
        self.meshes = meshes
        self.config = config or GaussNewtonConfig()

    def estimate(self, observation: SilhouetteObservation, initial: TensorOrArray | None = None) -> Solution:
        """Minimise from ``initial`` (B, 4, 4), poses of the normalised objects in the crops' cameras.

        A single observation may have several initial poses. The solution is in tensors or in arrays, as ``initial`` is.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: contour Gauss-Newton needs an initial estimate (B, 4, 4), got None.")
        c = self.config
        numbers = (
            float(c.iterations), float(c.attempts), c.damping, c.robust_pixels, c.enough, c.least_gain
        )  # fmt: skip
        poses = np.array(as_array(initial), np.float64, order="C")
        count, length = len(poses), c.iterations + 1
        history, ious = np.empty((count, length, 4, 4)), np.empty((count, length))
        steps = np.zeros(count, np.int64)
        fixed = (self.meshes.packed.arrays, as_array(observation.mesh_index), observation.arrays(), numbers)
        single = len(observation) == 1

        def minimise(b: int) -> None:
            steps[b] = _minimise(*fixed, 0 if single else b, poses[b], history[b], ious[b])

        for_each(count, minimise)
        for b in range(count):  # who stopped early stays where it stopped
            history[b, steps[b] + 1 :] = history[b, steps[b]]
            ious[b, steps[b] + 1 :] = ious[b, steps[b]]
        used = int(steps.max(initial=0)) + 1
        return solution_like(initial, poses, history[:, :used], 1.0 - ious[:, :used])


def solution_like(
    initial: TensorOrArray, estimate: np.ndarray, history: np.ndarray, residual_norms: np.ndarray
) -> Solution:
    """A solution in tensors or in arrays, of the kind and type of numbers of ``initial``.

    Args:
        initial: what the solve began with.
        estimate: (B, 4, 4).
        history: (B, T+1, 4, 4).
        residual_norms: (B, T+1).
    """
    arrays = (estimate, np.ascontiguousarray(history.swapaxes(0, 1)), np.ascontiguousarray(residual_norms))

    def like(array: np.ndarray) -> TensorOrArray:
        if isinstance(initial, np.ndarray):
            return array.astype(initial.dtype, copy=False)
        import torch

        return torch.from_numpy(array).to(initial)

    poses, steps, norms = (like(array) for array in arrays)
    return Solution(poses, tuple(steps), norms)
