# SPDX-License-Identifier: Apache-2.0
"""Deep Image Prior (Ulyanov et al., CVPR 2018): a network fitted to the one image, stopped before it fits the noise.

No training data, no forward process and no ground truth: an hourglass with fixed random input is fitted to the
observation alone for a fixed number of steps. Network and numbers are those of the authors for JPEG artefacts
(supplement, and ``denoising.ipynb`` of their code), but for one output channel in place of three.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import check_range
from ..errors import ConfigError
from ..processes.jpeg_dct import JpegObservation
from ..solver import Solution


@dataclass(frozen=True)
class DeepImagePriorConfig:
    """How the network is fitted.

    Attributes:
        iterations: when to stop; more fit the artefacts too.
        widths: channels at each level, the finest first; every level halves the resolution.
        skips: channels carried across at each level; 0 for none.
        inputs: channels of the fixed random input.
        learning_rate: Adam's.
        input_noise: standard deviation of the noise added to the fixed input in every iteration.
        average: decay of the moving average of the outputs that is returned.
        seed: of the weights and the input.
    """

    iterations: int = 2400
    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    skips: tuple[int, ...] = (0, 0, 0, 4, 4)
    inputs: int = 3
    learning_rate: float = 0.01
    input_noise: float = 1.0 / 30.0
    average: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1, 1_000_000)
        if not 1 <= len(self.widths) <= 8 or len(self.skips) != len(self.widths):
            raise ConfigError(
                f"widths={self.widths}, skips={self.skips}: expected as many of each, one to eight levels."
            )
        for width, skip in zip(self.widths, self.skips, strict=True):
            check_range("widths", width, 1, 1024)
            check_range("skips", skip, 0, 1024)
        check_range("inputs", self.inputs, 1, 1024)
        check_range("learning_rate", self.learning_rate, 1e-9, 10.0)
        check_range("input_noise", self.input_noise, 0.0, 10.0)
        check_range("average", self.average, 0.0, 0.9999)


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode="reflect"),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class _Hourglass(nn.Module):
    def __init__(self, config: DeepImagePriorConfig) -> None:
        super().__init__()
        widths, skips = config.widths, config.skips
        befores, deepers = (config.inputs, *widths[:-1]), (*widths[1:], widths[-1])
        self.carries = [skip > 0 for skip in skips]
        self.down = nn.ModuleList(
            [nn.Sequential(_layer(b, w, stride=2), _layer(w, w)) for b, w in zip(befores, widths, strict=True)]
        )
        self.skip = nn.ModuleList(
            [_layer(b, s, 1) if s else nn.Identity() for b, s in zip(befores, skips, strict=True)]
        )
        self.up = nn.ModuleList(
            [
                nn.Sequential(nn.BatchNorm2d(d + s), _layer(d + s, w), _layer(w, w, 1))
                for d, s, w in zip(deepers, skips, widths, strict=True)
            ]
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        sizes, kept = [], []
        for down, skip, carries in zip(self.down, self.skip, self.carries, strict=True):
            sizes.append(x.shape[2:])
            kept.append(skip(x) if carries else None)
            x = down(x)
        for up, side, size in zip(reversed(self.up), reversed(kept), reversed(sizes), strict=True):  # type: ignore[call-overload]
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
            x = up(x if side is None else torch.cat([side, x], dim=1))
        return torch.sigmoid(self.out(x))


class DeepImagePrior:
    """An ``Estimator`` that fits a network to each observation, one after the other.

    Args:
        config: see :class:`DeepImagePriorConfig`.
    """

    def __init__(self, config: DeepImagePriorConfig | None = None) -> None:
        self.config = config or DeepImagePriorConfig()

    def estimate(self, observation: JpegObservation, initial: Tensor | None = None) -> Solution:
        """Planes (B, 1, H, W) with sides above 2^(number of levels); ``initial`` is not used. The residual norms are
        those of a process that leaves images as they are, in grey levels."""
        planes = observation.planes
        fitted = torch.cat([self._fit(plane[None]) for plane in planes])
        norms = (fitted - planes).flatten(1).square().mean(1).sqrt() * 255.0
        return Solution(fitted, (planes, fitted), torch.stack([torch.zeros_like(norms), norms], dim=1))

    @torch.inference_mode(False)
    def _fit(self, plane: Tensor) -> Tensor:
        c = self.config
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(c.seed)
            last = torch.channels_last  # saves a third of the time
            network = _Hourglass(c).to(plane.device).to(memory_format=last)  # type: ignore[call-overload]
            fixed = torch.rand(1, c.inputs, *plane.shape[2:]).to(plane.device).contiguous(memory_format=last) * 0.1
            optimizer = torch.optim.Adam(network.parameters(), lr=c.learning_rate)
            target, mean = plane.clone(), torch.zeros_like(plane)
            for _ in range(c.iterations):
                noisy = fixed + c.input_noise * torch.randn(fixed.shape).to(plane.device)
                output = network(noisy)
                loss = functional.mse_loss(output, target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                mean = c.average * mean + (1.0 - c.average) * output.detach()
            return mean / (1.0 - c.average**c.iterations)
