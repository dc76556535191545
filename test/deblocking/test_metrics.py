# SPDX-License-Identifier: Apache-2.0
"""PSNR, SSIM and PSNR-B: their definitions, and the published figures of the plain decoder."""

from pathlib import Path

import numpy as np
import pytest

from dfips_ros.errors import ShapeError
from dfips_ros.evaluation.deblocking_runner import evaluate_deblocking
from dfips_ros.tasks.deblocking import psnr, psnr_b, ssim

IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "jpeg"


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48)).astype(np.float64)


def test_equal_images(image):
    assert psnr(image, image) == float("inf") and ssim(image, image) == pytest.approx(1.0)


def test_psnr_is_that_of_the_mean_square(image):
    assert psnr(image + 2.0, image) == pytest.approx(10 * np.log10(255**2 / 4))


def test_ssim_falls_with_noise_and_shift(image):
    noise = np.random.default_rng(1).standard_normal(image.shape)
    values = [ssim(image + scale * noise, image) for scale in (0, 5, 20, 60)]
    assert values == sorted(values, reverse=True)


def test_psnr_b_counts_steps_at_block_borders_only():
    flat = np.full((64, 64), 100.0)
    blocky = flat + 5.0 * ((np.arange(64) // 8) % 2)[None]
    shifted = flat + 5.0 * (((np.arange(64) + 4) // 8) % 2)[None]
    assert psnr_b(blocky, flat) < psnr(blocky, flat) - 0.3
    assert psnr_b(shifted, flat) == pytest.approx(psnr(shifted, flat))
    mean_square, border, count = 12.5, 7 * 64 * 25.0, 2 * 7 * 64
    effect = np.log2(8) / np.log2(64) * border / count
    assert psnr_b(blocky, flat) == pytest.approx(10 * np.log10(255**2 / (mean_square + effect)))


def test_wrong_shapes_are_refused(image):
    for metric in (psnr, ssim, psnr_b):
        with pytest.raises(ShapeError, match="estimate"):
            metric(image[1:], image)
    with pytest.raises(ShapeError, match="11 pixels"):
        ssim(image[:8], image[:8])


@pytest.mark.skipif(not IMAGES.is_dir(), reason="the images of the published tables are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "quality", "published"),  # Jiang et al., FBCNN, ICCV 2021: PSNR, SSIM, PSNR-B
    [
        ("classic5", 10, (27.82, 0.760, 25.21)),
        ("classic5", 40, (32.43, 0.885, 29.92)),
        ("LIVE1", 10, (27.77, 0.773, 25.33)),
    ],
)
def test_the_plain_decoder_has_its_published_figures(name, quality, published):
    (row,) = evaluate_deblocking({name: IMAGES / name}, (quality,), ("jpeg",), quiet=True)
    assert row["psnr"] == pytest.approx(published[0], abs=0.006)
    assert row["ssim"] == pytest.approx(published[1], abs=0.0006)
    assert row["psnr_b"] == pytest.approx(published[2], abs=0.011)
    assert row["agreement"] > 0.999
