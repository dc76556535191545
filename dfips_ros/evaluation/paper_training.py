# SPDX-License-Identifier: Apache-2.0
"""The pose networks that the paper's tables compare: trained by category, with equal budgets, and kept in files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..processes.mesh import Mesh
from ..solver import (
    Checkpoint,
    Feedback,
    FeedbackFeatures,
    FeedbackSolver,
    SolverConfig,
    StageTrainer,
    load_checkpoint,
    save_checkpoint,
)
from ..tasks.object_pose import ObjectPoseConfig, PoseDataConfig
from ..tasks.object_pose.categories import category_instance
from ..tasks.object_pose.data import pose_batches
from ..tasks.object_pose.problem import MeshSet, make_solver, pose_loss
from ..tasks.object_pose.training_recipe import VALIDATION_SEED
from .paper_config import PaperConfig, Workspace, digest
from .pose_trials import load_evaluation_meshes
from .reproduce_explicit_feedback import split_instances

DIFFERENCE = 2  # channel of the image feedback


@dataclass(frozen=True)
class Instance:
    """One object of a category."""

    category: str
    mesh: Mesh


@dataclass(frozen=True)
class PoseVariant:
    """A way to train the pose stages.

    Attributes:
        crop_size: side of the images, pixels.
        shared_weights: one network for all stages.
        difference: the stages see the difference image; otherwise that channel is empty.
        detached: gradients stop between stages, each of which has a loss; otherwise they pass through all updates, from
            one loss at the end.
    """

    crop_size: int
    shared_weights: bool = False
    difference: bool = True
    detached: bool = True


def category_instances(config: PaperConfig) -> tuple[list[Instance], list[Instance]]:
    """Instances to train on, and others to judge on.

    Generated ones are made from seeds that do not overlap; of mesh files a fifth is held out, at least one.

    Raises:
        MeshError: a path holds no mesh.
        ConfigError: a category has fewer than two mesh files.
    """
    paths: dict[str, list[str]] = {}
    for entry in config.meshes:
        name, _, path = entry.partition("=")
        paths.setdefault(name, []).append(path)
    trained, judged = [], []
    for name in config.categories:
        if name in paths:
            files = load_evaluation_meshes(paths[name])
            if len(files) < 2:
                raise ConfigError(f"meshes: expected at least two of '{name}', one of them held out, got {len(files)}.")
            seen, held = split_instances(files, 0.2, config.seed)
        else:
            seen = [category_instance(name, seed) for seed in range(config.instances)]
            held = [category_instance(name, VALIDATION_SEED + seed) for seed in range(config.held_out)]
        trained += [Instance(name, mesh) for mesh in seen]
        judged += [Instance(name, mesh) for mesh in held]
    return trained, judged


class WithoutDifference:
    """Another image feedback whose difference image is empty.

    Args:
        feedback: gives ``images`` (B, 4, S, S).
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback

    def __call__(self, observation: Any, estimate: Tensor) -> FeedbackFeatures:
        """Compare, and forget the difference."""
        features = self.feedback(observation, estimate)
        images = features.inputs["images"].clone()
        images[:, DIFFERENCE] = 0.0
        return FeedbackFeatures({**features.inputs, "images": images}, features.residual_norm)


