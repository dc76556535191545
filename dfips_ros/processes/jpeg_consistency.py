# SPDX-License-Identifier: Apache-2.0
"""Making an estimate explain a JPEG exactly: its coefficients are moved into the observed quantisation cells.

A level k with step q says that the coefficient of the unknown picture lies in ``[(k - 1/2) q, (k + 1/2) q]``. The cells
are a convex set with the picture inside, so that the nearest point of the set is never farther from the picture than
the estimate was. Rounding to 8 bit may leave a cell again; blocks where it does are projected into smaller cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .jpeg import BLOCK
from .jpeg_dct import JpegObservation, blocks, by_block, dct_basis, unblocks

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
    """Which coefficients of blocks (..., 64) lie outside of their cells, or nearer to the walls than ``tolerance``."""
    basis = dct_basis(pixels.device, pixels.dtype)
    off = ((pixels - 128.0) @ basis.T).sub_(levels * steps).abs_()
    return off > steps * 0.5 - torch.clamp(steps * 0.2, max=tolerance)


def _projected(pixels: Tensor, levels: Tensor, steps: Tensor, margin: float) -> Tensor:
    basis = dct_basis(pixels.device, pixels.dtype)
    coefficients = (pixels - 128.0) @ basis.T
    middle = levels * steps
    room = steps * 0.5 - torch.clamp(steps * MOST_OF_CELL, max=margin)
    return torch.clamp(coefficients, middle - room, middle + room) @ basis + 128.0


def project(planes: Tensor, observation: JpegObservation, margin: float = 0.0) -> Tensor:
    """The nearest planes whose coefficients lie in the observed cells, (B, 1, H, W), not rounded and not clipped.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
        margin: kept from the walls of the cells, in units of a coefficient.
    """
    steps = observation.tables[:, None]
    moved = _projected(by_block(blocks(planes * 255.0)), by_block(observation.levels), steps, margin)
    return _planes(moved, observation)


def _planes(pixels: Tensor, observation: JpegObservation) -> Tensor:
    """Blocks (B, N, 64) in grey levels -> planes (B, 1, H, W) in [0, 1]."""
    return unblocks(pixels.unflatten(1, observation.levels.shape[2:]).permute(0, 3, 1, 2)) / 255.0


def agreement(planes: Tensor, observation: JpegObservation) -> Tensor:
    """(B,) fraction of coefficients of planes (B, 1, H, W), rounded to 8 bit, that quantise to the observed level."""
    pixels = by_block(blocks(planes * 255.0)).round().clamp(0.0, 255.0)
    misses = _misses(pixels, by_block(observation.levels), observation.tables[:, None], 0.0)
    return 1.0 - misses.flatten(1).float().mean(1)


def make_consistent(planes: Tensor, observation: JpegObservation) -> Consistency:
    """8-bit planes near ``planes`` that encode to the observed coefficients wherever that can be reached.

    Blocks that cannot be made to agree, because steps are finer than the rounding to 8 bit, keep the best found.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
    """
    wanted = by_block(blocks(planes * 255.0))
    levels, steps = by_block(observation.levels), observation.tables[:, None]
    (margin, _), *further = ATTEMPTS
    best = _projected(wanted, levels, steps, margin).clamp_(0.0, 255.0).round_()
    left = _misses(best, levels, steps, LIBJPEG_ERROR).any(2).nonzero(as_tuple=True)
    off = torch.zeros(best.shape[:2], device=best.device)  # coefficients of a block that disagree
    if len(left[0]):
        chosen = _retried(wanted[left], best[left], by_block(blocks(observation.planes * 255.0))[left].round(),
                          levels[left], observation.tables[left[0]], further)  # fmt: skip
        best[left] = chosen
        off[left] = _misses(chosen, levels[left], observation.tables[left[0]], 0.0).sum(1).float()
    return Consistency(_planes(best, observation), 1.0 - off.mean(1) / BLOCK**2)


def _retried(
    wanted: Tensor, tried: Tensor, decoded: Tensor, levels: Tensor, steps: Tensor, attempts: Sequence[tuple[float, int]]
) -> Tensor:
    """Blocks (N, 64) that the first attempt left wrong, made to agree as well as the further ones can.

    At worst they are as ``decoded``: the decoded picture nearly always encodes to what it came from.
    """
    best = decoded
    wrong = _misses(best, levels, steps, LIBJPEG_ERROR).sum(1)
    misses = _misses(tried, levels, steps, LIBJPEG_ERROR).sum(1)
    better = misses < wrong
    best[better], wrong[better] = tried[better], misses[better]
    left = torch.arange(len(wanted), device=wanted.device)
    for margin, turns in attempts:
        trial = wanted[left]
        for _ in range(turns):
            trial = _projected(trial, levels[left], steps[left], margin).clamp_(0.0, 255.0)
        trial = trial.round_()
        misses = _misses(trial, levels[left], steps[left], LIBJPEG_ERROR).sum(1)
        good = (misses == 0) | (misses < wrong[left])
        best[left[good]], wrong[left[good]] = trial[good], misses[good]
        left = left[misses > 0]
        if len(left) == 0:
            break
    return best
