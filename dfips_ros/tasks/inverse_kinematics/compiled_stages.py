# SPDX-License-Identifier: Apache-2.0
"""Feedback, loss and learned stages compiled for the processor: the equations of ``problem.py`` without its overhead.

Training on the processor runs :func:`compare_many` and :func:`loss_many`; the search for one target runs
:func:`run_stages`, all stages on several starts. Tests hold each of them to its counterpart in torch.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from ...networks.joint_mlp import INITIAL_LOG_DAMPING, LOG_DAMPING_RANGE
from ...processes.kinematics_jit import forward_pose, jacobian_transposed, pose_residual
from .levenberg_marquardt import normal_equations, solve_positive, weighted_cost

LOWEST, HIGHEST = LOG_DAMPING_RANGE
LIMIT_MARGIN = 0.08  # of a joint's range: solutions nearer to a limit are penalised in training
LIMIT_WEIGHT = 3.0


@nb.njit(cache=True, nogil=True)
def points(table):
    """Whether the first element turns by the first joint's own angle."""
    return table[0, 12] == 0 and abs(table[0, 14]) == 1.0


@nb.njit(cache=True, nogil=True)
def direction(table, target, place):
    """Where the first joint points at the target: its angle from the middle of its limits, and the angle in the base.

    Both are 0 where the first element does not turn by the joint's own angle.
    """
    if not points(table):
        return 0.0, 0.0
    angle = math.atan2(target[10], target[9])
    joint = (angle - table[0, 15]) * table[0, 14] - place[0, int(table[0, 13])]
    return joint - 2.0 * math.pi * round(joint / (2.0 * math.pi)), angle


@nb.njit(cache=True, nogil=True)
def write_features(table, q, pose, target, place, reach, row):
    """Write what a stage reads into ``row`` (F,); see ``KinematicsFeedback``.

    Args:
        table: (m + 1, 16) of the core.
        q: (n,).
        pose, target: (12,).
        place: (2, n) middle, and inverse half range (0 where a joint turns without end).
        reach: metres.
        row: (F,) float32 to write.
    """
    n, first = len(q), int(table[0, 13])
    at = 0
    for j in range(n):
        if j != first:
            row[at] = math.sin(q[j])
            row[at + 1] = math.cos(q[j])
            at += 2
        row[at] = (q[j] - place[0, j]) * place[1, j]
        at += 1
    x, y, z = pose[9] - target[9], pose[10] - target[10], pose[11] - target[11]
    joint, angle = direction(table, target, place)
    c, s, scale = math.cos(angle), math.sin(angle), 2.0 / reach
    row[at + 12] = (c * target[9] + s * target[10]) * scale
    row[at + 13] = (c * target[10] - s * target[9]) * scale + joint * place[1, first]
    row[at + 14] = target[11] * scale
    for i in range(3):
        row[at + i] = (pose[i] * x + pose[3 + i] * y + pose[6 + i] * z) * scale
        for j in range(3):
            row[at + 3 + 3 * i + j] = pose[i] * target[j] + pose[3 + i] * target[3 + j] + pose[6 + i] * target[6 + j]
        row[at + 15 + i] = c * target[i] + s * target[3 + i]
        row[at + 18 + i] = c * target[3 + i] - s * target[i]
        row[at + 21 + i] = target[6 + i]


@nb.njit(cache=True, nogil=True)
def compare(table, q, target, scale, place, sizes, pose, axes, residual, jacobian, hessian, gradient, row):
    """Features, normal equations (position over the rotation weight) and residual norm in metres of one estimate."""
    reach, rotation_weight = sizes[0], sizes[1]
    forward_pose(table, q, pose, axes)
    pose_residual(pose, target, residual)
    jacobian_transposed(table, pose, axes, jacobian)
    write_features(table, q, pose, target, place, reach, row)
    for j in range(len(q)):
        for i in range(3):
            jacobian[j, i] *= scale[j] / rotation_weight
            jacobian[j, 3 + i] *= scale[j]
    for i in range(3):
        residual[i] /= rotation_weight
    normal_equations(jacobian, residual, 1.0, hessian, gradient)
    return rotation_weight * math.sqrt(weighted_cost(residual, 1.0)[0])


