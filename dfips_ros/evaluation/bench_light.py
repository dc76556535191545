# SPDX-License-Identifier: Apache-2.0
"""The parts of an illumination solve, and other methods on the same pictures in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..processes.mesh import Mesh
from ..processes.shading_pyrender import PyrenderShading
from ..tasks.illumination import IlluminationEstimator, estimator
from ..tasks.illumination.crop import ObjectView
from ..tasks.illumination.estimator import STARTS, WEIGHTS
from ..tasks.illumination.problem import LightSpace, ShadingFeedback, search_starts
from .bench_figures import (
    REST,
    WHOLE,
    Figure,
    Seams,
    Stopwatch,
    figures_of_parts,
    measure,
    milliseconds,
    not_measured,
)  # fmt: skip
from .illumination_methods import METHODS, SLOW, LightPictures, make_method
from .illumination_trials import CAMERA, LightTrial, LightTrialConfig, make_trials

PEERS = ("least_squares", "adam_same", "gauss_newton_7", "gauss_newton_50", "nelder_mead", "ours")
PEER_TRIALS = 8
SLOW_TRIALS = 2
PARTS = (WHOLE, "crop", "first search", "simulate", "network", "update", REST)


def make_inputs(mesh: Mesh, kind: str, count: int, seed: int) -> list[LightTrial]:
    """Pictures of a matt object under random lights of one kind."""
    return list(make_trials([mesh], LightTrialConfig(kind, "matt", count, seed=seed)))


def measure_parts(
    solver: IlluminationEstimator, inputs: Sequence[LightTrial], device: str, **more: Any
) -> list[Figure]:
    """``estimate`` on each picture, taken apart; ``more`` are fields of :class:`Figure`."""
    seams: Seams = {
        "crop": [(IlluminationEstimator, "look")],
        "first search": [(estimator, "search_starts")],
        "simulate": [(ShadingFeedback, "__call__")],
        "network": [(type(solver.solver.stages[0]), "forward")],
        "update": [(LightSpace, "apply")],
    }
    solver.warm_up()
    watch = Stopwatch(seams, device)
    with watch.open():
        laps = [
            watch.lap(lambda one=one: solver.estimate(one.image, CAMERA, one.T_camera_object))  # type: ignore[misc]
            for one in inputs
        ]
    return figures_of_parts(f"{solver.kind}: estimate", laps, device=device, **more)


def measure_peers(
    solver: IlluminationEstimator, inputs: Sequence[LightTrial], weights: str | None, quick: bool, **more: Any
) -> Iterator[Figure]:
    """Every method on the same pixels from the same starts, on the CPU; the note says how right it was.

    The time is that of the search for the light alone; the crop and the first search are in none of the rows.
    """
    point = solver.kind == "point"
    file = weights or WEIGHTS / f"illumination_{solver.kind}.safetensors"
    used = inputs[:PEER_TRIALS]
    views = [solver.look(one.image, CAMERA, one.T_camera_object) for one in used]
    starts = [search_starts(view.observation, point, STARTS) for view in views]
    size = solver.config.crop_size
    for name in PEERS:
        title = f"{solver.kind}: {METHODS[name]}"
        if name in SLOW and quick:
            yield not_measured(title, "ms", "--quick", **more)
            continue
        method, count = make_method(name, point, file), SLOW_TRIALS if name in SLOW else len(used)
        scenes = [
            [PyrenderShading(solver.shading, view.pose, view.camera_matrix, (size, size))] if name in SLOW else []
            for view in views[:count]
        ]
        lights: dict[int, torch.Tensor] = {}

        def work(i: int, method: Any = method, scenes: Any = scenes, lights: dict = lights) -> None:
            with torch.inference_mode(mode=not name.startswith("adam")):  # noqa: B023
                lights[i] = method(LightPictures(views[i].observation, views[i].fine, starts[i], scenes[i]))[0]

        seconds = measure(work, count, warm_up=0 if name in SLOW else 1)
        error = np.median([_error_deg(lights[i], views[i], used[i]) for i in range(count)])
        yield milliseconds(title, seconds, note=f"median error of the light's direction {error:.1f}°", **more)


def _error_deg(light: torch.Tensor, view: ObjectView, trial: LightTrial) -> float:
    """Angle between the found and the true direction, seen from the object's center."""
    found = view.R_virtual_camera.T @ light.detach().double().numpy()
    cosine = found @ trial.light / (np.linalg.norm(found) * np.linalg.norm(trial.light))
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))))
