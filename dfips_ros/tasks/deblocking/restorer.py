# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a JPEG to a restored image."""

from __future__ import annotations

import contextlib
import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice
from ...errors import InputError
from ...processes.jpeg import decode, encode, to_bytes
from ...processes.jpeg_consistency import agreement, make_consistent, project
from ...processes.jpeg_dct import JpegObservation
from ...processes.jpeg_file import (
    MAX_PIXELS,
    JpegHeader,
    decode_colour,
    observe_colour,
    read_header,
    read_luminance,
    read_picture,
)
from ...solver import Solution, pick_device
from .problem import load_solver

FOLDER = Path(__file__).resolve().parents[2] / "data" / "weights"
LUMINANCE, COLOUR = FOLDER / "deblocking.safetensors", FOLDER / "deblocking_colour.safetensors"
CONSISTENCIES = ("exact", "project", "off")
# What glibc's malloc keeps of freed memory for the next image, and its names for that and for the size from which on it
# asks the kernel each time anew (man mallopt): the most that it comes to by itself once larger blocks were freed.
# With less, a frame of 640x480 costs 10,000 page faults, a tenth of its time.
KEPT_BYTES, TRIM_THRESHOLD, MMAP_THRESHOLD = 64 << 20, -1, -3


@dataclass(frozen=True)
class Restoration:
    """A restored image, and how well it explains the JPEG.

    Attributes:
        image: (H, W) grey or (H, W, 3) RGB, uint8.
        residual_norms: root mean square of ``f(estimate) - observation`` of the luminance in grey levels, before the
            first stage, after each stage, and after the consistency step.
        agreement: fraction of the luminance coefficients that quantise to those in the JPEG.
        header: what the JPEG says of itself.
        seconds: time taken.
    """

    image: np.ndarray
    residual_norms: tuple[float, ...]
    agreement: float
    header: JpegHeader
    seconds: float


class JpegRestorer:
    """Removes the artefacts of JPEG compression.

    The luminance goes through all stages, the colour planes of 4:2:0 and 4:4:4 through a small network of their own, at
    their own resolution; those of other samplings are as libjpeg decodes them. Orientation tags and colour profiles are
    left alone. On the CPU, glibc's malloc is told to keep up to 64 MB of freed memory in the process.

    Args:
        weights: safetensors file of the deblocking task; None means the one that ships.
        device: ``auto``, ``cpu`` or ``cuda``.
        consistency: ``exact`` (the luminance, in 8 bit, encodes to the coefficients of the JPEG wherever that can be
            reached), ``project`` (its coefficients are moved into their cells, then rounded; faster), or ``off``.
        max_pixels: larger images are refused.
        bfloat16: run the networks in bfloat16; None decides by the processor.
        colour: safetensors file for the colour planes; None means the one that ships.

    Raises:
        CheckpointError: the weights do not fit.
        ConfigError: an unknown device or kind of consistency.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str = "auto",
        consistency: str = "exact",
        max_pixels: int = MAX_PIXELS,
        bfloat16: bool | None = None,
        colour: str | Path | None = None,
    ) -> None:
        self.device = pick_device(device)
        if self.device.type == "cpu":
            _keep_freed_memory()
        self.consistency = check_choice("consistency", consistency, CONSISTENCIES)
        self.max_pixels = max_pixels
        self.solver, self.config, self.checkpoint = load_solver(weights or LUMINANCE)
        self.bfloat16 = _fast_bfloat16(self.device) if bfloat16 is None else bfloat16
        self.colour = load_solver(colour or COLOUR)[0]
        self._beside = ThreadPoolExecutor(1, "dfips")  # for libjpeg, which leaves other processors idle
        for solver in (self.solver, self.colour):
            solver.to(self.device)
            if self.bfloat16:
                solver.stages.to(torch.bfloat16)

    def restore(self, data: bytes) -> np.ndarray:
        """The restored image, (H, W) grey or (H, W, 3) RGB, uint8.

        Raises:
            EncodingError: not a JPEG that can be restored; the message says why.
        """
        return self.solve(data).image

    def solve(self, data: bytes) -> Restoration:
        """As :meth:`restore`, with the residuals.

        Raises:
            EncodingError: not a JPEG that can be restored; the message says why.
        """
        start = time.perf_counter()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"data: expected the bytes of a JPEG, got {type(data).__name__}. Read the file first.")
        data = bytes(data)
        header = read_header(data, self.max_pixels)
        colour = None if len(header.sampling) == 1 else self._beside.submit(decode_colour, data, header)
        observation = read_luminance(data, header)
        planes, solution, share = self.restore_planes(observation)
        pixels, last = to_bytes(planes)[0, 0], []
        if self.consistency != "off":
            observed = to_bytes(observation.planes)[0, 0]
            last = [self._beside.submit(_residual_norm, pixels, observed, header.luma_table)]
        crop = np.ascontiguousarray(pixels[: header.height, : header.width])
        image = crop if colour is None else self._with_colour(crop, colour.result(), data, header)
        norms = [*solution.residual_norms[0].tolist(), *(norm.result() for norm in last)]
        return Restoration(image, tuple(norms), float(share[0]), header, time.perf_counter() - start)

    @torch.inference_mode()
    def _with_colour(
        self, luminance: np.ndarray, decoded: np.ndarray | None, data: bytes, header: JpegHeader
    ) -> np.ndarray:
        """(H, W) restored luminance and the colour of the JPEG -> (H, W, 3) RGB."""
        height, width = luminance.shape
        if decoded is None:
            picture = read_picture(data)
            blue, red = picture[..., 1], picture[..., 2]
        else:
            colour = observe_colour(decoded, header).to(self.device)
            update = self.colour.stage(0)(self.colour.feedback(colour, colour.planes))
            estimate = self.colour.space.apply(colour.planes, update)[:, 0]
            planes = list(estimate.mul(255.0).round().to(torch.uint8).cpu().numpy())
            if header.sampling[0] == (2, 2):  # linear interpolation, as libjpeg does it
                planes = [cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for plane in planes]
            blue, red = (plane[:height, :width] for plane in planes)
        return cv2.cvtColor(cv2.merge([luminance, red, blue]), cv2.COLOR_YCrCb2RGB)

    @torch.inference_mode()
    def restore_planes(self, observation: JpegObservation) -> tuple[Tensor, Solution, Tensor]:
        """B planes at once.

        Returns:
            Restored planes (B, 1, H, W), multiples of 1/255; the solution without the consistency step; (B,) fraction
            of coefficients that agree.
        """
        observation = observation.to(self.device)
        solution = self.solver.estimate(observation, observation.planes)
        planes = solution.estimate
        if self.consistency == "exact":
            found = make_consistent(planes, observation)
            return found.planes, solution, found.agreement
        if self.consistency == "project":
            planes = project(planes, observation)
        planes = planes.mul(255.0).round().clamp(0.0, 255.0) / 255.0
        return planes, solution, agreement(planes, observation)


def _residual_norm(pixels: np.ndarray, observed: np.ndarray, table: np.ndarray) -> float:
    """Root mean square of ``f(x) - y`` in grey levels, of uint8 planes (H, W)."""
    return cv2.norm(decode(encode(pixels, table)), observed) / pixels.size**0.5


def _keep_freed_memory() -> None:
    with contextlib.suppress(AttributeError, OSError):  # another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        allocator.mallopt(MMAP_THRESHOLD, KEPT_BYTES // 2)


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16", False))
