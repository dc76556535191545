# SPDX-License-Identifier: Apache-2.0
"""The 8x8 DCT of JPEG and its quantisation cells, in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from .jpeg import BLOCK


@lru_cache(maxsize=8)
def dct_basis(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Orthonormal type-II DCT of an 8x8 block as a matrix (64, 64): coefficients = basis @ pixels, row by row."""
    k = torch.arange(BLOCK, dtype=torch.float64)
    one = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    one[0] /= math.sqrt(2)
    return torch.kron(one, one).to(device, dtype)


def blocks(planes: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 64, H/8, W/8): the pixels of each block, row by row, in channels-last memory."""
    batch, _, height, width = planes.shape
    pixels = planes.reshape(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3)
    return pixels.reshape(batch, height // BLOCK, width // BLOCK, BLOCK * BLOCK).permute(0, 3, 1, 2)


def unblocks(pixels: Tensor) -> Tensor:
    """The inverse of :func:`blocks`."""
    batch, _, rows, columns = pixels.shape
    cells = pixels.permute(0, 2, 3, 1).reshape(batch, rows, columns, BLOCK, BLOCK).transpose(2, 3)
    return cells.reshape(batch, 1, rows * BLOCK, columns * BLOCK)


def by_block(values: Tensor) -> Tensor:
    """(B, 64, H/8, W/8) -> (B, N, 64): a row per block, N = H/8 W/8; a view where memory is channels-last."""
    return values.permute(0, 2, 3, 1).flatten(1, 2)


def chosen_blocks(planes: Tensor, batch: Tensor, number: Tensor) -> Tensor:
    """The pixels (N, 64) of single blocks of (B, 1, H, W), each by its place in the batch and its number there."""
    columns = planes.shape[3] // BLOCK
    cells = planes[:, 0].unflatten(2, (columns, BLOCK)).unflatten(1, (-1, BLOCK)).transpose(2, 3)
    return cells[batch, number // columns, number % columns].flatten(1)


def dct(planes: Tensor) -> Tensor:
    """Coefficients (B, 64, H/8, W/8) of planes (B, 1, H, W) in [0, 1], in JPEG's units (level shift 128)."""
    pixels = (blocks(planes) * 255.0).sub_(128.0).permute(0, 2, 3, 1)
    return functional.linear(pixels, dct_basis(planes.device, planes.dtype)).permute(0, 3, 1, 2)


def inverse_dct(coefficients: Tensor) -> Tensor:
    """The inverse of :func:`dct`: (B, 64, H/8, W/8) -> (B, 1, H, W), not clipped."""
    pixels = coefficients.permute(0, 2, 3, 1) @ dct_basis(coefficients.device, coefficients.dtype)
    return unblocks((pixels.permute(0, 3, 1, 2) + 128.0) / 255.0)


def quantise(planes: Tensor, tables: Tensor) -> Tensor:
    """Quantised coefficients (B, 64, H/8, W/8), whole numbers, of planes (B, 1, H, W) with tables (B, 64)."""
    return dct(planes).div_(tables[:, :, None, None].to(planes.dtype)).round_()


@dataclass(frozen=True)
class JpegObservation:
    """Decoded planes, and the quantised coefficients and tables that they came from.

    Attributes:
        planes: (B, 1, H, W) in [0, 1]; H and W are multiples of 8, aligned to the blocks.
        tables: (B, 64) quantisation steps, row by row.
        levels: (B, 64, H/8, W/8) quantised coefficients, whole numbers.
    """

    planes: Tensor
    tables: Tensor
    levels: Tensor

    @staticmethod
    def from_planes(planes: Tensor, tables: Tensor) -> JpegObservation:
        """Levels recovered from decoded planes: right but where a step is below 3 or pixels were clipped."""
        return JpegObservation(planes, tables, quantise(planes, tables))

    def __getitem__(self, index: Tensor) -> JpegObservation:
        return JpegObservation(self.planes[index], self.tables[index], self.levels[index])

    def __len__(self) -> int:
        return len(self.planes)

    def to(self, device: torch.device | str) -> JpegObservation:
        """The same on another device."""
        return JpegObservation(self.planes.to(device), self.tables.to(device), self.levels.to(device))
