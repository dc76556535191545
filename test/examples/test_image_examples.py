# SPDX-License-Identifier: Apache-2.0
"""The examples of other inverse problems: each learns something in seconds."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        image = np.full((64, 64), rng.uniform(60, 200))
        for _ in range(25):
            corners = rng.integers(-10, 74, (3, 2)).astype(np.int32)
            cv2.fillPoly(image, [corners], float(rng.uniform(0, 255)))
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.GaussianBlur(image, (0, 0), 0.7).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "batches", "columns"), [("inverse_halftoning", 120, 6), ("super_resolution", 240, 5)]
)
def test_a_short_training_comes_nearer_to_the_truth(name, batches, columns, pictures):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors
    out = pictures / "out" / "row.png"
    out.parent.mkdir()
    words = ["--images", str(pictures), "--batches", str(batches), "--size", "32", "--out", str(out)]
    try:
        found = example.main(words)
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 4 and found[-1] > found[0] + 0.3
    assert cv2.imread(str(out)).shape == (32, 32 * columns, 3)
