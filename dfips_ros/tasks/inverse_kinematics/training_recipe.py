# SPDX-License-Identifier: Apache-2.0
"""How the weights of the inverse kinematics task are made: ``dfips train inverse_kinematics``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice, check_range
from ...errors import CheckpointError, ConfigError
from ...processes.kinematics import ChainForward, SerialChain
from ...solver import FeedbackSolver, StageTrainer, TrainingConfig, load_checkpoint
from .config import JointNetworkConfig
from .data import joint_samples, nearest_batches, target_batches
from .problem import ArmCore, JointLoss, PoseLoss, make_solver, pose_errors
from .weights import KIND, save_weights

SUPERVISIONS = ("task_space", "nearest")
VALIDATION_SEED = 1_000_003  # never a seed of training


@dataclass(frozen=True)
class KinematicsTrainingConfig:
    """One training run.

    Attributes:
        urdf: the robot, a file or its text.
        tip: last link of the arm; weights serve any tool on the same arm.
        base: first link; the root of the robot by default.
        out: weights file to write.
        initial_weights: weights file to start from.
        supervision: towards the target pose, through the forward kinematics (``task_space``), or towards the joint
            positions of the solution nearest to the initial estimate (``nearest``).
        batch_size: targets in a batch.
        data_seed: of the targets.
        model: the stages.
        training: how long and how fast.
    """

    urdf: str
    tip: str
    base: str | None = None
    out: str = "inverse_kinematics.safetensors"
    initial_weights: str | None = None
    supervision: str = "task_space"
    batch_size: int = 512
    data_seed: int = 1
    model: JointNetworkConfig = field(default_factory=JointNetworkConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=2e-3, average_decay=0.999))

    def __post_init__(self) -> None:
        check_choice("supervision", self.supervision, SUPERVISIONS)
        check_range("batch_size", self.batch_size, 1, 1_000_000)
        check_range("data_seed", self.data_seed, 0, VALIDATION_SEED - 1)
        if not self.urdf or not self.tip:
            raise ConfigError(f"urdf={self.urdf!r}, tip={self.tip!r}: both are needed.")


def train(config: KinematicsTrainingConfig, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Train, write the weights file, and return its provenance (validation metrics included).

    Args:
        config: what, and how long.
        resume: continue from ``<out>.state`` instead of starting anew.
        quiet: no progress bar.

    Raises:
        ConfigError, CheckpointError: as their messages say.
    """
    torch.manual_seed(config.training.seed)
    chain = SerialChain.from_urdf(config.urdf, config.tip, config.base)
    core = ArmCore.of(chain)
    solver = make_solver(core, config.model)
    if config.initial_weights:
        _start_from(solver, config.initial_weights)
    out = Path(config.out)
    nearest = config.supervision == "nearest"
    loss = JointLoss(core) if nearest else PoseLoss(core)
    trainer = StageTrainer(solver, loss, config.training, out.with_suffix(".state"))
    if resume:
        trainer.resume()
    provenance: dict[str, Any] = {}

    def write() -> None:
        provenance.update(
            recipe=_recipe(config), joints=list(chain.names), date=datetime.date.today().isoformat(),
            torch=torch.__version__, samples=trainer.samples, minutes=round(trainer.seconds / 60.0, 2),
            final_losses=trainer.losses[-1:],
        )  # fmt: skip
        save_weights(out, core, config.model, provenance, solver)

    def finish() -> None:
        provenance["validation"] = validate(solver, core)
        write()

    # A resumed run sees new examples.
    examples = nearest_batches if nearest else target_batches
    data = examples(core, config.batch_size, config.data_seed + 7919 * trainer.batches)
    trainer.run(_on_device(data, solver), write, quiet)
    trainer.save(finish)
    return provenance


def _start_from(solver: FeedbackSolver, path: str) -> None:
    try:
        weights = load_checkpoint(path, KIND).weights
        solver.stages.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as cause:
        raise CheckpointError(f"weights '{path}': do not fit the configured network ({cause}).") from cause


def _on_device(data: Iterator[tuple[Tensor, Tensor, Tensor]], solver: FeedbackSolver) -> Iterator[Any]:
    device = next(solver.stages.parameters()).device
    for observation, initial, truth in data:
        yield observation.to(device), initial.to(device), truth.to(device)


def _recipe(config: KinematicsTrainingConfig) -> dict[str, Any]:
    """The config without the folders of this machine."""
    recipe = asdict(config)
    recipe["urdf"] = "(text)" if config.urdf.lstrip().startswith("<") else Path(config.urdf).name
    recipe["out"] = Path(config.out).name
    recipe["initial_weights"] = Path(config.initial_weights).name if config.initial_weights else None
    return recipe


def validate(solver: FeedbackSolver, core: ArmCore, count: int = 2000) -> dict[str, list[float]]:
    """Errors after each stage, without polish, at targets never trained on.

    Returns:
        Per stage: mean and median position error in millimetres and orientation error in degrees.
    """
    generator = torch.Generator().manual_seed(VALIDATION_SEED)
    process = ChainForward(core)
    device = next(solver.stages.parameters()).device
    targets = process(joint_samples(core, count, generator)).to(device)
    solution = solver.estimate(targets, joint_samples(core, count, generator).to(device))
    rows: dict[str, list[float]] = {
        "position_mean_mm": [], "position_median_mm": [], "orientation_mean_deg": [], "orientation_median_deg": []
    }  # fmt: skip
    for estimate in solution.history[1:]:
        distance, angle = pose_errors(process, estimate, targets)
        for name, values in (("position", 1e3 * distance), ("orientation", torch.rad2deg(angle))):
            unit = "mm" if name == "position" else "deg"
            rows[f"{name}_mean_{unit}"].append(round(float(values.mean()), 4))
            rows[f"{name}_median_{unit}"].append(round(float(np.median(values.cpu().numpy())), 4))
    return rows
