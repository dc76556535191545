# SPDX-License-Identifier: Apache-2.0
"""SoftRas-style pose descent: gradient steps through a soft silhouette (Liu et al., "Soft Rasterizer", ICCV 2019).

Every triangle j covers pixel i with probability ``D_ij = sigmoid(s_ij d_ij^2 / sigma)`` (d the distance to the
triangle's edges, s = +1 inside and -1 outside); a silhouette is ``S_i = 1 - prod_j (1 - D_ij)`` (their equations 1
and 5). The loss is one minus the soft IoU; Adam moves the pose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
import torch
from torch import Tensor

from ..checks import check_range
from ..errors import ConfigError
from ..solver import Se3ImageSpace, Solution

_FAR = 16.0  # squared distance over sigma from which sigmoid(-x) is below float32's resolution of one


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

    iterations: int = 300
    size: int = 64
    sigma_start: float = 3e-3
    sigma_end: float = 3e-6
    learning_rate: float = 0.06

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1)
        check_range("size", self.size, 8, 1024)
        check_range("sigma_start", self.sigma_start, 1e-9)
        check_range("sigma_end", self.sigma_end, 1e-9)
        check_range("learning_rate", self.learning_rate, 1e-9)


@nb.njit(cache=True, nogil=True)
def _close_pairs(corners, size, sigma):
    """Triangle, pixel, nearest edge and side (1 inside, 0 outside) of all pairs that matter at this softness."""
    reach = math.sqrt(_FAR * sigma)
    step = 2.0 / size
    out = np.empty((4096, 4), np.int64)
    count = 0
    for f in range(corners.shape[0]):
        low_u, high_u = corners[f, :, 0].min() - reach, corners[f, :, 0].max() + reach
        low_v, high_v = corners[f, :, 1].min() - reach, corners[f, :, 1].max() + reach
        first_x, last_x = max(0, int((low_u + 1.0) / step - 0.5)), min(size - 1, int((high_u + 1.0) / step + 0.5))
        first_y, last_y = max(0, int((low_v + 1.0) / step - 0.5)), min(size - 1, int((high_v + 1.0) / step + 0.5))
        for y in range(first_y, last_y + 1):
            for x in range(first_x, last_x + 1):
                u, v = (x + 0.5) * step - 1.0, (y + 0.5) * step - 1.0
                least, edge, left, right = np.inf, 0, True, True
                for k in range(3):
                    j = (k + 1) % 3
                    eu, ev = corners[f, j, 0] - corners[f, k, 0], corners[f, j, 1] - corners[f, k, 1]
                    pu, pv = u - corners[f, k, 0], v - corners[f, k, 1]
                    along = min(max((pu * eu + pv * ev) / max(eu * eu + ev * ev, 1e-12), 0.0), 1.0)
                    square = (pu - along * eu) ** 2 + (pv - along * ev) ** 2
                    if square < least:
                        least, edge = square, k
                    side = eu * pv - ev * pu
                    left, right = left and side >= 0, right and side <= 0
                inside = left or right  # either winding
                if not inside and least > _FAR * sigma:
                    continue
                if count == len(out):
                    longer = np.empty((2 * count, 4), np.int64)
                    longer[:count] = out
                    out = longer
                out[count, 0], out[count, 1], out[count, 2], out[count, 3] = f, y * size + x, edge, int(inside)
                count += 1
    return out[:count]


def soft_silhouette(corners: Tensor, size: int, sigma: float) -> Tensor:
    """Soft silhouette of projected triangles.

    Args:
        corners: (F, 3, 2) in normalised image coordinates, [-1, 1] across the image.
        size: side of the image, pixels.
        sigma: softness.

    Returns:
        (size, size) probabilities, differentiable in ``corners``. Triangles so far from a pixel that they cover it with
        less than float32 can tell are passed over.
    """
    found = torch.from_numpy(_close_pairs(corners.detach().cpu().numpy(), size, float(sigma))).to(corners.device)
    face, pixel, edge, inside = found.unbind(1)
    start, end = corners[face, edge], corners[face, (edge + 1) % 3]
    at = (torch.stack([pixel % size, pixel // size], dim=1).to(corners) + 0.5) * (2.0 / size) - 1.0
    along, to_pixel = end - start, at - start
    length = (along * along).sum(-1).clamp_min(1e-12)
    share = ((to_pixel * along).sum(-1) / length).clamp(0.0, 1.0)
    rest = to_pixel - share[:, None] * along
    sign = 2.0 * inside.to(corners) - 1.0
    log_uncovered = -torch.nn.functional.softplus(sign * (rest * rest).sum(-1) / sigma)  # log(1 - sigmoid(x))
    total = corners.new_zeros(size * size).index_add(0, pixel, log_uncovered)
    return (1.0 - torch.exp(total)).reshape(size, size)


class SoftSilhouetteDescent:
    """Pose from a silhouette by gradient descent; an ``Estimator`` of batches of (mask, camera).

    Args:
        vertices: (V, 3) of the object, centered, of diameter one.
        faces: (F, 3); about a thousand are enough.
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
