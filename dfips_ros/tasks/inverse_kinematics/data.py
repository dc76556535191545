# SPDX-License-Identifier: Apache-2.0
"""Training examples, made on the fly: targets are the tip's poses at random joint positions, starts are other ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numba as nb
import numpy as np
import torch
from torch import Tensor

from ...processes.kinematics_jit import forward_many
from .levenberg_marquardt import levenberg_marquardt
from .problem import ArmCore, pose_rows

NEAREST_TRIES = 4  # starts of the search for the solution nearest to the initial estimate
NEAREST_TOLERANCE = 1e-4


def joint_samples(core: ArmCore, count: int, generator: torch.Generator) -> Tensor:
    """Joint positions (count, n) uniform within the limits of the core."""
    lower, upper = torch.from_numpy(core.lower).float(), torch.from_numpy(core.upper).float()
    return lower + (upper - lower) * torch.rand(count, len(lower), generator=generator)


def target_batches(core: ArmCore, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless training batches: target poses (B, 4, 4), initial (B, n), and the targets again as ground truth."""
    for targets, initial, _ in _examples(core, batch_size, torch.Generator().manual_seed(seed)):
        yield targets, initial, targets


def nearest_batches(core: ArmCore, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """As :func:`target_batches`, with the solutions (B, n) nearest to the initial estimates as ground truth.

    Nearest among the hidden positions and what Levenberg-Marquardt finds from the initial estimates and others.
    """
    generator = torch.Generator().manual_seed(seed)
    bounds = np.stack([np.where(core.wraps, -np.inf, core.lower), np.where(core.wraps, np.inf, core.upper)])
    for targets, initial, hidden in _examples(core, batch_size, generator):
        others = joint_samples(core, NEAREST_TRIES * batch_size, generator).reshape(batch_size, NEAREST_TRIES, -1)
        starts = torch.cat([initial[:, None], others], dim=1).double().numpy()
        solutions = hidden.double().numpy().copy()
        nearest_solutions(
            core.table, pose_rows(targets).double().numpy(), bounds, initial.double().numpy(), starts, core.scale,
            core.rotation_weight, solutions,
        )  # fmt: skip
        yield targets, initial, torch.from_numpy(solutions).float()


def _examples(core: ArmCore, count: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    while True:
        hidden = joint_samples(core, count, generator)
        targets = torch.from_numpy(forward_many(core.table, hidden.double().numpy())).float()
        yield targets, joint_samples(core, count, generator), hidden


@nb.njit(cache=True, nogil=True)
def nearest_solutions(table, targets, bounds, initial, starts, scale, rotation_weight, solutions):
    """Replace solutions (B, n) by ones nearer to ``initial`` (B, n), where Levenberg-Marquardt finds some.

    Args:
        table: (m + 1, 16).
        targets: (B, 12).
        bounds: (2, n), infinite for joints that turn without end.
        initial: (B, n).
        starts: (B, K, n), overwritten.
        scale: (n,) what a step of one means.
        rotation_weight: metres per radian.
        solutions: (B, n), solutions already.
    """
    tolerances = np.array([NEAREST_TOLERANCE, NEAREST_TOLERANCE])
    for b in range(len(targets)):
        nearest = joint_distance(solutions[b], initial[b], bounds, scale)
        for k in range(starts.shape[1]):
            q = starts[b, k]
            _, p, r = levenberg_marquardt(
                table, targets[b], bounds[0], bounds[1], q, tolerances, rotation_weight, 50, 4, 0.1
            )
            if p <= NEAREST_TOLERANCE**2 and r <= NEAREST_TOLERANCE**2:
                distance = joint_distance(q, initial[b], bounds, scale)
                if distance < nearest:
                    nearest = distance
                    solutions[b] = q


@nb.njit(cache=True, nogil=True)
def joint_distance(a, b, bounds, scale):
    """Euclidean distance of joint positions (n,), the short way round for joints that turn without end."""
    total = 0.0
    for j in range(len(a)):
        d = a[j] - b[j]
        if bounds[1, j] == np.inf:
            d -= 2.0 * math.pi * round(d / (2.0 * math.pi))
        total += (d / scale[j]) ** 2
    return math.sqrt(total)
