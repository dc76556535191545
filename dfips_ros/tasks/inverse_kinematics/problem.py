# SPDX-License-Identifier: Apache-2.0
"""The inverse kinematics problem as the generic solver sees it: feedback, space, loss, and the solver itself.

Learned stages work on the *core* of an arm: the frame of its first joint is the base, and the tip is the one that was
trained with. Where the arm stands and which tool it carries is taken out of the target first, so that one set of
weights serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...geometry import rotation_angle_torch
from ...networks.joint_mlp import JointMlpStage
from ...processes.kinematics import ChainForward, SerialChain
from ...processes.kinematics_jit import ROW_PRISMATIC, ROW_RATIO, ROW_VARIABLE
from ...solver import FeedbackFeatures, FeedbackSolver, JointBoxSpace
from .compiled_stages import compare_many, loss_many
from .config import JointNetworkConfig

LIMIT_MARGIN = 0.08  # of a joint's range: solutions nearer to a limit are penalised in training
LIMIT_WEIGHT = 3.0
ROTATION_SHARE = 0.25  # of the reach: metres that weigh as much as a radian


@dataclass(frozen=True, eq=False)
class ArmCore:
    """Geometry and limits of an arm without its stand and its tool.

    A joint whose limits hold a full turn is one that turns without end here: every pose that it can bring about lies
    within [-pi, pi), and a limit that can be passed by a full turn is none to learn.

    Attributes:
        table: (m + 1, 16) as in :class:`SerialChain`; the first row is a plain joint at the origin.
        lower: (n,); -pi where ``wraps``.
        upper: (n,); pi where ``wraps``.
        wraps: (n,) bool.
    """

    table: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    wraps: np.ndarray

    @staticmethod
    def of(chain: SerialChain) -> ArmCore:
        """Leave out the stand of a chain."""
        table = chain.table.copy()
        table[0, :12] = np.eye(4)[:3, :3].ravel().tolist() + [0.0] * 3
        wraps = full_turns(chain)
        lower, upper = np.where(wraps, -np.pi, chain.lower), np.where(wraps, np.pi, chain.upper)
        return ArmCore(table, lower, upper, wraps)

    @property
    def reach(self) -> float:
        """Upper bound of the distance of the tip from the first joint, metres."""
        prismatic = self.table[:-1, ROW_PRISMATIC] > 0
        shifts = np.abs(np.stack([self.lower, self.upper])).max(0)[self.table[:-1, ROW_VARIABLE].astype(int)]
        return float(np.linalg.norm(self.table[:, 9:12], axis=1).sum() + shifts[prismatic].sum())

    @property
    def rotation_weight(self) -> float:
        """Metres that weigh as much as a radian."""
        return max(ROTATION_SHARE * self.reach, 1e-3)

    @property
    def scale(self) -> np.ndarray:
        """(n,) what a step of one means: a radian, or ``rotation_weight`` metres."""
        scale = np.ones(len(self.lower))
        for row in self.table[:-1]:
            if row[ROW_PRISMATIC] > 0:
                scale[int(row[ROW_VARIABLE])] = self.rotation_weight
        return scale

    @property
    def place(self) -> np.ndarray:
        """(2, n) middle of the limits, and the inverse of half their range: 0 where a joint turns without end."""
        half = np.maximum(0.5 * (self.upper - self.lower), 1e-9)
        return np.stack([0.5 * (self.lower + self.upper), np.where(self.wraps, 0.0, 1.0 / half)])

    @property
    def sizes(self) -> np.ndarray:
        """(2,) reach and rotation weight, metres."""
        return np.array([self.reach, self.rotation_weight])

    def matches(self, other: ArmCore, tolerance: float = 1e-4, limit_tolerance: float = 0.05) -> bool:
        """The same joints at the same places with the same limits, whatever stands before and comes after them."""
        return (
            self.table.shape == other.table.shape
            and bool((self.wraps == other.wraps).all())
            and np.allclose(self.table[1:-1], other.table[1:-1], atol=tolerance)
            and np.allclose(self.table[0, 12:], other.table[0, 12:], atol=tolerance)
            and np.allclose(self.lower, other.lower, atol=limit_tolerance)
            and np.allclose(self.upper, other.upper, atol=limit_tolerance)
        )


def full_turns(chain: SerialChain) -> np.ndarray:
    """(n,) bool: joints whose limits, if they have any, hold a full turn that leaves the pose as it was."""
    turning = chain.upper - chain.lower >= 2 * np.pi - 1e-9
    for row in chain.table[:-1]:
        if row[ROW_PRISMATIC] > 0 or row[ROW_RATIO] != 1.0:
            turning[int(row[ROW_VARIABLE])] = False
    return turning


def feature_count(joints: int) -> int:
    """Features of a stage: sine, cosine and place within the limits per joint, residual and target poses."""
    return 3 * joints - 2 + 3 + 9 + 3 + 9


class KinematicsFeedback:
    """Compares the simulated tip with the target: residual in SE(3), and how it changes with the joints.

    A stage reads each joint's sine, cosine and place within its limits (the first joint's place alone), the residual in
    the tip's frame, and the target as seen from the first link: turning the first joint and the target together
    changes nothing else.

    Args:
        core: the arm.
        compiled: use the compiled twin for float32 tensors on the processor.
    """

    def __init__(self, core: ArmCore, compiled: bool = True) -> None:
        self.core, self.compiled = core, compiled
        self.process = ChainForward(core)
        self.sizes, self.scale, self.place = core.sizes, core.scale, core.place
        self.first = int(core.table[0, ROW_VARIABLE])

    def __call__(self, observation: Tensor, estimate: Tensor) -> FeedbackFeatures:
        """Target poses (B, 4, 4) and joint positions (B, n) -> features."""
        if self.compiled and estimate.device.type == "cpu" and estimate.dtype == torch.float32:
            return self._compiled(observation, estimate)
        reach, rotation_weight = self.sizes.tolist()
        rotation, position, jacobian = self.process.with_jacobian(estimate)
        target_rotation, target_position = observation[:, :3, :3], observation[:, :3, 3]
        scale = torch.from_numpy(self.scale).to(estimate)
        tip = rotation.transpose(1, 2)
        offset = position - target_position
        residual = torch.cat([offset / rotation_weight, rotation_vector(rotation, target_rotation)], dim=1)
        jacobian = torch.cat([jacobian[:, :3] / rotation_weight, jacobian[:, 3:]], dim=1) * scale
        link_rotation, link_position = self.process.first_link(estimate)
        seen = link_rotation.transpose(1, 2)
        features = torch.cat(
            [
                self._joint_features(estimate), (tip @ offset[..., None])[..., 0] * (2.0 / reach),
                (tip @ target_rotation).flatten(1),
                (seen @ (target_position - link_position)[..., None])[..., 0] * (2.0 / reach),
                (seen @ target_rotation).flatten(1),
            ],
            dim=1,
        )  # fmt: skip
        transposed = jacobian.transpose(1, 2)
        gradient = (transposed @ residual[..., None])[..., 0]
        norm = torch.linalg.vector_norm(residual, dim=1) * rotation_weight
        return self._features(features, transposed @ jacobian, gradient, norm)

    def _joint_features(self, estimate: Tensor) -> Tensor:
        middle, inverse_half = torch.from_numpy(self.place).to(estimate)
        place = (estimate - middle) * inverse_half
        columns = []
        for j in range(estimate.shape[1]):
            if j != self.first:
                columns += [torch.sin(estimate[:, j]), torch.cos(estimate[:, j])]
            columns.append(place[:, j])
        return torch.stack(columns, dim=1)

    def _compiled(self, observation: Tensor, estimate: Tensor) -> FeedbackFeatures:
        count, n = estimate.shape
        features, norms = np.empty((count, feature_count(n)), np.float32), np.empty(count, np.float32)
        hessians, gradients = np.empty((count, n, n), np.float32), np.empty((count, n), np.float32)
        compare_many(
            self.core.table, estimate.numpy(), observation.numpy(), self.scale, self.place, self.sizes, features,
            hessians, gradients, norms,
        )  # fmt: skip
        return self._features(*(torch.from_numpy(a) for a in (features, hessians, gradients, norms)))

    def _features(self, features: Tensor, hessian: Tensor, gradient: Tensor, norm: Tensor) -> FeedbackFeatures:
        scale = torch.from_numpy(self.scale).to(gradient).expand_as(gradient)
        return FeedbackFeatures(
            {"features": features, "hessian": hessian, "gradient": gradient, "scale": scale}, norm
        )  # fmt: skip


def rotation_vector(rotation: Tensor, target: Tensor) -> Tensor:
    """log(R R_target^T), (B, 3, 3) twice -> (B, 3); near half a turn its length is right and its axis is rough."""
    d = rotation @ target.transpose(1, 2)
    skew = 0.5 * torch.stack([d[:, 2, 1] - d[:, 1, 2], d[:, 0, 2] - d[:, 2, 0], d[:, 1, 0] - d[:, 0, 1]], dim=1)
    sine = torch.linalg.vector_norm(skew, dim=1, keepdim=True)
    cosine = 0.5 * (d[:, 0, 0] + d[:, 1, 1] + d[:, 2, 2] - 1.0)[:, None]
    factor = torch.where(sine > 1e-6, torch.atan2(sine, cosine) / sine.clamp_min(1e-6), torch.ones_like(sine))
    return factor * skew


class _CompiledLoss(torch.autograd.Function):
    """:func:`loss_many` for autograd."""

    @staticmethod
    def forward(ctx, estimate, target, core):  # type: ignore[no-untyped-def]  # noqa: D102
        losses, gradients = np.empty(len(estimate), np.float32), np.empty(estimate.shape, np.float32)
        limits = np.stack([core.lower, core.upper, core.wraps.astype(np.float64)])
        positions, targets = estimate.detach().numpy(), target.numpy()
        loss_many(
            core.table, positions, targets, limits, core.rotation_weight, LIMIT_MARGIN, LIMIT_WEIGHT, losses, gradients
        )
        ctx.save_for_backward(torch.from_numpy(gradients))
        return torch.from_numpy(losses)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: D102
        return gradient[:, None] * ctx.saved_tensors[0], None, None


class PoseLoss:
    """Distance over the rotation weight, plus the chord of the angle, plus a hinge that keeps joints off their limits.

    Args:
        core: the arm.
        compiled: use the compiled twin for float32 tensors on the processor.
    """

    def __init__(self, core: ArmCore, compiled: bool = True) -> None:
        self.core, self.compiled = core, compiled
        self.process = ChainForward(core)

    def __call__(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Joint positions (B, n), target poses (B, 4, 4) -> (B,)."""
        if self.compiled and estimate.device.type == "cpu" and estimate.dtype == torch.float32:
            return _CompiledLoss.apply(estimate, target, self.core)
        pose = self.process(estimate)
        distance = torch.linalg.vector_norm(pose[:, :3, 3] - target[:, :3, 3], dim=1)
        # The chord 2 sin(a/2) has a gradient almost everywhere.
        chord = torch.linalg.vector_norm((pose[:, :3, :3] - target[:, :3, :3]).flatten(1), dim=1) / 2.0**0.5
        lower, upper = (torch.from_numpy(a).to(estimate) for a in (self.core.lower, self.core.upper))
        place = (estimate - lower) / (upper - lower).clamp_min(1e-9)
        hinge = torch.relu(LIMIT_MARGIN - place) + torch.relu(place - 1.0 + LIMIT_MARGIN)
        limited = ~torch.from_numpy(self.core.wraps).to(estimate.device)
        return distance / self.core.rotation_weight + chord + LIMIT_WEIGHT * (hinge * limited).sum(1)


def make_solver(core: ArmCore, config: JointNetworkConfig) -> FeedbackSolver:
    """An untrained solver for one arm."""
    joints = len(core.lower)
    space = JointBoxSpace(
        torch.from_numpy(core.lower).float(), torch.from_numpy(core.upper).float(), torch.from_numpy(core.wraps)
    )  # fmt: skip

    def stage() -> JointMlpStage:
        return JointMlpStage(feature_count(joints), joints, config.width, config.layers)

    return FeedbackSolver(KinematicsFeedback(core), space, stage, config.solver)


def pose_errors(process: ChainForward, positions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (B,) in metres and angle (B,) in radians of the tip from its targets (B, 4, 4)."""
    pose = process(positions)
    distance = torch.linalg.vector_norm(pose[:, :3, 3] - targets[:, :3, 3], dim=1)
    return distance, rotation_angle_torch(pose[:, :3, :3], targets[:, :3, :3])
