# SPDX-License-Identifier: Apache-2.0
"""A file of masks and colour images that a camera can play: what a tracker may see, and nothing else.

Ground truth is not part of it on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ...errors import DfipsError, ShapeError

JPEG_QUALITY = 88


class Recording:
    """Masks and colour images in play order; a frame may be shown more than once.

    Attributes:
        camera_matrix: (3, 3) float64, pixels.
        size: (height, width).
        rate: frames per second.
        order: (N,) which stored image each frame shows.
    """

    def __init__(
        self,
        camera_matrix: np.ndarray,
        size: tuple[int, int],
        rate: float,
        order: np.ndarray,
        packed_masks: np.ndarray,
        jpegs: list[bytes],
    ) -> None:
        self.camera_matrix = np.asarray(camera_matrix, dtype=np.float64)
        self.size = (int(size[0]), int(size[1]))
        self.rate = float(rate)
        self.order = np.asarray(order, dtype=np.int64)
        self._packed_masks = packed_masks
        self._jpegs = jpegs

    def __len__(self) -> int:
        return len(self.order)

    def mask(self, index: int) -> np.ndarray:
        """Mask of frame ``index``. -> (H, W) uint8, 0 or 255."""
        bits = np.unpackbits(self._packed_masks[self.order[index]], count=self.size[0] * self.size[1])
        return bits.reshape(self.size) * np.uint8(255)

    def image(self, index: int) -> np.ndarray:
        """Colour image of frame ``index``. -> (H, W, 3) uint8 RGB."""
        data = np.frombuffer(self._jpegs[self.order[index]], dtype=np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if pixels is None:
            raise DfipsError(f"recording: the image of frame {index} is damaged.")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    def save(self, path: str | Path) -> None:
        """Write the recording as one npz file."""
        lengths = np.array([len(j) for j in self._jpegs], dtype=np.int64)
        np.savez(
            path,
            camera_matrix=self.camera_matrix,
            size=np.array(self.size),
            rate=np.array(self.rate),
            order=self.order,
            packed_masks=self._packed_masks,
            jpeg_lengths=lengths,
            jpegs=np.frombuffer(b"".join(self._jpegs), dtype=np.uint8),
        )


def make_recording(
    camera_matrix: np.ndarray,
    rate: float,
    frames: Iterable[tuple[np.ndarray, np.ndarray]],
    order: np.ndarray | None = None,
) -> Recording:
    """Pack pairs of mask (H, W) and colour image (H, W, 3) uint8 RGB; ``order`` says when each is shown.

    Raises:
        ShapeError: no frames, or frames of different sizes.
    """
    masks, jpegs, sizes = [], [], set()
    for mask, image in frames:
        sizes.add((mask.shape, image.shape[:2]))
        masks.append(np.packbits(mask > 0))
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            raise ShapeError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}.")
        jpegs.append(data.tobytes())
    if len(sizes) != 1 or len({s for pair in sizes for s in pair}) != 1:
        raise ShapeError(f"recording: expected frames of one size, got {sorted(sizes)}.")
    size = next(iter(sizes))[0]
    shown = np.arange(len(masks)) if order is None else np.asarray(order)
    return Recording(camera_matrix, size, rate, shown, np.stack(masks), jpegs)


def load_recording(path: str | Path) -> Recording:
    """Read a recording.

    Raises:
        DfipsError: the file is missing or is not a recording.
    """
    try:
        with np.load(path) as file:
            ends = np.cumsum(file["jpeg_lengths"])
            data = file["jpegs"].tobytes()
            jpegs = [data[end - length : end] for end, length in zip(ends, file["jpeg_lengths"], strict=True)]
            size = (int(file["size"][0]), int(file["size"][1]))
            return Recording(
                file["camera_matrix"], size, float(file["rate"]), file["order"], file["packed_masks"], jpegs
            )
    except (OSError, KeyError, ValueError) as cause:
        raise DfipsError(f"recording '{path}': cannot be read ({type(cause).__name__}: {cause}).") from cause
