# SPDX-License-Identifier: Apache-2.0
"""The methods that ``dfips evaluate illumination`` compares: each turns observations and starts into lights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..baselines.illumination_adam import adam_light
from ..baselines.illumination_search import nelder_mead_light
from ..errors import ConfigError
from ..processes.shading_pyrender import PyrenderShading
from ..solver import FeedbackSolver, Solution
from ..tasks.illumination.problem import (
    LightObservation,
    PyrenderFeedback,
    least_squares_light,
    load_solver,
    make_solver,
)  # fmt: skip

# Observations of B pictures, S starts each (B, S, 8), scenes of the pictures -> lights (B, 3).
LightMethod = Callable[[LightObservation, Tensor, Sequence[PyrenderShading]], Tensor]
METHODS = {
    "initial": "initial (coarse search)",
    "least_squares": "least squares, Lambert (closed form)",
    "adam_lambert": "Adam, Lambert",
    "adam_phong": "Adam, Lambert and Blinn-Phong",
    "adam_same": "Adam, the same shading",
    "gauss_newton_7": "Gauss-Newton, untrained, 7 steps",
    "gauss_newton_50": "Gauss-Newton, untrained, 50 steps",
    "nelder_mead": "Nelder-Mead, pyrender",
    "ours_1": "ours, 1 stage (direct regression)",
    "ours_3": "ours, 3 stages",
    "ours_7": "ours, 7 stages",
    "ours_7_one_start": "ours, 7 stages, one start",
    "ours_shared": "ours, 7 stages, shared weights",
    "ours_pyrender": "ours, 7 stages, pyrender as forward process",
}
SLOW = ("nelder_mead", "ours_pyrender")  # see some of the pictures, one by one
SLOWISH = ("adam_lambert", "adam_phong", "adam_same", "gauss_newton_50")  # see as many, at once
# Learning rate for directional and point lights: the best of 0.02, 0.05 and 0.1 on generated shapes. More than 400
# iterations were not tried; 100 and 200 are worse.
ADAM = {"adam_lambert": (0.02, 0.05), "adam_phong": (0.02, 0.05), "adam_same": (0.02, 0.1)}
ADAM_ITERATIONS = 400
EVALUATIONS = 400  # of Nelder-Mead


def make_method(name: str, point: bool, weights: str | Path, shared: str | Path | None = None) -> LightMethod:
    """The method called ``name`` (a key of :data:`METHODS`).

    Args:
        name: of the method.
        point: whether the lights are point lights.
        weights: of the solver.
        shared: weights of the solver that has one network for all stages.

    Raises:
        ConfigError: an unknown name, or ``ours_shared`` without weights.
    """
    kind = "point" if point else "directional"
    if name == "initial":
        return lambda observation, starts, scenes: starts[:, 0, :3]
    if name == "least_squares":
        return lambda observation, starts, scenes: least_squares_light(observation, point)[:, :3]
    if name in ADAM:
        return _adam(name.removeprefix("adam_"), point, ADAM_ITERATIONS, ADAM[name][point])
    if name == "nelder_mead":
        return _nelder_mead(point)
    if name == "ours_pyrender":
        return _with_pyrender(load_solver(weights, kind)[0], point)
    if name == "ours_shared":
        if shared is None:
            raise ConfigError("method 'ours_shared': needs weights of a solver with shared ones: --shared FILE.")
        return _unrolled(load_solver(shared, kind)[0], 7, None)
    if name.startswith("gauss_newton_"):
        torch.manual_seed(0)
        untrained = make_solver(load_solver(weights, kind)[1]).eval()
        return _unrolled(untrained, int(name.removeprefix("gauss_newton_")), None)
    stages = {"ours_1": 1, "ours_3": 3, "ours_7": 7, "ours_7_one_start": 7}
    if name not in stages:
        raise ConfigError(f"method {name!r}: expected one of {', '.join(METHODS)}.")
    return _unrolled(load_solver(weights, kind)[0], stages[name], 1 if name == "ours_7_one_start" else None)


def _repeated(observation: LightObservation, starts: int) -> LightObservation:
    return observation[torch.arange(len(observation)).repeat_interleave(starts)]


def _best(lights: Tensor, norms: Tensor, starts: int) -> Tensor:
    """(B S, 3) lights, (B S,) residual norms -> (B, 3), those with the smallest residual."""
    best = norms.reshape(-1, starts).argmin(1)
    return lights.reshape(-1, starts, 3)[torch.arange(len(best)), best]


def _picked(solution: Solution, starts: int) -> Tensor:
    return _best(solution.estimate[:, :3], solution.residual_norms.min(1).values, starts)


def _unrolled(solver: FeedbackSolver, stages: int, only: int | None) -> LightMethod:
    def method(observation: LightObservation, starts: Tensor, scenes: Sequence[PyrenderShading]) -> Tensor:
        used = starts[:, :only]
        count = used.shape[1]
        return _picked(solver.estimate(_repeated(observation, count), used.flatten(0, 1), stages), count)

    return method


def _with_pyrender(solver: FeedbackSolver, point: bool) -> LightMethod:
    def method(observation: LightObservation, starts: Tensor, scenes: Sequence[PyrenderShading]) -> Tensor:
        other = FeedbackSolver(PyrenderFeedback(point, scenes), solver.space, torch.nn.Identity, solver.config)
        other.stages = solver.stages
        count = starts.shape[1]
        return _picked(other.eval().estimate(_repeated(observation, count), starts.flatten(0, 1)), count)

    return method


def _adam(shader: str, point: bool, iterations: int, learning_rate: float) -> LightMethod:
    shader = "metallic_roughness" if shader == "same" else shader

    def method(observation: LightObservation, starts: Tensor, scenes: Sequence[PyrenderShading]) -> Tensor:
        count = starts.shape[1]
        o = _repeated(observation, count)
        pixels = (o.values, o.position, o.normal, o.view, o.weight, o.limit)
        lights, norms = adam_light(pixels, starts.flatten(0, 1), point, shader, iterations, learning_rate)
        return _best(lights, norms, count)

    return method


def _nelder_mead(point: bool) -> LightMethod:
    def method(observation: LightObservation, starts: Tensor, scenes: Sequence[PyrenderShading]) -> Tensor:
        feedback = PyrenderFeedback(point, scenes)
        found = []
        for b in range(len(observation)):
            one = observation[torch.tensor([b])]

            def residual_norm(x: np.ndarray, one: LightObservation = one) -> float:
                estimate = torch.from_numpy(x).float()[None]
                residual = feedback.simulated(one, estimate, torch.empty_like(one.values)) - one.values
                return float((one.weight * residual.square()).mean().sqrt())

            light, _ = nelder_mead_light(residual_norm, starts[b, 0].numpy(), point, EVALUATIONS)
            found.append(torch.from_numpy(light).float())
        return torch.stack(found)

    return method
