# SPDX-License-Identifier: Apache-2.0
"""DeepIM-style refinement: observed and simulated image side by side (Li et al., "DeepIM", ECCV 2018).

The network has to find out by itself how the two images differ, one set of weights serves all iterations, and every
update is taken. (DeepIM reads colour images through a network pretrained on optical flow; this is its scheme, on
silhouettes, with the same small network as the solver's, so that the scheme alone is compared.)
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..networks.silhouette_cnn import SilhouetteCnnStage
from ..solver import Feedback, FeedbackFeatures, FeedbackSolver, Se3ImageSpace, SolverConfig

OBSERVED, SIMULATED, DEPTH = 0, 1, 3  # channels of the image feedback; 2 is the difference


class ConcatenatedFeedback:
    """What another feedback sees, without the difference image.

    Args:
        feedback: gives ``images`` (B, 4, S, S): observed, simulated, residual, depth; and ``scale`` (B, 1).
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback

    def __call__(self, observation: Any, estimate: Tensor) -> FeedbackFeatures:
        """``images`` (B, 3, S, S): observed, simulated, depth of the simulated; and ``scale`` (B, 1)."""
        features = self.feedback(observation, estimate)
        images = features.inputs["images"][:, [OBSERVED, SIMULATED, DEPTH]]
        return FeedbackFeatures({"images": images, "scale": features.inputs["scale"]}, features.residual_norm)


class DeepIm(FeedbackSolver):
    """Pose by implicit matching; an ``Estimator``, trained by :class:`StageTrainer` like every solver.

    Args:
        feedback: see :class:`ConcatenatedFeedback`.
        size: S, pixels.
        width: channels of the first layer.
        num_iterations: how often the network is applied.
    """

    def __init__(self, feedback: Feedback, size: int, width: int = 24, num_iterations: int = 4) -> None:
        config = SolverConfig(num_stages=num_iterations, shared_weights=True, adaptive=False, keep_best=False)
        super().__init__(
            ConcatenatedFeedback(feedback), Se3ImageSpace(), lambda: SilhouetteCnnStage(size, width, channels=3), config
        )
