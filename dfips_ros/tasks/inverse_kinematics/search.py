# SPDX-License-Identifier: Apache-2.0
"""The search for a solution, compiled: the seed first, then the learned stages, then random restarts.

Each try ends in Levenberg-Marquardt; the first one within the tolerances wins. Of the solutions that the learned stages
lead to, the one nearest to the seed wins.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from ...processes.kinematics_jit import forward_pose, jacobian_transposed, pose_residual
from .compiled_stages import run_stages
from .levenberg_marquardt import levenberg_marquardt, normal_equations, solve_positive, weighted_cost

# Places in `params`
TOLERANCE_P, TOLERANCE_R, ROTATION_WEIGHT, HAS_SEED, MAX_STEP, NUM_SEEDS, POSTURE_WEIGHT, RANDOM_SEED = range(8)
NUM_PARAMS = 8
# Places in `out` after the n joints
FOUND, POSITION_ERROR, ORIENTATION_ERROR, STAGES, ITERATIONS, RESTARTS, BAD_POSE = range(7)
NUM_OUT = 7
# What to do
TRY_SEED, TRY_STAGES = 1, 2

MAX_ITERATIONS = 100
PATIENCE = 4
SEED_DAMPING, STAGE_DAMPING, RESTART_DAMPING, NEAR_DAMPING = 0.1, 1.0, 0.1, 1.0
NEARBY = 0.5  # radians (or metres): a solution within it is no jump
NEAR_POSITION = 0.3  # metres: a seed whose pose is nearer to the target should have a solution nearby
NEAR_TRIES = 16
POSTURE_STEPS = 40
POSE_TOLERANCE = 1e-3


@nb.njit(cache=True, nogil=True)
def read_pose(matrix, first, last, target):
    """Write ``first T last`` into ``target`` (12,), its rotation orthonormal; False for what is not a rigid transform.

    Args:
        matrix: (4, 4) T.
        first, last: (12,) rigid transforms.
        target: (12,) to write.
    """
    m = np.empty((3, 4))
    for i in range(3):
        for j in range(4):
            m[i, j] = matrix[i, j]
            if not math.isfinite(matrix[i, j]):
                return False
    if abs(matrix[3, 3] - 1.0) > 1e-6 or abs(matrix[3, 0]) + abs(matrix[3, 1]) + abs(matrix[3, 2]) > 1e-6:
        return False
    for i in range(3):
        for j in range(i + 1):
            dot = m[i, 0] * m[j, 0] + m[i, 1] * m[j, 1] + m[i, 2] * m[j, 2]
            if abs(dot - (1.0 if i == j else 0.0)) > POSE_TOLERANCE:
                return False
    for _ in range(2):  # Newton's iteration to the nearest orthonormal matrix: R (3 I - R^T R) / 2
        r = m[:, :3].copy()
        for i in range(3):
            for j in range(3):
                s = 1.5 * r[i, j]
                for k in range(3):
                    s -= 0.5 * r[i, k] * (r[0, k] * r[0, j] + r[1, k] * r[1, j] + r[2, k] * r[2, j])
                m[i, j] = s
    determinant = (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )
    if determinant < 0:
        return False
    h = np.empty((3, 4))
    for i in range(3):
        for j in range(4):
            h[i, j] = first[3 * i] * m[0, j] + first[3 * i + 1] * m[1, j] + first[3 * i + 2] * m[2, j]
        h[i, 3] += first[9 + i]
    for i in range(3):
        for j in range(3):
            target[3 * i + j] = h[i, 0] * last[j] + h[i, 1] * last[3 + j] + h[i, 2] * last[6 + j]
        target[9 + i] = h[i, 0] * last[9] + h[i, 1] * last[10] + h[i, 2] * last[11] + h[i, 3]
    return True


@nb.njit(cache=True, nogil=True)
def uniform(state):
    """A number in [0, 1) and the next state (splitmix64, Steele et al. 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0), state


@nb.njit(cache=True, nogil=True)
def random_start(sample_lower, sample_upper, q, state):
    """Joint positions uniform in a box, into ``q``; the next state."""
    for j in range(len(q)):
        x, state = uniform(state)
        q[j] = sample_lower[j] + (sample_upper[j] - sample_lower[j]) * x
    return state


