# SPDX-License-Identifier: Apache-2.0
"""Deblocking methods on the same JPEGs, by the protocol of the published tables, as rows of a CSV.

Colour images are reduced to luminance as MATLAB's ``rgb2ycbcr`` does (BT.601, 16 to 235, rounded), encoded by libjpeg
with the standard tables, restored, rounded to 8 bit, and compared with the luminance before encoding.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from ..baselines.deep_image_prior import DeepImagePrior, DeepImagePriorConfig
from ..baselines.dncnn import load_dncnn3
from ..checks import check_range
from ..errors import ConfigError
from ..processes.jpeg import encode, standard_table
from ..processes.jpeg_consistency import agreement
from ..processes.jpeg_dct import JpegObservation
from ..processes.jpeg_file import read_header, read_luminance
from ..solver import FeedbackSolver
from ..tasks.deblocking.metrics import psnr, psnr_b, ssim
from ..tasks.deblocking.problem import load_solver
from ..tasks.deblocking.restorer import LUMINANCE, JpegRestorer
from .deblocking_published import published_rows
from .journal import Journal

SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
QUALITIES = (10, 20, 30, 40)
SLOW = {"dip"}
METHODS = {
    "jpeg": "JPEG",
    "direct": "ours, 1 stage (direct regression)",
    "two": "ours, 2 stages",
    "three": "ours, 3 stages",
    "ours": "ours, 3 stages, consistent",
    "dncnn": "DnCNN, trained the same",
    "dncnn3": "DnCNN-3, published weights",
    "dip": "Deep Image Prior",
}
STAGES = {"direct": 1, "two": 2, "three": 3}


@dataclass(frozen=True)
class Method:
    """One plane -> restored plane (1, 1, H, W).

    Attributes:
        restore: does it.
        parameters: how many learned numbers that takes.
    """

    restore: Callable[[JpegObservation], Tensor]
    parameters: int = 0

    def __call__(self, observation: JpegObservation) -> Tensor:
        """Restore one plane."""
        return self.restore(observation)


def luminance(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) uint8 -> (H, W) uint8, colour as MATLAB's ``rgb2ycbcr``: BT.601 from 16 to 235."""
    if image.ndim == 2:
        return image
    y = image[..., ::-1].astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255.0 + 16.0
    return np.round(y).astype(np.uint8)


def load_set(folder: str | Path) -> list[tuple[str, np.ndarray]]:
    """(name, luminance) of the lossless images of a folder.

    Raises:
        ConfigError: there are none, or one cannot be read.
    """
    files = sorted(f for f in Path(folder).expanduser().glob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"sets: no lossless image ({', '.join(SUFFIXES)}) in '{folder}'.")
    found = []
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8 or image.ndim == 3 and image.shape[2] != 3:
            raise ConfigError(f"sets: '{file}' is not an image with 8 bits per sample, grey or colour.")
        found.append((file.stem, luminance(image)))
    return found


def make_method(
    name: str, weights: str | Path | None, dncnn: str | Path | None, dncnn3: str | Path | None, iterations: int
) -> Method:
    """One of ``METHODS``.

    Raises:
        ConfigError: an unknown name, or the file that it needs was not given.
    """
    if name not in METHODS:
        raise ConfigError(f"methods: unknown {name}; known are {', '.join(METHODS)}.")
    if name == "jpeg":
        return Method(lambda observation: observation.planes)
    if name == "dip":
        prior = DeepImagePrior(DeepImagePriorConfig(iterations=iterations))
        return Method(lambda observation: prior.estimate(observation).estimate)
    if name in ("dncnn", "dncnn3"):
        file = dncnn if name == "dncnn" else dncnn3
        if file is None:
            raise ConfigError(f"methods: {name} needs its weights, --{name} FILE.")
        peer = load_dncnn3(file) if name == "dncnn3" else load_solver(file)[0]
        return Method(lambda seen: peer.estimate(seen, seen.planes).estimate, _count(peer, 1))
    restorer = JpegRestorer(weights, device="cpu", consistency="exact")
    solver = restorer.solver
    if name == "ours":
        return Method(lambda seen: restorer.restore_planes(seen)[0], _count(solver, solver.config.num_stages))
    stages = STAGES[name]
    return Method(lambda seen: solver.estimate(seen, seen.planes, num_stages=stages).estimate, _count(solver, stages))


def _count(solver: FeedbackSolver, stages: int) -> int:
    return sum(p.numel() for p in nn.ModuleList([solver.stage(t) for t in range(stages)]).parameters())