@nb.njit(cache=True, nogil=True)
def compare_many(table, positions, targets, scale, place, sizes, features, hessians, gradients, norms):
    """:func:`compare` for (B, n) and (B, 4, 4), all float32; writes (B, F), (B, n, n), (B, n) and (B,)."""
    n = positions.shape[1]
    pose, axes, residual, target = np.empty(12), np.empty((len(table) - 1, 6)), np.empty(6), np.empty(12)
    jacobian, hessian, gradient, q = np.empty((n, 6)), np.empty((n, n)), np.empty(n), np.empty(n)
    for b in range(len(positions)):
        q[:] = positions[b]
        for i in range(3):
            for j in range(3):
                target[3 * i + j] = targets[b, i, j]
            target[9 + i] = targets[b, i, 3]
        norms[b] = compare(
            table, q, target, scale, place, sizes, pose, axes, residual, jacobian, hessian, gradient, features[b]
        )
        hessians[b] = hessian
        gradients[b] = gradient


@nb.njit(cache=True, nogil=True)
def hinge(q, place):
    """How far joints are into the margin at their limits, in parts of their range, over all joints."""
    total = 0.0
    for j in range(len(q)):
        total += max(0.5 * (abs(q[j] - place[0, j]) * place[1, j] - 1.0) + LIMIT_MARGIN, 0.0)
    return total


@nb.njit(cache=True, nogil=True)
def pose_loss(table, q, target, place, rotation_weight, pose, axes):
    """The loss of ``PoseLoss`` for one estimate (n,) and target (12,); leaves ``pose`` and ``axes`` of the arm."""
    forward_pose(table, q, pose, axes)
    distance, chord = 0.0, 0.0
    for i in range(3):
        distance += (pose[9 + i] - target[9 + i]) ** 2
    for i in range(9):
        chord += (pose[i] - target[i]) ** 2
    return math.sqrt(distance) / rotation_weight + math.sqrt(0.5 * chord) + LIMIT_WEIGHT * hinge(q, place)


