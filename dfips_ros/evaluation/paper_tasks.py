# SPDX-License-Identifier: Apache-2.0
"""The illumination and inverse kinematics parts of the paper's tables 2 and 3: rows for CSVs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..processes.example_robots import example_robot
from ..processes.kinematics import SerialChain
from ..processes.mesh import Mesh
from ..solver import SolverConfig, load_checkpoint
from ..tasks.illumination import IlluminationConfig
from ..tasks.illumination.config import KINDS, LightDataConfig
from ..tasks.illumination.data import draw_views
from ..tasks.illumination.estimator import WEIGHTS
from ..tasks.illumination.problem import load_solver
from ..tasks.illumination.training_recipe import LightTrainingConfig
from ..tasks.illumination.training_recipe import train as train_light_stages
from ..tasks.illumination.training_recipe import validate as validate_light
from ..tasks.inverse_kinematics import JointNetworkConfig
from ..tasks.inverse_kinematics.training_recipe import KinematicsTrainingConfig
from ..tasks.inverse_kinematics.training_recipe import train as train_joint_stages
from ..tasks.inverse_kinematics.training_recipe import validate as validate_joints
from ..tasks.inverse_kinematics.weights import find_weights, restore_solver
from ..tasks.object_pose.training_recipe import VALIDATION_SEED
from .paper_config import PaperConfig, Workspace, digest
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


def table_2_tasks(space: Workspace) -> list[Row]:
    """The shipped stages, judged after each number of steps that the paper has."""
    config = space.config
    rows = []
    held = [instance.mesh for instance in category_instances(config)[1]]
    data = judged_light_data(config)
    for kind in KINDS:
        solver, model, _ = load_solver(WEIGHTS / f"illumination_{kind}.safetensors", kind)
        errors = validate_light(solver, model, data, draw_views(held, data, model.crop_size))
        label = {"task": LIGHT, "solver": "shipped weights", "quantity": kind, "unit": LIGHT_UNITS[kind]}
        for steps in LIGHT_STEPS:  # the first of these errors is that of the initial estimate
            rows.append({**label, "steps": steps, "mean": errors["mean"][steps], "median": errors["median"][steps]})
    robot = example_robot(config.ik_robot)
    shipped = find_weights(SerialChain.from_urdf(str(robot.urdf), robot.tip, robot.base))
    if shipped is None:
        raise ConfigError(f"ik_robot={config.ik_robot!r}: no weights ship for this arm.")
    solver, core, _ = restore_solver(shipped)
    figures = validate_joints(solver, core)
    for quantity, unit in JOINT_UNITS.items():
        for steps in JOINT_STEPS:
            rows.append({"task": JOINTS, "solver": f"shipped weights, {config.ik_robot}", "quantity": quantity,
                         "unit": unit, "steps": steps, **_joint_figures(figures, quantity, steps)})  # fmt: skip
    return [{**row, "training": "", **space.provenance_columns()} for row in rows]


def _joint_figures(figures: Mapping[str, Sequence[float]], quantity: str, steps: int) -> dict[str, float]:
    name = _JOINT_COLUMNS[quantity]
    return {kind: figures[name.format(kind)][steps - 1] for kind in ("mean", "median")}


def table_3_tasks(space: Workspace) -> list[Row]:
    """Stages with shared and with own weights, trained for as long from scratch."""
    rows = []
    for kind in KINDS:
        for weights in ("shared", "own"):
            noted = train_light(space, kind, weights == "shared")
            errors = noted["validation"]
            rows.append({"task": LIGHT, "solver": "trained", "quantity": kind, "unit": LIGHT_UNITS[kind],
                         "weights": weights, "mean": errors["mean"][-1], "median": errors["median"][-1],
                         "training": _spent(noted)})  # fmt: skip
    noted_joints = {weights: train_joints(space, weights == "shared") for weights in ("shared", "own")}
    for quantity, unit in JOINT_UNITS.items():
        for weights, noted in noted_joints.items():
            label = {"task": JOINTS, "solver": f"trained, {space.config.ik_robot}", "quantity": quantity, "unit": unit}
            figures = _joint_figures(noted["validation"], quantity, JOINT_STEPS[-1])
            rows.append({**label, "weights": weights, **figures, "training": _spent(noted)})
    return [{**row, **space.provenance_columns()} for row in rows]


def _spent(noted: Mapping[str, Any]) -> str:
    return f"{noted['minutes']:.1f} min, {noted['samples']} examples"


def train_light(space: Workspace, kind: str, shared: bool) -> dict[str, Any]:
    """Provenance of a training on instances of the categories, with the errors on others."""
    config = space.config
    seen, held = ([i.mesh for i in part] for part in category_instances(config))
    model = IlluminationConfig(
        kind=kind, width=config.light_width, solver=SolverConfig(num_stages=LIGHT_STEPS[-1], shared_weights=shared)
    )
    data = LightDataConfig(views=config.light_views, seed=config.seed)
    recipe = [model.to_dict(), asdict(data), _names(seen), config.bfloat16]
    out = space.work / f"illumination_{digest(recipe)}.safetensors"
    settings = LightTrainingConfig(str(out), None, model, data, config.training())
    noted = _noted(out, "illumination", config)
    resume = out.with_suffix(".state").is_file()
    return noted or train_light_stages(settings, seen, held, resume=resume, quiet=space.quiet)


def train_joints(space: Workspace, shared: bool) -> dict[str, Any]:
    """Provenance of a training for one arm, with the errors at targets never trained on."""
    config = space.config
    robot = example_robot(config.ik_robot)
    model = JointNetworkConfig(
        width=config.ik_width,
        solver=SolverConfig(num_stages=JOINT_STEPS[-1], shared_weights=shared, adaptive=False, keep_best=False),
    )
    recipe = [model.to_dict(), robot.name, config.ik_batch, config.seed, config.bfloat16]
    out = space.work / f"ik_{digest(recipe)}.safetensors"
    settings = KinematicsTrainingConfig(
        urdf=str(robot.urdf), tip=robot.tip, base=robot.base, out=str(out), batch_size=config.ik_batch,
        data_seed=1 + config.seed, model=model, training=config.training(2e-3, 0.999),
    )  # fmt: skip
    noted = _noted(out, "inverse_kinematics", config)
    return noted or train_joint_stages(settings, resume=out.with_suffix(".state").is_file(), quiet=space.quiet)


def _noted(file: Path, kind: str, config: PaperConfig) -> dict[str, Any] | None:
    """Provenance of a weights file whose budget is used up; None where there is more to train."""
    if not file.is_file():
        return None
    noted = load_checkpoint(file, kind).provenance
    budget = noted["recipe"]["training"]
    same = budget["minutes"] == config.minutes and budget["max_batches"] == config.batches
    return noted if same and "validation" in noted else None


def _names(meshes: Sequence[Mesh]) -> list[list[Any]]:
    return [[mesh.name, len(mesh.faces)] for mesh in meshes]

