# SPDX-License-Identifier: Apache-2.0
"""What a JPEG file says of itself, and its planes and quantised coefficients, all decoded by libjpeg.

Two harmless changes to a copy of the header make libjpeg tell more than a picture: sides rounded up to whole blocks
show the part of the last blocks that is usually cut off, and smaller quantisation steps show the coefficients of blocks
whose pixels would be clipped.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import EncodingError
from .jpeg import BLOCK
from .jpeg_dct import JpegObservation, by_block, chosen_blocks, dct_basis, quantise

MAX_PIXELS = 32_000_000
ZIGZAG = np.array(
    [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
     28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
     47, 55, 62, 63])  # fmt: skip
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_OTHER_FRAMES = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}


@dataclass(frozen=True)
class JpegHeader:
    """The header of a JPEG file, up to its first scan.

    Attributes:
        width: pixels.
        height: pixels.
        process: ``baseline``, ``extended`` or ``progressive``.
        sampling: (horizontal, vertical) factors of each component.
        table_ids: which table each component uses.
        tables: identifier -> (64,) quantisation steps, row by row.
        size_at: where height and width stand in the file.
        tables_at: identifier -> (where its entries stand, bytes per entry).
    """

    width: int
    height: int
    process: str
    sampling: tuple[tuple[int, int], ...]
    table_ids: tuple[int, ...]
    tables: dict[int, np.ndarray]
    size_at: int
    tables_at: dict[int, tuple[int, int]]

    @property
    def luma_table(self) -> np.ndarray:
        """(64,) steps of the first component."""
        return self.tables[self.table_ids[0]]


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> JpegHeader:
    """Read and check the header.

    Raises:
        EncodingError: not a JPEG; cut short; of a kind that is not supported (CMYK, RGB, 12-bit, arithmetic, lossless);
            larger than ``max_pixels``; or without its tables.
    """
    if len(data) < 4 or data[:2] != b"\xff\xd8":
        raise EncodingError(f"jpeg: expected a JPEG (bytes FF D8 first), got {len(data)} bytes: {data[:4].hex(' ')}.")
    tables: dict[int, np.ndarray] = {}
    tables_at: dict[int, tuple[int, int]] = {}
    frame: JpegHeader | None = None
    at = 2
    while True:
        if at + 4 > len(data):
            raise EncodingError(f"jpeg: the header ends after {len(data)} bytes without image data. It was cut short.")
        if data[at] != 0xFF:
            raise EncodingError(f"jpeg: expected a marker (FF) at byte {at}, got {data[at]:02X}. The file is corrupt.")
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        start, at = at + 4, at + 2 + length
        if marker == 0xD9 or length < 2 or at > len(data):
            raise EncodingError(f"jpeg: the segment {marker:02X} at byte {start - 4} is cut short or empty.")
        if marker == 0xDB:
            _read_tables(data, start, at, tables, tables_at)
        elif marker in _FRAMES:
            frame = _read_frame(data, start, at, _FRAMES[marker], tables, tables_at)
        elif marker in _OTHER_FRAMES:
            raise EncodingError(
                f"jpeg: lossless, hierarchical and arithmetic JPEG (marker {marker:02X}) are not supported. "
                "Encode it as baseline or progressive."
            )
        elif marker == 0xEE and data[start : start + 5] == b"Adobe" and at - start >= 12 and data[start + 11] == 0:
            raise EncodingError("jpeg: its planes are not luminance and colour (RGB or CMYK). Encode it as YCbCr.")
        elif marker == 0xDA:
            break
    if frame is None:
        raise EncodingError("jpeg: no frame header before the image data. The file is corrupt.")
    if frame.width * frame.height > max_pixels:
        raise EncodingError(
            f"jpeg: {frame.width}x{frame.height} has more than {max_pixels} pixels. Cut it up, or raise the limit."
        )
    missing = sorted(set(frame.table_ids) - set(tables))
    if missing:
        raise EncodingError(f"jpeg: the quantisation table {missing[0]} is missing (abbreviated or corrupt file).")
    return frame


def _read_tables(
    data: bytes, start: int, end: int, tables: dict[int, np.ndarray], tables_at: dict[int, tuple[int, int]]
) -> None:
    while start < end:
        size, name = (2 if data[start] >> 4 else 1), data[start] & 15
        entries = np.frombuffer(data[start + 1 : min(start + 1 + 64 * size, end)], ">u2" if size == 2 else "u1")
        if data[start] >> 4 > 1 or name > 3 or len(entries) != 64 or not entries.all():
            raise EncodingError(f"jpeg: the quantisation table at byte {start} is cut short or has a zero in it.")
        natural = np.empty(64, np.int64)
        natural[ZIGZAG] = entries
        tables[name], tables_at[name] = natural, (start + 1, size)
        start += 1 + 64 * size


def _read_frame(
    data: bytes, start: int, end: int, process: str, tables: dict[int, np.ndarray],
    tables_at: dict[int, tuple[int, int]],
) -> JpegHeader:  # fmt: skip
    if end - start < 6 or end - start < 6 + 3 * data[start + 5]:
        raise EncodingError("jpeg: the frame header is cut short.")
    precision, height, width, count = struct.unpack_from(">BHHB", data, start)
    if precision != 8:
        raise EncodingError(f"jpeg: expected 8 bits per sample, got {precision}. Encode it with 8 bits.")
    if count not in (1, 3):
        kind = " (CMYK)" if count == 4 else ""
        raise EncodingError(f"jpeg: expected 1 (grey) or 3 (YCbCr) components, got {count}{kind}. Convert it first.")
    if width == 0 or height == 0:
        raise EncodingError(f"jpeg: expected sides of at least 1 pixel, got {width}x{height}.")
    parts = [data[start + 6 + 3 * i : start + 9 + 3 * i] for i in range(count)]
    if bytes(part[0] for part in parts) == b"RGB":
        raise EncodingError("jpeg: its planes are RGB, not luminance and colour. Encode it as YCbCr.")
    sampling = tuple((part[1] >> 4, part[1] & 15) for part in parts)
    if any(not 1 <= factor <= 4 for pair in sampling for factor in pair):
        raise EncodingError(f"jpeg: expected sampling factors of 1 to 4, got {sampling}. The file is corrupt.")
    if count == 3 and any(a > b for pair in sampling[1:] for a, b in zip(pair, sampling[0], strict=True)):
        raise EncodingError(f"jpeg: the colour planes are finer than the luminance (factors {sampling}).")
    return JpegHeader(width, height, process, sampling, tuple(p[2] for p in parts), tables, start + 1, tables_at)


def _open(data: bytes, mode: str | None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode with libjpeg: the luminance plane (``L``), planes (``YCbCr``) or the picture (None)."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if mode is not None:
                image.draft(mode, size or image.size)
            return np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, struct.error, KeyError) as cause:
        raise EncodingError(f"jpeg: libjpeg cannot decode it ({cause}). It was cut short or is corrupt.") from cause


def _patched(data: bytes, header: JpegHeader, table: np.ndarray | None = None) -> bytes:
    """A copy with sides rounded up to whole blocks, and with other steps for the luminance where given."""
    copy = bytearray(data)
    height, width = (-(-side // BLOCK) * BLOCK for side in (header.height, header.width))
    struct.pack_into(">HH", copy, header.size_at, height, width)
    if table is not None:
        at, size = header.tables_at[header.table_ids[0]]
        copy[at : at + 64 * size] = table[ZIGZAG].astype(">u2" if size == 2 else "u1").tobytes()
    return bytes(copy)


def read_luminance(data: bytes, header: JpegHeader) -> JpegObservation:
    """The luminance plane in whole blocks, with its table and its quantised coefficients.

    The coefficients are those in the file where steps are at least 3; smaller ones drown in the rounding to 8 bit and
    may be off by one.

    Raises:
        EncodingError: libjpeg cannot decode it.
    """
    plane = _open(_patched(data, header), "L")
    if header.sampling[0] != max(header.sampling) or plane.shape[0] % BLOCK or plane.shape[1] % BLOCK:
        raise EncodingError(f"jpeg: sampling factors {header.sampling} are not supported. Encode it as 4:2:0 or 4:4:4.")
    seen = _tensor(plane)
    steps = torch.from_numpy(header.luma_table.astype(np.float32))[None]
    levels = quantise(seen, steps)
    ends = (plane + np.uint8(1)) < 2  # 255 and 0: uint8 wraps around
    ends = ends.reshape(-1, BLOCK).view(np.uint64).reshape(plane.shape[0] // BLOCK, BLOCK, -1).any(axis=1)
    clipped = np.flatnonzero(ends)
    if len(clipped):
        _reread(by_block(levels)[0], torch.from_numpy(clipped), plane, steps, data, header)
    return JpegObservation(seen, steps, levels)


def _tensor(plane: np.ndarray) -> Tensor:
    return torch.from_numpy(plane.astype(np.float32) / 255.0)[None, None]


def _reread(levels: Tensor, clipped: Tensor, plane: np.ndarray, steps: Tensor, data: bytes, header: JpegHeader) -> None:
    """Read some blocks again with halved steps, and put those levels right that then explain the picture better."""
    half = (header.luma_table + 1) // 2
    seen, again = (
        chosen_blocks(torch.from_numpy(pixels)[None, None], torch.zeros_like(clipped), clipped).float()
        for pixels in (plane, _open(_patched(data, header, half), "L"))
    )
    basis = dct_basis(seen.device, seen.dtype)
    first = levels[clipped]
    second = torch.round((again - 128.0) @ basis.T / torch.from_numpy(half.astype(np.float32)))
    worst = [
        (((candidate * steps) @ basis + 128.0).clamp_(0.0, 255.0) - seen).abs_().amax(dim=1, keepdim=True)
        for candidate in (first, second)
    ]
    levels[clipped] = torch.where(worst[1] < worst[0], second, first)


def decode_colour(data: bytes, header: JpegHeader) -> np.ndarray | None:
    """The two colour planes (2, H, W) at their own resolution, filled up to whole blocks with their last pixels.

    None where they cannot be had: colour that is halved in one direction only (4:2:2) is brought to full size by
    libjpeg.

    Raises:
        EncodingError: libjpeg cannot decode it.
    """
    halved = header.sampling == ((2, 2), (1, 1), (1, 1))
    if not halved and header.sampling != ((1, 1), (1, 1), (1, 1)):
        return None
    # At half size libjpeg halves the luminance only: the colour is that size already.
    sides = [-(-side // BLOCK) * BLOCK // (2 if halved else 1) for side in (header.height, header.width)]
    picture = _open(_patched(data, header), "YCbCr", (sides[1], sides[0]))
    if picture.shape[:2] != tuple(sides):
        return None
    padding = [(0, -side % BLOCK) for side in sides]
    return np.pad(picture[..., 1:], (*padding, (0, 0)), mode="edge").transpose(2, 0, 1)


def observe_colour(planes: np.ndarray, header: JpegHeader) -> JpegObservation:
    """The colour planes (2, H, W) of :func:`decode_colour` with their tables (B = 2)."""
    tables = np.stack([header.tables[name] for name in header.table_ids[1:]]).astype(np.float32)
    seen = torch.from_numpy(np.ascontiguousarray(planes, np.float32) / 255.0)[:, None]
    return JpegObservation.from_planes(seen, torch.from_numpy(tables))


def read_picture(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 YCbCr of a colour JPEG, the colour planes brought to full size by libjpeg.

    Raises:
        EncodingError: libjpeg cannot decode it.
    """
    return _open(data, "YCbCr")
