# SPDX-License-Identifier: Apache-2.0
"""Deblocking as the solver sees it: stages, weights and the training loss."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import CheckpointError
from ...networks.dct_unet import DctUnetStage
from ...networks.dncnn import DnCnnStage
from ...processes.jpeg import BLOCK
from ...processes.jpeg_feedback import JpegFeedback, PlaneSpace
from ...solver import Checkpoint, FeedbackSolver, load_checkpoint
from .config import DeblockingConfig, DeblockingLossConfig

KIND = "deblocking"
LOSS_EPSILON = 1e-3
SSIM_WINDOW, SSIM_CONSTANTS = 7, (0.01**2, 0.03**2)


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


def deblocking_loss(estimate: Tensor, ground_truth: Tensor, config: DeblockingLossConfig | None = None) -> Tensor:
    """``mean |x - g| + similarity (1 - SSIM(x, g)) + blocking max(D(x) - D(g), 0)`` of estimate x and ground truth g.

    The magnitude is smoothed near zero (Charbonnier). SSIM (Wang et al. 2004) has a square window of 7 pixels here, at
    every second pixel. D is the mean squared step across block borders less that between other neighbours (Yim and
    Bovik 2011).

    Args:
        estimate: (B, 1, H, W).
        ground_truth: (B, 1, H, W).
        config: the weights; nothing but the first term by default.

    Returns:
        (B,).
    """
    config = config or DeblockingLossConfig()
    loss = ((estimate - ground_truth).square() + LOSS_EPSILON**2).sqrt().flatten(1).mean(1)
    if config.similarity > 0:
        loss = loss + config.similarity * (1.0 - _similarity(estimate, ground_truth))
    if config.blocking > 0:
        loss = loss + config.blocking * (_blocking(estimate) - _blocking(ground_truth)).relu()
    return loss


def _blocking(planes: Tensor) -> Tensor:
    across, down = planes.diff(dim=3).square().mean((1, 2)), planes.diff(dim=2).square().mean((1, 3))
    at, elsewhere = [], []
    for steps in (across, down):
        border = torch.arange(1, steps.shape[1] + 1, device=steps.device) % BLOCK == 0
        at.append(steps[:, border].mean(1))
        elsewhere.append(steps[:, ~border].mean(1))
    return 0.5 * (at[0] + at[1] - elsewhere[0] - elsewhere[1])


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    means = functional.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b], dim=1), SSIM_WINDOW, stride=2)
    ma, mb, aa, bb, ab = means.unbind(1)
    va, vb, covariance = aa - ma.square(), bb - mb.square(), ab - ma * mb
    c1, c2 = SSIM_CONSTANTS
    index = (2 * ma * mb + c1) * (2 * covariance + c2) / ((ma.square() + mb.square() + c1) * (va + vb + c2))
    return index.flatten(1).mean(1)
