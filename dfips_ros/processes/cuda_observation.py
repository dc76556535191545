# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that prepare observed masks: contour points with normals, exact signed distances, and moments.

What ``device_observation.observe`` does with some ninety operations of PyTorch, in six launches.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_contour import central, edges, image_sums, outline
from .observation import NUM_OBSERVED, SilhouetteObservation

_ROWS, _COLUMNS = 16, 64
_FAR = tl.constexpr(1e6)  # squared pixels, where a row has no pixel to measure to
_LANES = 128


@triton.jit
def _along_rows(mask, squares, size, rest, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Squared distance along the row to the nearest pixel of the object, and to the nearest one beside it."""
    image = tl.program_id(0).to(tl.int64) * size * size
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    to_object = tl.full([ROWS, COLUMNS], _FAR, tl.float32)
    to_rest = tl.full([ROWS, COLUMNS], _FAR, tl.float32)
    for k in range(size):
        seen = (tl.load(mask + image + y * size + k, mask=y < size, other=0) > 0)[:, None]
        d = (x - k).to(tl.float32)[None, :]
        to_object = tl.where(seen, tl.minimum(to_object, d * d), to_object)
        to_rest = tl.where(seen, to_rest, tl.minimum(to_rest, d * d))
    inside = (y < size)[:, None] & (x < size)[None, :]
    place = squares + image + y[:, None] * size + x[None, :]
    tl.store(place, to_object, mask=inside)
    tl.store(place + rest, to_rest, mask=inside)


@triton.jit
def _along_columns(mask, squares, out, size, rest, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """``min_k squares[k, x] + (y - k)^2``, the second half of an exact distance transform, of both; signed."""
    image = tl.program_id(0).to(tl.int64) * size * size
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    to_object = tl.full([ROWS, COLUMNS], 1e12, tl.float32)
    to_rest = tl.full([ROWS, COLUMNS], 1e12, tl.float32)
    for k in range(size):
        place = squares + image + k * size + x
        d = (y - k).to(tl.float32)
        square = (d * d)[:, None]
        to_object = tl.minimum(to_object, tl.load(place, mask=x < size, other=1e12)[None, :] + square)
        to_rest = tl.minimum(to_rest, tl.load(place + rest, mask=x < size, other=1e12)[None, :] + square)
    inside = (y < size)[:, None] & (x < size)[None, :]
    place = image + y[:, None] * size + x[None, :]
    half = tl.where(tl.load(mask + place, mask=inside, other=0) > 0, 0.5, -0.5)
    tl.store(out + place, tl.sqrt(to_object) - tl.sqrt(to_rest) + half, mask=inside)


def signed_distances(mask: Tensor) -> Tensor:
    """Signed distance to the contours of masks (B, S, S) uint8, see ``device_observation.signed_distance``."""
    mask = mask.contiguous()
    count, size, _ = mask.shape
    squares = torch.empty((2, count, size, size), device=mask.device)
    out = torch.empty_like(squares[0])
    grid = (count, triton.cdiv(size, _ROWS), triton.cdiv(size, _COLUMNS))
    rest = count * size * size
    _along_rows[grid](mask, squares, size, rest, ROWS=_ROWS, COLUMNS=_COLUMNS)
    _along_columns[grid](mask, squares, out, size, rest, ROWS=_ROWS, COLUMNS=_COLUMNS)
    return out


@triton.jit
def _counts(mask, row_counts, size, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    _, edge = edges(mask, b * size * size, tl.arange(0, WIDTH)[None, :], rows[:, None], size)
    tl.store(row_counts + b * size + rows, tl.sum(edge.to(tl.int32), axis=1), mask=rows < size)


@triton.jit
def _sample(
    places, normals, row_counts, valid, offset, contour, contour_valid, size, most,
    WANTED: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    every = tl.arange(0, WIDTH)
    count = tl.minimum(tl.sum(tl.load(row_counts + b * size + every, mask=every < size, other=0), axis=0), most)
    i = tl.arange(0, LANES)
    lane = i < WANTED
    there = tl.where(count > 0, i, WANTED) < WANTED
    j = tl.minimum(((i + tl.load(offset + b)) * count / WANTED).to(tl.int32), count - 1)
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


def observed_contours(mask: Tensor, valid: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spaced contour points of observed masks.

    A contour may have a quarter as many pixels as the image has; what is beyond is left out.

    Args:
        mask: (B, S, S) uint8.
        valid: (B, S, S) uint8, 0 where nothing is known.
        offset: (B,) float32 in [0, 1), where the sampling starts.

    Returns:
        Points and normals (B, NUM_OBSERVED, 4), and (B, NUM_OBSERVED) 1 where all is known around, float32.
    """
    count, size, _ = mask.shape
    seen = mask.to(torch.float32)
    row_counts = torch.empty((count, size), device=mask.device, dtype=torch.int32)
    width = triton.next_power_of_2(size)
    _counts[(count, triton.cdiv(size, 8))](seen, row_counts, size, ROWS=8, WIDTH=width)
    places, normals = outline(seen, row_counts)
    contour = torch.empty((count, NUM_OBSERVED, 4), device=mask.device)
    contour_valid = torch.empty((count, NUM_OBSERVED), device=mask.device)
    _sample[(count,)](
        places, normals, row_counts, valid.contiguous(), offset, contour, contour_valid, size, places.shape[1],
        WANTED=NUM_OBSERVED, LANES=_LANES, WIDTH=width,
    )  # fmt: skip
    return contour, contour_valid


@triton.jit
def _moments(sums, out, size):
    b = tl.program_id(0).to(tl.int64)
    area, u, v, uu, vv, uv = central(sums + b * 9, size)
    tl.store(out + b * 6, area)
    tl.store(out + b * 6 + 1, u)
    tl.store(out + b * 6 + 2, v)
    tl.store(out + b * 6 + 3, uu)
    tl.store(out + b * 6 + 4, vv)
    tl.store(out + b * 6 + 5, uv)


def observed_moments(observation: SilhouetteObservation) -> Tensor:
    """``device_contour.central_moments`` (B, 6) of the known part of the observed masks."""
    seen = observation.mask.to(torch.float32)
    sums, _ = image_sums(seen, observation)
    out = torch.empty((len(seen), 6), device=seen.device)
    _moments[(len(seen),)](sums, out, seen.shape[-1])
    return out
