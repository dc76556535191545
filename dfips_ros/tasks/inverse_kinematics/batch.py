# SPDX-License-Identifier: Apache-2.0
"""The learned stages for a whole batch in torch, on any device; the polish stays on the processor."""

from __future__ import annotations

import numpy as np
import torch

from ...processes.kinematics import SerialChain
from ...solver import Checkpoint
from .arm import core_transforms
from .weights import restore_solver


class BatchStages:
    """Unrolls the stages for a batch of targets.

    Args:
        chain: the arm.
        checkpoint: its weights.
        device: where to compute.
    """

    def __init__(self, chain: SerialChain, checkpoint: Checkpoint, device: torch.device) -> None:
        self.solver, self.core, config = restore_solver(checkpoint)
        self.solver.to(device)
        self.device, self.count, self.most = device, config.solver.num_stages, sum(config.proposals(0))
        self.first, self.last = core_transforms(chain, self.core)
        self.lower, self.limited = chain.lower, self.core.wraps & ~chain.wraps

    def _targets(self, matrices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.first @ matrices @ self.last).float().to(self.device)

    def _starts(self, seeds: np.ndarray) -> torch.Tensor:
        """Full turns are taken out and the rest is moved within the limits."""
        turned = np.where(self.core.wraps, np.mod(seeds + np.pi, 2 * np.pi) - np.pi, seeds)
        return torch.from_numpy(np.clip(turned, self.core.lower, self.core.upper)).float()

    def history(self, matrices: np.ndarray, seeds: np.ndarray | None, follow: int) -> np.ndarray:
        """Unroll the stages for each target; keep what ends nearest to it.

        Args:
            matrices: targets (B, 4, 4).
            seeds: (B, n); None for the middle of the limits.
            follow: so many of the first stage's proposals are followed up, each for itself; 1 is the plain solver.

        Returns:
            Joint positions (T + 1, B, n), the start first.
        """
        targets, count = self._targets(matrices), len(matrices)
        middle = np.tile(0.5 * (self.core.lower + self.core.upper), (count, 1))
        start = self._starts(middle if seeds is None else seeds).to(self.device)
        with torch.inference_mode():
            features = self.solver.feedback(targets, start)
            updates = self.solver.stage(0).ranked(features, follow)  # type: ignore[operator]
            estimates = self.solver.space.apply(start.repeat(follow, 1), updates.flatten(0, 1))
            history = [start.repeat(follow, 1), estimates]
            several = targets.repeat(follow, 1, 1)
            for t in range(1, self.count):
                update = self.solver.stage(t)(self.solver.feedback(several, estimates))
                estimates = self.solver.space.apply(estimates, update)
                history.append(estimates)
            norms = self.solver.feedback(several, estimates).residual_norm.reshape(follow, count)
        rows = norms.argmin(0) * count + torch.arange(count, device=self.device)
        return self._inside(torch.stack(history)[:, rows])

    def _inside(self, estimates: torch.Tensor) -> np.ndarray:
        """Shift joints that the stages let turn freely by full turns into their limits."""
        q = estimates.double().cpu().numpy()
        return np.where(self.limited, self.lower + np.mod(q - self.lower, 2 * np.pi), q)
