# SPDX-License-Identifier: Apache-2.0
"""Observed silhouettes prepared on a device: what ``processes.observation`` does, as tensor operations of fixed shape.

The signed distance is the exact Euclidean one (Felzenszwalb and Huttenlocher 2012: rows, then columns, both by brute
force on a GPU, which likes it); OpenCV's 5x5 mask, which the CPU uses, is off by up to some 2 %. Everything else is the
same to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from .device_meshes import has_kernels
from .observation import NUM_OBSERVED, SilhouetteObservation

_FAR = 1e6  # squared pixels, where a row has no pixel to measure to


@dataclass(frozen=True)
class Contour:
    """The pixels of masks that have a background neighbour, in raster order.

    Attributes:
        rank: (B, S * S) int32, how many contour pixels there are up to each pixel.
        count: (B,) int32.
    """

    rank: Tensor
    count: Tensor

    def pixel(self, j: Tensor) -> Tensor:
        """Flat place (B, N) int64 of the j-th contour pixels (B, N); of no meaning where j is not below the count."""
        place = torch.searchsorted(self.rank, j.to(torch.int32) + 1)
        return place.clamp_max(self.rank.shape[1] - 1)

    def sampled(self, wanted: int, offset: Tensor) -> Tensor:
        """Flat places (B, wanted) int64 of evenly spaced contour pixels; ``offset`` (B,) in [0, 1) says where to begin.

        Of no meaning where the count is zero.
        """
        i = torch.arange(wanted, device=self.count.device, dtype=torch.float32)
        j = ((i + offset[:, None]) * self.count[:, None] / wanted).int()
        return self.pixel(torch.minimum(j, self.count[:, None] - 1).clamp_min(0))


def contour_of(seen: Tensor) -> Contour:
    """The contour of masks (B, S, S) bool; pixels at the border of the image do not count."""
    inner = seen[:, :-2, 1:-1] & seen[:, 2:, 1:-1] & seen[:, 1:-1, :-2] & seen[:, 1:-1, 2:]
    edge = pad((seen[:, 1:-1, 1:-1] & ~inner).to(torch.int32), (1, 1, 1, 1))
    rank = edge.flatten(1).cumsum(1, dtype=torch.int32)
    return Contour(rank, rank[:, -1])


def normals_at(seen: Tensor, place: Tensor) -> Tensor:
    """Outward unit normals (B, N, 2) of masks (B, S, S) bool at flat places (B, N), from their 5x5 neighbourhoods."""
    size = seen.shape[-1]
    d = torch.arange(-2, 3, device=seen.device)
    x = (place[..., None] % size + d).clamp(0, size - 1)
    y = (torch.div(place, size, rounding_mode="floor")[..., None] + d).clamp(0, size - 1)
    around = (y[..., :, None] * size + x[..., None, :]).flatten(1)
    inside = seen.flatten(1).gather(1, around).reshape(*place.shape, 5, 5).float()
    normal = -torch.stack([(inside.sum(-2) * d).sum(-1), (inside.sum(-1) * d).sum(-1)], dim=-1)
    length = torch.sqrt((normal * normal).sum(-1, keepdim=True))
    return torch.where(length < 1e-6, torch.zeros_like(normal), normal / length.clamp_min(1e-6))


def squared_distance(source: Tensor) -> Tensor:
    """Squared distance (N, S, S) of every pixel to the nearest pixel of masks (N, S, S) bool; large if empty."""
    size = source.shape[-1]
    x = torch.arange(size, device=source.device, dtype=torch.float32)
    before = torch.where(source, x, -_FAR).cummax(-1).values
    after = torch.where(source, x, _FAR).flip(-1).cummin(-1).values.flip(-1)
    along = torch.minimum(x - before, after - x)
    squares = (along * along).clamp_max(_FAR).contiguous()
    least = torch.full_like(squares, torch.inf)
    for k in range(size):
        least = torch.minimum(least, squares[:, k : k + 1] + ((x - k) ** 2)[:, None])
    return least


def signed_distance(mask: Tensor) -> Tensor:
    """Signed distance to the contours of masks, zero midway between inner and outer pixels.

    Args:
        mask: (B, S, S) bool.

    Returns:
        (B, S, S) float32 pixels, positive outside.
    """
    if has_kernels(mask.device):
        from .cuda_observation import signed_distances

        return signed_distances(mask.view(torch.uint8))
    to_object, to_background = torch.sqrt(squared_distance(torch.cat([mask, ~mask]))).chunk(2)
    return to_object - to_background + (mask.float() - 0.5)


def observe(
    mask: Tensor, valid: Tensor, camera: Tensor, mesh_index: Tensor, offset: Tensor | None = None,
    lines: Tensor | None = None,
) -> SilhouetteObservation:  # fmt: skip
    """Prepare observed crops for comparison; everything stays on their device.

    Args:
        mask: (B, S, S) uint8 in {0, 1}.
        valid: (B, S, S) uint8, 0 where nothing is known.
        camera: (B, 3, 3) float32 pinhole matrices of the crops.
        mesh_index: (B,) int64 which mesh is seen.
        offset: (B,) in [0, 1): where the sampling of contour points starts; 0.5 by default.
        lines: (B, 3, S) int32 that is filled with how many pixels each row has of the contour, of the object, and of
            what is unknown.
    """
    if has_kernels(mask.device):
        from .cuda_observation import observed

        distance, points, known = observed(mask.contiguous(), valid.contiguous(), offset, lines)
        return SilhouetteObservation(
            mask=mask, valid=valid, signed_distance=distance, contour=points, contour_valid=known, camera=camera,
            mesh_index=mesh_index,
        )  # fmt: skip
    size = mask.shape[-1]
    seen = mask > 0
    offset = torch.full_like(camera[:, 0, 0], 0.5) if offset is None else offset
    contour = contour_of(seen)
    if lines is not None:
        ranks = pad(contour.rank[:, size - 1 :: size], (1, 0)).diff(dim=1)
        lines.copy_(torch.stack([ranks, seen.sum(2), (valid == 0).sum(2)], dim=1))
    place = contour.sampled(NUM_OBSERVED, offset)
    y = torch.div(place, size, rounding_mode="floor")
    points = torch.cat([torch.stack([place % size, y], dim=-1).float(), normals_at(seen, place)], dim=-1)
    d = torch.arange(-1, 2, device=mask.device)
    around = (place[..., None] + (d[:, None] * size + d).flatten()).clamp(0, size * size - 1).flatten(1)
    known = (valid.flatten(1).gather(1, around) > 0).reshape(*place.shape, 9).all(-1)
    there = contour.count[:, None] > 0
    return SilhouetteObservation(
        mask=mask, valid=valid, signed_distance=signed_distance(seen), contour=points * there[..., None],
        contour_valid=(known & there).float(), camera=camera, mesh_index=mesh_index,
    )  # fmt: skip
