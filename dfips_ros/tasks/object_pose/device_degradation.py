# SPDX-License-Identifier: Apache-2.0
"""Real masks' faults for a batch on a device: what ``degradation`` does to one mask, in operations of fixed shape.

The kinds of fault, how often they come and how large they are, are the same; the numbers that are drawn are not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ...processes.device_observation import signed_distance
from .device_crop import mask_bounds

_CELLS = (6, 20)  # the side of the image over the side of a cell of ragged edges is one of these or between
_HOLES = 4
_LEAST_PIXELS = 40  # a mask that would keep fewer is left as it was


class Chance:
    """Random numbers on a device.

    Args:
        generator: where chance comes from; its device is that of the numbers.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self.device = generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), float32."""
        return low + (high - low) * torch.rand(shape, generator=self._generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and variance 1, float32."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high - 1, int64."""
        return torch.randint(low, high, shape, generator=self._generator, device=self.device)


def ragged_edges(mask: Tensor, strength: Tensor, chance: Chance) -> Tensor:
    """Move contours in and out by about ``strength`` (B,) pixels, smoothly along them. (B, S, S) bool, the same out."""
    count, size, _ = mask.shape
    inwards = mask.float() - 0.5 - signed_distance(mask)
    least, most = _CELLS
    cells = torch.div(size, chance.whole(least, most, count), rounding_mode="floor").clamp_min(2).float()
    grid = size // least + 1
    # Pixels of the image in cells of the noise, then in the units of grid_sample: the grid from -1 to 1.
    along = (torch.arange(size, device=mask.device) + 0.5) * (cells / size)[:, None] * (2.0 / grid) - 1.0
    x, y = along[:, None, :].expand(-1, size, -1), along[:, :, None].expand(-1, -1, size)
    noise = grid_sample(
        chance.normal(count, 1, grid, grid), torch.stack([x, y], dim=-1), "bicubic", "border", align_corners=False
    )[:, 0]
    return inwards + strength[:, None, None] * noise > 0


def random_pixels(mask: Tensor, wanted: int, chance: Chance) -> tuple[Tensor, Tensor]:
    """Columns and rows (B, wanted) of pixels of masks (B, S, S) bool; of no meaning where a mask is empty."""
    size = mask.shape[-1]
    rank = mask.flatten(1).cumsum(1, dtype=torch.int32)
    pick = (chance.uniform(0.0, 1.0, len(mask), wanted) * rank[:, -1:]).int() + 1
    place = torch.searchsorted(rank, torch.minimum(pick, rank[:, -1:])).clamp_max(size * size - 1)
    return place % size, torch.div(place, size, rounding_mode="floor")


def holes(mask: Tensor, wanted: Tensor, chance: Chance) -> Tensor:
    """Cut ``wanted`` (B,) small ellipses, at most four, out of masks (B, S, S) bool -> the same."""
    count, size, _ = mask.shape
    bounds, _ = mask_bounds(mask)
    extent = (bounds[:, 2:] - bounds[:, :2]).amax(1).float() + 1.0
    v, u = _pixels(size, mask.device)
    column, row = random_pixels(mask, _HOLES, chance)
    axes = (chance.uniform(0.01, 0.06, count, _HOLES, 2) * extent[:, None, None]).floor().clamp_min(1.0) + 0.5
    angle = chance.uniform(0.0, torch.pi, count, _HOLES)
    out = mask
    for k in range(_HOLES):
        a, b = _turned(u - column[:, k, None, None], v - row[:, k, None, None], angle[:, k])
        size_a, size_b = axes[:, k, 0, None, None], axes[:, k, 1, None, None]
        cut = ((a / size_a) ** 2 + (b / size_b) ** 2 <= 1.0) & (k < wanted)[:, None, None]
        out = out & ~cut
    return out


def below_quantile(value: Tensor, mask: Tensor, fraction: Tensor) -> Tensor:
    """Where values (B, S, S) are below the ``fraction`` (B,) quantile of those on masks (B, S, S) bool -> the same.

    Nothing is where a mask is empty.
    """
    inside = torch.where(mask, value, torch.inf).flatten(1).sort(1).values
    last = (mask.sum((1, 2)) - 1).clamp_min(0)
    place = fraction * last
    low = place.long()
    pair = inside.gather(1, torch.stack([low, torch.minimum(low + 1, last)], dim=1))
    limit = pair[:, 0] + (place - low) * (pair[:, 1] - pair[:, 0])
    return (value < limit[:, None, None]) & mask.any(2).any(1)[:, None, None]


def hidden_parts(mask: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Parts of the masks' area, 3 to 30 % of it: half-planes and ellipses, and half-planes along the image's axes.

    Args:
        mask: (B, S, S) bool.
        chance: where it comes from.

    Returns:
        What an occluder hides and what lies beyond the image's border, (B, S, S) bool each; of an element at most one
        of the two hides something.
    """
    count, size, _ = mask.shape
    v, u = _pixels(size, mask.device)
    angle = chance.uniform(0.0, 2.0 * torch.pi, count)
    column, row = random_pixels(mask, 1, chance)
    plane, _ = _turned(u, v, angle)
    a, b = _turned(u - column[..., None], v - row[..., None], angle)
    ellipse = torch.sqrt(a * a + (b / chance.uniform(0.4, 1.0, count)[:, None, None]) ** 2)
    kind, side = chance.uniform(0.0, 1.0, 2, count, 1, 1).unbind(0)
    axis = torch.where(side < 0.5, u, v) * torch.where((side * 4.0).int() % 2 == 0, 1.0, -1.0)
    occluded, truncated = kind < 0.45, (kind >= 0.45) & (kind < 0.65)
    value = torch.where(truncated, axis, torch.where(side < 0.5, plane, ellipse))
    part = below_quantile(value, mask, chance.uniform(0.03, 0.3, count))
    return part & occluded, part & truncated


def degrade(mask: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """One random degradation of each mask, or several, as ``degradation.degrade``.

    Args:
        mask: (B, S, S) bool.
        chance: where it comes from.

    Returns:
        The degraded masks, and (B, S, S) bool that is false where nothing is known (beyond the image's border).
    """
    count = len(mask)

    def sometimes(probability: float) -> Tensor:
        return chance.uniform(0.0, 1.0, count, 1, 1) < probability

    out = torch.where(sometimes(0.6), ragged_edges(mask, chance.uniform(0.3, 2.5, count), chance), mask)
    out = torch.where(sometimes(0.3), holes(out, chance.whole(1, _HOLES + 1, count), chance), out)
    occluded, beyond = hidden_parts(mask, chance)
    out = out & ~occluded & ~beyond
    kept = (out.sum((1, 2)) >= _LEAST_PIXELS)[:, None, None]
    return torch.where(kept, out, mask), ~beyond | ~kept


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (S, 1) and columns (1, S) of the pixels of an image."""
    i = torch.arange(size, device=device, dtype=torch.float32)
    return i[:, None], i[None, :]


def _turned(u: Tensor, v: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, S, S) along two axes at angles (B,)."""
    c, s = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return c * u + s * v, c * v - s * u
