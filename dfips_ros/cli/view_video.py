# SPDX-License-Identifier: Apache-2.0
"""The overlay video of ``--view``: a file that browsers play, written while the frames come."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

MAX_WIDTH = 640
KNOWN_BEFORE_START = 30  # frames whose stamps tell the rate
RATES = (1.0, 120.0)


class Video:
    """Writes pictures and their times as ``stem.webm``, or ``stem.webp`` where OpenCV has no such encoder.

    The codec is VP8: every browser plays it, and it is several times faster to write than VP9.

    Args:
        stem: path without suffix.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._first: list[np.ndarray] = []
        self._times: list[int] = []
        self._writer: Any = None
        self._small: list[np.ndarray] | None = None
        self.rate = 0.0
        self.files: list[Path] = []

    def add(self, time: int, picture: np.ndarray) -> None:
        """Add a picture (H, W, 3) uint8 RGB of a time [ns]."""
        if self.rate > 0.0:
            self._write(picture)
            return
        self._first.append(picture)
        self._times.append(time)
        if len(self._first) == KNOWN_BEFORE_START:
            self._start()

    def close(self) -> Path | None:
        """Finish; the file, or None where there was no picture."""
        if self.rate == 0.0 and self._first:
            self._start()
        if self._writer is not None:
            self._writer.release()
        if self._small:
            _write_webp(self._small, self._stem.with_suffix(".webp"), self.rate)
        return self.files[0] if self.files else None

    def _start(self) -> None:
        steps = np.diff(np.array(self._times, dtype=np.float64))
        steps = steps[steps > 0]
        self.rate = float(np.clip(1e9 / float(np.median(steps)) if len(steps) else 10.0, *RATES))
        height, width = self._first[0].shape[:2]
        scale = min(1.0, MAX_WIDTH / width)
        self._size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))  # VP8 wants even
        path = self._stem.with_suffix(".webm")
        with _silence():
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), self.rate, self._size)
        if writer.isOpened():
            self._writer = writer
        else:
            path.unlink(missing_ok=True)
            path, self._small = self._stem.with_suffix(".webp"), []
        self.files.append(path)
        for picture in self._first:
            self._write(picture)
        self._first = []

    def _write(self, picture: np.ndarray) -> None:
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        if self._writer is not None:
            self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        elif self._small is not None:
            self._small.append(picture)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches stderr: OpenCV warns there of a tag that WebM does not have, and writes the file all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _write_webp(pictures: list[np.ndarray], path: Path, rate: float) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(picture) for picture in pictures)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate), loop=0, quality=60, method=2)


class Stills:
    """Keeps the pictures of the worst moments, at most one of each second.

    Args:
        count: how many to keep in the end.
    """

    WIDTH = 420

    def __init__(self, count: int = 6) -> None:
        self.count = count
        self._worst: dict[int, tuple[float, str, bytes]] = {}

    def add(self, time: int, badness: float, caption: str, picture: np.ndarray) -> None:
        """Offer a picture (H, W, 3) uint8 RGB of a time [ns]; the larger ``badness``, the worse."""
        second = time // 10**9
        known = self._worst.get(second)
        if known is not None and known[0] >= badness:
            return
        if known is None and len(self._worst) >= 4 * self.count:
            mildest = min(self._worst, key=lambda each: self._worst[each][0])
            if self._worst[mildest][0] >= badness:
                return
            del self._worst[mildest]
        height = round(self.WIDTH * picture.shape[0] / picture.shape[1])
        small = cv2.resize(picture, (self.WIDTH, max(height, 1)), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        self._worst[second] = (badness, caption, data.tobytes())

    def worst(self) -> list[tuple[str, bytes]]:
        """Captions and JPEGs, the worst first."""
        ordered = sorted(self._worst.values(), key=lambda each: -each[0])
        return [(caption, data) for _, caption, data in ordered[: self.count]]
