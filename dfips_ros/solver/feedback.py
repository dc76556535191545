# SPDX-License-Identifier: Apache-2.0
"""The feedback solver: unroll T stages, each with weights of its own, and watch the residual.

``x_{t+1} = apply(x_t, g_t(feedback(y, x_t)))`` for t = 0 .. T-1 (Ma et al. 2020). The forward process is at hand, so
every update is checked by it: one that makes the residual larger is scaled down, and rejected if that does not help.
The paper calls this adaptive update; its exact rule is not published, this one is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .config import SolverConfig
from .protocols import EstimateSpace, Feedback, FeedbackFeatures, Solution


class FeedbackSolver(nn.Module):
    """Learned feedback solver; an ``Estimator``.

    Args:
        feedback: compares the simulated with the observed.
        space: applies updates.
        make_stage: returns a fresh stage network; called T times, or once with shared weights.
        config: see :class:`SolverConfig`.
    """

    def __init__(
        self, feedback: Feedback, space: EstimateSpace, make_stage: Callable[[], nn.Module], config: SolverConfig
    ) -> None:
        super().__init__()
        self.feedback = feedback
        self.space = space
        self.config = config
        count = 1 if config.shared_weights else config.num_stages
        self.stages = nn.ModuleList([make_stage() for _ in range(count)])

    def stage(self, t: int) -> nn.Module:
        """The network of stage t; past the last one, the last one is used again."""
        return self.stages[min(t, len(self.stages) - 1)]

    def training_steps(
        self, observation: Any, initial: Tensor, bfloat16: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (t, updated estimate with gradient of stage t only); gradients stop between stages."""
        estimate = initial
        for t in range(self.config.num_stages):
            with torch.no_grad():
                features = self.feedback(observation, estimate)
            with torch.autocast(initial.device.type, torch.bfloat16, enabled=bfloat16):
                update = self.stage(t)(features)
            updated = self.space.apply(estimate, update.to(estimate.dtype))
            yield t, updated
            estimate = updated.detach()

    @torch.inference_mode()
    def estimate(
        self,
        observation: Any,
        initial: Tensor | None = None,
        num_stages: int | None = None,
    ) -> Solution:
        """Solve a batch.

        Args:
            observation: (B, *Y), or a batch that the feedback understands.
            initial: (B, *X).
            num_stages: unroll more or fewer stages than were trained; 0 only compares.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: the feedback solver needs an initial estimate (B, *X), got None.")
        estimate = initial.clone()
        features = self.feedback(observation, estimate)
        history, norms = [estimate], [features.residual_norm]
        for t in range(self.config.num_stages if num_stages is None else num_stages):
            if bool(self._wanted(features).any()):
                update = self.stage(t)(features)
                estimate, features = self._step(observation, estimate, features, update)
            history.append(estimate)
            norms.append(features.residual_norm)
        residual_norms = torch.stack(norms, dim=1)
        if self.config.keep_best:
            best = residual_norms.nan_to_num(torch.inf, torch.inf).flip(1).argmin(1)  # the last of equals
            stacked = torch.stack(history[::-1], dim=1)
            estimate = stacked[torch.arange(len(best), device=best.device), best]
        return Solution(estimate, tuple(history), residual_norms)

    def _step(
        self, observation: Any, estimate: Tensor, features: FeedbackFeatures, update: Tensor
    ) -> tuple[Tensor, FeedbackFeatures]:
        trial = self.space.apply(estimate, update)
        trial_features = self.feedback(observation, trial)
        wanted = self._wanted(features)
        if not self.config.adaptive:
            return self._kept(wanted, trial, trial_features, estimate, features)
        norm = features.residual_norm
        limit = torch.where(norm.isnan(), torch.inf, norm * (1.0 + self.config.tolerance))  # any number is better
        for _ in range(self.config.max_scalings):
            worse = (wanted & ~(trial_features.residual_norm <= limit)).nonzero()[:, 0]  # NaN counts as worse
            if len(worse) == 0:
                break
            update = update.index_copy(0, worse, update[worse] * self.config.scaling)
            shorter = self.space.apply(estimate[worse], update[worse])
            trial = trial.index_copy(0, worse, shorter)
            trial_features = trial_features.scattered(worse, self.feedback(observation[worse], shorter))
        accepted = wanted & (trial_features.residual_norm <= limit)
        return self._kept(accepted, trial, trial_features, estimate, features)

    def _wanted(self, features: FeedbackFeatures) -> Tensor:
        """Which elements (B,) the remaining stages work on; NaN is wanted."""
        norm = features.residual_norm
        return torch.ones_like(norm, dtype=torch.bool) if self.config.enough == 0.0 else ~(norm <= self.config.enough)

    @staticmethod
    def _kept(
        accepted: Tensor, trial: Tensor, trial_features: FeedbackFeatures, estimate: Tensor, features: FeedbackFeatures
    ) -> tuple[Tensor, FeedbackFeatures]:
        if bool(accepted.all()):
            return trial, trial_features
        kept = torch.where(accepted.reshape(-1, *([1] * (trial.ndim - 1))), trial, estimate)
        return kept, trial_features.where(accepted, features)
