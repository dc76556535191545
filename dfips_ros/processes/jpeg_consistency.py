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
from torch.nn import functional

from .jpeg import BLOCK
from .jpeg_dct import JpegObservation, blocks, by_block, chosen_blocks, dct_basis, unblocks

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


def _from_middle(pixels: Tensor, middle: Tensor) -> Tensor:
    """How far the coefficients of blocks (..., 64) lie from the middles of their cells."""
    return functional.linear(pixels - 128.0, dct_basis(pixels.device, pixels.dtype)).sub_(middle)


def _beyond(pixels: Tensor, middle: Tensor, steps: Tensor, tolerance: float) -> Tensor:
    """How far the coefficients of blocks (..., 64) lie beyond walls that leave ``tolerance``; negative inside."""
    return _from_middle(pixels, middle).abs_().sub_(steps * 0.5 - torch.clamp(steps * 0.2, max=tolerance))


def _room(steps: Tensor, margin: float) -> Tensor:
    """How far a coefficient may lie from the middle of its cell."""
    return steps * 0.5 - torch.clamp(steps * MOST_OF_CELL, max=margin)


def _projected(pixels: Tensor, middle: Tensor, room: Tensor) -> Tensor:
    inside = torch.clamp(_from_middle(pixels, middle), -room, room).add_(middle)
    return (inside @ dct_basis(pixels.device, pixels.dtype)).add_(128.0)


def project(planes: Tensor, observation: JpegObservation, margin: float = 0.0) -> Tensor:
    """The nearest planes whose coefficients lie in the observed cells, (B, 1, H, W), not rounded and not clipped.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
        margin: kept from the walls of the cells, in units of a coefficient.
    """
    steps = observation.tables[:, None]
    middle = by_block(observation.levels) * steps
    moved = _projected(by_block(blocks(planes)) * 255.0, middle, _room(steps, margin))
    return _planes(moved, observation)


def _planes(pixels: Tensor, observation: JpegObservation) -> Tensor:
    """Blocks (B, N, 64) in grey levels -> planes (B, 1, H, W) in [0, 1]."""
    return unblocks(pixels.unflatten(1, observation.levels.shape[2:]).permute(0, 3, 1, 2)) / 255.0


def agreement(planes: Tensor, observation: JpegObservation) -> Tensor:
    """(B,) fraction of coefficients of planes (B, 1, H, W), rounded to 8 bit, that quantise to the observed level."""
    steps = observation.tables[:, None]
    pixels = (by_block(blocks(planes)) * 255.0).round_().clamp_(0.0, 255.0)
    beyond = _beyond(pixels, by_block(observation.levels) * steps, steps, 0.0)
    return 1.0 - (beyond > 0.0).flatten(1).float().mean(1)


def make_consistent(planes: Tensor, observation: JpegObservation) -> Consistency:
    """8-bit planes near ``planes`` that encode to the observed coefficients wherever that can be reached.

    Blocks that cannot be made to agree, because steps are finer than the rounding to 8 bit, keep the best found.

    Args:
        planes: (B, 1, H, W) in [0, 1].
        observation: of the same size.
    """
    steps = observation.tables[:, None]
    wanted, middle = by_block(blocks(planes)) * 255.0, by_block(observation.levels) * steps
    (margin, _), *further = ATTEMPTS
    best = _projected(wanted, middle, _room(steps, margin)).clamp_(0.0, 255.0).round_()
    left = (_beyond(best, middle, steps, LIBJPEG_ERROR).amax(2) > 0.0).nonzero(as_tuple=True)
    off = torch.zeros(best.shape[:2], device=best.device)  # coefficients of a block that disagree
    if len(left[0]):
        decoded = (chosen_blocks(observation.planes, *left) * 255.0).round_()
        cells = middle[left], observation.tables[left[0]]
        chosen = _retried(wanted[left], best[left], decoded, *cells, further)
        best[left] = chosen
        off[left] = (_beyond(chosen, *cells, 0.0) > 0.0).sum(1).float()
    return Consistency(_planes(best, observation), 1.0 - off.mean(1) / BLOCK**2)


def _retried(
    wanted: Tensor, tried: Tensor, decoded: Tensor, middle: Tensor, steps: Tensor, attempts: Sequence[tuple[float, int]]
) -> Tensor:
    """Blocks (N, 64) that the first attempt left wrong, made to agree as well as the further ones can.

    At worst they are as ``decoded``: the decoded picture nearly always encodes to what it came from.
    """
    best = decoded
    wrong = (_beyond(best, middle, steps, LIBJPEG_ERROR) > 0.0).sum(1)
    misses = (_beyond(tried, middle, steps, LIBJPEG_ERROR) > 0.0).sum(1)
    better = misses < wrong
    best[better], wrong[better] = tried[better], misses[better]
    left = torch.arange(len(wanted), device=wanted.device)
    for margin, turns in attempts:
        trial, own_middle, own_steps = wanted[left], middle[left], steps[left]
        room = _room(own_steps, margin)
        for _ in range(turns):
            trial = _projected(trial, own_middle, room).clamp_(0.0, 255.0)
        trial.round_()
        misses = (_beyond(trial, own_middle, own_steps, LIBJPEG_ERROR) > 0.0).sum(1)
        good = (misses == 0) | (misses < wrong[left])
        best[left[good]], wrong[left[good]] = trial[good], misses[good]
        left = left[misses > 0]
        if len(left) == 0:
            break
    return best
