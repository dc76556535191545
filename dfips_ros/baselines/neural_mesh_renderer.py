# SPDX-License-Identifier: Apache-2.0
"""NMR pose descent: a hard raster forward, blurred edges backward (Kato et al., "Neural 3D Mesh Renderer", CVPR 2018).

The silhouette S is that of any renderer, so its true gradient is zero. Where a vertex has to move by d for an edge of
its triangle to reach the center of pixel j, and S_j then steps by D, the step is replaced by a ramp: dS_j/dx = D / d
(their equations 1 to 3, the sum of both sides for a pixel inside). A pixel that the loss would rather leave as it is
sends nothing: only steps with D dL/dS_j < 0 count (their equation 4). As in the authors' code, an edge counts in an
image row only where its triangle is the one that is seen beside it, and d is lengthened by a small number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import check_range
from .silhouette_descent import DescentConfig, SilhouetteDescent

_SLACK = 1e-6  # of barycentric coordinates, so that neighbours leave no crack between them


@dataclass(frozen=True)
class NeuralMeshConfig(DescentConfig):
    """Settings of the descent.

    Attributes:
        shortest: added to the way d of a vertex, normalised image units (the image spans [-1, 1]).
    """

    shortest: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("shortest", self.shortest, 0.0, 1.0)


def visible_faces(corners: Tensor, inverse_depth: Tensor, size: int) -> Tensor:
    """Which triangle each pixel shows: the nearest one that covers its center.

    Args:
        corners: (F, 3, 2) in normalised image coordinates, [-1, 1] across the image.
        inverse_depth: (F, 3) of the corners.
        size: side of the image, pixels.

    Returns:
        (size, size) int64, -1 where nothing is seen; [row, column].
    """
    pixels = (corners + 1.0) * (0.5 * size) - 0.5  # a pixel's center is a whole number
    low = pixels.amin(1).ceil().clamp_min(0)
    extent = (pixels.amax(1).floor().clamp_max(size - 1) - low + 1).clamp_min(0).long()
    counts = extent[:, 0] * extent[:, 1]
    face = torch.arange(len(corners), device=corners.device).repeat_interleave(counts)
    offset = torch.arange(len(face), device=corners.device) - (counts.cumsum(0) - counts)[face]
    x = low[face, 0] + offset % extent[face, 0]
    y = low[face, 1] + torch.div(offset, extent[face, 0], rounding_mode="floor")
    a, b, c = pixels[face].unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    scale = torch.where(area == 0, torch.full_like(area, float("nan")), 1.0 / area)
    w0 = ((x - c[:, 0]) * (b[:, 1] - c[:, 1]) + (y - c[:, 1]) * (c[:, 0] - b[:, 0])) * scale
    w1 = ((x - c[:, 0]) * (c[:, 1] - a[:, 1]) + (y - c[:, 1]) * (a[:, 0] - c[:, 0])) * scale
    w2 = 1.0 - w0 - w1
    hit = (w0 >= -_SLACK) & (w1 >= -_SLACK) & (w2 >= -_SLACK)
    face, at = face[hit], (y.long() * size + x.long())[hit]
    nearness = (torch.stack([w0, w1, w2], dim=1)[hit] * inverse_depth[face]).sum(1)
    nearest = nearness.new_zeros(size * size).scatter_reduce(0, at, nearness, reduce="amax")
    front = nearness == nearest[at]
    shown = torch.full((size * size,), -1, dtype=torch.long, device=corners.device)
    return shown.scatter_reduce(0, at[front], face[front], reduce="amax").reshape(size, size)


def _slopes_along_rows(corners: Tensor, shown: Tensor, gradient: Tensor, shortest: float) -> Tensor:
    """dL/dx of every corner by the blurred edges.

    Args:
        corners: (F, 3, 2), x first.
        shown: (S, S) visible triangle of [row, column].
        gradient: (S, S) dL/dS.
        shortest: see :class:`NeuralMeshConfig`.

    Returns:
        (F, 3).
    """
    size, device = len(shown), corners.device
    step = 2.0 / size
    start, end, third = (corners.roll(-k, dims=1).reshape(-1, 2) for k in range(3))  # (3 F, x y): an edge per corner
    pixels = (torch.stack([start[:, 1], end[:, 1]]) + 1.0) / step - 0.5
    first = pixels.amin(0).ceil().clamp_min(0)
    counts = (pixels.amax(0).floor().clamp_max(size - 1) - first + 1).clamp_min(0).long()
    counts = torch.where(start[:, 1] == end[:, 1], torch.zeros_like(counts), counts)
    edge = torch.arange(len(start), device=device).repeat_interleave(counts)
    row = first[edge].long() + torch.arange(len(edge), device=device) - (counts.cumsum(0) - counts)[edge]
    p, q, r = start[edge], end[edge], third[edge]
    slant = (q[:, 0] - p[:, 0]) / (q[:, 1] - p[:, 1])
    share = ((row + 0.5) * step - 1.0 - p[:, 1]) / (q[:, 1] - p[:, 1])  # of the edge's end; its start has 1 - share
    crossing = p[:, 0] + share * (q[:, 0] - p[:, 0])
    inward = torch.sign(r[:, 0] - p[:, 0] - slant * (r[:, 1] - p[:, 1]))  # +1: the triangle lies to the right
    column = (crossing + 1.0) / step - 0.5
    inner = torch.where(inward > 0, column.ceil(), column.floor()).long()
    outer = inner - inward.long()
    face = torch.div(edge, 3, rounding_mode="floor")
    in_image = (inner >= 0) & (inner < size) & (inward != 0)
    keep = in_image & (shown[row, inner.clamp(0, size - 1)] == face)
    edge, row, share, crossing, inward, outer, face = (
        part[keep] for part in (edge, row, share, crossing, inward, outer, face)
    )
    beside = (outer >= 0) & (outer < size) & (shown[row, outer.clamp(0, size - 1)] >= 0)  # covered beyond the edge
    columns = torch.arange(size, device=device)
    way = ((columns + 0.5) * step - 1.0)[None] - crossing[:, None]  # of the crossing to each pixel of the row
    outside = (columns - outer[:, None]) * inward[:, None] <= 0
    covered = shown[row] >= 0
    change = torch.where(outside, (~covered).to(gradient), -(shown[row] == face[:, None]).to(gradient))
    change = torch.where(outside | ~beside[:, None], change, torch.zeros_like(change))
    wanted = change * gradient[row]
    wanted = torch.where(wanted < 0, wanted, torch.zeros_like(wanted))
    lengthened = torch.where(way >= 0, shortest, -shortest)
    out = corners.new_zeros(corners.shape[0] * 3)
    ends = torch.div(edge, 3, rounding_mode="floor") * 3 + (edge + 1) % 3
    for corner, weight in ((edge, 1.0 - share), (ends, share)):
        # A corner of weight w moves the crossing by w times its own way: d = way / w.
        denominator = way + lengthened * weight[:, None]
        slope = wanted * weight[:, None] / torch.where(denominator == 0, torch.ones_like(way), denominator)
        out.index_add_(0, corner, torch.where(denominator == 0, torch.zeros_like(slope), slope).sum(1))
    return out.reshape(-1, 3)


class _HardSilhouette(torch.autograd.Function):
    """Hard forward, blurred backward."""

    @staticmethod
    def forward(ctx: Any, corners: Tensor, inverse_depth: Tensor, size: int, shortest: float) -> Tensor:  # noqa: D102
        shown = visible_faces(corners, inverse_depth, size)
        ctx.save_for_backward(corners, shown)
        ctx.shortest = shortest
        return (shown >= 0).to(corners)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]  # noqa: D102
        corners, shown = ctx.saved_tensors
        along_x = _slopes_along_rows(corners, shown, gradient, ctx.shortest)
        along_y = _slopes_along_rows(corners.flip(-1), shown.T, gradient.T, ctx.shortest)
        return torch.stack([along_x, along_y], dim=-1), None, None, None


def hard_silhouette(corners: Tensor, inverse_depth: Tensor, size: int, shortest: float = 1e-3) -> Tensor:
    """Silhouette of projected triangles, on the CPU or a CUDA device.

    Args:
        corners: (F, 3, 2) in normalised image coordinates, [-1, 1] across the image.
        inverse_depth: (F, 3) of the corners, positive; no gradient flows to it.
        size: side of the image, pixels.
        shortest: see :class:`NeuralMeshConfig`.

    Returns:
        (size, size) of 0 and 1; its gradient with respect to ``corners`` is that of the blurred edges.
    """
    return _HardSilhouette.apply(corners, inverse_depth.detach(), size, shortest)


class NeuralMeshDescent(SilhouetteDescent):
    """Pose by descent along NMR's gradient; an ``Estimator`` of batches of (mask, camera).

    Args:
        vertices: (V, 3) of the object, centered, of diameter one.
        faces: (F, 3); about a thousand are enough.
        config: see :class:`NeuralMeshConfig`.
    """

    def __init__(self, vertices: Tensor, faces: Tensor, config: NeuralMeshConfig | None = None) -> None:
        self.config = config or NeuralMeshConfig()
        super().__init__(vertices, faces, self.config)

    def silhouette(self, corners: Tensor, inverse_depth: Tensor, progress: float) -> Tensor:
        """The same hard image at every step."""
        return hard_silhouette(corners, inverse_depth, self.config.size, self.config.shortest)
