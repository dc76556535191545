# SPDX-License-Identifier: Apache-2.0
"""The methods that ``dfips evaluate illumination`` compares: each turns observations and starts into lights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    refine,
)  # fmt: skip


@dataclass(frozen=True)
class LightPictures:
    """What a method is given of B pictures.

    Attributes:
        observation: the pixels that the stages compare.
        fine: more of the pixels.
        starts: (B, S, 8) initial estimates.
        scenes: of all pictures, for pyrender.
    """

    observation: LightObservation
    fine: LightObservation
    starts: Tensor
    scenes: Sequence[PyrenderShading]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Tensor) -> LightPictures:
        return LightPictures(self.observation[index], self.fine[index], self.starts[index], self.scenes)


LightMethod = Callable[[LightPictures], Tensor]  # -> lights (B, 3)
METHODS = {
    "initial": "initial (coarse search)",
    "least_squares": "least squares, Lambert (closed form)",
    "adam_lambert": "Adam, Lambert",
    "adam_phong": "Adam, Lambert and Blinn-Phong",
    "adam_same": "Adam, the same shading",
    "gauss_newton_7": "Gauss-Newton, untrained, 7 steps",
    "gauss_newton_50": "Gauss-Newton, untrained, 50 steps",
    "gauss_newton_refined": "Gauss-Newton, untrained, 7 steps, refined",
    "nelder_mead": "Nelder-Mead, pyrender",
    "ours_1": "ours, 1 stage (direct regression)",
    "ours_3": "ours, 3 stages",
    "ours_7": "ours, 7 stages",
    "ours_7_one_start": "ours, 7 stages, one start",
    "ours": "ours, 7 stages, refined",
    "ours_shared": "ours, 7 stages, shared weights",
    "ours_pyrender": "ours, 7 stages, refined, pyrender as forward process",
}
SLOW = ("nelder_mead", "ours_pyrender")  # see some of the pictures, one by one
SLOWISH = ("adam_lambert", "adam_phong", "gauss_newton_50")  # see as many, at once
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
        return lambda pictures: pictures.starts[:, 0, :3]
    if name == "least_squares":
        return lambda pictures: least_squares_light(pictures.fine, point)[:, :3]
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
    steps = {"gauss_newton_7": 7, "gauss_newton_50": 50, "gauss_newton_refined": 7}
    if name in steps:
        torch.manual_seed(0)
        untrained = make_solver(load_solver(weights, kind)[1]).eval()
        return _unrolled(untrained, steps[name], None, name == "gauss_newton_refined")
    stages = {"ours_1": 1, "ours_3": 3, "ours_7": 7, "ours_7_one_start": 7, "ours": 7}
    if name not in stages:
        raise ConfigError(f"method {name!r}: expected one of {', '.join(METHODS)}.")
    only = 1 if name == "ours_7_one_start" else None
    return _unrolled(load_solver(weights, kind)[0], stages[name], only, name == "ours")


def _repeated(observation: LightObservation, starts: int) -> LightObservation:
    return observation[torch.arange(len(observation)).repeat_interleave(starts)]


def _best(lights: Tensor, norms: Tensor, starts: int) -> Tensor:
    """(B S, 3) lights, (B S,) residual norms -> (B, 3), those with the smallest residual."""
    best = norms.reshape(-1, starts).argmin(1)
    return lights.reshape(-1, starts, 3)[torch.arange(len(best)), best]


def _picked(solution: Solution, starts: int) -> Tensor:
    return _best(solution.estimate[:, :3], solution.residual_norms.min(1).values, starts)


def _refined(
    solver: FeedbackSolver, pictures: LightPictures, observation: LightObservation, solution: Solution
) -> Tensor:
    found = refine(solver, observation, pictures.fine, solution)
    return found.estimates[torch.arange(len(pictures)), found.best, :3]


def _unrolled(solver: FeedbackSolver, stages: int, only: int | None, refined: bool = False) -> LightMethod:
    def method(pictures: LightPictures) -> Tensor:
        used = pictures.starts[:, :only]
        count = used.shape[1]
        observation = _repeated(pictures.observation, count)
        solution = solver.estimate(observation, used.flatten(0, 1), stages)
        return _refined(solver, pictures, observation, solution) if refined else _picked(solution, count)

    return method


def _with_pyrender(solver: FeedbackSolver, point: bool) -> LightMethod:
    def method(pictures: LightPictures) -> Tensor:
        feedback = PyrenderFeedback(point, pictures.scenes)
        other = FeedbackSolver(feedback, solver.space, torch.nn.Identity, solver.config)
        other.stages = solver.stages
        starts = pictures.starts
        repeated = _repeated(pictures.observation, starts.shape[1])
        return _refined(other, pictures, repeated, other.eval().estimate(repeated, starts.flatten(0, 1)))

    return method


def _adam(shader: str, point: bool, iterations: int, learning_rate: float) -> LightMethod:
    shader = "metallic_roughness" if shader == "same" else shader

    def method(pictures: LightPictures) -> Tensor:
        count = pictures.starts.shape[1]
        o = _repeated(pictures.fine, count)
        pixels = (o.values, o.position, o.normal, o.view, o.weight, o.limit)
        lights, norms = adam_light(pixels, pictures.starts.flatten(0, 1), point, shader, iterations, learning_rate)
        return _best(lights, norms, count)

    return method


def _nelder_mead(point: bool) -> LightMethod:
    def method(pictures: LightPictures) -> Tensor:
        feedback = PyrenderFeedback(point, pictures.scenes)
        found = []
        for b in range(len(pictures)):
            one = pictures.fine[torch.tensor([b])]

            def residual_norm(x: np.ndarray, one: LightObservation = one) -> float:
                estimate = torch.from_numpy(x).float()[None]
                residual = feedback.simulated(one, estimate, torch.empty_like(one.values)) - one.values
                return float((one.weight * residual.square()).mean().sqrt())

            light, _ = nelder_mead_light(residual_norm, pictures.starts[b, 0].numpy(), point, EVALUATIONS)
            found.append(torch.from_numpy(light).float())
        return torch.stack(found)

    return method
