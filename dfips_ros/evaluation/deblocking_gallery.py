# SPDX-License-Identifier: Apache-2.0
"""Crops side by side: JPEG, DnCNN where its weights are given, ours, truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ..processes.jpeg import encode, standard_table
from ..processes.jpeg_file import read_header, read_luminance
from .deblocking_runner import load_set, make_method

CROP, ZOOM, PER_SET, TITLE_ROWS = 96, 3, 3, 22


def write_gallery(
    sets: Mapping[str, str | Path],
    quality: int,
    folder: str | Path,
    weights: str | Path | None = None,
    dncnn: str | Path | None = None,
) -> list[Path]:
    """One picture per set: the crop with most detail of three of its images, a row each.

    Args:
        sets: name -> folder of lossless images.
        quality: of libjpeg.
        folder: where to write.
        weights: of ours; those that ship by default.
        dncnn: weights of a trained DnCNN.

    Returns:
        The files.
    """
    names = ["jpeg", *(["dncnn"] if dncnn else []), "ours"]
    methods = {name: make_method(name, weights, dncnn, None, 1) for name in names}
    written = []
    for set_name, source in sets.items():
        images = load_set(source)
        chosen = [images[i] for i in np.linspace(0, len(images) - 1, min(PER_SET, len(images))).astype(int)]
        rows = []
        for _, plane in chosen:
            observation = _observe(plane, quality)
            y, x = busiest(plane)
            found = [method(observation)[0, 0].mul(255.0).round().byte().numpy() for method in methods.values()]
            crops = [image[y : y + CROP, x : x + CROP] for image in [*found, plane]]
            rows.append(np.hstack([_enlarged(crop) for crop in crops]))
        titles = [{"jpeg": f"JPEG {quality}", "dncnn": "DnCNN", "ours": "ours"}[name] for name in names] + ["truth"]
        file = Path(folder) / f"deblocking_{set_name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.vstack([_header(titles, CROP * ZOOM), *rows]))
        written.append(file)
    return written


def _observe(plane: np.ndarray, quality: int):  # type: ignore[no-untyped-def]
    data = encode(plane, standard_table(quality))
    return read_luminance(data, read_header(data))


def busiest(plane: np.ndarray) -> tuple[int, int]:
    """Row and column of the crop with the largest gradients, on the grid of blocks; (0, 0) for small images."""
    height, width = plane.shape
    if height <= CROP or width <= CROP:
        return 0, 0
    gradient = np.abs(cv2.Laplacian(plane.astype(np.float32), cv2.CV_32F))
    summed = cv2.integral(gradient)
    windows = summed[CROP:, CROP:] - summed[:-CROP, CROP:] - summed[CROP:, :-CROP] + summed[:-CROP, :-CROP]
    y, x = np.unravel_index(windows[::8, ::8].argmax(), windows[::8, ::8].shape)
    return int(y) * 8, int(x) * 8


def _enlarged(crop: np.ndarray) -> np.ndarray:
    padded = np.zeros((CROP, CROP), np.uint8)
    padded[: crop.shape[0], : crop.shape[1]] = crop
    return cv2.resize(padded, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)


def _header(titles: list[str], width: int) -> np.ndarray:
    bar = np.full((TITLE_ROWS, width * len(titles)), 255, np.uint8)
    for i, title in enumerate(titles):
        cv2.putText(bar, title, (i * width + 4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1, cv2.LINE_AA)
    return bar
