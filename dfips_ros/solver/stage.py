# SPDX-License-Identifier: Apache-2.0
"""A stage turns feedback into an update; the simplest feedback is the residual itself."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..errors import ShapeError
from .protocols import FeedbackFeatures, ForwardProcess


class StageNetwork(Protocol):
    """The small network of one stage (a ``torch.nn.Module``)."""

    def __call__(self, features: FeedbackFeatures) -> Tensor:
        """Features of a batch -> unbounded update (B, *update_shape)."""
        ...


class ResidualFeedback:
    """Explicit difference in observation space, ``r = f(x) - y``, for observations that are tensors.

    The inputs of a stage are ``observation``, ``simulated``, ``residual`` and ``estimate``; the residual norm is the
    root mean square of r.

    Args:
        process: the forward process f.
    """

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process

    def __call__(self, observation: Tensor, estimate: Tensor) -> FeedbackFeatures:
        """(B, *Y), (B, *X) -> features.

        Raises:
            ShapeError: simulated and observed differ in shape.
        """
        simulated = self.process(estimate)
        if simulated.shape != observation.shape:
            raise ShapeError(
                f"observation {tuple(observation.shape)}: the forward process gives {tuple(simulated.shape)} for "
                f"estimates {tuple(estimate.shape)}. Both must be (B, *Y); reshape one of them."
            )
        residual = simulated - observation
        norm = residual.flatten(1).square().mean(1).sqrt()
        inputs = {"observation": observation, "simulated": simulated, "residual": residual, "estimate": estimate}
        return FeedbackFeatures({name: torch.as_tensor(value) for name, value in inputs.items()}, norm)
