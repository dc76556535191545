# SPDX-License-Identifier: Apache-2.0
"""Making an estimate explain a JPEG exactly: its coefficients are moved into the observed quantisation cells.

A level k with step q says that the coefficient of the unknown picture lies in ``[(k - 1/2) q, (k + 1/2) q]``. The cells
are a convex set with the picture inside, so that the nearest point of the set is never farther from the picture than
the estimate was. Rounding to 8 bit may leave a cell again; blocks where it does are projected into smaller cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .jpeg_dct import JpegObservation, blocks, dct_basis, unblocks

# What is tried for a block until it agrees: the margin kept from the walls of the cells, in units of a coefficient, and
# how often projection into the cells and clipping to [0, 255] take turns (they lead to a point that is in both).
ATTEMPTS = ((0.3, 1), (0.8, 3), (0.8, 12), (1.5, 12), (2.5, 12))
LIBJPEG_ERROR = 0.2  # of its integer DCT, in the same unit
MOST_OF_CELL = 0.49  # but never more than this part of a step


@dataclass(frozen=True)
class Consistency:
    """Planes in 8 bit, and how well they explain the observation.

    Attributes:
        planes: (B, 1, H, W) multiples of 1/255 in [0, 1].
        agreement: (B,) fraction of coefficients that quantise to the observed level.
    """

    planes: Tensor
    agreement: Tensor


def _misses(pixels: Tensor, levels: Tensor, steps: Tensor, tolerance: float) -> Tensor:
    """Which coefficients lie outside of their cells, or nearer to the walls than ``tolerance``."""
    basis = dct_basis(pixels.device, pixels.dtype)
    off = (basis @ (pixels - 128.0) - levels * steps).abs()
    return off > steps * 0.5 - torch.clamp(steps * 0.2, max=tolerance)


def _projected(pixels: Tensor, levels: Tensor, steps: Tensor, margin: float) -> Tensor:
    basis = dct_basis(pixels.device, pixels.dtype)
    coefficients = basis @ (pixels - 128.0)
    middle = levels * steps
    room = steps * 0.5 - torch.clamp(steps * MOST_OF_CELL, max=margin)
    return basis.T @ torch.clamp(coefficients, middle - room, middle + room) + 128.0


def project(planes: Tensor, observation: JpegObservation, margin: float = 0.0) -> Tensor:
    """The nearest planes whose coefficients lie in the observed cells, (B, 1, H, W), not rounded and not clipped.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
        margin: kept from the walls of the cells, in units of a coefficient.
    """
    pixels = blocks(planes * 255.0)
    levels = observation.levels.flatten(2)
    moved = _projected(pixels.flatten(2), levels, observation.tables[:, :, None], margin)
    return unblocks(moved.reshape(pixels.shape) / 255.0)


def agreement(planes: Tensor, observation: JpegObservation) -> Tensor:
    """(B,) fraction of coefficients of planes (B, 1, H, W), rounded to 8 bit, that quantise to the observed level."""
    pixels = blocks(planes * 255.0).round().clamp(0.0, 255.0)
    misses = _misses(pixels.flatten(2), observation.levels.flatten(2), observation.tables[:, :, None], 0.0)
    return 1.0 - misses.flatten(1).float().mean(1)


def make_consistent(planes: Tensor, observation: JpegObservation) -> Consistency:
    """8-bit planes near ``planes`` that encode to the observed coefficients wherever that can be reached.

    Blocks that cannot be made to agree, because steps are finer than the rounding to 8 bit, keep the best found.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
    """
    folded = blocks(planes * 255.0)
    batch, _, rows, columns = folded.shape

    def by_block(x: Tensor) -> Tensor:
        return x.permute(1, 0, 2, 3).reshape(64, -1)

    steps = by_block(observation.tables[:, :, None, None].expand(batch, 64, rows, columns))
    levels = by_block(observation.levels)
    wanted = by_block(folded)
    # To start with: the decoded picture itself, which nearly always encodes to what it came from.
    best = by_block(blocks(observation.planes * 255.0)).round()
    wrong = _misses(best, levels, steps, LIBJPEG_ERROR).sum(0)
    left = torch.arange(wanted.shape[1], device=wanted.device)
    for margin, turns in ATTEMPTS:
        trial = wanted[:, left]
        for _ in range(turns):
            trial = _projected(trial, levels[:, left], steps[:, left], margin).clamp(0.0, 255.0)
        trial = trial.round()
        misses = _misses(trial, levels[:, left], steps[:, left], LIBJPEG_ERROR).sum(0)
        good = (misses == 0) | (misses < wrong[left])
        best[:, left[good]], wrong[left[good]] = trial[:, good], misses[good]
        left = left[misses > 0]
        if len(left) == 0:
            break
    pixels = best.reshape(64, batch, rows, columns).permute(1, 0, 2, 3)
    made = unblocks(pixels.contiguous()) / 255.0
    return Consistency(made, agreement(made, observation))
