# SPDX-License-Identifier: Apache-2.0
"""How the weights of the object pose task are made: ``dfips train object_pose``."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...checks import check_range
from ...errors import CheckpointError, ConfigError, MeshError
from ...geometry import rotation_angle_torch
from ...processes.mesh import SUFFIXES, Mesh, load_mesh
from ...solver import (
    Checkpoint,
    FeedbackSolver,
    StageTrainer,
    TrainingConfig,
    load_checkpoint,
    pick_device,
    save_checkpoint,
)
from ...solver.training import Batch
from .config import ObjectPoseConfig, PoseDataConfig
from .data import pose_batches
from .problem import ContourFeedback, MeshSet, make_solver, pose_loss
from .shapes import random_shape

logger = logging.getLogger(__name__)

OWN_MESHES = 20  # at most so many of the trained meshes are validated on
VALIDATION_SEED = 1_000_000  # generated shapes from this seed on are never trained on


@dataclass(frozen=True)
class PoseTrainingConfig:
    """One training run.

    Attributes:
        meshes: mesh files or folders of them; empty to train on generated shapes alone.
        generated_shapes: how many generated shapes to train on besides.
        scale: factor from the unit of the mesh files to metres; None accepts every unit (the size does not matter for
            training, every mesh is normalised).
        stretch_copies: copies of every file mesh, stretched at random along its axes, for diversity.
        out: weights file to write.
        initial_weights: weights file to start from (fine-tuning).
        model: the network.
        data: the examples.
        training: how long and how fast.
        device: where networks, comparison and examples are: ``auto``, ``cpu`` or ``cuda``.
    """

    meshes: tuple[str, ...] = ()
    generated_shapes: int = 2000
    scale: float | None = None
    stretch_copies: int = 0
    out: str = "object_pose.safetensors"
    initial_weights: str | None = None
    model: ObjectPoseConfig = field(default_factory=lambda: ObjectPoseConfig(simulation_faces=2000))
    data: PoseDataConfig = field(default_factory=PoseDataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: str = "auto"

    def __post_init__(self) -> None:
        check_range("generated_shapes", self.generated_shapes, 0, VALIDATION_SEED)
        check_range("stretch_copies", self.stretch_copies, 0, 1000)
        if not self.meshes and self.generated_shapes == 0:
            raise ConfigError("meshes=() and generated_shapes=0: there is nothing to train on.")


def find_meshes(paths: Sequence[str], scale: float | None) -> list[Mesh]:
    """Load mesh files and all mesh files below folders.

    Raises:
        MeshError: a path holds no readable mesh.
    """
    found: list[Mesh] = []
    for path in paths:
        root = Path(path).expanduser()
        if root.is_dir():
            files = sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES)
            if not files:
                raise MeshError(f"meshes: no mesh file below '{path}' ({', '.join(SUFFIXES)}).")
        else:
            files = [root]
        for file in files:
            try:
                found.append(load_mesh(file, scale or 1.0, max_diameter=10.0 if scale else 1e6))
            except MeshError as cause:
                if not root.is_dir():
                    raise
                logger.warning("skipped: %s", cause)
    return found


def stretched(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """A copy scaled by a random factor along each axis."""
    return Mesh(f"{mesh.name}_stretched", mesh.vertices * rng.uniform(0.6, 1.4, 3), mesh.faces)


def training_meshes(config: PoseTrainingConfig) -> list[Mesh]:
    """File meshes, their stretched copies, and generated shapes."""
    rng = np.random.default_rng(config.data.seed)
    files = find_meshes(config.meshes, config.scale)
    copies = [stretched(mesh, rng) for mesh in files for _ in range(config.stretch_copies)]
    return files + copies + [random_shape(seed) for seed in range(config.generated_shapes)]


def train(config: PoseTrainingConfig, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Train, write the weights file, and return its provenance (validation metrics included).

    Args:
        config: what, and how long.
        resume: continue from ``<out>.state`` instead of starting anew.
        quiet: no progress bar.

    Raises:
        MeshError, ConfigError, CheckpointError: as their messages say.
    """
    device = pick_device(config.device)
    config = replace(config, device=device.type)
    torch.manual_seed(config.training.seed)
    meshes = MeshSet(training_meshes(config), config.model.simulation_faces)
    solver = make_solver(config.model, meshes)
    if config.initial_weights:
        try:
            solver.stages.load_state_dict(load_checkpoint(config.initial_weights, "object_pose").weights)
        except RuntimeError as cause:
            raise CheckpointError(
                f"weights '{config.initial_weights}': do not fit the configured network ({cause}). "
                "Train on with the number of stages and the kind of feedback that they have."
            ) from cause
    own = meshes.meshes[:OWN_MESHES] if config.generated_shapes == 0 else []
    provenance: dict[str, Any] = {}
    if own and config.initial_weights:  # so that a fine-tuning can be judged
        provenance["validation_on_meshes_before"] = validate(solver, config, own)
    prepare(solver, device, config.data.seed)
    out = Path(config.out)
    trainer = StageTrainer(solver, pose_loss, config.training, out.with_suffix(".state"))
    if resume:
        trainer.resume()

    def write() -> None:
        provenance.update(
            recipe=_recipe(config), date=datetime.date.today().isoformat(), torch=torch.__version__,
            samples=trainer.samples, minutes=round(trainer.seconds / 60.0, 2),
            final_losses=trainer.losses[-1:],
        )  # fmt: skip
        save_checkpoint(
            out, Checkpoint("object_pose", config.model.to_dict(), provenance, dict(solver.stages.state_dict()))
        )

    def finish() -> None:
        provenance["validation"] = validate(solver, config)
        if own:
            provenance["validation_on_meshes"] = validate(solver, config, own)
        write()

    seed = config.data.seed + 7919 * trainer.batches  # a resumed run sees new examples
    trainer.run(examples(solver, config.model, replace(config.data, seed=seed)), write, quiet)
    trainer.save(finish)
    return provenance


