# SPDX-License-Identifier: Apache-2.0
"""Deep Image Prior (Ulyanov et al., CVPR 2018): a network fitted to the one image, stopped before it fits the noise.

No training data and no forward process: an hourglass with fixed random input is fitted to the observation alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import check_range
from ..processes.jpeg_dct import JpegObservation
from ..solver import Solution


@dataclass(frozen=True)
class DeepImagePriorConfig:
    """How the network is fitted.

    Attributes:
        iterations: when to stop; more fit the artefacts too.
        width: channels.
        levels: how often the resolution is halved.
        learning_rate: Adam's.
        input_noise: standard deviation of the noise added to the fixed input in every iteration.
        average: decay of the moving average of the outputs that is returned.
        seed: of the weights and the input.
    """

    iterations: int = 600
    width: int = 48
    levels: int = 4
    learning_rate: float = 0.01
    input_noise: float = 1.0 / 30.0
    average: float = 0.97
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1, 1_000_000)
        check_range("width", self.width, 4, 1024)
        check_range("levels", self.levels, 1, 8)
        check_range("learning_rate", self.learning_rate, 1e-9, 10.0)
        check_range("input_noise", self.input_noise, 0.0, 10.0)
        check_range("average", self.average, 0.0, 0.9999)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode="reflect", bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class _Hourglass(nn.Module):
    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Sequential(_layer(width, width, 2), _layer(width, width)) for _ in range(levels)])
        self.skip = nn.ModuleList([nn.Conv2d(width, 4, 1) for _ in range(levels)])
        self.up = nn.ModuleList([_layer(width + 4, width) for _ in range(levels)])
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down, skip in zip(self.down, self.skip, strict=True):
            kept.append(skip(x))
            x = down(x)
        for up, side in zip(self.up, kept[::-1], strict=True):
            x = functional.interpolate(x, size=side.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, side], dim=1))
        return torch.sigmoid(self.out(x))


class DeepImagePrior:
    """An ``Estimator`` that fits a network to each observation, one after the other.

    Args:
        config: see :class:`DeepImagePriorConfig`.
    """

    def __init__(self, config: DeepImagePriorConfig | None = None) -> None:
        self.config = config or DeepImagePriorConfig()

    def estimate(self, observation: JpegObservation, initial: Tensor | None = None) -> Solution:
        """Planes (B, 1, H, W) with sides above 2^levels; ``initial`` is not used. The residual norms are those of a
        process that leaves images as they are, in grey levels."""
        planes = observation.planes
        fitted = torch.cat([self._fit(plane[None]) for plane in planes])
        norms = (fitted - planes).flatten(1).square().mean(1).sqrt() * 255.0
        return Solution(fitted, (planes, fitted), torch.stack([torch.zeros_like(norms), norms], dim=1))

    @torch.inference_mode(False)
    def _fit(self, plane: Tensor) -> Tensor:
        c = self.config
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(c.seed)
            network = _Hourglass(c.width, c.levels).to(plane.device)
            fixed = torch.rand(1, c.width, *plane.shape[2:]).to(plane.device) * 0.1
            optimizer = torch.optim.Adam(network.parameters(), lr=c.learning_rate)
            target, mean = plane.clone(), torch.zeros_like(plane)
            for _ in range(c.iterations):
                noisy = fixed + c.input_noise * torch.randn(fixed.shape).to(plane.device)
                with torch.autocast(plane.device.type, torch.bfloat16):
                    output = network(noisy)
                loss = functional.mse_loss(output.float(), target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                mean = c.average * mean + (1.0 - c.average) * output.detach().float()
            return mean / (1.0 - c.average**c.iterations)
