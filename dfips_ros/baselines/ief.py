# SPDX-License-Identifier: Apache-2.0
"""IEF-style correction: the estimate itself is fed back, not what it looks like (Carreira et al., CVPR 2016).

No forward process is in the loop: the network reads the observation and the present estimate as numbers (as Kanazawa et
al. 2018 do for parameters that are no image points), one set of weights serves all iterations, and a step is bounded,
``u' = u min(1, L / |u|)`` (Carreira et al., section 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import check_range
from ..networks.silhouette_cnn import SilhouetteCnnStage
from ..processes.observation import SilhouetteObservation
from ..solver import FeedbackFeatures, FeedbackSolver, Se3ImageSpace, SolverConfig, StageNetwork

NUMBERS = 13


class EstimateFeedback:
    """The observed silhouette, and the estimated pose as numbers; nothing is simulated, so no residual is known."""

    def __call__(self, observation: SilhouetteObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations and poses (B, 4, 4) of the normalised object -> features on the estimate's device.

        Returns:
            ``images`` (B, 1, S, S); ``scale`` (B, 13): rotation matrix, image position in [-1, 1] across the crop,
            log-depth, size in the image. The residual norm is NaN.
        """
        mask, camera = observation.mask.to(estimate.device), observation.camera.to(estimate)
        observed = (mask * observation.valid.to(estimate.device)).to(estimate.dtype)[:, None]
        focal, z = camera[:, :1, 0], estimate[:, 2:3, 3]
        position = (estimate[:, :2, 3] / z * focal + camera[:, :2, 2] + 0.5) * (2.0 / mask.shape[-1]) - 1.0
        numbers = torch.cat([estimate[:, :3, :3].flatten(1), position, z.log(), focal / z / 64.0], dim=1)
        unknown = estimate.new_full((len(estimate),), float("nan"))
        return FeedbackFeatures({"images": observed, "scale": numbers}, unknown)


class BoundedStage(nn.Module):
    """Another stage, its update shortened to at most ``limit``.

    Args:
        stage: gives updates (B, n).
        limit: largest Euclidean norm of an update.
    """

    def __init__(self, stage: StageNetwork, limit: float) -> None:
        super().__init__()
        self.stage, self.limit = stage, limit

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Features -> update (B, n) of norm at most ``limit``."""
        update = self.stage(features).float()
        length = torch.linalg.vector_norm(update, dim=1, keepdim=True)
        return update * (self.limit / length.clamp_min(self.limit))


class IterativeErrorFeedback(FeedbackSolver):
    """Pose by bounded corrections; an ``Estimator``, trained by :class:`StageTrainer` like every solver.

    Args:
        size: side of the observed crops, pixels.
        width: channels of the first layer.
        num_iterations: how often the network is applied.
        limit: longest step; radians, diameters and log-depth count alike. All steps together must be able to reach the
            solution: ``num_iterations * limit`` should exceed the largest initial error.
    """

    def __init__(self, size: int, width: int = 24, num_iterations: int = 4, limit: float = 0.3) -> None:
        check_range("limit", limit, 1e-6)

        def stage() -> nn.Module:
            return BoundedStage(SilhouetteCnnStage(size, width, channels=1, numbers=NUMBERS), limit)

        config = SolverConfig(num_stages=num_iterations, shared_weights=True, adaptive=False, keep_best=False)
        super().__init__(EstimateFeedback(), Se3ImageSpace(), stage, config)
