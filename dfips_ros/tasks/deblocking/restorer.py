# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a JPEG to a restored image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice
from ...errors import InputError
from ...processes.jpeg import round_trip
from ...processes.jpeg_consistency import agreement, make_consistent, project
from ...processes.jpeg_dct import JpegObservation
from ...processes.jpeg_file import MAX_PIXELS, JpegHeader, read_colour, read_header, read_luminance, read_picture
from ...solver import Solution, pick_device
from .problem import load_solver

FOLDER = Path(__file__).resolve().parents[2] / "data" / "weights"
LUMINANCE, COLOUR = FOLDER / "deblocking.safetensors", FOLDER / "deblocking_colour.safetensors"
CONSISTENCIES = ("exact", "project", "off")


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
    left alone.

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
        self.consistency = check_choice("consistency", consistency, CONSISTENCIES)
        self.max_pixels = max_pixels
        self.solver, self.config, self.checkpoint = load_solver(weights or LUMINANCE)
        self.bfloat16 = _fast_bfloat16(self.device) if bfloat16 is None else bfloat16
        self.colour = load_solver(colour or COLOUR)[0]
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
        observation = read_luminance(data, header)
        planes, solution, share = self.restore_planes(observation)
        crop = planes[0, 0, : header.height, : header.width].mul(255.0).round().to(torch.uint8).cpu().numpy()
        norms = [*solution.residual_norms[0].tolist()]
        if self.consistency != "off":
            explained = round_trip(planes.cpu(), observation.tables) - observation.planes
            norms.append(float(explained.square().mean().sqrt()) * 255.0)
        image = crop if len(header.sampling) == 1 else self._with_colour(crop, data, header)
        return Restoration(image, tuple(norms), float(share[0]), header, time.perf_counter() - start)

    @torch.inference_mode()
    def _with_colour(self, luminance: np.ndarray, data: bytes, header: JpegHeader) -> np.ndarray:
        """(H, W) restored luminance and the colour of the JPEG -> (H, W, 3) RGB."""
        height, width = luminance.shape
        colour = read_colour(data, header)
        if colour is None:
            picture = read_picture(data)
            blue, red = picture[..., 1], picture[..., 2]
        else:
            colour = colour.to(self.device)
            update = self.colour.stage(0)(self.colour.feedback(colour, colour.planes))
            estimate = self.colour.space.apply(colour.planes, update)[:, 0]
            planes = list(estimate.mul(255.0).round().to(torch.uint8).cpu().numpy())
            if header.sampling[0] == (2, 2):  # linear interpolation, as libjpeg does it
                planes = [cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for plane in planes]
            blue, red = (plane[:height, :width] for plane in planes)
        return cv2.cvtColor(np.dstack([luminance, red, blue]), cv2.COLOR_YCrCb2RGB)

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


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16", False))
