# SPDX-License-Identifier: Apache-2.0
"""How the weights of the illumination task are made: ``dfips train illumination``."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...errors import CheckpointError
from ...processes.mesh import Mesh
from ...solver import Checkpoint, FeedbackSolver, StageTrainer, TrainingConfig, load_checkpoint, save_checkpoint
from .config import IlluminationConfig, LightDataConfig
from .data import Views, draw_views, light_batches, make_batch
from .problem import illumination_loss, make_solver

KIND = "illumination"
VALIDATION_SEED = 1_000_000


@dataclass(frozen=True)
class LightTrainingConfig:
    """One training run.

    Attributes:
        out: weights file to write, in half precision.
        initial_weights: weights file to start from; shared ones may start stages with weights of their own.
        model: the network.
        data: the examples.
        training: how long and how fast.
    """

    out: str = "illumination.safetensors"
    initial_weights: str | None = None
    model: IlluminationConfig = field(default_factory=IlluminationConfig)
    data: LightDataConfig = field(default_factory=LightDataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def train(
    config: LightTrainingConfig,
    meshes: Sequence[Mesh],
    held_out: Sequence[Mesh],
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train, write the weights file, and return its provenance (validation errors of each stage included).

    Args:
        config: what, and how long.
        meshes: objects to train on.
        held_out: objects to validate on.
        resume: continue from ``<out>.state`` instead of starting anew.
        quiet: no progress bar.

    Raises:
        ConfigError, CheckpointError: as their messages say.
    """
    torch.manual_seed(config.training.seed)
    solver = make_solver(config.model)
    if config.initial_weights:
        weights = load_checkpoint(config.initial_weights, KIND).weights
        try:
            if all(name.startswith("0.") for name in weights):  # shared ones: every stage begins with them
                weights = {f"{t}.{name[2:]}": w for t in range(len(solver.stages)) for name, w in weights.items()}
            solver.stages.load_state_dict({name: value.float() for name, value in weights.items()})
        except RuntimeError as cause:
            raise CheckpointError(
                f"weights '{config.initial_weights}': do not fit the configured network ({cause}). "
                "Train on with the kind of light, stages and width that they have."
            ) from cause
    out = Path(config.out)
    trainer = StageTrainer(solver, illumination_loss, config.training, out.with_suffix(".state"))
    if resume:
        trainer.resume()
    data = replace(config.data, seed=config.data.seed + 7919 * trainer.batches)  # a resumed run sees new examples
    views = draw_views(meshes, data, config.model.crop_size)
    clean = replace(config.data, views=800, wrong_pose=0.0, textured=0.0, noise=0.01, seed=VALIDATION_SEED)
    held_out_views = draw_views(held_out, clean, config.model.crop_size)
    provenance: dict[str, Any] = {}

    def write() -> None:
        recipe = asdict(config)
        recipe["out"] = out.name  # without the folders of this machine
        recipe["initial_weights"] = Path(config.initial_weights).name if config.initial_weights else None
        provenance.update(
            recipe=recipe, date=datetime.date.today().isoformat(), torch=torch.__version__, meshes=len(meshes),
            samples=trainer.samples, batches=trainer.batches, minutes=round(trainer.seconds / 60.0, 2),
            final_losses=trainer.losses[-1:],
        )  # fmt: skip
        weights = {name: value.half() for name, value in solver.stages.state_dict().items()}
        save_checkpoint(out, Checkpoint(KIND, config.model.to_dict(), provenance, weights))

    def finish() -> None:
        provenance["validation"] = validate(solver, config.model, clean, held_out_views)
        write()

    trainer.run(light_batches(views, config.model, data), write, quiet)
    trainer.save(finish)
    return provenance


def validate(
    solver: FeedbackSolver, model: IlluminationConfig, data: LightDataConfig, views: Views
) -> dict[str, list[float]]:
    """Errors of the light before the first stage and after each: mean and median, from one start per image.

    Units: distance of unit directions, or diameters for a point light.
    """
    solver.eval()
    rng = torch.Generator().manual_seed(VALIDATION_SEED)
    observation, initial, truth = make_batch(views, torch.arange(len(views.depth)), model, data, rng)
    solution = solver.estimate(observation, initial)
    errors = torch.stack(
        [torch.linalg.vector_norm(x[:, :3] - truth["estimate"][:, :3], dim=1) for x in solution.history]
    )
    return {
        "mean": [round(float(v), 4) for v in errors.mean(1)],
        "median": [round(float(v), 4) for v in errors.median(1).values],
    }
