# SPDX-License-Identifier: Apache-2.0
"""Direct regression: the solver's network, asked once (the row of that name in Ma et al. 2020, supplement, table 1).

It sees what a stage sees, at the initial pose, and its update is final: nothing is simulated afterwards, so nothing is
corrected or refused.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..checks import check_range
from ..networks.silhouette_cnn import SilhouetteCnnStage
from ..solver import Feedback, FeedbackSolver, Se3ImageSpace, Solution, SolverConfig


class DirectRegression(FeedbackSolver):
    """Pose in one step; an ``Estimator``, trained by :class:`StageTrainer` like every solver.

    Args:
        feedback: gives ``images`` (B, 4, S, S) and ``scale`` (B, 1).
        size: S, pixels.
        width: channels of the first layer.
    """

    def __init__(self, feedback: Feedback, size: int, width: int = 24) -> None:
        config = SolverConfig(num_stages=1, adaptive=False, keep_best=False)
        super().__init__(feedback, Se3ImageSpace(), lambda: SilhouetteCnnStage(size, width), config)

    def estimate(self, observation: Any, initial: Tensor | None = None, num_stages: int | None = None) -> Solution:
        """Solve a batch; ``num_stages`` can only be 0 or 1.

        Raises:
            ConfigError: no initial estimate, or more than one stage was asked for.
        """
        if num_stages is not None:
            check_range("num_stages", num_stages, 0, 1)
        return super().estimate(observation, initial, num_stages)
