# SPDX-License-Identifier: Apache-2.0
"""Levenberg-Marquardt with an active set for the joint limits, compiled.

Minimises ``|W r(q)|^2`` over ``lower <= q <= upper``. A step solves ``(J^T W^2 J + lambda I) dq = -J^T W^2 r`` over the
free joints; a joint that the step would take beyond a limit is put onto the limit and the rest is solved again with its
move taken into account, so that a limit never bends a step (clipping does). The damping is proportional to the cost
(Sugihara 2011, Chan and Lawrence 1988) and adapts to how well the linear model foretold the cost.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from ...processes.kinematics_jit import forward_pose, jacobian_transposed, pose_residual


@nb.njit(cache=True, nogil=True)
def solve_positive(a, b, n):
    """Solve ``a x = b`` in place by Cholesky, a (n, n) positive definite; x is left in ``b``."""
    for j in range(n):
        s = a[j, j]
        for k in range(j):
            s -= a[j, k] * a[j, k]
        s = 1.0 / math.sqrt(max(s, 1e-300))
        a[j, j] = s
        for i in range(j + 1, n):
            t = a[i, j]
            for k in range(j):
                t -= a[i, k] * a[j, k]
            a[i, j] = t * s
    for i in range(n):
        t = b[i]
        for k in range(i):
            t -= a[i, k] * b[k]
        b[i] = t * a[i, i]
    for i in range(n - 1, -1, -1):
        t = b[i]
        for k in range(i + 1, n):
            t -= a[k, i] * b[k]
        b[i] = t * a[i, i]


@nb.njit(cache=True, nogil=True)
def box_step(hessian, gradient, damping, q, lower, upper, step, free, matrix, vector):
    """The damped Gauss-Newton step within the box, into ``step`` (n,).

    Args:
        hessian: (n, n) J^T W^2 J.
        gradient: (n,) J^T W^2 r.
        damping: (n,) added to the diagonal.
        q, lower, upper: (n,).
        step: (n,) to write.
        free, matrix, vector: work space, (n,) int64, (n, n), (n,).
    """
    n = len(q)
    count = 0
    for j in range(n):
        step[j] = 0.0
        outward = (q[j] <= lower[j] and gradient[j] > 0) or (q[j] >= upper[j] and gradient[j] < 0)
        if not outward:
            free[count] = j
            count += 1
    for _ in range(n):
        if count == 0:
            return
        for a in range(count):
            i = free[a]
            t = -gradient[i]
            for j in range(n):  # joints that were put onto a limit have moved already
                t -= hessian[i, j] * step[j]
            vector[a] = t
            for b in range(a + 1):
                matrix[a, b] = hessian[i, free[b]]
            matrix[a, a] += damping[i]
        solve_positive(matrix, vector, count)
        worst = 1.0
        for a in range(count):
            i = free[a]
            x = vector[a]
            room = upper[i] - q[i] if x > 0 else lower[i] - q[i]
            if abs(x) > abs(room):
                worst = min(worst, abs(room) / abs(x))
        if worst >= 1.0:
            for a in range(count):
                step[free[a]] = vector[a]
            return
        left = 0
        for a in range(count):
            i = free[a]
            x = vector[a]
            room = upper[i] - q[i] if x > 0 else lower[i] - q[i]
            if abs(x) >= abs(room):
                step[i] = room
            else:
                free[left] = i
                left += 1
        count = left


@nb.njit(cache=True, nogil=True)
def weighted_cost(residual, rotation_weight):
    """``|r_position|^2 + w^2 |r_rotation|^2``."""
    p = residual[0] * residual[0] + residual[1] * residual[1] + residual[2] * residual[2]
    r = residual[3] * residual[3] + residual[4] * residual[4] + residual[5] * residual[5]
    return p + rotation_weight * rotation_weight * r, p, r


@nb.njit(cache=True, nogil=True)
def normal_equations(jacobian, residual, rotation_weight, hessian, gradient):
    """``J^T W^2 J`` and ``J^T W^2 r`` of the transposed Jacobian (n, 6)."""
    w = rotation_weight * rotation_weight
    for i in range(len(jacobian)):
        a = jacobian[i]
        a0, a1, a2, a3, a4, a5 = a[0], a[1], a[2], w * a[3], w * a[4], w * a[5]
        gradient[i] = (
            a0 * residual[0] + a1 * residual[1] + a2 * residual[2]
            + a3 * residual[3] + a4 * residual[4] + a5 * residual[5]
        )  # fmt: skip
        for j in range(i + 1):
            b = jacobian[j]
            h = a0 * b[0] + a1 * b[1] + a2 * b[2] + a3 * b[3] + a4 * b[4] + a5 * b[5]
            hessian[i, j] = h
            hessian[j, i] = h


@nb.njit(cache=True, nogil=True)
def levenberg_marquardt(
    table, target, lower, upper, q, tolerances, rotation_weight, max_iterations, patience, initial_damping
):
    """Polish joint positions in place.

    Args:
        table: (m + 1, 16) of the chain.
        target: (12,) pose.
        lower, upper: (n,) the box; infinite for joints that turn without end.
        q: (n,) in the box; the best positions are left in it.
        tolerances: (2,) metres and radians.
        rotation_weight: metres per radian in the cost; 0 ignores orientation.
        max_iterations: trial steps at most.
        patience: steps in a row with little progress before it gives up.
        initial_damping: of the first step, times the cost.

    Returns:
        (trial steps, squared position error, squared orientation error).
    """
    n, count = len(q), len(table) - 1
    pose, axes = np.empty(12), np.empty((count, 6))
    jacobian, hessian, matrix = np.empty((n, 6)), np.empty((n, n)), np.empty((n, n))
    gradient, step, vector, trial, damping = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    residual = np.empty(6)
    free = np.empty(n, np.int64)
    tolerance_p, tolerance_r = tolerances[0] * tolerances[0], tolerances[1] * tolerances[1]
    forward_pose(table, q, pose, axes)
    pose_residual(pose, target, residual)
    cost, p, r = weighted_cost(residual, rotation_weight)
    factor, slow = initial_damping, 0
    fresh = True
    for iteration in range(max_iterations):
        if p <= tolerance_p and (r <= tolerance_r or rotation_weight == 0.0):
            return iteration, p, r
        if fresh:
            jacobian_transposed(table, pose, axes, jacobian)
            normal_equations(jacobian, residual, rotation_weight, hessian, gradient)
        for j in range(n):
            damping[j] = factor * cost + 1e-10
        box_step(hessian, gradient, damping, q, lower, upper, step, free, matrix, vector)
        foretold = 0.0
        for j in range(n):
            trial[j] = min(max(q[j] + step[j], lower[j]), upper[j])
            hs = 0.0
            for k in range(n):
                hs += hessian[j, k] * step[k]
            foretold -= step[j] * (2.0 * gradient[j] + hs)
        forward_pose(table, trial, pose, axes)
        pose_residual(pose, target, residual)
        new_cost, new_p, new_r = weighted_cost(residual, rotation_weight)
        gain = cost - new_cost
        if gain > 0:
            slow = slow + 1 if gain < 0.02 * cost else 0
            ratio = gain / max(foretold, 1e-300)
            if ratio > 0.75:
                factor = max(factor * 0.3, 1e-4)
            elif ratio < 0.25:
                factor = min(factor * 3.0, 1e6)
            q[:] = trial
            cost, p, r = new_cost, new_p, new_r
            fresh = True
        else:
            slow += 1
            factor = min(factor * 6.0, 1e8)
            fresh = False
            # pose and residual belong to the trial; the normal equations of q are kept
        if slow > patience:
            return iteration + 1, p, r
    return max_iterations, p, r
