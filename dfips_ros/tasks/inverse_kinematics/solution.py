# SPDX-License-Identifier: Apache-2.0
"""What the inverse kinematics estimator answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SOLVED, APPROXIMATE, TIMED_OUT, NO_SOLUTION = "solved", "approximate", "timed_out", "no_solution"
STATUSES = (SOLVED, APPROXIMATE, TIMED_OUT, NO_SOLUTION)


@dataclass(frozen=True)
class JointSolution:
    """Joint positions for one target.

    Attributes:
        names: of the joints, from base to tip.
        positions: (n,) radians or metres. Where no solution was found, the seed moved into the limits (or the middle of
            the limits without a seed), so that a follower that takes it stays where it is.
        success: within the tolerances (``solved``) or, where asked for, within the guard (``approximate``).
        position_error: distance of the tip at ``positions`` from the target, metres.
        orientation_error: angle between tip and target at ``positions``, radians in [0, pi].
        stages: learned stages that ran.
        iterations: steps of Levenberg-Marquardt, over all tries.
        restarts: random restarts.
        jump_from_seed: largest distance of a joint from the seed; NaN without a seed.
        in_limits: all joints are within their limits.
        status: ``solved``, ``approximate``, ``timed_out`` or ``no_solution``.
        reason: the status in words.
        solve_time: seconds.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    success: bool
    position_error: float
    orientation_error: float
    stages: int
    iterations: int
    restarts: int
    jump_from_seed: float
    in_limits: bool
    status: str
    reason: str
    solve_time: float
