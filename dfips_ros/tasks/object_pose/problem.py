# SPDX-License-Identifier: Apache-2.0
"""The object pose problem as the solver sees it: feedback, space, stages and the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...geometry import so3_exp
from ...networks.contour_gauss_newton import ContourGaussNewtonStage
from ...networks.silhouette_cnn import SilhouetteCnnStage
from ...processes.contour import GLOBAL_FEATURES, ROW_FEATURES, compare
from ...processes.mesh import Mesh
from ...processes.observation import SilhouetteObservation
from ...solver import Checkpoint, FeedbackFeatures, FeedbackSolver, Se3ImageSpace, SolverConfig, load_checkpoint
from .config import ObjectPoseConfig
from .mesh_set import MeshSet, surface_samples

DEPTH_LOSS_WEIGHT = 2.0
__all__ = [
    "ContourFeedback", "ImageFeedback", "MeshSet", "difference_images", "load_solver", "make_solver", "perturbed",
    "pose_loss", "surface_samples",
]  # fmt: skip


class ContourFeedback:
    """Explicit comparison by contours: rows and Jacobians (see ``processes.contour``); residual norm 1 - IoU.

    Args:
        meshes: what may be seen; an observation's ``mesh_index`` picks one.
    """

    def __init__(self, meshes: MeshSet) -> None:
        self.meshes = meshes
        self.sampling: np.random.Generator | None = None  # set while training: contour points are drawn at random

    def __call__(self, observation: SilhouetteObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations and poses (B, 4, 4) of the normalised object -> features on the estimate's device."""
        offset = None if self.sampling is None else self.sampling.uniform(0, 1, len(estimate)).astype(np.float32)
        out = compare(self.meshes.packed, self.meshes.surface, observation, estimate, offset)
        names = ("rows", "jacobian", "residual", "weight", "context")
        inputs = {name: out[name].to(estimate.device) for name in names}
        return FeedbackFeatures(inputs, out["norm"].to(estimate.device))


class ImageFeedback:
    """Explicit comparison by images, the paper's form: observed, simulated, their difference, and relative depth.

    Args:
        meshes: what may be seen; an observation's ``mesh_index`` picks one.
    """

    def __init__(self, meshes: MeshSet) -> None:
        self.meshes = meshes
        self.sampling: np.random.Generator | None = None

    def __call__(self, observation: SilhouetteObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations and poses (B, 4, 4) of the normalised object -> features on the estimate's device."""
        out = compare(self.meshes.packed, self.meshes.surface, observation, estimate)
        images, scale = difference_images(observation, out["depth"].to(estimate.device), estimate)
        return FeedbackFeatures({"images": images, "scale": scale}, out["norm"].to(estimate.device))


def difference_images(observation: SilhouetteObservation, depth: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    """What an image stage sees of simulated depths (B, S, S): images (B, 4, S, S), and diameters in crops (B, 1)."""
    valid = observation.valid.to(estimate.device).float()
    observed = observation.mask.to(estimate.device).float() * valid
    simulated = (depth > 0).float() * valid
    relative = torch.where(depth > 0, depth - estimate[:, 2, 3, None, None], torch.zeros_like(depth))
    focal = observation.camera[:, 0, 0].to(estimate.device)
    images = torch.stack([observed, simulated, simulated - observed, 2.0 * relative], dim=1)
    return images, (focal / estimate[:, 2, 3] / 64.0)[:, None]


def make_solver(config: ObjectPoseConfig, meshes: MeshSet) -> FeedbackSolver:
    """A fresh solver of the configured kind for the given meshes."""

    def stage() -> nn.Module:
        if config.feedback == "image":
            return SilhouetteCnnStage(config.crop_size, config.width)
        return ContourGaussNewtonStage(ROW_FEATURES, GLOBAL_FEATURES, config.width)

    feedback = ImageFeedback(meshes) if config.feedback == "image" else ContourFeedback(meshes)
    return FeedbackSolver(feedback, Se3ImageSpace(), stage, config.solver)


def load_solver(
    weights: str | Path | Checkpoint, meshes: Sequence[Mesh], solver: SolverConfig | None = None
) -> tuple[FeedbackSolver, ObjectPoseConfig, Checkpoint]:
    """A solver from a weights file.

    Args:
        weights: safetensors file of the object pose task, or what was read from one, as tensors or arrays.
        meshes: what may be seen.
        solver: replaces how the stages are unrolled (not how many networks there are).

    Raises:
        CheckpointError: the file does not fit.
    """
    checkpoint = weights if isinstance(weights, Checkpoint) else load_checkpoint(weights, kind="object_pose")
    config = ObjectPoseConfig.from_dict(checkpoint.config)
    if solver is not None:
        trained = config.solver
        config = replace(
            config, solver=replace(solver, num_stages=trained.num_stages, shared_weights=trained.shared_weights)
        )
    built = make_solver(config, MeshSet(meshes, config.simulation_faces))
    try:
        built.stages.load_state_dict({name: torch.as_tensor(value) for name, value in checkpoint.weights.items()})
    except RuntimeError as cause:
        named = "" if isinstance(weights, Checkpoint) else f" '{weights}'"
        raise CheckpointError(f"weights{named}: do not fit the network of their own config ({cause}).") from cause
    built.eval()
    return built, config, checkpoint


def pose_loss(estimate: Tensor, ground_truth: dict[str, Tensor]) -> Tensor:
    """Mean distance of surface points, in diameters, with the depth error measured as log-depth.

    A wrong depth moves far objects by many diameters and hardly changes the image; log-depth treats all distances
    alike.

    Args:
        estimate: (B, 4, 4) poses of the normalised object.
        ground_truth: ``pose`` (B, 4, 4) and ``points`` (B, N, 3) on the object.

    Returns:
        (B,) at most 1 each.
    """
    true, points = ground_truth["pose"], ground_truth["points"]
    rotated = points @ (estimate[:, :3, :3] - true[:, :3, :3]).transpose(1, 2)
    t, t_true = estimate[:, :3, 3], true[:, :3, 3]
    z_true = t_true[:, 2:]
    lateral = (t[:, :2] / t[:, 2:] - t_true[:, :2] / z_true) * z_true
    depth = DEPTH_LOSS_WEIGHT * torch.log(t[:, 2:] / z_true)
    shift = torch.cat([lateral, depth], dim=1)
    return torch.linalg.vector_norm(rotated + shift[:, None], dim=-1).mean(1).clamp_max(1.0)


def perturbed(
    pose: Tensor, rotation_vector: Tensor, shift: Tensor, log_depth: Tensor, space: Se3ImageSpace | None = None
) -> Tensor:
    """Initial poses near true ones. (B, 4, 4), (B, 3), (B, 2), (B, 1) -> (B, 4, 4)."""
    update = torch.cat([torch.zeros_like(rotation_vector), shift, log_depth], dim=1)
    moved = (space or Se3ImageSpace()).apply(pose, update)
    moved[:, :3, :3] = so3_exp(rotation_vector) @ pose[:, :3, :3]
    return moved
