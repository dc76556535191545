# SPDX-License-Identifier: Apache-2.0
"""The illumination and inverse kinematics parts of the paper's tables 2 and 3: rows for CSVs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..processes.example_robots import example_robot
from ..processes.kinematics import SerialChain
from ..processes.mesh import Mesh
from ..solver import SolverConfig, TrainingConfig, load_checkpoint
from ..tasks.illumination import IlluminationConfig
from ..tasks.illumination.config import KINDS, LightDataConfig
from ..tasks.illumination.data import draw_views, make_batch
from ..tasks.illumination.estimator import STARTS, WEIGHTS
from ..tasks.illumination.problem import load_solver, search_starts
from ..tasks.illumination.training_recipe import LightTrainingConfig
from ..tasks.illumination.training_recipe import train as train_light_stages
from ..tasks.inverse_kinematics import JointNetworkConfig
from ..tasks.inverse_kinematics.training_recipe import KinematicsTrainingConfig
from ..tasks.inverse_kinematics.training_recipe import train as train_joint_stages
from ..tasks.inverse_kinematics.training_recipe import validate as validate_joints
from ..tasks.inverse_kinematics.weights import find_weights, restore_solver
from ..tasks.object_pose.training_recipe import VALIDATION_SEED
from .illumination_runner import told_pictures
from .paper_config import PaperConfig, Workspace, digest, first_half, second_half
from .paper_numbers import NOT_TOLD
from .paper_training import category_instances

Row = dict[str, Any]
LIGHT, JOINTS = "illumination", "inverse kinematics"
LIGHT_UNITS = {"directional": "distance of unit directions", "point": "diameters"}
JOINT_UNITS = {"position": "mm", "rotation": "degrees"}
_JOINT_COLUMNS = {"position": "position_{}_mm", "rotation": "orientation_{}_deg"}
LIGHT_STEPS, JOINT_STEPS = (1, 3, 7), (1, 2, 3)


def judged_light_data(config: PaperConfig) -> LightDataConfig:
    """Views that are judged: true poses, plain materials, little noise."""
    return LightDataConfig(
        views=config.light_judged, wrong_pose=0.0, textured=0.0, noise=0.01, seed=VALIDATION_SEED + config.seed
    )


def light_errors(files: Sequence[Path], kind: str, config: PaperConfig) -> tuple[list[Tensor], Tensor]:
    """Errors of lights in the same pictures, each solved from several starts as the estimator does.

    Args:
        files: weights of this kind of light.
        kind: of light.
        config: names the objects.

    Returns:
        Of each file (stages, pictures), :data:`LIGHT_UNITS`; and (pictures,) bool: the light can be told at all.
    """
    held = [instance.mesh for instance in category_instances(config)[1]]
    data = judged_light_data(config)
    solvers = [load_solver(file, kind)[:2] for file in files]
    model = solvers[0][1]
    views = draw_views(held, data, model.crop_size)
    rng = torch.Generator().manual_seed(VALIDATION_SEED)
    observation, _, truth = make_batch(views, torch.arange(len(views.depth)), model, data, rng)
    light = truth["estimate"][:, :3]
    starts = search_starts(observation, model.point, STARTS)
    repeated = observation[torch.arange(len(light)).repeat_interleave(STARTS)]
    errors = []
    for solver, _ in solvers:
        solution = solver.estimate(repeated, starts.flatten(0, 1))
        norms = solution.residual_norms.reshape(len(light), STARTS, -1)
        of_stages = []
        for t in range(1, len(solution.history)):
            best = norms[:, :, t].argmin(1)
            found = solution.history[t][:, :3].reshape(len(light), STARTS, 3)[torch.arange(len(light)), best]
            of_stages.append(torch.linalg.vector_norm(found - light, dim=1))
        errors.append(torch.stack(of_stages))
    return errors, told_pictures(observation, light, starts, model.point)


def light_figures(errors: Tensor, told: Tensor) -> Row:
    """Mean and median over all pictures, and over those that tell the light."""
    some = errors[told] if bool(told.any()) else torch.tensor([float("nan")])
    return {
        "mean": round(float(errors.mean()), 4), "median": round(float(errors.median()), 4),
        "told_percent": round(100.0 * float(told.float().mean()), 1),
        "told_mean": round(float(some.mean()), 4), "told_median": round(float(some.median()), 4),
    }  # fmt: skip


def table_2_tasks(space: Workspace) -> list[Row]:
    """The shipped stages, judged after each number of steps that the paper has."""
    config = space.config
    rows: list[Row] = []
    for kind in KINDS:
        (errors,), told = light_errors([WEIGHTS / f"illumination_{kind}.safetensors"], kind, config)
        label = {"task": LIGHT, "solver": "shipped weights", "quantity": kind, "unit": LIGHT_UNITS[kind]}
        rows += [{**label, "steps": steps, **light_figures(errors[steps - 1], told)} for steps in LIGHT_STEPS]
    robot = example_robot(config.ik_robot)
    shipped = find_weights(SerialChain.from_urdf(str(robot.urdf), robot.tip, robot.base))
    if shipped is None:
        raise ConfigError(f"ik_robot={config.ik_robot!r}: no weights ship for this arm.")
    solver, core, _ = restore_solver(shipped)
    figures = validate_joints(solver, core)
    arm = f"shipped weights, {config.ik_robot}"
    for quantity, unit in JOINT_UNITS.items():
        for steps in JOINT_STEPS:
            label = {"task": JOINTS, "solver": arm, "quantity": quantity, "unit": unit}
            rows.append({**label, "steps": steps, **_joint_figures(figures, quantity, steps), **NOT_TOLD})
    return [{**row, "training": "", **space.provenance_columns()} for row in rows]


def _joint_figures(figures: Mapping[str, Sequence[float]], quantity: str, steps: int) -> dict[str, float]:
    name = _JOINT_COLUMNS[quantity]
    return {kind: figures[name.format(kind)][steps - 1] for kind in ("mean", "median")}


def table_3_tasks(space: Workspace) -> list[Row]:
    """Stages with shared and with own weights, of equal budgets."""
    rows: list[Row] = []
    ways = ("shared", "own")
    for kind in KINDS:
        trained = [train_light(space, kind, weights == "shared") for weights in ways]
        errors, told = light_errors([file for file, _ in trained], kind, space.config)
        for weights, found, (_, spent) in zip(ways, errors, trained, strict=True):
            rows.append({"task": LIGHT, "solver": "trained", "quantity": kind, "unit": LIGHT_UNITS[kind],
                         "weights": weights, **light_figures(found[-1], told), "training": spent})  # fmt: skip
    joints = {weights: train_joints(space, weights == "shared") for weights in ways}
    for quantity, unit in JOINT_UNITS.items():
        for weights, (file, spent) in joints.items():
            label = {"task": JOINTS, "solver": f"trained, {space.config.ik_robot}", "quantity": quantity, "unit": unit}
            noted = load_checkpoint(file, "inverse_kinematics").provenance["validation"]
            figures = _joint_figures(noted, quantity, JOINT_STEPS[-1])
            rows.append({**label, "weights": weights, **figures, **NOT_TOLD, "training": spent})
    return [{**row, **space.provenance_columns()} for row in rows]


@dataclass(frozen=True)
class _Recipe:
    """How one file of a task is trained, whatever its budget.

    Attributes:
        kind: of its weights file.
        out: the file.
        train: budget, file to begin with, resume -> provenance.
    """

    kind: str
    out: Path
    train: Callable[[TrainingConfig, Path | None, bool], Any]

    def made(self, budget: TrainingConfig, begin: Path | None = None) -> dict[str, Any]:
        """Provenance of the file; trained only as far as the budget is not used up."""
        if self.out.is_file():
            noted = load_checkpoint(self.out, self.kind).provenance
            spent = noted["recipe"]["training"]
            same = spent["minutes"] == budget.minutes and spent["max_batches"] == budget.max_batches
            if same and "validation" in noted:
                return noted
        self.train(budget, begin, self.out.with_suffix(".state").is_file())
        return load_checkpoint(self.out, self.kind).provenance


def _spent(*noted: Mapping[str, Any]) -> str:
    minutes, samples = (sum(n[name] for n in noted) for name in ("minutes", "samples"))
    return f"{minutes:.1f} min, {samples} examples"


def train_light(space: Workspace, kind: str, shared: bool) -> tuple[Path, str]:
    """Weights trained on instances of the categories, and what that took.

    In the first half there is one stage for all, as for the pose (:class:`PoseVariant`) and for the weights that ship.
    """
    config = space.config
    seen, held = ([i.mesh for i in part] for part in category_instances(replace(config, meshes=())))
    data = LightDataConfig(views=config.light_views, seed=config.seed)

    def recipe(shared: bool, purpose: str) -> _Recipe:
        solver = SolverConfig(num_stages=LIGHT_STEPS[-1], shared_weights=shared)
        model = IlluminationConfig(kind=kind, width=config.light_width, solver=solver)
        number = digest([model.to_dict(), asdict(data), _names(seen), config.bfloat16, purpose])
        out = space.work / f"illumination_{number}.safetensors"

        def train(budget: TrainingConfig, begin: Path | None, resume: bool) -> None:
            own = replace(data, seed=data.seed + 1) if begin else data  # what goes on sees other views
            settings = LightTrainingConfig(str(out), str(begin) if begin else None, model, own, budget)
            train_light_stages(settings, seen, held, resume=resume, quiet=space.quiet)

        return _Recipe("illumination", out, train)

    budget = config.training("illumination")
    first, second = recipe(True, "first half"), recipe(shared, "second half")
    if not second.out.is_file():  # a longer budget goes to the second half
        first.made(first_half(budget))
    begun = load_checkpoint(first.out, first.kind).provenance
    return second.out, _spent(begun, second.made(second_half(budget, begun), first.out))


def train_joints(space: Workspace, shared: bool) -> tuple[Path, str]:
    """Weights for one arm, with the errors at targets never trained on in the header; and what that took.

    Here own weights have no shared ones to begin with: the first stage proposes jumps and the others steps, while a
    stage for all must propose both.
    """
    config = space.config
    robot = example_robot(config.ik_robot)
    solver = SolverConfig(num_stages=JOINT_STEPS[-1], shared_weights=shared, adaptive=False, keep_best=False)
    model = JointNetworkConfig(width=config.ik_width, solver=solver)
    number = digest([model.to_dict(), robot.name, config.ik_batch, config.seed, config.bfloat16])
    out = space.work / f"ik_{number}.safetensors"

    def train(budget: TrainingConfig, begin: Path | None, resume: bool) -> None:
        settings = KinematicsTrainingConfig(
            urdf=str(robot.urdf), tip=robot.tip, base=robot.base, out=str(out), batch_size=config.ik_batch,
            data_seed=1 + config.seed, model=model, training=budget,
        )  # fmt: skip
        train_joint_stages(settings, resume=resume, quiet=space.quiet)

    return out, _spent(_Recipe("inverse_kinematics", out, train).made(
        config.training("inverse kinematics", 2e-3, 0.999)
    ))  # fmt: skip


def _names(meshes: Sequence[Mesh]) -> list[list[Any]]:
    return [[mesh.name, len(mesh.faces)] for mesh in meshes]
