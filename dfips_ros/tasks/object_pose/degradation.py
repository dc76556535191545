# SPDX-License-Identifier: Apache-2.0
"""What real segmentation masks look like: ragged edges, holes, occluders, missing parts. Seeded by the caller."""

from __future__ import annotations

import cv2
import numpy as np


def ragged_edges(mask: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Move the contour in and out by about ``strength`` pixels, smoothly along it. (H, W) uint8 -> (H, W) uint8."""
    inner = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    outer = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    cells = max(2, min(mask.shape) // int(rng.integers(6, 20)))
    noise = rng.normal(size=(cells, cells)).astype(np.float32)
    field = cv2.resize(noise, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return ((inner - outer + strength * field) > 0).astype(np.uint8)


def holes(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Cut ``count`` small ellipses out of the mask."""
    out = mask.copy()
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return out
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    for _ in range(count):
        i = int(rng.integers(len(rows)))
        axes = tuple(int(a) for a in np.maximum(rng.uniform(0.01, 0.06, 2) * extent, 1))
        cv2.ellipse(out, (int(columns[i]), int(rows[i])), axes, float(rng.uniform(0, 180)), 0, 360, 0, -1)
    return out


def occluder(mask: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A half-plane or an ellipse that hides about ``fraction`` of the mask's area. -> (H, W) bool."""
    rows, columns = np.nonzero(mask)
    hidden = np.zeros(mask.shape, bool)
    if len(rows) == 0 or fraction <= 0:
        return hidden
    v, u = np.mgrid[: mask.shape[0], : mask.shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    if rng.uniform() < 0.5:
        along = np.cos(angle) * u + np.sin(angle) * v
        limit = np.quantile(along[rows, columns], fraction)
        return along < limit
    i = int(rng.integers(len(rows)))
    stretch = rng.uniform(0.4, 1.0)
    du, dv = u - columns[i], v - rows[i]
    a, b = np.cos(angle) * du + np.sin(angle) * dv, -np.sin(angle) * du + np.cos(angle) * dv
    distance = np.sqrt(a * a + (b / stretch) ** 2)
    return distance < np.quantile(distance[rows, columns], fraction)


def degrade(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One random degradation, or several.

    Args:
        mask: (H, W) uint8 in {0, 1}.
        rng: where chance comes from.

    Returns:
        The degraded mask, and (H, W) uint8 that is 0 where nothing is known (beyond the image's border).
    """
    out, valid = mask, np.ones_like(mask)
    if rng.uniform() < 0.6:
        out = ragged_edges(out, rng.uniform(0.3, 2.5), rng)
    if rng.uniform() < 0.3:
        out = holes(out, int(rng.integers(1, 5)), rng)
    kind = rng.uniform()
    if kind < 0.45:
        hidden = occluder(mask, rng.uniform(0.03, 0.3), rng)
        out = out * (1 - hidden.astype(np.uint8))
    elif kind < 0.65:  # truncated by the image border: the hidden side is unknown, not empty
        beyond = occluder_half_plane(mask, rng.uniform(0.03, 0.3), rng)
        out = out * (1 - beyond)
        valid = 1 - beyond
    if out.sum() < 40:
        return mask, np.ones_like(mask)
    return out, valid


def occluder_half_plane(mask: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """An axis-parallel half-plane over about ``fraction`` of the mask's area. -> (H, W) uint8."""
    axis, flip = int(rng.integers(2)), rng.uniform() < 0.5
    index = np.nonzero(mask)[axis]
    beyond = np.zeros_like(mask)
    if len(index) == 0:
        return beyond
    cut = int(np.quantile(index, 1.0 - fraction if flip else fraction))
    where: list[slice] = [slice(None), slice(None)]
    where[axis] = slice(cut, None) if flip else slice(None, cut)
    beyond[tuple(where)] = 1
    return beyond
