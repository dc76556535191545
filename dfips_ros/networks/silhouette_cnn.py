# SPDX-License-Identifier: Apache-2.0
"""A stage that reads the difference image: the paper's form, for one object or category (Ma et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..solver import FeedbackFeatures


class SilhouetteCnnStage(nn.Module):
    """Observed, simulated, difference and depth images -> one pose update, of any size.

    Args:
        size: side of the images, pixels.
        width: channels of the first layer, a multiple of 4.
        channels: images per example.
        numbers: numbers per example that join behind the convolutions.

    Raises:
        ConfigError: ``width`` is no positive multiple of 4.
    """

    def __init__(self, size: int, width: int = 24, channels: int = 4, numbers: int = 1) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ConfigError(f"width={width}: expected a positive multiple of 4 (channels are normalised in fours).")
        layers: list[nn.Module] = []
        inputs = channels
        side = size
        for outputs in (width, 2 * width, 4 * width, 4 * width, 4 * width):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU()
            ]  # fmt: skip
            inputs = outputs
            side = (side + 1) // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        last = nn.Linear(256, 6)
        self.head = nn.Sequential(nn.Linear(inputs * side * side + numbers, 256), nn.ReLU(), last)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Inputs ``images`` (B, channels, S, S) and ``scale`` (B, numbers) -> update (B, 6)."""
        hidden = self.body(features.inputs["images"])
        return self.head(torch.cat([hidden, features.inputs["scale"]], dim=1))
