# SPDX-License-Identifier: Apache-2.0
"""SoftRas-style pose descent: gradient steps through a soft silhouette (Liu et al., "Soft Rasterizer", ICCV 2019).

Every triangle j covers pixel i with probability ``D_ij = sigmoid(s_ij d_ij^2 / sigma)`` (d the distance to the
triangle's edges, s = +1 inside and -1 outside); a silhouette is ``S_i = 1 - prod_j (1 - D_ij)`` (their equations 1
and 5). The loss is one minus the soft IoU; Adam moves the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import ConfigError
from ..solver import Se3ImageSpace, Solution


@dataclass(frozen=True)
class SoftSilhouetteConfig:
    """Settings of the descent.

    Attributes:
        iterations: gradient steps.
        size: side of the soft image, pixels.
        sigma_start: softness at the first step, squared normalised image units (the image spans [-1, 1]).
        sigma_end: softness at the last step; it falls geometrically.
        learning_rate: Adam's, at the first step; it falls to a tenth.
    """

    iterations: int = 120
    size: int = 64
    sigma_start: float = 3e-3
    sigma_end: float = 1e-4
    learning_rate: float = 0.04

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1)
        check_range("size", self.size, 8, 1024)
        check_range("sigma_start", self.sigma_start, 1e-9)
        check_range("sigma_end", self.sigma_end, 1e-9)
        check_range("learning_rate", self.learning_rate, 1e-9)


def soft_silhouette(corners: Tensor, size: int, sigma: float) -> Tensor:
    """Soft silhouette of projected triangles.

    Args:
        corners: (F, 3, 2) in normalised image coordinates, [-1, 1] across the image.
        size: side of the image, pixels.
        sigma: softness.

    Returns:
        (size, size) probabilities, differentiable in ``corners``.
    """
    axis = (torch.arange(size, dtype=corners.dtype, device=corners.device) + 0.5) * (2.0 / size) - 1.0
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([u, v], dim=-1).reshape(1, -1, 2)
    squares, sides = [], []
    for k in range(3):
        a, b = corners[:, k][:, None], corners[:, (k + 1) % 3][:, None]
        edge, to_pixel = b - a, pixels - a
        length = (edge * edge).sum(-1).clamp_min(1e-12)
        along = ((to_pixel * edge).sum(-1) / length).clamp(0.0, 1.0)
        difference = to_pixel - along[..., None] * edge
        squares.append((difference * difference).sum(-1))
        sides.append(edge[..., 0] * to_pixel[..., 1] - edge[..., 1] * to_pixel[..., 0])
    square, side = torch.stack(squares).amin(0), torch.stack(sides)
    sign = torch.where((side >= 0).all(0) | (side <= 0).all(0), 1.0, -1.0)  # either winding
    log_uncovered = -torch.nn.functional.softplus(sign * square / sigma)  # log(1 - sigmoid(x)) = -softplus(x)
    return (1.0 - torch.exp(log_uncovered.sum(0))).reshape(size, size)


class SoftSilhouetteDescent:
    """Pose from a silhouette by gradient descent; an ``Estimator`` of batches of (mask, camera).

    Args:
        vertices: (V, 3) of the object, centered, of diameter one.
        faces: (F, 3); a few hundred are enough, cost grows with their number times the pixels.
        config: see :class:`SoftSilhouetteConfig`.
    """

    def __init__(self, vertices: Tensor, faces: Tensor, config: SoftSilhouetteConfig | None = None) -> None:
        self.vertices, self.faces = vertices, faces
        self.config = config or SoftSilhouetteConfig()
        self.space = Se3ImageSpace()

    def estimate(self, observation: tuple[Tensor, Tensor], initial: Tensor | None = None) -> Solution:
        """Descend from ``initial``.

        Args:
            observation: masks (B, S, S) float in [0, 1] and cameras (B, 3, 3) of S x S images.
            initial: (B, 4, 4).

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: descent needs an initial estimate (B, 4, 4), got None.")
        masks, cameras = observation
        parts = [self._descend(m, k, x) for m, k, x in zip(masks, cameras, initial, strict=True)]
        norms = torch.stack([n for _, n in parts])
        history = (initial, torch.stack([x for x, _ in parts]))
        return Solution(history[-1], history, norms)

    def _descend(self, mask: Tensor, camera: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        target = torch.nn.functional.interpolate(mask[None, None].float(), (c.size, c.size), mode="area")[0, 0]
        pose = initial.detach().clone()[None]
        update = torch.zeros(1, 6, requires_grad=True)
        optimizer = torch.optim.Adam([update], lr=c.learning_rate)
        losses = []
        best, least = pose[0].clone(), float("inf")
        for i in range(c.iterations):
            progress = i / max(c.iterations - 1, 1)
            sigma = c.sigma_start * (c.sigma_end / c.sigma_start) ** progress
            optimizer.param_groups[0]["lr"] = c.learning_rate * 0.1**progress
            moved = self.space.apply(pose, update)
            image = soft_silhouette(self._project(moved[0], camera, mask.shape[-1]), c.size, sigma)
            common = (image * target).sum()
            loss = 1.0 - common / (image + target - image * target).sum().clamp_min(1e-6)
            optimizer.zero_grad()
            loss.backward()
            losses.append(float(loss.detach()))
            # Sharp images are comparable; soft ones early on are not.
            if progress > 0.7 and losses[-1] < least:
                best, least = moved[0].detach().clone(), losses[-1]
            optimizer.step()
        return best, torch.tensor([losses[0], min(losses)])

    def _project(self, pose: Tensor, camera: Tensor, side: int) -> Tensor:
        points = self.vertices @ pose[:3, :3].T + pose[:3, 3]
        z = points[:, 2:].clamp_min(1e-3)
        image = points[:, :2] / z * camera[0, 0] + camera[:2, 2]
        return ((image + 0.5) * (2.0 / side) - 1.0)[self.faces]
