# SPDX-License-Identifier: Apache-2.0
"""Deblocking as the solver sees it: stages, weights and the training loss."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from torch import Tensor, nn

from ...errors import CheckpointError
from ...networks.dct_unet import DctUnetStage
from ...networks.dncnn import DnCnnStage
from ...processes.jpeg_feedback import JpegFeedback, PlaneSpace
from ...solver import Checkpoint, FeedbackSolver, load_checkpoint
from .config import DeblockingConfig

KIND = "deblocking"
LOSS_EPSILON = 1e-3


def make_solver(config: DeblockingConfig) -> FeedbackSolver:
    """A fresh solver of the configured kind."""

    stages = count()

    def stage() -> nn.Module:
        if config.network == "dncnn":
            return DnCnnStage(config.width, config.depth, config.batch_norm)
        widths = config.widths[min(next(stages), len(config.widths) - 1)]
        return DctUnetStage(widths, config.depth, config.fine_depth)

    return FeedbackSolver(JpegFeedback(config.network != "dncnn"), PlaneSpace(), stage, config.solver)


def load_solver(weights: str | Path) -> tuple[FeedbackSolver, DeblockingConfig, Checkpoint]:
    """A solver from a weights file.

    Raises:
        CheckpointError: the file does not fit.
    """
    checkpoint = load_checkpoint(weights, kind=KIND)
    config = DeblockingConfig.from_dict(checkpoint.config)
    solver = make_solver(config)
    try:
        solver.stages.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    except RuntimeError as cause:
        raise CheckpointError(f"weights '{weights}': do not fit the network of their own config ({cause}).") from cause
    solver.eval()
    return solver, config, checkpoint


def deblocking_loss(estimate: Tensor, ground_truth: Tensor) -> Tensor:
    """Smoothed mean absolute difference (Charbonnier): (B, 1, H, W), (B, 1, H, W) -> (B,)."""
    return ((estimate - ground_truth).square() + LOSS_EPSILON**2).sqrt().flatten(1).mean(1)