@nb.njit(cache=True, nogil=True)
def wind_towards(q, seed, lower, upper, turns):
    """Shift joints by full turns towards the seed, as far as the box allows; the pose stays."""
    for j in range(len(q)):
        if turns[j] > 0:
            k = round((seed[j] - q[j]) / (2.0 * math.pi))
            while k != 0:
                moved = q[j] + 2.0 * math.pi * k
                if lower[j] <= moved <= upper[j]:
                    q[j] = moved
                    break
                k -= 1 if k > 0 else -1


@nb.njit(cache=True, nogil=True)
def wind_inside(q, seed, lower, upper, turns):
    """Shift joints by full turns towards the seed and into the box; what stays outside is clipped."""
    for j in range(len(q)):
        if turns[j] > 0:
            full = 2.0 * math.pi
            q[j] += full * round((seed[j] - q[j]) / full)
            if q[j] > upper[j] and q[j] - full >= lower[j]:
                q[j] -= full
            elif q[j] < lower[j] and q[j] + full <= upper[j]:
                q[j] += full
        q[j] = min(max(q[j], lower[j]), upper[j])


@nb.njit(cache=True, nogil=True)
def farthest(a, b):
    """Largest distance of a joint."""
    d = 0.0
    for j in range(len(a)):
        d = max(d, abs(a[j] - b[j]))
    return d


@nb.njit(cache=True, nogil=True)
def move_to_posture(table, target, lower, upper, q, posture, tolerances, rotation_weight):
    """Move a solution through its null space towards a posture, in place; returns LM's steps.

    ``z = eps (J^T W^2 J + eps I)^-1 (posture - q)`` is the part of the way that leaves the tip where it is.
    """
    n = len(q)
    pose, axes, residual = np.empty(12), np.empty((len(table) - 1, 6)), np.empty(6)
    jacobian, hessian, gradient = np.empty((n, 6)), np.empty((n, n)), np.empty(n)
    step, trial = np.empty(n), np.empty(n)
    used, share = 0, 1.0
    for _ in range(POSTURE_STEPS):
        forward_pose(table, q, pose, axes)
        pose_residual(pose, target, residual)
        jacobian_transposed(table, pose, axes, jacobian)
        normal_equations(jacobian, residual, rotation_weight, hessian, gradient)
        eps, before = 1e-5, 0.0
        for j in range(n):
            hessian[j, j] += eps
            step[j] = eps * (posture[j] - q[j])
            before += (posture[j] - q[j]) ** 2
        solve_positive(hessian, step, n)
        longest = 1e-12
        for j in range(n):
            longest = max(longest, abs(step[j]))
        if longest < 1e-4:
            break
        factor = share * min(1.0, 0.3 / longest)
        for j in range(n):
            trial[j] = min(max(q[j] + factor * step[j], lower[j]), upper[j])
        steps, p, r = levenberg_marquardt(
            table, target, lower, upper, trial, tolerances, rotation_weight, 20, PATIENCE, SEED_DAMPING
        )
        used += steps
        after = 0.0
        for j in range(n):
            after += (posture[j] - trial[j]) ** 2
        fits = p <= tolerances[0] ** 2 and (r <= tolerances[1] ** 2 or rotation_weight == 0.0)
        if fits and after < before:
            q[:] = trial
            if before - after < 1e-4 * before:
                break
        else:
            share *= 0.3
            if share < 0.02:
                break
    return used


@nb.njit(cache=True, nogil=True)
def polish(table, target, lower, upper, q, params, damping, stats):
    """Levenberg-Marquardt in place; returns whether it is within the tolerances, and the cost."""
    weight = params[ROTATION_WEIGHT]
    steps, p, r = levenberg_marquardt(
        table, target, lower, upper, q, params[:2], weight, MAX_ITERATIONS, PATIENCE, damping
    )
    stats[ITERATIONS] += steps
    return within(p, r, params), p + weight * weight * r


@nb.njit(cache=True, nogil=True)
def within(p, r, params):
    """Whether squared errors are within the tolerances."""
    return p <= params[TOLERANCE_P] ** 2 and (r <= params[TOLERANCE_R] ** 2 or params[ROTATION_WEIGHT] == 0.0)


