# SPDX-License-Identifier: Apache-2.0
"""The pose methods of the paper's tables, judged on the same inputs; what was judged is found again in a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..baselines.neural_mesh_renderer import NeuralMeshConfig, NeuralMeshDescent
from ..baselines.silhouette_descent import SilhouetteDescent
from ..baselines.soft_silhouette import SoftSilhouetteConfig, SoftSilhouetteDescent
from ..processes.mesh import Mesh, simplified
from ..solver import SolverConfig
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, Symmetries
from ..tasks.object_pose.covariance import metric_pose, normalised_pose
from ..tasks.object_pose.crop import look_at_box, mask_bounds
from ..tasks.object_pose.estimator import DEFAULT_WEIGHTS
from .paper_config import PaperConfig, Workspace, digest
from .paper_training import Instance
from .pose_methods import SOFT_FACES, Method, make_method
from .pose_trials import CAMERA, PoseTrialConfig, make_trials
from .runner import TrialOutcome, score

DESCENT_CROP = 128
POLISH_CROP = 256
TIMED, REPEATS = 8, 20  # objects that a quick method is timed on, and how often
TIMED_SLOWLY = 4  # objects that a slow one is timed on, once each
SIZE_OF_OBJECTS = 0.2  # metres; errors are in diameters
ADAPTIVE = SolverConfig()
PLAIN = SolverConfig(adaptive=False, keep_best=False)
Maker = Callable[[Mesh, Symmetries], Method]


@dataclass(frozen=True)
class PaperMethod:
    """A row.

    Attributes:
        label: as it is printed.
        identity: all that its results depend on besides the input, ready for JSON.
        make: builds it for one mesh.
        slow: it takes seconds, and is timed with fewer solves.
    """

    label: str
    identity: Mapping[str, Any]
    make: Maker
    slow: bool = False


@dataclass(frozen=True)
class Judged:
    """The errors of one method on one input, and the commit that found them."""

    category: str
    outcome: TrialOutcome
    commit: str


def initial_method() -> PaperMethod:
    """Leaves the pose as it is."""
    return PaperMethod("initial pose", {"method": "initial"}, lambda mesh, symmetries: lambda m, k, initial: initial)


def learned_method(
    label: str, weights: Path | None, solver: SolverConfig = ADAPTIVE, stages: int | None = None, polish: bool = False
) -> PaperMethod:
    """The solver of a weights file, the shipped one if None; ``polish`` adds contour Gauss-Newton."""
    file = weights or DEFAULT_WEIGHTS
    polished = EstimatorConfig(solver=solver, retry_angle_deg=0.0)
    config = polished if polish else EstimatorConfig(solver=solver, retry_angle_deg=0.0, refine=None)

    def make(mesh: Mesh, symmetries: Symmetries) -> Method:
        estimator = ObjectPoseEstimator(mesh, file, "cpu", config, symmetries, stages)
        return lambda mask, camera, initial: estimator.estimate(mask, camera, initial).T_camera_object

    return PaperMethod(label, {"weights": digest(file), "stages": stages, **asdict(config)}, make)


class CropDescent:
    """A gradient descent on the crop that the solver sees.

    Args:
        mesh: the object.
        kind: SoftRas or NMR.
        config: its settings.
        side: of the crop, pixels.
    """

    def __init__(
        self, mesh: Mesh, kind: Callable[..., SilhouetteDescent], config: Any, side: int = DESCENT_CROP
    ) -> None:
        self.mesh, self.side = mesh, side
        coarse = simplified(mesh, SOFT_FACES)
        vertices = (coarse.vertices - mesh.center) / mesh.diameter
        self.descent = kind(torch.from_numpy(vertices).float(), torch.from_numpy(coarse.faces).long(), config)

    def __call__(self, mask: np.ndarray, camera: np.ndarray, initial: np.ndarray) -> np.ndarray:
        """Mask, camera matrix, T_camera_object -> T_camera_object."""
        virtual = look_at_box(mask_bounds(mask), camera, self.side)
        crop, _ = virtual.warp(mask, camera)
        start = normalised_pose(virtual.to_virtual(initial), self.mesh.center, self.mesh.diameter)
        observed = (torch.from_numpy(crop).float()[None], torch.from_numpy(virtual.camera_matrix).float()[None])
        found = self.descent.estimate(observed, torch.from_numpy(start).float()[None])
        return virtual.to_real(metric_pose(found.estimate[0].double().numpy(), self.mesh.center, self.mesh.diameter))


def softras_method(config: PaperConfig) -> PaperMethod:
    """SoftRas from the initial pose."""
    settings = SoftSilhouetteConfig(iterations=config.descent_iterations)
    return PaperMethod(
        "SoftRas", {"method": "softras", **asdict(settings)},
        lambda mesh, symmetries: CropDescent(mesh, SoftSilhouetteDescent, settings), slow=True,
    )  # fmt: skip


def softras_polish(config: PaperConfig) -> PaperMethod:
    """SoftRas with small steps and a sharp image, for a pose that is nearly right; it keeps that if it fits better.

    Of the settings that were tried on instances for training, from poses of the solver, these leave the least error.
    Softer images hurt: where a front and a back face meet at the outline both cover the pixels beyond it, so that the
    soft silhouette is larger than the object, and the object is put too far away.
    """
    settings = SoftSilhouetteConfig(
        iterations=config.polish_iterations, learning_rate=1e-3, sigma_start=3e-6, sigma_end=3e-7, size=POLISH_CROP,
        keep_start=True,
    )  # fmt: skip
    return PaperMethod(
        "SoftRas", {"method": "softras", "side": POLISH_CROP, **asdict(settings)},
        lambda mesh, symmetries: CropDescent(mesh, SoftSilhouetteDescent, settings, POLISH_CROP), slow=True,
    )  # fmt: skip


def nmr_method(config: PaperConfig) -> PaperMethod:
    """NMR from the initial pose."""
    settings = NeuralMeshConfig(iterations=config.descent_iterations)
    return PaperMethod(
        "NMR", {"method": "nmr", **asdict(settings)},
        lambda mesh, symmetries: CropDescent(mesh, NeuralMeshDescent, settings), slow=True,
    )  # fmt: skip


def gauss_newton_method(name: str = "gauss_newton") -> PaperMethod:
    """The classical peer."""
    starts = "8 starts" if name.endswith("8") else "1 start"
    return PaperMethod(
        f"contour Gauss-Newton, {starts}", {"method": name},
        lambda mesh, symmetries: make_method(name, mesh, symmetries, None, "cpu"),
    )  # fmt: skip


def chained(label: str, first: PaperMethod, second: PaperMethod) -> PaperMethod:
    """The second method, from where the first one ended."""

    def make(mesh: Mesh, symmetries: Symmetries) -> Method:
        begin, end = first.make(mesh, symmetries), second.make(mesh, symmetries)
        return lambda mask, camera, initial: end(mask, camera, begin(mask, camera, initial))

    return PaperMethod(label, {"first": first.identity, "second": second.identity}, make, first.slow or second.slow)


def trial_config(config: PaperConfig) -> PoseTrialConfig:
    """The difficulty."""
    return PoseTrialConfig(
        columns_deg=(config.angle_deg,), per_mesh=config.per_mesh, shift=config.shift, depth=config.shift,
        seed=config.seed,
    )  # fmt: skip


def provenance(space: Workspace, judged: Sequence[Judged]) -> dict[str, Any]:
    """Columns of a row; the commits are those that its outcomes were found with."""
    commits = ", ".join(dict.fromkeys(j.commit for j in judged))
    return {**space.provenance_columns(), **({"commit": commits} if commits else {})}


def scaled(instance: Instance) -> Mesh:
    """The instance at the size of the trials."""
    mesh = instance.mesh
    return Mesh(mesh.name, mesh.vertices * (SIZE_OF_OBJECTS / mesh.diameter), mesh.faces)


def judge(
    space: Workspace, instances: Sequence[Instance], methods: Mapping[str, PaperMethod]
) -> dict[str, list[Judged]]:
    """Errors of every method on every input, in the same order for all.

    Args:
        space: where the journal is.
        instances: held out.
        methods: by name.
    """
    journal = space.journal()
    meshes = [scaled(i) for i in instances]
    trials = make_trials(meshes, trial_config(space.config))
    out: dict[str, list[Judged]] = {name: [] for name in methods}
    with tqdm(total=len(meshes) * len(methods), disable=space.quiet, unit="row", desc="judge") as bar:
        for m, (instance, mesh) in enumerate(zip(instances, meshes, strict=True)):
            own = [t for t in trials if t.mesh == m]
            symmetries = Symmetries.from_mesh(mesh)
            for name, method in methods.items():
                bar.set_postfix_str(f"{mesh.name}: {name}", refresh=False)
                inputs = [asdict(trial_config(space.config)), m, mesh.name, len(mesh.faces)]
                key = f"{name} {mesh.name} {digest([method.identity, inputs, space.provenance.get('machine')])}"
                noted = journal.get(key)
                if noted is None:
                    solve = method.make(mesh, symmetries)
                    noted = {"commit": space.provenance.get("commit", ""), "outcomes": []}
                    for trial in own:
                        start = time.perf_counter()
                        estimate = solve(trial.mask, CAMERA, trial.T_initial)
                        seconds = time.perf_counter() - start
                        noted["outcomes"].append(asdict(score(estimate, trial, mesh, symmetries, seconds)))
                    journal.put(key, noted)
                out[name] += [Judged(instance.category, TrialOutcome(**o), noted["commit"]) for o in noted["outcomes"]]
                bar.update(1)
    return out


def processor_ms(
    space: Workspace, instances: Sequence[Instance], methods: Mapping[str, PaperMethod]
) -> dict[str, float]:
    """Median processor time of one solve of every method, milliseconds; found again in the journal.

    Other programs hardly lengthen processor time; that of several threads adds up. What is compiled or loaded at first
    use is no time of a method. The objects are spread evenly over those given, one pose each.
    """
    journal = space.journal()
    meshes = [scaled(i) for i in instances]
    config = replace(trial_config(space.config), per_mesh=1)
    found = {}
    for name, method in tqdm(methods.items(), disable=space.quiet, unit="method", desc="time"):
        count = min(TIMED_SLOWLY if method.slow else TIMED, len(meshes))
        chosen = [meshes[i * len(meshes) // count] for i in range(count)]
        inputs = [asdict(config), [[mesh.name, len(mesh.faces)] for mesh in chosen]]
        key = f"time of {name} {digest([method.identity, inputs, space.provenance.get('machine')])}"
        noted = journal.get(key)
        if noted is None:
            times = []
            for trial in make_trials(chosen, config):
                mesh = chosen[trial.mesh]
                solve = method.make(mesh, Symmetries.from_mesh(mesh))
                for i in range(1 if method.slow else 1 + REPEATS):
                    start = time.process_time()
                    solve(trial.mask, CAMERA, trial.T_initial)
                    if method.slow or i > 0:
                        times.append(1e3 * (time.process_time() - start))
            noted = float(np.median(times))
            journal.put(key, noted)
        found[name] = noted
    return found
