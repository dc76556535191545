# SPDX-License-Identifier: Apache-2.0
"""The forward process of deblocking: a real JPEG encoder and decoder (libjpeg), one grey plane at a time.

OpenCV encodes with the standard tables only; Pillow takes any. So Pillow encodes, OpenCV decodes, and both are libjpeg
with its accurate integer DCT.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import check_range, check_shape
from ..errors import ShapeError

BLOCK = 8
MAX_SIDE = 65500  # libjpeg's limit
# ITU-T T.81 (1992), annex K, tables K.1 and K.2, row by row.
LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
     14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
     49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99], np.int64)  # fmt: skip
CHROMINANCE = np.array(
    [17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
     47, 66, 99, 99, 99, 99, 99, 99] + [99] * 32, np.int64)  # fmt: skip


def standard_table(quality: int, chroma: bool = False) -> np.ndarray:
    """libjpeg's quantisation table (64,) of a quality 1 to 100, row by row."""
    check_range("quality", quality, 1, 100)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(((CHROMINANCE if chroma else LUMINANCE) * scale + 50) // 100, 1, 255)


def encode(plane: np.ndarray, table: np.ndarray) -> bytes:
    """A grey JPEG of (H, W) uint8 with exactly this quantisation table (64,), row by row.

    Raises:
        ShapeError: not a non-empty (H, W) uint8 array, a side above 65500, or not 64 table entries.
    """
    if plane.ndim != 2 or plane.dtype != np.uint8 or plane.size == 0 or max(plane.shape) > MAX_SIDE:
        raise ShapeError(f"plane: expected (H, W) uint8, sides 1 to {MAX_SIDE}, got {plane.shape} {plane.dtype}.")
    check_shape("table", table, (64,))
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", qtables=[[int(value) for value in table]])
    return out.getvalue()


def decode(data: bytes) -> np.ndarray:
    """(H, W) uint8 of a grey JPEG that :func:`encode` wrote."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))


def to_bytes(planes: Tensor) -> np.ndarray:
    """Planes in [0, 1] rounded to uint8, as the encoder sees them."""
    return planes.detach().mul(255.0).round_().clamp_(0.0, 255.0).to(torch.uint8).cpu().numpy()


def _runs(tables: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbours with the same table, at most ``most`` long."""
    start = 0
    for i in range(1, len(tables) + 1):
        if i == len(tables) or i - start == most or (tables[i] != tables[start]).any():
            yield start, i
            start = i


def round_trip(planes: Tensor, tables: Tensor) -> Tensor:
    """f(x): encode and decode each plane with its own table.

    Neighbours with the same table are encoded as one tall image, which changes nothing: blocks do not see each other.

    Args:
        planes: (B, 1, H, W) in [0, 1]; H and W are multiples of 8.
        tables: (B, 64) quantisation steps, row by row.

    Returns:
        (B, 1, H, W) multiples of 1/255 in [0, 1], on the device of ``planes``.

    Raises:
        ShapeError: another shape, or sides that are not multiples of 8.
    """
    check_shape("planes", planes, (None, 1, None, None))
    batch, _, height, width = planes.shape
    check_shape("tables", tables, (batch, 64))
    if height % BLOCK or width % BLOCK:
        raise ShapeError(f"planes: expected sides that are multiples of 8, got {height}x{width}. Pad them first.")
    pixels = to_bytes(planes)[:, 0]
    steps = tables.detach().cpu().numpy().round().astype(np.int64)
    out = np.empty_like(pixels)
    for start, end in _runs(steps, max(MAX_SIDE // height, 1)):
        tall = pixels[start:end].reshape(-1, width)
        out[start:end] = decode(encode(tall, steps[start])).reshape(end - start, height, width)
    return torch.from_numpy(out)[:, None].to(planes.device).to(planes.dtype).div_(255.0)


class JpegProcess:
    """The forward process for one fixed table: (B, 1, H, W) -> (B, 1, H, W), both in [0, 1].

    Args:
        table: (64,) quantisation steps, row by row; see :func:`standard_table`.
    """

    def __init__(self, table: np.ndarray) -> None:
        check_shape("table", table, (64,))
        self.table = torch.as_tensor(np.asarray(table, np.float32))

    def __call__(self, estimate: Tensor) -> Tensor:
        return round_trip(estimate, self.table.expand(len(estimate), 64))
