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
    turn, shift = table[0, 14] * q[first] + table[0, 15], 0.0
    if table[0, 12] > 0:
        turn, shift = 0.0, turn
    c, s, scale = math.cos(turn), math.sin(turn), 2.0 / reach
    row[at + 12] = (c * target[9] + s * target[10]) * scale
    row[at + 13] = (c * target[10] - s * target[9]) * scale
    row[at + 14] = (target[11] - shift) * scale
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
def loss_many(table, positions, targets, limits, rotation_weight, margin, limit_weight, losses, gradients):
    """The loss of ``PoseLoss`` and its gradient for positions (B, n) and targets (B, 4, 4), all float32.

    Args:
        table: (m + 1, 16).
        positions, targets: see above.
        limits: (3, n) lower, upper, 1 where a joint turns without end.
        rotation_weight: metres per radian.
        margin, limit_weight: of the hinge at the limits.
        losses, gradients: (B,) and (B, n) to write.
    """
    n = positions.shape[1]
    pose, axes, jacobian, q = np.empty(12), np.empty((len(table) - 1, 6)), np.empty((n, 6)), np.empty(n)
    for b in range(len(positions)):
        q[:] = positions[b]
        target = targets[b]
        forward_pose(table, q, pose, axes)
        jacobian_transposed(table, pose, axes, jacobian)
        x, y, z = pose[9] - target[0, 3], pose[10] - target[1, 3], pose[11] - target[2, 3]
        distance = math.sqrt(x * x + y * y + z * z)
        chord = 0.0
        wx, wy, wz = 0.0, 0.0, 0.0  # half the squared chord changes by w . sum of (observed x simulated) columns
        for k in range(3):
            ax, ay, az = pose[k], pose[3 + k], pose[6 + k]
            bx, by, bz = target[0, k], target[1, k], target[2, k]
            chord += (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2
            wx += by * az - bz * ay
            wy += bz * ax - bx * az
            wz += bx * ay - by * ax
        chord = math.sqrt(0.5 * chord)
        over_distance = 1.0 / max(distance * rotation_weight, 1e-12)
        over_chord = 1.0 / max(2.0 * chord, 1e-12)
        loss = distance / rotation_weight + chord
        for j in range(n):
            a = jacobian[j]
            g = (a[0] * x + a[1] * y + a[2] * z) * over_distance
            g += (a[3] * wx + a[4] * wy + a[5] * wz) * over_chord
            if limits[2, j] == 0.0:
                span = max(limits[1, j] - limits[0, j], 1e-9)
                part = (q[j] - limits[0, j]) / span
                if part < margin:
                    loss += limit_weight * (margin - part)
                    g -= limit_weight / span
                elif part > 1.0 - margin:
                    loss += limit_weight * (part - 1.0 + margin)
                    g += limit_weight / span
            gradients[b, j] = g
        losses[b] = loss


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
def network(x, weights, start, shape):
    """The multilayer perceptron of one stage: (K, F) float32 -> (K, 2 n), and where the next stage's weights start."""
    width, layers, outputs = shape[2], shape[3], 2 * shape[4]
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
def run_stages(table, target, scale, place, sizes, lower, upper, weights, shape, starts, norms):
    """Unroll all stages on K starts, in place.

    Args:
        table: (m + 1, 16) of the arm's core.
        target: (12,) in the core's frame.
        scale: (n,) of the joints.
        place: (2, n) as in :func:`write_features`.
        sizes: (2,) reach and rotation weight, metres.
        lower, upper: (n,) where estimates are kept; infinite for joints that turn without end.
        weights: flat float32, stage after stage, each layer's matrix and bias.
        shape: (5,) int64: stages to run, features, width, hidden layers, joints.
        starts: (K, n) joint positions; the updated ones are left in it.
        norms: (K,) residual norms to write, after the last stage.
    """
    count, n = starts.shape
    pose, axes, residual, jacobian = np.empty(12), np.empty((len(table) - 1, 6)), np.empty(6), np.empty((n, 6))
    hessians, gradients, vector = np.empty((count, n, n)), np.empty((count, n)), np.empty(n)
    features = np.empty((count, shape[1]), np.float32)
    at = 0
    for _ in range(shape[0]):
        for k in range(count):
            compare(
                table, starts[k], target, scale, place, sizes, pose, axes, residual, jacobian, hessians[k],
                gradients[k], features[k],
            )  # fmt: skip
        out, at = network(features, weights, at, shape)
        for k in range(count):
            for j in range(n):
                log_damping = min(max(np.float64(out[k, n + j]) + INITIAL_LOG_DAMPING, LOWEST), HIGHEST)
                damping = math.exp(log_damping)
                hessians[k, j, j] += damping
                vector[j] = damping * np.float64(out[k, j]) - gradients[k, j]
            solve_positive(hessians[k], vector, n)
            for j in range(n):
                starts[k, j] = min(max(starts[k, j] + scale[j] * vector[j], lower[j]), upper[j])
    for k in range(count):
        forward_pose(table, starts[k], pose, axes)
        pose_residual(pose, target, residual)
        norms[k] = math.sqrt(weighted_cost(residual, sizes[1])[0])