def _recipe(config: PoseTrainingConfig) -> dict[str, Any]:
    """The config without the folders of this machine."""
    recipe = asdict(config)
    recipe["meshes"] = [Path(path).name for path in config.meshes]
    recipe["out"] = Path(config.out).name
    recipe["initial_weights"] = Path(config.initial_weights).name if config.initial_weights else None
    return recipe


def prepare(solver: FeedbackSolver, device: torch.device, seed: int) -> None:
    """Make a solver ready to train on a device, in place; its contour points are drawn at random from then on."""
    if device.type == "cpu":
        solver.feedback.sampling = np.random.default_rng(seed + 1)  # type: ignore[attr-defined]
    else:
        move_to_device(solver, device, seed)


def move_to_device(solver: FeedbackSolver, device: torch.device, seed: int) -> None:
    """Put a solver's networks and its comparison on a device, in place; on the CPU it is only slower than before."""
    from .device_stages import DeviceFeedback, DeviceImageFeedback

    kind = DeviceFeedback if isinstance(solver.feedback, ContourFeedback) else DeviceImageFeedback
    solver.feedback = kind(solver.feedback.meshes, device)  # type: ignore[attr-defined]
    solver.feedback.sampling = torch.Generator(device).manual_seed(seed + 1)
    solver.to(device)


def examples(solver: FeedbackSolver, model: ObjectPoseConfig, data: PoseDataConfig) -> Iterator[Batch]:
    """Endless batches for a solver, made where it compares."""
    meshes = getattr(solver.feedback, "device_meshes", None)
    if meshes is None:
        return pose_batches(solver.feedback.meshes, model, data)  # type: ignore[attr-defined]
    from .device_data import device_pose_batches

    return device_pose_batches(meshes, model, data)


def validate(
    solver: FeedbackSolver, config: PoseTrainingConfig, meshes: Sequence[Mesh] = (), count: int = 384
) -> dict[str, float]:
    """Errors of the unrolled solver at poses that were not trained on (clean masks, initial rotation up to 45 degrees).

    Args:
        solver: its stages are judged.
        config: the training run.
        meshes: the objects; by default 60 generated shapes that were not trained on.
        count: number of poses.
    """
    shapes = list(meshes) or [random_shape(VALIDATION_SEED + i) for i in range(60)]
    held_out = make_solver(config.model, MeshSet(shapes, config.model.simulation_faces))
    held_out.stages.load_state_dict(solver.stages.state_dict())
    held_out.eval()
    data = PoseDataConfig(
        batch_size=count, depth_range=(2.5, 5.0), angles=(45.0,), angle_weights=(1.0,), initial_shift=0.1,
        initial_log_depth=0.1, degraded=0.0, seed=VALIDATION_SEED,
    )  # fmt: skip
    observation, initial, truth = next(pose_batches(held_out.feedback.meshes, config.model, data))  # type: ignore[attr-defined]
    solution = held_out.estimate(observation, initial)
    pose = solution.estimate
    angle = np.rad2deg(rotation_angle_torch(pose[:, :3, :3], truth["pose"][:, :3, :3]).numpy())
    shift = torch.linalg.vector_norm(pose[:, :3, 3] - truth["pose"][:, :3, 3], dim=1).numpy()
    best = solution.residual_norms.min(1).values.numpy()
    return {
        "rotation_mean_deg": float(angle.mean()), "rotation_median_deg": float(np.median(angle)),
        "rotation_over_20_deg": float((angle > 20).mean()),
        "translation_mean_diameters": float(shift.mean()), "translation_median_diameters": float(np.median(shift)),
        "iou_mean": float(1.0 - best.mean()),
    }  # fmt: skip
