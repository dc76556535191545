# SPDX-License-Identifier: Apache-2.0
"""The learned stages for a whole batch in torch, on any device; the polish stays on the processor."""

from __future__ import annotations

import numpy as np
import torch

from ...processes.kinematics import SerialChain
from ...solver import Checkpoint
from .arm import core_transforms
from .data import joint_samples
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
        self.device, self.count = device, config.solver.num_stages
        self.first, self.last = core_transforms(chain, self.core)
        self.lower, self.limited = chain.lower, self.core.wraps & ~chain.wraps

    def _targets(self, matrices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.first @ matrices @ self.last).float().to(self.device)

    def _starts(self, seeds: np.ndarray) -> torch.Tensor:
        """Full turns are taken out and the rest is moved within the limits."""
        turned = np.where(self.core.wraps, np.mod(seeds + np.pi, 2 * np.pi) - np.pi, seeds)
        return torch.from_numpy(np.clip(turned, self.core.lower, self.core.upper)).float()

    def history(self, matrices: np.ndarray, seeds: np.ndarray | None, starts: int) -> np.ndarray:
        """Unroll several starts per target and keep the one that ends nearest to it.

        Args:
            matrices: targets (B, 4, 4).
            seeds: (B, n), the first start; None for random ones alone.
            starts: per target.

        Returns:
            Joint positions (T + 1, B, n), the start first.
        """
        count = len(matrices)
        initial = joint_samples(self.core, starts * count, torch.Generator().manual_seed(0))
        if seeds is not None:
            initial[:count] = self._starts(seeds)
        solution = self.solver.estimate(self._targets(matrices).repeat(starts, 1, 1), initial.to(self.device))
        norms = solution.residual_norms[:, -1].reshape(starts, count)
        rows = norms.argmin(0) * count + torch.arange(count, device=self.device)
        return self._inside(torch.stack(solution.history)[:, rows])

    def _inside(self, estimates: torch.Tensor) -> np.ndarray:
        """Shift joints that the stages let turn freely by full turns into their limits."""
        q = estimates.double().cpu().numpy()
        return np.where(self.limited, self.lower + np.mod(q - self.lower, 2 * np.pi), q)