@nb.njit(cache=True, nogil=True)
def errors_at(table, target, q):
    """Squared distance and squared angle between the tip and a target (12,)."""
    pose, axes, residual = np.empty(12), np.empty((len(table) - 1, 6)), np.empty(6)
    forward_pose(table, q, pose, axes)
    pose_residual(pose, target, residual)
    _, p, r = weighted_cost(residual, 1.0)
    return p, r


@nb.njit(cache=True, nogil=True)
def set_box(limits, seed, has_seed, widest, start, box):
    """Clip the seed (the middle without one) into ``start`` (n,), and write the search's bounds into ``box`` (4, n).

    The rows of ``box``: lower and upper for solutions, lower and upper for random starts (finite).
    """
    box[:] = limits[:4]
    for j in range(len(start)):
        start[j] = seed[j] if has_seed else 0.5 * (limits[2, j] + limits[3, j])
        start[j] = min(max(start[j], limits[0, j]), limits[1, j])
        if has_seed and widest < np.inf:
            # Where the seed is beyond a limit by more than the step, the limit is as near as it gets.
            box[0, j] = min(max(limits[0, j], seed[j] - widest), start[j])
            box[1, j] = max(min(limits[1, j], seed[j] + widest), start[j])
            endless = limits[0, j] == -np.inf
            box[2, j] = max(box[0, j], seed[j] - math.pi if endless else limits[2, j])
            box[3, j] = min(box[1, j], seed[j] + math.pi if endless else limits[3, j])


@nb.njit(cache=True, nogil=True)
def try_seed(table, target, box, start, params, best, stats, state):
    """Polish the seed into ``best``; from a seed whose pose is near the target, look for a solution near it, too.

    Near a singularity the shortest way in pose may be a long one for a joint; then the box of NEARBY around the seed is
    searched before that solution is taken.
    """
    best[:] = start
    found, cost = polish(table, target, box[0], box[1], best, params, SEED_DAMPING, stats)
    if found and farthest(best, start) <= NEARBY:
        return found, cost, state
    p, r = errors_at(table, target, start)
    if p > NEAR_POSITION**2 or (r > NEARBY**2 and params[ROTATION_WEIGHT] > 0.0):
        return found, cost, state
    near, q = box.copy(), np.empty(len(start))
    for j in range(len(start)):
        near[0, j] = near[2, j] = max(box[0, j], start[j] - NEARBY)
        near[1, j] = near[3, j] = min(box[1, j], start[j] + NEARBY)
    for k in range(NEAR_TRIES):
        if k == 0:
            q[:] = start
        else:
            state = random_start(near[2], near[3], q, state)
        found_near, cost_near = polish(table, target, near[0], near[1], q, params, NEAR_DAMPING, stats)
        if found_near:
            best[:] = q
            return True, cost_near, state
    return found, cost, state


@nb.njit(cache=True, nogil=True)
def try_stages(
    matrix, table, target, box, turns, start, core, weights, shape, params, best, best_cost, stats
):  # fmt: skip
    """Follow up the best proposals of the first stage and polish; the solution nearest to the seed is the ``best``."""
    core_table, place, scale, first, last, sizes = core
    n, has_seed = len(start), params[HAS_SEED] > 0
    count = min(int(params[NUM_SEEDS]), shape[5] + shape[6])
    core_target, starts, norms = np.empty(12), np.empty((count, n)), np.empty(count)
    read_pose(matrix, first, last, core_target)
    bounds = box[:2].copy()
    for j in range(n):
        if turns[j] > 0:  # the stages know no limit where a full turn leads back inside
            bounds[0, j], bounds[1, j] = -np.inf, np.inf
    run_stages(core_table, core_target, scale, place, sizes, bounds, weights, shape, start, starts, norms)
    for k in range(count):
        wind_inside(starts[k], start, box[0], box[1], turns)
    stats[STAGES] = shape[0]
    found, nearest = False, np.inf
    for _ in range(count):
        k = int(np.argmin(norms))
        norms[k] = np.inf
        found_here, cost = polish(table, target, box[0], box[1], starts[k], params, STAGE_DAMPING, stats)
        if found_here:
            found = True
            wind_towards(starts[k], start, box[0], box[1], turns)
            jump = farthest(starts[k], start)
            if jump < nearest:
                nearest, best_cost = jump, cost
                best[:] = starts[k]
            if not has_seed:
                break
        elif not found and cost < best_cost:
            best[:], best_cost = starts[k], cost
    return found, best_cost


