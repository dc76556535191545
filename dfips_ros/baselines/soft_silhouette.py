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
from .silhouette_descent import DescentConfig, SilhouetteDescent

_FAR = 16.0  # squared distance over sigma from which sigmoid(-x) is below float32's resolution of one
_PAIRS_AT_ONCE = 2_000_000  # triangles times pixels


@dataclass(frozen=True)
class SoftSilhouetteConfig(DescentConfig):
    """Settings of the descent.

    Attributes:
        sigma_start: softness at the first step, squared normalised image units (the image spans [-1, 1]).
        sigma_end: softness at the last step; it falls geometrically.
    """

    sigma_start: float = 3e-3
    sigma_end: float = 3e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sigma_start", self.sigma_start, 1e-9)
        check_range("sigma_end", self.sigma_end, 1e-9)


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


def _close_pairs_torch(corners: Tensor, size: int, sigma: float) -> Tensor:
    """As :func:`_close_pairs`, on any device: some triangles at a time are held against all pixels."""
    axis = (torch.arange(size, device=corners.device) + 0.5).to(corners) * (2.0 / size) - 1.0
    at = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)  # (size^2, u v)
    parts = []
    for first in range(0, len(corners), max(1, _PAIRS_AT_ONCE // len(at))):
        some = corners[first : first + max(1, _PAIRS_AT_ONCE // len(at))]
        along = some.roll(-1, dims=1) - some  # (F, edge, u v)
        to_pixel = at - some[:, :, None]  # (F, edge, size^2, u v)
        length = (along * along).sum(-1, keepdim=True).clamp_min(1e-12)
        share = ((to_pixel * along[:, :, None]).sum(-1) / length).clamp(0.0, 1.0)
        square = (to_pixel - share[..., None] * along[:, :, None]).square().sum(-1)
        least, edge = square.min(1)
        side = along[:, :, None, 0] * to_pixel[..., 1] - along[:, :, None, 1] * to_pixel[..., 0]
        inside = (side >= 0).all(1) | (side <= 0).all(1)  # either winding
        face, pixel = (inside | (least <= _FAR * sigma)).nonzero(as_tuple=True)
        parts.append(torch.stack([face + first, pixel, edge[face, pixel], inside[face, pixel].long()], dim=1))
    return torch.cat(parts)


def soft_silhouette(corners: Tensor, size: int, sigma: float) -> Tensor:
    """Soft silhouette of projected triangles, on the CPU or a CUDA device.

    Args:
        corners: (F, 3, 2) in normalised image coordinates, [-1, 1] across the image.
        size: side of the image, pixels.
        sigma: softness.

    Returns:
        (size, size) probabilities, differentiable in ``corners``. Triangles so far from a pixel that they cover it with
        less than float32 can tell are passed over.
    """
    if corners.device.type == "cpu":
        found = torch.from_numpy(_close_pairs(corners.detach().numpy(), size, float(sigma)))
    else:
        found = _close_pairs_torch(corners.detach(), size, sigma)
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


class SoftSilhouetteDescent(SilhouetteDescent):
    """Pose by descent through the soft silhouette; an ``Estimator`` of batches of (mask, camera).

    Args:
        vertices: (V, 3) of the object, centered, of diameter one.
        faces: (F, 3); about a thousand are enough.
        config: see :class:`SoftSilhouetteConfig`.
    """

    judged_from = 0.7  # sharp images are comparable; soft ones early on are not

    def __init__(self, vertices: Tensor, faces: Tensor, config: SoftSilhouetteConfig | None = None) -> None:
        self.config = config or SoftSilhouetteConfig()
        super().__init__(vertices, faces, self.config)

    def silhouette(self, corners: Tensor, inverse_depth: Tensor, progress: float) -> Tensor:
        """Soft at first, sharper with every step."""
        c = self.config
        sigma = c.sigma_start * (c.sigma_end / c.sigma_start) ** progress
        return soft_silhouette(corners, c.size, sigma)
