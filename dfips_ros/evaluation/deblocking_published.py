# SPDX-License-Identifier: Apache-2.0
"""Published figures of peers, as rows beside our own: same images, same libjpeg, same plain decoder to 0.01 dB."""

from __future__ import annotations

from typing import Any

FBCNN = "FBCNN (cited: Jiang et al. 2021)"
DNCNN3 = "DnCNN-3 (cited: Zhang et al. 2017)"
PARAMETERS = {FBCNN: 71_900_000, DNCNN3: 667_000}  # by their published code and weights
IMAGES = {"classic5": 5, "LIVE1": 29}
# set, quality -> PSNR in dB, SSIM, PSNR-B in dB where there is one.
FIGURES: dict[str, dict[tuple[str, int], tuple[float, ...]]] = {
    FBCNN: {
        ("classic5", 10): (30.12, 0.822, 29.80), ("classic5", 20): (32.31, 0.872, 31.74),
        ("classic5", 30): (33.54, 0.894, 32.78), ("classic5", 40): (34.35, 0.907, 33.48),
        ("LIVE1", 10): (29.75, 0.827, 29.40), ("LIVE1", 20): (32.13, 0.889, 31.57),
        ("LIVE1", 30): (33.54, 0.916, 32.83), ("LIVE1", 40): (34.53, 0.931, 33.74),
    },
    DNCNN3: {
        ("classic5", 10): (29.40, 0.8026), ("classic5", 20): (31.63, 0.8610),
        ("classic5", 30): (32.91, 0.8861), ("classic5", 40): (33.77, 0.9003),
        ("LIVE1", 10): (29.19, 0.8123), ("LIVE1", 20): (31.59, 0.8802),
        ("LIVE1", 30): (32.98, 0.9090), ("LIVE1", 40): (33.96, 0.9247),
    },
}  # fmt: skip


def published_rows(set_name: str, images: int, quality: int) -> list[dict[str, Any]]:
    """What was published for a set and a quality; nothing where the set is not the published one."""
    if IMAGES.get(set_name) != images:
        return []
    return [
        {"method": method, "parameters": PARAMETERS[method], "images": images}
        | dict(zip(("psnr", "ssim", "psnr_b"), figures[set_name, quality], strict=False))
        for method, figures in FIGURES.items()
        if (set_name, quality) in figures
    ]
