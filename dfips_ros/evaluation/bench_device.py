# SPDX-License-Identifier: Apache-2.0
"""The pose solver that stays on its device: batches from masks to poses, its parts without the CUDA graph, training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..processes.device_meshes import DeviceMeshes
from ..processes.mesh import Mesh
from ..solver import StageTrainer, TrainingConfig
from ..tasks.object_pose import EstimatorConfig, PoseDataConfig, device_solver, device_stages
from ..tasks.object_pose.device_covariance import DeviceCovariance
from ..tasks.object_pose.device_polish import DevicePolish
from ..tasks.object_pose.device_solver import DevicePoses, DevicePoseSolver
from ..tasks.object_pose.device_stages import DeviceStages
from ..tasks.object_pose.estimator import DEFAULT_WEIGHTS
from ..tasks.object_pose.problem import MeshSet, load_solver, make_solver, pose_loss
from ..tasks.object_pose.shapes import random_shape
from ..tasks.object_pose.training_recipe import PoseTrainingConfig, examples, prepare
from .bench_figures import REST, WHOLE, Figure, Seams, Stopwatch, figures_of_parts, measure

PARTS = (WHOLE, "crop", "observe", "simulate and compare", "network and update", "polish", "covariance", REST)

TRAINING_SHAPES = 40
TRAINING_BATCHES = (96, 1024)  # the first is what `dfips train` takes; it does not fill a GPU


class DeviceBatch:
    """A batch of masks for the solver on a device.

    Args:
        mesh: the object.
        device: ``cuda`` (or ``cpu``, where the same operations run one by one).
        config: of the estimator.
        weights: of the object pose task; the shipped ones by default.
    """

    def __init__(self, mesh: Mesh, device: str, config: EstimatorConfig, weights: str | None = None) -> None:
        self.device = torch.device(device)
        solver, _, _ = load_solver(weights or DEFAULT_WEIGHTS, [mesh], config.solver)
        self.solver = DevicePoseSolver(mesh, solver, config, self.device)

    def put(self, masks: np.ndarray, camera_matrix: np.ndarray, initial: np.ndarray) -> None:
        """Masks (B, H, W) bool, a camera (3, 3) and poses (B, 4, 4), as tensors on the device."""
        self._inputs = (
            torch.from_numpy(masks).to(self.device).view(torch.uint8),
            torch.from_numpy(camera_matrix).to(self.device, torch.float64).expand(len(masks), 3, 3),
            torch.from_numpy(initial).to(self.device, torch.float64),
        )

    def solve(self) -> DevicePoses:
        """Masks in, poses out, without leaving the device."""
        return self.solver.solve(*self._inputs)

    def parts(self, repeats: int, warm_up: int, **more: Any) -> list[Figure]:
        """The same operations one by one, each part waited for: they add up to more than a recorded solve takes."""
        seams: Seams = {
            "crop": [(device_solver, name) for name in ("mask_bounds", "area_table", "look_at_boxes", "warp")],
            "observe": [(device_solver, "observe")],
            "simulate and compare": [
                (device_stages, "compare"), (DeviceStages, "_compare"), (DeviceMeshes, "inverse_depth")
            ],
            "network and update": [(DeviceStages, "estimate"), (DeviceStages, "unroll")],
            "polish": [(DevicePolish, "estimate"), (DevicePolish, "unroll")],
            "covariance": [(device_solver, "compare"), (DeviceCovariance, "__call__")],
        }
        watch = Stopwatch(seams, self.device.type)
        with watch.open():
            laps = [watch.lap(lambda: self.solver.forward(*self._inputs)) for _ in range(warm_up + repeats)]
        return figures_of_parts("solve on the device: parts", laps[warm_up:], device=self.device.type, **more)


def measure_training(device: str, quick: bool, **more: Any) -> Iterator[Figure]:
    """Training steps of all stages, making the examples included, where the solver trains.

    Args:
        device: ``cpu`` or ``cuda``.
        quick: fewer batches.
        more: fields of :class:`Figure`.
    """
    model = PoseTrainingConfig().model
    meshes = MeshSet([random_shape(i) for i in range(TRAINING_SHAPES)], model.simulation_faces)
    for size in (TRAINING_BATCHES[0],) if device == "cpu" else TRAINING_BATCHES:
        solver = make_solver(model, meshes)
        prepare(solver, torch.device(device), seed=0)
        trainer = StageTrainer(solver, pose_loss, TrainingConfig())
        batches = examples(solver, model, PoseDataConfig(batch_size=size))
        seconds = measure(
            lambda _, t=trainer, b=batches: t.train_batch(next(b), 0.5),  # type: ignore[misc]
            3 if quick else 20, device, warm_up=2,
        )  # fmt: skip
        rate = size * model.solver.num_stages / float(np.median(seconds))
        note = f"batches of {size}, {model.solver.num_stages} stages, examples included"
        yield Figure(
            f"train, batch {size}", round(rate), "sample-stages/s", note=note, device=device, repeats=len(seconds),
            **more,
        )  # fmt: skip
