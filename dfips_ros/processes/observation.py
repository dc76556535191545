# SPDX-License-Identifier: Apache-2.0
"""Observed silhouettes, prepared for comparison: signed distance and sampled contour points."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import cv2
import numba as nb
import numpy as np

from .rasterizer import parallel_lock

NUM_OBSERVED = 96
TensorOrArray: TypeAlias = Any


@dataclass(frozen=True)
class SilhouetteObservation:
    """A batch of observed silhouettes in the crop of a virtual camera: tensors, or numpy arrays for compiled code.

    Attributes:
        mask: (B, S, S) uint8, 1 on the object.
        valid: (B, S, S) uint8, 0 where the crop reaches beyond the image and nothing is known.
        signed_distance: (B, S, S) float32 pixels to the contour, positive outside.
        contour: (B, NUM_OBSERVED, 4) float32: u, v and the outward normal of sampled contour points.
        contour_valid: (B, NUM_OBSERVED) float32, 0 for points that the image border made.
        camera: (B, 3, 3) float32 pinhole matrix of the crop, square pixels.
        mesh_index: (B,) int64, which mesh is seen.
    """

    mask: TensorOrArray
    valid: TensorOrArray
    signed_distance: TensorOrArray
    contour: TensorOrArray
    contour_valid: TensorOrArray
    camera: TensorOrArray
    mesh_index: TensorOrArray

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, index: TensorOrArray) -> SilhouetteObservation:
        chosen = index if isinstance(self.mask, np.ndarray) else index.to(self.mask.device)
        return SilhouetteObservation(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def arrays(self) -> tuple[np.ndarray, ...]:
        """What compiled code reads: camera, mask, valid, signed distance, contour and its validity, without a copy."""
        parts = (self.camera, self.mask, self.valid, self.signed_distance, self.contour, self.contour_valid)
        return tuple(as_array(part) for part in parts)

    def tensors(self) -> SilhouetteObservation:
        """The same with tensors, on the CPU where it was in arrays, without a copy."""
        if not isinstance(self.mask, np.ndarray):
            return self
        import torch

        return SilhouetteObservation(**{f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)})


def as_array(value: TensorOrArray) -> np.ndarray:
    """An array, or the array that a tensor on the CPU shares its memory with."""
    array: np.ndarray = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
    return array


@nb.njit(cache=True, nogil=True)
def _signed(outside, inside, mask, out):
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            out[y, x] = outside[y, x] - inside[y, x] + (np.float32(mask[y, x]) - np.float32(0.5))


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Signed distance to the contour of one mask, zero midway between inner and outer pixels.

    Args:
        mask: (H, W) uint8 in {0, 1}.

    Returns:
        (H, W) float32 pixels, positive outside.
    """
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    out = np.empty(mask.shape, np.float32)
    _signed(outside, inside, mask, out)
    return out


@nb.njit(cache=True, nogil=True)
def boundary(mask, points):
    """Pixels of the object with a background neighbour, in raster order -> how many."""
    height, width = mask.shape
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if mask[y, x] > 0 and not (
                mask[y - 1, x] > 0 and mask[y + 1, x] > 0 and mask[y, x - 1] > 0 and mask[y, x + 1] > 0
            ):
                points[count, 0] = x
                points[count, 1] = y
                count += 1
    return count


@nb.njit(cache=True, nogil=True)
def mask_normal(mask, x, y):
    """Outward unit normal of a mask's contour at a pixel, from its 5x5 neighbourhood."""
    height, width = mask.shape
    nx = np.float32(0.0)
    ny = np.float32(0.0)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            v = min(max(y + dy, 0), height - 1)
            u = min(max(x + dx, 0), width - 1)
            if mask[v, u] > 0:
                nx -= dx
                ny -= dy
    length = math.sqrt(nx * nx + ny * ny)
    if length < 1e-6:
        return np.float32(0.0), np.float32(0.0)
    return np.float32(nx / length), np.float32(ny / length)


@nb.njit(cache=True, nogil=True)
def _observe_one(mask, valid, offset, contour, contour_valid):
    height, width = mask.shape
    points = np.empty((height * width, 2), np.int32)
    count = boundary(mask, points)
    wanted = contour.shape[0]
    for i in range(wanted):
        if count == 0:
            contour[i, :] = 0.0
            contour_valid[i] = 0.0
            continue
        j = min(int((i + offset) * count / wanted), count - 1)
        x, y = points[j, 0], points[j, 1]
        contour[i, 0] = x
        contour[i, 1] = y
        contour[i, 2], contour[i, 3] = mask_normal(mask, x, y)
        known = True
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                known = known and valid[y + dy, x + dx] > 0
        contour_valid[i] = 1.0 if known else 0.0


@nb.njit(cache=True, nogil=True, parallel=True)
def _observe_batch(mask, valid, offset, contour, contour_valid):
    for b in nb.prange(mask.shape[0]):
        _observe_one(mask[b], valid[b], offset[b], contour[b], contour_valid[b])


def observe(
    mask: np.ndarray,
    camera: np.ndarray,
    valid: np.ndarray | None = None,
    mesh_index: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    tensors: bool = True,
) -> SilhouetteObservation:
    """Prepare observed crops for comparison.

    Args:
        mask: (B, S, S) uint8 in {0, 1}.
        camera: (B, 3, 3) pinhole matrices of the crops.
        valid: (B, S, S) uint8, 0 where nothing is known; by default all is known.
        mesh_index: (B,) which mesh; by default the first.
        offset: (B,) in [0, 1): where the sampling of contour points starts; 0.5 by default.
        tensors: return tensors; otherwise numpy arrays.
    """
    count = len(mask)
    valid = np.ones_like(mask) if valid is None else valid
    offset = np.full(count, 0.5, np.float32) if offset is None else offset.astype(np.float32)
    contour = np.empty((count, NUM_OBSERVED, 4), np.float32)
    contour_valid = np.empty((count, NUM_OBSERVED), np.float32)
    if count == 1:
        _observe_one(mask[0], valid[0], offset[0], contour[0], contour_valid[0])
    else:
        with parallel_lock:
            _observe_batch(mask, valid, offset, contour, contour_valid)
    distance = signed_distance(mask[0])[None] if count == 1 else np.stack([signed_distance(m) for m in mask])
    index = np.zeros(count, np.int64) if mesh_index is None else mesh_index.astype(np.int64)
    arrays = (mask, valid, distance, contour, contour_valid, camera.astype(np.float32), index)
    found = SilhouetteObservation(*(np.ascontiguousarray(a) for a in arrays))
    return found.tensors() if tensors else found
