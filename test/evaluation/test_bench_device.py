# SPDX-License-Identifier: Apache-2.0
"""What ``dfips bench`` measures of the solver that stays on its device; on CUDA where there is one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.evaluation import bench_device
from dfips_ros.evaluation.bench_device import PARTS, DeviceBatch, measure_training
from dfips_ros.evaluation.bench_figures import WHOLE
from dfips_ros.evaluation.bench_scaling import NO_RETRY, make_views
from dfips_ros.tasks.object_pose.gauss_newton import GaussNewtonConfig

SIZE = (96, 96)
CAMERA = np.array([[190.0, 0.0, 47.5], [0.0, 190.0, 47.5], [0.0, 0.0, 1.0]])
SMALL = replace(NO_RETRY, refine=GaussNewtonConfig(iterations=2, attempts=1), refine_size=96)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_the_solver_on_a_device_is_taken_apart(bracket):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = DeviceBatch(bracket, device, SMALL)
    views = make_views(bracket, 2, CAMERA, SIZE)
    batch.put(np.stack([v.mask for v in views]), CAMERA, np.stack([v.T_initial for v in views]))
    assert bool((batch.solve().iou > 0.8).all())
    found = {row.part: row.value for row in batch.parts(1, 0)}
    assert set(found) == set(PARTS) and all(value > 0 for value in found.values())
    assert sum(found.values()) - found[WHOLE] <= 1.01 * found[WHOLE]


def test_training_rates(monkeypatch):
    monkeypatch.setattr(bench_device, "TRAINING_SHAPES", 2)
    monkeypatch.setattr(bench_device, "TRAINING_BATCHES", (4, 8))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = list(measure_training(device, quick=True, section="pose: training"))
    assert [row.figure for row in rows] == [f"train, batch {n}" for n in ((4, 8) if device == "cuda" else (4,))]
    assert all(row.value > 0 and row.repeats == 3 and row.unit == "sample-stages/s" for row in rows)
