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
    TrainingConfig,
    load_checkpoint,
    save_checkpoint,
)
from ..tasks.object_pose import ObjectPoseConfig, PoseDataConfig
from ..tasks.object_pose.categories import category_instance
from ..tasks.object_pose.data import pose_batches
from ..tasks.object_pose.problem import MeshSet, make_solver, pose_loss
from ..tasks.object_pose.training_recipe import VALIDATION_SEED
from .paper_config import PaperConfig, Workspace, digest, first_half, second_half
from .pose_trials import load_evaluation_meshes

DIFFERENCE = 2  # channel of the image feedback
FIRST, SECOND = "for stages of their own", "shared weights first"  # the halves of a budget


@dataclass(frozen=True)
class Instance:
    """One object of a category."""

    category: str
    mesh: Mesh


@dataclass(frozen=True)
class PoseVariant:
    """A way to train the pose stages.

    For half of the budget one stage is trained for all. Then, with own weights, each goes on from a copy; with shared
    weights, the one goes on. It learns from all steps of an example and own ones from their own step alone, so without
    a common first half the comparison of the two is one of how much each has seen.

    Attributes:
        crop_size: side of the images, pixels.
        shared_weights: one network for all stages.
        num_stages: other than the configuration's; one is direct regression.
        difference: the stages see the difference image; otherwise that channel is empty.
        detached: gradients stop between stages, each of which has a loss; otherwise they pass through all updates, from
            one loss at the end.
    """

    crop_size: int
    shared_weights: bool = False
    num_stages: int | None = None
    difference: bool = True
    detached: bool = True


def category_instances(config: PaperConfig) -> tuple[list[Instance], list[Instance]]:
    """Instances to train on, and others to judge on: mesh files if the config names any.

    Generated ones are made from seeds that do not overlap.

    Raises:
        MeshError: a path holds no mesh.
    """
    generated = range(config.instances)
    trained = [Instance(name, category_instance(name, seed)) for name in config.categories for seed in generated]
    if config.meshes:
        named = [entry.partition("=") for entry in config.meshes]
        return trained, [Instance(name, mesh) for name, _, path in named for mesh in load_evaluation_meshes([path])]
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + config.held_out)
    return trained, [Instance(name, category_instance(name, seed)) for name in config.categories for seed in seeds]


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

    def training_steps(self, observation: Any, initial: Tensor, bfloat16: bool = False) -> Iterator[tuple[int, Tensor]]:
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
    stages = variant.num_stages or config.num_stages
    return ObjectPoseConfig(
        feedback=config.feedback, crop_size=variant.crop_size, width=config.width,
        simulation_faces=config.simulation_faces,
        solver=SolverConfig(num_stages=stages, shared_weights=variant.shared_weights),
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
    budget = config.training()
    if model_of(config, variant).solver.num_stages == 1:
        return _train(space, variant, budget)
    begun = replace(variant, shared_weights=True, detached=True)
    if not _file(space, variant, SECOND).with_suffix(".state").is_file():  # a longer budget goes to the second half
        _train(space, begun, first_half(budget), FIRST)
    return _train(space, variant, budget, SECOND, load_checkpoint(_file(space, begun, FIRST), "object_pose"))


def _recipe(config: PaperConfig, variant: PoseVariant, purpose: str) -> dict[str, Any]:
    """All that a training depends on besides its budget."""
    trained = category_instances(replace(config, meshes=()))[0]
    recipe = {"variant": asdict(variant), "model": model_of(config, variant).to_dict(), "bfloat16": config.bfloat16,
              "data": asdict(training_data(config, config.seed)),
              "instances": [[i.mesh.name, len(i.mesh.faces)] for i in trained]}  # fmt: skip
    return {**recipe, "purpose": purpose} if purpose else recipe


def _file(space: Workspace, variant: PoseVariant, purpose: str) -> Path:
    return space.work / f"pose_{digest(_recipe(space.config, variant, purpose))}.safetensors"


def _train(
    space: Workspace, variant: PoseVariant, total: TrainingConfig, purpose: str = "", first: Checkpoint | None = None
) -> Path:
    """Train one file; every stage begins with the stage of ``first``, whose budget counts."""
    config = space.config
    out = _file(space, variant, purpose)
    if out.is_file() and _used_up(load_checkpoint(out, "object_pose").provenance, total):
        return out
    before = {"samples": 0, "batches": 0, "minutes": 0.0} | (first.provenance if first else {})
    model = model_of(config, variant)
    meshes = MeshSet([i.mesh for i in category_instances(config)[0]], model.simulation_faces)
    torch.manual_seed(config.seed)
    solver = make_solver(model, meshes)
    if first is not None:
        for stage in solver.stages:
            stage.load_state_dict({name.removeprefix("0."): value for name, value in first.weights.items()})
    if not variant.difference:
        solver.feedback = WithoutDifference(solver.feedback)
    taught = solver if variant.detached else EndToEndSolver(solver)
    budget = second_half(total, before) if first else total
    trainer = StageTrainer(taught, pose_loss, budget, out.with_suffix(".state"))
    if trainer.state_file is not None and trainer.state_file.is_file():
        trainer.resume()
    seed = config.seed + 7919 * (trainer.batches + before["batches"])  # what goes on sees new examples

    def write() -> None:
        weights = dict(solver.stages.state_dict())
        if not variant.difference:  # the channel was empty: whatever it was multiplied with had no effect
            for name in [n for n in weights if n.endswith("body.0.weight")]:
                weights[name] = weights[name].clone()
                weights[name][:, DIFFERENCE] = 0.0
        provenance = {
            "recipe": _recipe(config, variant, purpose), "samples": before["samples"] + trainer.samples,
            "batches": before["batches"] + trainer.batches,
            "minutes": round(before["minutes"] + trainer.seconds / 60.0, 3), "final_losses": trainer.losses[-1:],
        }  # fmt: skip
        save_checkpoint(out, Checkpoint("object_pose", model.to_dict(), provenance, weights))

    trainer.run(pose_batches(meshes, model, training_data(config, seed)), write, space.quiet)
    return out


def _used_up(provenance: dict[str, Any], budget: TrainingConfig) -> bool:
    parts = []
    if budget.minutes is not None:
        parts.append(provenance["minutes"] >= budget.minutes - 1e-3)
    if budget.max_batches is not None:
        parts.append(provenance["batches"] >= budget.max_batches)
    return any(parts)