class EndToEndSolver(FeedbackSolver):
    """The same stages, trained as one: a single loss at the end, gradients through all updates.

    The forward process has no gradient; what a stage sees is taken as given, as in the other trainings.
    """

    def __init__(self, solver: FeedbackSolver) -> None:
        super().__init__(solver.feedback, solver.space, nn.Identity, replace(solver.config, shared_weights=True))
        self.stages = nn.ModuleList([solver.stages])  # one optimiser for all of them

    def stage(self, t: int) -> nn.Module:
        """Stage t; past the last one, all of them."""
        own = self.stages[0]
        return own[min(t, len(own) - 1)] if t < self.config.num_stages else own  # type: ignore[index, arg-type]

    def training_steps(
        self, observation: Any, initial: Tensor, bfloat16: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the last estimate alone."""
        estimate = initial
        for t in range(self.config.num_stages):
            with torch.no_grad():
                features = self.feedback(observation, estimate.detach())
            with torch.autocast(initial.device.type, torch.bfloat16, enabled=bfloat16):
                update = self.stage(t)(features)
            estimate = self.space.apply(estimate, update.to(estimate.dtype))
        yield self.config.num_stages, estimate


def model_of(config: PaperConfig, variant: PoseVariant) -> ObjectPoseConfig:
    """The network of a variant."""
    return ObjectPoseConfig(
        feedback=config.feedback, crop_size=variant.crop_size, width=config.width,
        simulation_faces=config.simulation_faces,
        solver=SolverConfig(num_stages=config.num_stages, shared_weights=variant.shared_weights),
    )  # fmt: skip


def training_data(config: PaperConfig, seed: int) -> PoseDataConfig:
    """Clean masks at the difficulty of the trials."""
    return PoseDataConfig(
        batch_size=config.batch_size, depth_range=(2.2, 6.0), angles=(config.angle_deg,), angle_weights=(1.0,),
        initial_shift=config.shift, initial_log_depth=config.shift, degraded=0.0, seed=seed,
    )  # fmt: skip


def train_pose(space: Workspace, variant: PoseVariant) -> Path:
    """Weights of a variant, as ``dfips`` reads them; trained only as far as the budget is not used up.

    Raises:
        ConfigError: the contour feedback has no difference image to leave out.
    """
    config = space.config
    if config.feedback != "image" and not variant.difference:
        raise ConfigError(f"feedback={config.feedback!r}: only the image feedback has a difference image to leave out.")
    trained, _ = category_instances(config)
    model = model_of(config, variant)
    data = training_data(config, config.seed)
    recipe = {"variant": asdict(variant), "model": model.to_dict(), "data": asdict(data), "bfloat16": config.bfloat16,
              "instances": [[i.mesh.name, len(i.mesh.faces)] for i in trained]}  # fmt: skip
    out = space.work / f"pose_{digest(recipe)}.safetensors"
    if out.is_file() and _used_up(load_checkpoint(out, "object_pose").provenance, config):
        return out
    meshes = MeshSet([i.mesh for i in trained], model.simulation_faces)
    torch.manual_seed(config.seed)
    solver = make_solver(model, meshes)
    if not variant.difference:
        solver.feedback = WithoutDifference(solver.feedback)
    taught = solver if variant.detached else EndToEndSolver(solver)
    trainer = StageTrainer(taught, pose_loss, config.training(), out.with_suffix(".state"))
    if trainer.state_file is not None and trainer.state_file.is_file():
        trainer.resume()
    data = replace(data, seed=data.seed + 7919 * trainer.batches)  # a resumed run sees new examples

    def write() -> None:
        weights = dict(solver.stages.state_dict())
        if not variant.difference:  # the channel was empty: whatever it was multiplied with had no effect
            for name in [n for n in weights if n.endswith("body.0.weight")]:
                weights[name] = weights[name].clone()
                weights[name][:, DIFFERENCE] = 0.0
        provenance = {
            "recipe": recipe, "samples": trainer.samples, "batches": trainer.batches,
            "minutes": round(trainer.seconds / 60.0, 3), "final_losses": trainer.losses[-1:],
        }  # fmt: skip
        save_checkpoint(out, Checkpoint("object_pose", model.to_dict(), provenance, weights))

    trainer.run(pose_batches(meshes, model, data), write, space.quiet)
    return out


def _used_up(provenance: dict[str, Any], config: PaperConfig) -> bool:
    parts = []
    if config.minutes is not None:
        parts.append(provenance["minutes"] >= config.minutes - 1e-3)
    if config.batches is not None:
        parts.append(provenance["batches"] >= config.batches)
    return any(parts)
