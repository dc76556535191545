# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that look at masks: sums over their pixels, and their contours in raster order.

All sums are of whole numbers, so that the result does not depend on the order in which programs run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .observation import SilhouetteObservation

SUMS = 9  # of an image: contour, common and either pixels, then sums of 1, x, y, x^2, y^2, x y from its middle
_ROWS = 8  # image rows of one program
_PIXELS = 1024  # of one program that looks around


@triton.jit
def centered(area, x, y, xx, yy, xy, size):
    """Area, centroid and second central moments from sums over pixels, from the middle of the image."""
    area = area.to(tl.float32)
    n = tl.maximum(area, 1.0)
    mu, mv = x.to(tl.float32) / n, y.to(tl.float32) / n
    uu, vv, uv = xx.to(tl.float32) / n - mu * mu, yy.to(tl.float32) / n - mv * mv, xy.to(tl.float32) / n - mu * mv
    middle = tl.where(area > 0, (size // 2).to(tl.float32), 0.0)
    return area, mu + middle, mv + middle, uu, vv, uv


@triton.jit
def central(sums, size):
    """Area, centroid and second central moments of a mask from its sums; see ``device_contour.central_moments``."""
    return centered(
        tl.load(sums + 3), tl.load(sums + 4), tl.load(sums + 5), tl.load(sums + 6), tl.load(sums + 7),
        tl.load(sums + 8), size,
    )  # fmt: skip


@triton.jit
def edges(inverse, image, x, y, size):
    """Which pixels of an image are seen, and which of them have a background neighbour and are not at the border."""
    there = (x < size) & (y < size)
    k = image + y * size + x
    seen = tl.load(inverse + k, mask=there, other=0.0) > 0
    inner = there & (x > 0) & (y > 0) & (x < size - 1) & (y < size - 1)
    around = (tl.load(inverse + k - size, mask=inner, other=1.0) > 0) & (
        tl.load(inverse + k + size, mask=inner, other=1.0) > 0
    )
    around = around & (tl.load(inverse + k - 1, mask=inner, other=1.0) > 0)
    around = around & (tl.load(inverse + k + 1, mask=inner, other=1.0) > 0)
    return seen, seen & inner & (around == 0)


@triton.jit
def slot_of(b, observations, slots, SLOTS: tl.constexpr):
    """Where the b-th thing is kept, A for each observation: there, or among SLOTS = A + 1 beside the present one."""
    place = b
    if SLOTS > 0:
        n = b % observations
        place = (tl.load(slots + n) + 1 + b // observations) % SLOTS * observations + n
    return place


@triton.jit
def iou_of(sums):
    """IoU of one image from its sums."""
    return tl.load(sums + 1).to(tl.float32) / tl.maximum(tl.load(sums + 2).to(tl.float32), 1.0)


@triton.jit(do_not_specialize_on_alignment=["active", "slots", "sums", "row_counts"])
def _sums(
    inverse, mask, valid, active, slots, row_counts, sums, size, observations,
    EVERY: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    wanted = True
    if not EVERY:
        wanted = tl.load(active + b % observations) != 0
    if wanted:
        place = slot_of(b, observations, slots, SLOTS)
        image, observed = place * size * size, (b % observations) * size * size
        rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        x, y = tl.arange(0, WIDTH)[None, :], rows[:, None]
        there = (x < size) & (y < size)
        seen, edge = edges(inverse, image, x, y, size)
        counts = tl.sum(edge.to(tl.int32), axis=1)
        tl.store(row_counts + place * size + rows, counts, mask=rows < size)
        known = tl.load(valid + observed + y * size + x, mask=there, other=0) > 0
        other = tl.load(mask + observed + y * size + x, mask=there, other=0) > 0
        out = sums + b * 9
        tl.atomic_add(out, tl.sum(counts).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 1, tl.sum((seen & other & known).to(tl.int32)).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 2, tl.sum(((seen | other) & known).to(tl.int32)).to(tl.int64), sem="relaxed")
        n = (seen & known).to(tl.int32)
        u, v = x - size // 2, y - size // 2
        tl.atomic_add(out + 3, tl.sum(n).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 4, tl.sum(n * u).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 5, tl.sum(n * v).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 6, tl.sum(n * u * u).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 7, tl.sum(n * v * v).to(tl.int64), sem="relaxed")
        tl.atomic_add(out + 8, tl.sum(n * u * v).to(tl.int64), sem="relaxed")


def image_sums(
    inverse: Tensor, observation: SilhouetteObservation, sums: Tensor | None = None, row_counts: Tensor | None = None,
    kept: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Numbers that describe simulated masks, and how they overlap with the observed ones.

    Args:
        inverse: (A * B, S, S) inverse depth, A images for each of the B observations, the observation last.
        observation: B observations.
        sums: (A * B, SUMS) int64 zeros to be filled; made by default.
        row_counts: (A * B, S) int32 to be filled; made by default.
        kept: where there are A + 1 images and rows of counts, one of them the present one: which of the observations
            are looked at (B,) int32, and which image is the present one (B,) int32.

    Returns:
        (A * B, SUMS) int64 and the contour pixels in each row (A * B, S) int32.
    """
    count, size, _ = inverse.shape
    slots, images = 0, count
    if kept is not None:
        slots, images = count // len(observation), count - len(observation)
    if sums is None:
        sums = torch.zeros((images, SUMS), device=inverse.device, dtype=torch.int64)
    if row_counts is None:
        row_counts = torch.empty((count, size), device=inverse.device, dtype=torch.int32)
    active, present = kept or (sums, sums)
    _sums[(images, triton.cdiv(size, _ROWS))](
        inverse, observation.mask, observation.valid, active, present, row_counts, sums, size, len(observation),
        EVERY=kept is None, SLOTS=slots, ROWS=_ROWS, WIDTH=triton.next_power_of_2(size),
    )  # fmt: skip
    return sums, row_counts


def overlap(sums: Tensor) -> Tensor:
    """IoU (B,) float32 from the sums (B, SUMS)."""
    return sums[:, 1] / sums[:, 2].clamp_min(1)


@triton.jit
def traced(
    inverse, image, row_counts, places, normals, rows, size, most, NORMALS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """List the contour pixels of some rows of an image, and their outward normals if wanted."""
    x, y = tl.arange(0, WIDTH)[None, :], rows[:, None]
    every = tl.arange(0, WIDTH)
    counts = tl.load(row_counts + every, mask=every < size, other=0)
    above = tl.sum(tl.where(every[None, :] < y, counts[None, :], 0), axis=1)
    _, edge = edges(inverse, image, x, y, size)
    n = edge.to(tl.int32)
    j = above[:, None] + tl.cumsum(n, axis=1) - n
    keep = edge & (j < most)
    tl.store(places + j, (y * size + x).to(tl.int32), mask=keep)
    if NORMALS:
        nx = tl.zeros_like(n).to(tl.float32)
        ny = tl.zeros_like(n).to(tl.float32)
        for dy in tl.static_range(-2, 3):
            for dx in tl.static_range(-2, 3):
                v = tl.minimum(tl.maximum(y + dy, 0), size - 1)
                u = tl.minimum(tl.maximum(x + dx, 0), size - 1)
                inside = tl.load(inverse + image + v * size + u, mask=keep, other=0.0) > 0
                nx -= tl.where(inside, dx * 1.0, 0.0)
                ny -= tl.where(inside, dy * 1.0, 0.0)
        length = tl.sqrt(nx * nx + ny * ny)
        scale = tl.where(length < 1e-6, 0.0, 1.0 / tl.maximum(length, 1e-6))
        tl.store(normals + j * 2, nx * scale, mask=keep)
        tl.store(normals + j * 2 + 1, ny * scale, mask=keep)


@triton.jit
def _outline(inverse, row_counts, places, normals, size, most, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    counts = row_counts + b * size
    traced(inverse, b * size * size, counts, places + b * most, normals + b * most * 2, rows, size, most, True, WIDTH)


def outline(inverse: Tensor, row_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Contour pixels in raster order, and their outward normals.

    A contour may have a quarter as many pixels as the image has; what is beyond is left out.

    Args:
        inverse: (B, S, S).
        row_counts: (B, S) from :func:`image_sums`.

    Returns:
        (B, S * S / 4) int32 flat places and (B, S * S / 4, 2) float32 normals, not filled beyond the count.
    """
    count, size, _ = inverse.shape
    most = size * size // 4
    places = torch.empty((count, most), device=inverse.device, dtype=torch.int32)
    normals = torch.empty((count, most, 2), device=inverse.device)
    width = triton.next_power_of_2(size)
    rows = max(1, _PIXELS // width)
    _outline[(count, triton.cdiv(size, rows))](
        inverse, row_counts, places, normals, size, most, ROWS=rows, WIDTH=width
    )  # fmt: skip
    return places, normals