@nb.njit(cache=True, nogil=True)
def loss_many(table, positions, targets, place, rotation_weight, losses, gradients):
    """The loss of ``PoseLoss`` and its gradient.

    Args:
        table: (m + 1, 16).
        positions, targets: (B, n) and (B, 12) float32.
        place: (2, n) as in :func:`write_features`.
        rotation_weight: metres per radian.
        losses, gradients: (B,) and (B, n) float32 to write.
    """
    n = positions.shape[1]
    pose, axes, jacobian, q = np.empty(12), np.empty((len(table) - 1, 6)), np.empty((n, 6)), np.empty(n)
    for b in range(len(positions)):
        q[:] = positions[b]
        target = targets[b]
        losses[b] = pose_loss(table, q, target, place, rotation_weight, pose, axes)
        jacobian_transposed(table, pose, axes, jacobian)
        x, y, z = pose[9] - target[9], pose[10] - target[10], pose[11] - target[11]
        chord = 0.0
        wx, wy, wz = 0.0, 0.0, 0.0  # half the squared chord changes by w . sum of (observed x simulated) columns
        for k in range(3):
            ax, ay, az = pose[k], pose[3 + k], pose[6 + k]
            bx, by, bz = target[k], target[3 + k], target[6 + k]
            chord += (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2
            wx += by * az - bz * ay
            wy += bz * ax - bx * az
            wz += bx * ay - by * ax
        over_distance = 1.0 / max(math.sqrt(x * x + y * y + z * z) * rotation_weight, 1e-12)
        over_chord = 1.0 / max(2.0 * math.sqrt(0.5 * chord), 1e-12)
        for j in range(n):
            a = jacobian[j]
            g = (a[0] * x + a[1] * y + a[2] * z) * over_distance
            g += (a[3] * wx + a[4] * wy + a[5] * wz) * over_chord
            side = (q[j] - place[0, j]) * place[1, j]
            if abs(side) > 1.0 - 2.0 * LIMIT_MARGIN:
                g += math.copysign(0.5 * LIMIT_WEIGHT * place[1, j], side)
            gradients[b, j] = g


@nb.njit(cache=True, nogil=True)
def try_proposals(
    table, q, target, scale, place, bounds, rotation_weight, hessian, gradient, jumps, steps, dampings, work, moved,
    losses,
):  # fmt: skip
    """Where all proposals of a stage lead, and the loss there.

    Args:
        table, target, scale, place, bounds: as in :func:`run_stages`.
        q: (n,) where the steps start.
        rotation_weight: metres per radian.
        hessian, gradient: (n, n) and (n,) of the comparison at ``q``.
        jumps: (J, n) ways from ``q``.
        steps, dampings: (S, n) proposed steps and how firm they are.
        work: space for (n, n), (12,) and (m, 6).
        moved, losses: (J + S, n) and (J + S,) to write, jumps first.
    """
    matrix, pose, axes = work
    n, first = len(q), len(jumps)
    for k in range(len(losses)):
        way = moved[k]
        if k < first:
            for j in range(n):
                way[j] = np.float64(jumps[k, j])
        else:
            for j in range(n):
                for i in range(n):
                    matrix[j, i] = hessian[j, i]
                damping = np.float64(dampings[k - first, j])
                matrix[j, j] += damping
                way[j] = damping * np.float64(steps[k - first, j]) - gradient[j]
            solve_positive(matrix, way, n)
        for j in range(n):
            way[j] = min(max(q[j] + scale[j] * way[j], bounds[0, j]), bounds[1, j])
        losses[k] = pose_loss(table, way, target, place, rotation_weight, pose, axes)


@nb.njit(cache=True, nogil=True)
def try_many(
    table, positions, targets, scale, place, bounds, rotation_weight, hessians, gradients, jumps, steps, dampings,
    losses,
):  # fmt: skip
    """:func:`try_proposals` for a batch; writes ``losses`` (B, J + S)."""
    n = positions.shape[1]
    q, target, moved = np.empty(n), np.empty(12), np.empty((losses.shape[1], n))
    work = (np.empty((n, n)), np.empty(12), np.empty((len(table) - 1, 6)))
    for b in range(len(positions)):
        q[:] = positions[b]
        target[:] = targets[b]
        try_proposals(
            table, q, target, scale, place, bounds, rotation_weight, hessians[b], gradients[b], jumps[b], steps[b],
            dampings[b], work, moved, losses[b],
        )  # fmt: skip


@nb.njit(cache=True, nogil=True, fastmath=True)
def dense(x, matrix, bias, rectify, y):
    """``y = x W^T + b``, where asked for without what is negative; four rows at a time, for small K faster than BLAS.

    Args:
        x: (K, inputs) float32.
        matrix, bias: (outputs, inputs), (outputs,) float32.
        rectify: apply a ReLU.
        y: (K, outputs) to write.
    """
    rows, inputs = x.shape
    zero = np.float32(0.0)
    for k in range(0, rows - rows % 4, 4):
        x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
        for o in range(len(bias)):
            row = matrix[o]
            a, b, c, d = zero, zero, zero, zero
            for i in range(inputs):
                w = row[i]
                a += w * x0[i]
                b += w * x1[i]
                c += w * x2[i]
                d += w * x3[i]
            y[k, o], y[k + 1, o], y[k + 2, o], y[k + 3, o] = a + bias[o], b + bias[o], c + bias[o], d + bias[o]
    for k in range(rows - rows % 4, rows):
        x0 = x[k]
        for o in range(len(bias)):
            row, a = matrix[o], zero
            for i in range(inputs):
                a += row[i] * x0[i]
            y[k, o] = a + bias[o]
    if rectify:
        for k in range(rows):
            for o in range(len(bias)):
                y[k, o] = max(y[k, o], zero)


@nb.njit(cache=True, nogil=True)
def network(x, weights, start, width, layers, outputs):
    """The perceptron of one stage: (K, F) float32 -> (K, outputs), and where the next stage's weights start."""
    for layer in range(layers + 1):
        inputs = x.shape[1]
        size = outputs if layer == layers else width
        matrix = weights[start : start + inputs * size].reshape(size, inputs)
        start += inputs * size
        y = np.empty((x.shape[0], size), np.float32)
        dense(x, matrix, weights[start : start + size], layer < layers, y)
        start += size
        x = y
    return x, start


@nb.njit(cache=True, nogil=True)
def read_proposals(out, table, q, target, scale, place, jumps, steps, dampings):
    """Read what a network says, (J n + 2 S n,), into jumps (J, n), as ways from ``q``, steps (S, n) and dampings."""
    n, first = len(q), int(table[0, 13])
    joint, _ = direction(table, target, place)
    for k in range(len(jumps)):
        for j in range(n):
            way = np.float64(out[k * n + j])
            if j == first:
                way += joint / scale[j]
            if place[1, j] == 0.0 or (j == first and points(table)):
                way -= 2.0 * math.pi * round(way / (2.0 * math.pi))
            jumps[k, j] = way + (place[0, j] - q[j]) / scale[j]
    at = len(jumps) * n
    for k in range(len(steps)):
        for j in range(n):
            steps[k, j] = np.float64(out[at + j])
            log_damping = np.float64(out[at + n + j]) + INITIAL_LOG_DAMPING
            dampings[k, j] = math.exp(min(max(log_damping, LOWEST), HIGHEST))
        at += 2 * n


@nb.njit(cache=True, nogil=True)
def run_stages(table, target, scale, place, sizes, bounds, weights, shape, start, found, norms):
    """Unroll all stages; the best K proposals of the first one are followed up, each for itself.

    Args:
        table: (m + 1, 16) of the arm's core.
        target: (12,) in the core's frame.
        scale: (n,) of the joints.
        place: (2, n) as in :func:`write_features`.
        sizes: (2,) reach and rotation weight, metres.
        bounds: (2, n) where estimates are kept; infinite for joints that turn without end.
        weights: flat float32, stage after stage, each layer's matrix and bias.
        shape: (5 + 2 T,) int64: stages T, features, width, hidden layers, joints; of each stage its jumps and steps.
        start: (n,) joint positions.
        found: (K, n) to write; K is at most the number of the first stage's proposals.
        norms: (K,) residual norms to write, after the last stage.
    """
    count, n = found.shape
    pose, axes, residual, jacobian = np.empty(12), np.empty((len(table) - 1, 6)), np.empty(6), np.empty((n, 6))
    hessians, gradients = np.empty((count, n, n)), np.empty((count, n))
    work = (np.empty((n, n)), pose, axes)
    found[0] = start
    at = 0
    for t in range(shape[0]):
        jumps, steps = np.empty((shape[5 + 2 * t], n)), np.empty((shape[6 + 2 * t], n))
        dampings = np.empty((shape[6 + 2 * t], n))
        moved, losses = np.empty((len(jumps) + len(steps), n)), np.empty(len(jumps) + len(steps))
        features = np.empty((1 if t == 0 else count, shape[1]), np.float32)
        for k in range(len(features)):
            compare(
                table, found[k], target, scale, place, sizes, pose, axes, residual, jacobian, hessians[k],
                gradients[k], features[k],
            )  # fmt: skip
        out, at = network(features, weights, at, shape[2], shape[3], (len(jumps) + 2 * len(steps)) * n)
        for k in range(len(features)):
            read_proposals(out[k], table, found[k], target, scale, place, jumps, steps, dampings)
            try_proposals(
                table, found[k], target, scale, place, bounds, sizes[1], hessians[k], gradients[k], jumps, steps,
                dampings, work, moved, losses,
            )  # fmt: skip
            for i in range(count if t == 0 else 1):
                best = np.argmin(losses)
                found[k + i] = moved[best]
                losses[best] = np.inf
    for k in range(count):
        forward_pose(table, found[k], pose, axes)
        pose_residual(pose, target, residual)
        norms[k] = math.sqrt(weighted_cost(residual, sizes[1])[0])
