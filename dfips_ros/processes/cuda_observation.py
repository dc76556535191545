# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that prepare observed masks: contour points with normals, exact signed distances, and moments.

What ``device_observation.observe`` does with some ninety operations of PyTorch, in three launches.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_silhouette import centered, edges, traced
from .observation import NUM_OBSERVED, SilhouetteObservation

_ROWS, _COLUMNS, _STEP = 8, 32, 8  # of one program, and rows that it looks at in one step
_FAR = tl.constexpr(1e6)  # squared pixels, where a row has no pixel to measure to
_LANES = 128
_MOMENTS = 4096  # pixels that are summed in one step


@triton.jit
def _most(a, b):
    return tl.maximum(a, b)


@triton.jit
def _least(a, b):
    return tl.minimum(a, b)


@triton.jit
def _square_along(seen, x):
    """Squared distance along the row to the nearest pixel that is seen."""
    before = tl.associative_scan(tl.where(seen, x, -_FAR), 1, _most)
    after = tl.associative_scan(tl.where(seen, x, _FAR), 1, _least, reverse=True)
    along = tl.minimum(x - before, after - x)
    return tl.minimum(along * along, _FAR)


@triton.jit
def _along_rows(mask, valid, squares, lines, size, rest, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """For some rows: squared distances along them to the object and to what is beside it, and counts of pixels."""
    b = tl.program_id(0).to(tl.int64)
    image = b * size * size
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x, y = tl.arange(0, WIDTH)[None, :], rows[:, None]
    inside = (y < size) & (x < size)
    seen, edge = edges(mask, image, x, y, size)
    place = image + y * size + x
    column = tl.zeros([ROWS, WIDTH], tl.float32) + x
    tl.store(squares + place, _square_along(seen, column), mask=inside)
    tl.store(squares + rest + place, _square_along(inside & (seen == 0), column), mask=inside)
    unknown = inside & (tl.load(valid + place, mask=inside, other=1) == 0)
    line = lines + b * 3 * size + rows
    tl.store(line, tl.sum(edge.to(tl.int32), axis=1), mask=rows < size)
    tl.store(line + size, tl.sum(seen.to(tl.int32), axis=1), mask=rows < size)
    tl.store(line + 2 * size, tl.sum(unknown.to(tl.int32), axis=1), mask=rows < size)


@triton.jit
def _along_columns(
    mask, squares, lines, out, places, normals, size, most, rest,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``min_k squares[k, x] + (y - k)^2``, the second half of an exact distance transform, of both; signed.

    The first program of some rows lists the pixels of the contour instead.
    """
    b = tl.program_id(0).to(tl.int64)
    image = b * size * size
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(2) == 0:
        traced(
            mask, image, lines + b * 3 * size, places + b * most, normals + b * most * 2, rows, size, most, True, WIDTH
        )  # fmt: skip
    else:
        x = (tl.program_id(2) - 1) * COLUMNS + tl.arange(0, COLUMNS)
        to_object = tl.full([ROWS, COLUMNS], 1e12, tl.float32)
        to_rest = tl.full([ROWS, COLUMNS], 1e12, tl.float32)
        for first in range(0, size, STEP):
            k = first + tl.arange(0, STEP)
            there = (k < size)[:, None] & (x < size)[None, :]
            place = squares + image + k[:, None] * size + x[None, :]
            d = (rows[None, :] - k[:, None]).to(tl.float32)
            square = (d * d)[:, :, None]
            near = tl.load(place, mask=there, other=1e12)[:, None, :] + square
            to_object = tl.minimum(to_object, tl.min(near, axis=0))
            near = tl.load(place + rest, mask=there, other=1e12)[:, None, :] + square
            to_rest = tl.minimum(to_rest, tl.min(near, axis=0))
        inside = (rows < size)[:, None] & (x < size)[None, :]
        place = image + rows[:, None] * size + x[None, :]
        half = tl.where(tl.load(mask + place, mask=inside, other=0) > 0, 0.5, -0.5)
        tl.store(out + place, tl.sqrt(to_object) - tl.sqrt(to_rest) + half, mask=inside)


def _surveyed(mask: Tensor, valid: Tensor, lines: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signed distances, counts in each row, and contour pixels with their normals, of masks (B, S, S) uint8."""
    (count, size, _), device = mask.shape, mask.device
    most, width, rest = size * size // 4, triton.next_power_of_2(size), count * size * size
    squares = torch.empty((2, count, size, size), device=device)
    distance = torch.empty((count, size, size), device=device)
    lines = torch.empty((count, 3, size), device=device, dtype=torch.int32) if lines is None else lines
    places = torch.empty((count, most), device=device, dtype=torch.int32)
    normals = torch.empty((count, most, 2), device=device)
    across, down = 1 + triton.cdiv(size, _COLUMNS), triton.cdiv(size, _ROWS)
    _along_rows[(count, down)](mask, valid, squares, lines, size, rest, ROWS=_ROWS, WIDTH=width)
    _along_columns[(count, down, across)](
        mask, squares, lines, distance, places, normals, size, most, rest, ROWS=_ROWS, COLUMNS=_COLUMNS, STEP=_STEP,
        WIDTH=width,
    )  # fmt: skip
    return distance, lines, places, normals


def signed_distances(mask: Tensor) -> Tensor:
    """Signed distance to the contours of masks (B, S, S) uint8, see ``device_observation.signed_distance``."""
    mask = mask.contiguous()
    return _surveyed(mask, mask)[0]


@triton.jit
def _sample(
    places, normals, lines, valid, offset, contour, contour_valid, size, most,
    DRAWN: tl.constexpr, WANTED: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    every = tl.arange(0, WIDTH)
    count = tl.minimum(tl.sum(tl.load(lines + b * 3 * size + every, mask=every < size, other=0), axis=0), most)
    i = tl.arange(0, LANES)
    lane = i < WANTED
    there = tl.where(count > 0, i, WANTED) < WANTED
    begin = 0.5
    if DRAWN:
        begin = tl.load(offset + b)
    j = tl.minimum(((i + begin) * count / WANTED).to(tl.int32), count - 1)
    place = tl.load(places + b * most + j, mask=there, other=0)
    y = place // size
    x = place - y * size
    known = there
    for dy in tl.static_range(-1, 2):
        for dx in tl.static_range(-1, 2):
            around = b * size * size + place + dy * size + dx  # a contour is never at the border
            known = known & (tl.load(valid + around, mask=there, other=0) > 0)
    out = contour + (b * WANTED + i) * 4
    normal = normals + (b * most + j) * 2
    tl.store(out, tl.where(there, x.to(tl.float32), 0.0), mask=lane)
    tl.store(out + 1, tl.where(there, y.to(tl.float32), 0.0), mask=lane)
    tl.store(out + 2, tl.load(normal, mask=there, other=0.0), mask=lane)
    tl.store(out + 3, tl.load(normal + 1, mask=there, other=0.0), mask=lane)
    tl.store(contour_valid + b * WANTED + i, known.to(tl.float32), mask=lane)


def observed(
    mask: Tensor, valid: Tensor, offset: Tensor | None, lines: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distances and evenly spaced contour points of observed masks.

    A contour may have a quarter as many pixels as the image has; what is beyond is left out.

    Args:
        mask: (B, S, S) uint8.
        valid: (B, S, S) uint8, 0 where nothing is known.
        offset: (B,) float32 in [0, 1), where the sampling starts; 0.5 by default.
        lines: (B, 3, S) int32 to be filled, see ``device_observation.observe``.

    Returns:
        Distances (B, S, S), points and normals (B, NUM_OBSERVED, 4), and (B, NUM_OBSERVED) 1 where all is known around.
    """
    count, size, _ = mask.shape
    distance, lines, places, normals = _surveyed(mask, valid, lines)
    contour = torch.empty((count, NUM_OBSERVED, 4), device=mask.device)
    contour_valid = torch.empty((count, NUM_OBSERVED), device=mask.device)
    _sample[(count,)](
        places, normals, lines, valid, places if offset is None else offset, contour, contour_valid, size,
        places.shape[1], DRAWN=offset is not None, WANTED=NUM_OBSERVED, LANES=_LANES,
        WIDTH=triton.next_power_of_2(size),
    )  # fmt: skip
    return distance, contour, contour_valid


@triton.jit
def _moments(mask, valid, out, size, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    image = b * size * size
    x = tl.arange(0, WIDTH)
    area = tl.zeros([WIDTH], tl.int32)
    along = tl.zeros([WIDTH], tl.int32)
    squares = tl.zeros([WIDTH], tl.int32)
    for first in range(0, size, ROWS):
        y = (first + tl.arange(0, ROWS))[:, None]
        place = image + y * size + x[None, :]
        inside = (y < size) & (x < size)[None, :]
        seen = tl.load(mask + place, mask=inside, other=0) > 0
        n = (seen & (tl.load(valid + place, mask=inside, other=0) > 0)).to(tl.int32)
        v = y - size // 2
        area += tl.sum(n, axis=0)
        along += tl.sum(n * v, axis=0)
        squares += tl.sum(n * v * v, axis=0)
    u = x - size // 2
    # Sums of 1, x, y, x^2, y^2 and x y from the middle.
    n, sx, sy = tl.sum(area, axis=0), tl.sum(area * u, axis=0), tl.sum(along, axis=0)
    sxx, sxy = tl.sum((area * u * u).to(tl.int64), axis=0), tl.sum((along * u).to(tl.int64), axis=0)
    syy = tl.sum(squares.to(tl.int64), axis=0)
    n, mu, mv, uu, vv, uv = centered(n, sx, sy, sxx, syy, sxy, size)
    tl.store(out + b * 6, n)
    tl.store(out + b * 6 + 1, mu)
    tl.store(out + b * 6 + 2, mv)
    tl.store(out + b * 6 + 3, uu)
    tl.store(out + b * 6 + 4, vv)
    tl.store(out + b * 6 + 5, uv)


def observed_moments(observation: SilhouetteObservation) -> Tensor:
    """``device_contour.central_moments`` (B, 6) of the known part of the observed masks."""
    count, size, _ = observation.mask.shape
    out = torch.empty((count, 6), device=observation.mask.device)
    width = triton.next_power_of_2(size)
    _moments[(count,)](
        observation.mask, observation.valid, out, size, ROWS=max(1, _MOMENTS // width), WIDTH=width, num_warps=8
    )
    return out
