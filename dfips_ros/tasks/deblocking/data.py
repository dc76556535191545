# SPDX-License-Identifier: Apache-2.0
"""Training examples, made on the fly: crops of clean images, and what libjpeg makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...processes.jpeg import round_trip, standard_table
from ...processes.jpeg_dct import JpegObservation, quantise
from .config import DeblockingDataConfig

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")  # lossless: a JPEG is no clean image


def load_planes(paths: Sequence[str | Path], smallest: int) -> list[np.ndarray]:
    """Grey planes (H, W) uint8 of image files and of all below folders, at least ``smallest`` pixels on a side.

    Raises:
        ConfigError: no usable image was found, or a file cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        root = Path(path).expanduser()
        files += sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES) if root.is_dir() else [root]
    planes = []
    for file in files:
        plane = cv2.imdecode(np.frombuffer(_bytes(file), np.uint8), cv2.IMREAD_GRAYSCALE)
        if plane is None:
            raise ConfigError(f"images: cannot read '{file}'. Give lossless images ({', '.join(SUFFIXES)}).")
        if min(plane.shape) >= smallest:
            planes.append(plane)
    if not planes:
        raise ConfigError(
            f"images: no lossless image ({', '.join(SUFFIXES)}) of at least {smallest}x{smallest} pixels in "
            f"{', '.join(map(str, paths)) or 'an empty list'}."
        )
    return planes


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as cause:
        raise ConfigError(f"images: cannot read '{file}' ({cause.strerror}).") from cause


def _table(config: DeblockingDataConfig, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    low, high = config.quality
    middle = (low + high) // 2
    span = (low, middle) if rng.uniform() < config.low_quality else (middle, high)
    chroma = bool(rng.uniform() < config.chroma)
    return standard_table(int(rng.integers(span[0], span[1] + 1)), chroma), chroma


def deblocking_batches(
    planes: Sequence[np.ndarray], config: DeblockingDataConfig, device: torch.device | str = "cpu"
) -> Iterator[tuple[JpegObservation, Tensor, Tensor]]:
    """Endless (observation, initial, ground truth); the initial estimate is the decoded image itself."""
    rng = np.random.default_rng(config.seed)
    size = config.crop_size
    while True:
        crops = np.empty((config.batch_size, 1, size, size), np.float32)
        tables = np.empty((config.batch_size, 64), np.float32)
        for rows in np.array_split(np.arange(config.batch_size), config.tables_per_batch):
            table, chroma = _table(config, rng)
            tables[rows] = table
            for row in rows:
                plane = planes[int(rng.integers(len(planes)))]
                y, x = (rng.integers(side - size + 1) for side in plane.shape)
                crop = np.rot90(plane[y : y + size, x : x + size], int(rng.integers(4)))
                crops[row, 0] = crop[:, ::-1] if rng.uniform() < 0.5 else crop
                if chroma:
                    contrast = rng.uniform(0.15, 0.7)
                    crops[row] = np.round(127.5 + contrast * (crops[row] - 127.5))
        clean = torch.from_numpy(crops / 255.0).to(device)
        steps = torch.from_numpy(tables).to(device)
        observed = round_trip(clean, steps)
        yield JpegObservation(observed, steps, quantise(clean, steps)), observed, clean