def evaluate_deblocking(
    sets: Mapping[str, str | Path],
    qualities: Sequence[int] = QUALITIES,
    methods: Sequence[str] = ("jpeg", "direct", "two", "three", "ours"),
    weights: str | Path | None = None,
    dncnn: str | Path | None = None,
    dncnn3: str | Path | None = None,
    slow_images: int = 2,
    dip_iterations: int = 2400,
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
    cited: bool = False,
    journal: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Evaluate methods on the same JPEGs.

    A method that takes minutes per image (``SLOW``) gets the first ``slow_images`` of each set, at the lowest quality.
    So that its row can be compared, all methods then have a second row over just these (column ``subset``).

    Args:
        sets: name -> folder of lossless images, none of them trained on.
        qualities: of libjpeg.
        methods: names out of ``METHODS``.
        weights: of ours; those that ship by default.
        dncnn: weights file of a DnCNN of ``dfips train deblocking --network dncnn``.
        dncnn3: the published ``DnCNN3.mat``.
        slow_images: see above.
        dip_iterations: of Deep Image Prior.
        provenance: columns that every row carries (commit, machine).
        quiet: no progress bar.
        cited: published figures of peers for the same set and quality, too.
        journal: file in which the slow methods' figures are kept, image by image; those that it has of the very same
            JPEGs are taken from there.

    Returns:
        One row per set, quality, subset and method.

    Raises:
        ConfigError: nothing to evaluate, an unknown name, or a journal of other settings.
    """
    if not sets or not qualities or not methods:
        raise ConfigError("sets, qualities, methods: expected at least one of each.")
    for quality in qualities:
        check_range("quality", quality, 1, 100)
    images = {name: load_set(folder) for name, folder in sets.items()}
    made = {name: make_method(name, weights, dncnn, dncnn3, dip_iterations) for name in methods}
    kept = None if journal is None else Journal(journal, {"dip": asdict(DeepImagePriorConfig(dip_iterations))})
    setting = json.dumps(
        {"weights": Path(weights or LUMINANCE).name, "dncnn": Path(dncnn).name if dncnn else None,
         "dip_iterations": dip_iterations}, sort_keys=True)  # fmt: skip
    rows = []
    total = sum(len(own) for own in images.values()) * len(qualities)
    with tqdm(total=total, disable=quiet or None, unit="image", desc="evaluate") as bar:
        for set_name, own in images.items():
            for quality in qualities:
                found: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
                for i, (_, plane) in enumerate(own):
                    data = encode(plane, standard_table(quality))
                    observation = read_luminance(data, read_header(data))
                    for name, method in made.items():
                        if name not in SLOW:
                            found[name].append(_score(method, observation, plane))
                        elif i < slow_images and quality == min(qualities):
                            key = f"{name} {hashlib.sha256(data).hexdigest()}"
                            score = kept.get(key) if kept else None
                            found[name].append(score or _score(method, observation, plane))
                            if kept and score is None:
                                kept.put(key, found[name][-1])
                    bar.update(1)
                subsets = {"all": len(own)}
                if not SLOW.isdisjoint(methods) and quality == min(qualities) and slow_images < len(own):
                    subsets[f"first {slow_images}"] = slow_images
                for subset, count in subsets.items():
                    rows += [
                        {
                            "set": set_name, "quality": quality, "subset": subset, "method": METHODS[name],
                            "parameters": made[name].parameters, **_mean(scores[:count]), "config": setting,
                            **(provenance or {}),
                        }
                        for name, scores in found.items()
                        if len(scores) >= count
                    ]  # fmt: skip
                if cited:
                    published = published_rows(set_name, len(own), quality)
                    rows += [{"set": set_name, "quality": quality, "subset": "all", **row} for row in published]
    return rows


def _score(method: Method, observation: JpegObservation, plane: np.ndarray) -> dict[str, float]:
    start = time.perf_counter()
    restored = method(observation)
    seconds = time.perf_counter() - start
    height, width = plane.shape
    pixels = restored[0, 0, :height, :width].mul(255.0).round().clamp(0.0, 255.0).cpu().numpy()
    return {
        "psnr": psnr(pixels, plane), "ssim": ssim(pixels, plane), "psnr_b": psnr_b(pixels, plane),
        "agreement": float(agreement(restored, observation)[0]), "ms_per_megapixel": 1e9 * seconds / plane.size,
    }  # fmt: skip


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    out: dict[str, float] = {"images": len(scores)}
    for name, digits in {"psnr": 3, "ssim": 4, "psnr_b": 3, "agreement": 5}.items():
        out[name] = round(float(np.mean([score[name] for score in scores])), digits)
    out["ms_per_megapixel"] = round(float(np.median([score["ms_per_megapixel"] for score in scores])), 1)
    return out
