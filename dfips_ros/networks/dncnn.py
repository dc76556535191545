# SPDX-License-Identifier: Apache-2.0
"""DnCNN (Zhang et al., "Beyond a Gaussian Denoiser", TIP 2017): plain convolutions at full resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..solver import FeedbackFeatures


class DnCnnStage(nn.Module):
    """``update = -R(y)``: the noise that the network sees in the estimate, subtracted.

    Args:
        width: channels (64 in the paper).
        depth: convolutions (20 in the paper's blind model).
        batch_norm: between the first and the last convolution, as in the paper's training.
    """

    def __init__(self, width: int = 64, depth: int = 20, batch_norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        last = nn.Conv2d(width, 1, 3, padding=1)
        for layer in [*layers, last]:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        last.weight.data *= 0.05  # start with small updates
        self.layers = nn.Sequential(*layers, last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: FeedbackFeatures) -> Tensor:
        plane = features.inputs["estimate"].contiguous(memory_format=torch.channels_last)
        return -self.layers(plane)
