# SPDX-License-Identifier: Apache-2.0
"""Pictures to compress."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module", autouse=True)
def one_thread(one_torch_thread):
    """All tests here have small tensors."""


@pytest.fixture(scope="session")
def picture():
    """picture(height, width, seed) -> (H, W, 3) uint8: gradients, edges, texture."""

    def make(height, width, seed=0):
        rng = np.random.default_rng(seed)
        image = np.full((height, width, 3), rng.uniform(60, 200, 3))
        for _ in range(12):
            corners = (rng.uniform(-0.2, 1.2, (3, 2)) * (width, height)).astype(np.int32)
            cv2.fillPoly(image, [corners], rng.uniform(0, 255, 3).tolist())
        image += cv2.GaussianBlur(rng.standard_normal((height, width, 3)), (0, 0), 1.0) * 30
        return np.clip(image, 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def jpeg(picture):
    """jpeg(height, width, **options of Pillow) -> bytes."""

    def make(height=40, width=56, seed=0, grey=False, **options):
        image = picture(height, width, seed)
        out = io.BytesIO()
        Image.fromarray(image[..., 0] if grey else image).save(out, "JPEG", **{"quality": 30, **options})
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def folder(picture, tmp_path_factory):
    """A folder with grey PNG files."""
    path = tmp_path_factory.mktemp("images")
    for i in range(6):
        cv2.imwrite(str(path / f"{i}.png"), picture(72, 88, i)[..., 0])
    return path
