# SPDX-License-Identifier: Apache-2.0
"""The explicit comparison of an estimate with a JPEG, and the space of its planes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from ..solver import FeedbackFeatures
from .jpeg import round_trip
from .jpeg_dct import JpegObservation, dct

CELL_LIMIT = 2.0  # cells are clipped to +-2 quantisation steps


class PlaneSpace:
    """Planes (B, 1, H, W) of any size in [0, 1]: ``x' = x + u``, clipped."""

    update_shape: tuple[int, ...] = (1, -1, -1)

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, 1, H, W), (B, 1, H, W) -> (B, 1, H, W)."""
        if estimate.shape != update.shape:
            raise ShapeError(f"update: expected the estimate's shape {tuple(estimate.shape)}, got {update.shape}.")
        return (estimate + update).clamp_(0.0, 1.0)


class JpegFeedback:
    """Explicit comparison: encode and decode the estimate with the observed tables, ``r = f(x) - y``.

    The inputs of a stage are ``observation``, ``simulated``, ``residual``, ``estimate`` (B, 1, H, W), ``table``
    (B, 64), and ``cells`` (B, 128, H/8, W/8): the observed coefficients, and the estimate's distance from them, both
    in quantisation steps. The residual norm is the root mean square of r in grey levels.

    Args:
        simulate: run the forward process; without it the stage sees the observation only, and the norm is NaN.
    """

    def __init__(self, simulate: bool = True) -> None:
        self.simulate = simulate

    def __call__(self, observation: JpegObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations, (B, 1, H, W) -> features."""
        planes, tables = observation.planes, observation.tables
        inputs = {"estimate": estimate, "observation": planes, "table": tables}
        norm = torch.full((len(estimate),), torch.nan, device=estimate.device)
        if self.simulate:
            simulated = round_trip(estimate, tables)
            offset = dct(estimate).div_(tables[:, :, None, None]).sub_(observation.levels)
            cells = torch.cat([observation.levels, offset], dim=1).clamp_(-CELL_LIMIT, CELL_LIMIT)
            inputs |= {"simulated": simulated, "residual": simulated - planes, "cells": cells}
            residual = inputs["residual"].flatten(1)
            norm = torch.linalg.vector_norm(residual, dim=1) * (255.0 / residual.shape[1] ** 0.5)
        return FeedbackFeatures(inputs, norm)