@nb.njit(cache=True, nogil=True)
def search(matrix, seed, posture, arm, core, weights, shape, params, todo, first_restart, restarts, out):
    """Search for joint positions for one target; see the module. Everything that was found is written into ``out``.

    Args:
        matrix: (4, 4) T_base_tip.
        seed: (n,) joint positions; read if ``params`` say so.
        posture: (n,) to stay near to.
        arm: table (m + 1, 16), limits (5, n): lower and upper (infinite for joints that turn without end), the same for
            random starts (finite), 1 where a full turn makes sense.
        core: table (m + 1, 16) that was trained with, place (2, n), scale (n,), first (12,), last (12,), sizes (2,):
            reach and rotation weight.
        weights: of the stages, flat float32.
        shape: int64, see ``run_stages``; zero stages without weights.
        params: (8,) see the names above.
        todo: bits of TRY_SEED and TRY_STAGES; with none and no restarts only the seed is looked at.
        first_restart: random restarts that were spent in earlier calls.
        restarts: random restarts at most.
        out: (n + 7,) see the names above.
    """
    table, limits = arm
    n = len(seed)
    stats = out[n:]
    stats[:] = 0.0
    target, identity = np.empty(12), np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    if not read_pose(matrix, identity, identity, target):
        stats[BAD_POSE] = 1.0
        return
    start, box = np.empty(n), np.empty((4, n))
    set_box(limits, seed, params[HAS_SEED] > 0, params[MAX_STEP], start, box)
    best, best_cost, found = start.copy(), np.inf, False
    state = np.uint64(params[RANDOM_SEED]) * np.uint64(1000003) + np.uint64(1)
    if todo & TRY_SEED:
        found, best_cost, state = try_seed(table, target, box, start, params, best, stats, state)
    elif todo == 0 and restarts == 0:
        p, r = errors_at(table, target, start)
        found = within(p, r, params)
    if not found and todo & TRY_STAGES and shape[0] > 0 and params[ROTATION_WEIGHT] > 0.0:
        found, best_cost = try_stages(
            matrix, table, target, box, limits[4], start, core, weights, shape, params, best, best_cost, stats
        )
    if not found and restarts > 0:
        q = np.empty(n)
        state = state + np.uint64(first_restart) * np.uint64(0xD1342543DE82EF95) + np.uint64(77)
        for _ in range(restarts):
            state = random_start(box[2], box[3], q, state)
            found, cost = polish(table, target, box[0], box[1], q, params, RESTART_DAMPING, stats)
            stats[RESTARTS] += 1
            if found or cost < best_cost:
                best[:], best_cost = q, cost
            if found:
                break
    wind_towards(best, start, box[0], box[1], limits[4])
    if found and params[POSTURE_WEIGHT] > 0.0:
        goal = np.empty(n)
        for j in range(n):
            goal[j] = best[j] + params[POSTURE_WEIGHT] * (posture[j] - best[j])
        stats[ITERATIONS] += move_to_posture(
            table, target, box[0], box[1], best, goal, params[:2], params[ROTATION_WEIGHT]
        )
    p, r = errors_at(table, target, best)
    stats[POSITION_ERROR], stats[ORIENTATION_ERROR] = math.sqrt(p), math.sqrt(r)
    stats[FOUND] = 1.0 if found else 0.0
    out[:n] = best


@nb.njit(cache=True, nogil=True, parallel=True)
def search_many(matrices, seeds, postures, arm, core, weights, shape, params, todo, first, restarts, outs):
    """:func:`search` for a batch, on all cores."""
    for b in nb.prange(len(matrices)):
        search(matrices[b], seeds[b], postures[b], arm, core, weights, shape, params, todo, first, restarts, outs[b])


@nb.njit(cache=True, nogil=True)
def tip_errors(table, matrix, q):
    """Distance in metres and angle in radians between the tip at ``q`` and a pose (4, 4)."""
    identity = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    target = np.empty(12)
    read_pose(matrix, identity, identity, target)
    p, r = errors_at(table, target, q)
    return math.sqrt(p), math.sqrt(r)
