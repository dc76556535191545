# SPDX-License-Identifier: Apache-2.0
"""The inverse kinematics problem as the generic solver sees it: feedback, space, loss, and the solver itself.

Learned stages work on the *core* of an arm: the frame of its first joint is the base, and the tip is the one that was
trained with. Where the arm stands and which tool it carries is taken out of the target first, so that one set of
weights serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...geometry import rotation_angle_torch
from ...networks.joint_mlp import JointMlpStage, damped_steps
from ...processes.kinematics import ChainForward, SerialChain
from ...processes.kinematics_jit import ROW_OFFSET, ROW_PRISMATIC, ROW_RATIO, ROW_VARIABLE
from ...solver import FeedbackFeatures, FeedbackSolver, JointBoxSpace
from .compiled_stages import LIMIT_MARGIN, LIMIT_WEIGHT, compare_many, loss_many, points, try_many
from .config import JointNetworkConfig

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

    @cached_property
    def reach(self) -> float:
        """Upper bound of the distance of the tip from the first joint, metres."""
        prismatic = self.table[:-1, ROW_PRISMATIC] > 0
        shifts = np.abs(np.stack([self.lower, self.upper])).max(0)[self.table[:-1, ROW_VARIABLE].astype(int)]
        return float(np.linalg.norm(self.table[:, 9:12], axis=1).sum() + shifts[prismatic].sum())

    @cached_property
    def rotation_weight(self) -> float:
        """Metres that weigh as much as a radian."""
        return max(ROTATION_SHARE * self.reach, 1e-3)

    @cached_property
    def scale(self) -> np.ndarray:
        """(n,) what a step of one means: a radian, or ``rotation_weight`` metres."""
        scale = np.ones(len(self.lower))
        for row in self.table[:-1]:
            if row[ROW_PRISMATIC] > 0:
                scale[int(row[ROW_VARIABLE])] = self.rotation_weight
        return scale

    @cached_property
    def place(self) -> np.ndarray:
        """(2, n) middle of the limits, and the inverse of half their range: 0 where a joint turns without end."""
        half = np.maximum(0.5 * (self.upper - self.lower), 1e-9)
        return np.stack([0.5 * (self.lower + self.upper), np.where(self.wraps, 0.0, 1.0 / half)])

    @cached_property
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
    the tip's frame, and the target as seen by a first joint that points at it: turning the first joint and the target
    together changes nothing but the places of both within the limits.

    Args:
        core: the arm.
        compiled: use the compiled twin for float32 tensors on the processor.
    """

    def __init__(self, core: ArmCore, compiled: bool = True) -> None:
        self.core, self.compiled = core, compiled
        self.process = ChainForward(core)
        self.sizes, self.scale, self.place = core.sizes, core.scale, core.place
        self.first = int(core.table[0, ROW_VARIABLE])
        self.points = bool(points(core.table))
        turns = core.wraps.copy()
        turns[self.first] |= self.points
        self.turn = torch.from_numpy(np.where(turns, 2.0 * np.pi, 0.0))

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
        joint, angle = self.direction(observation)
        c, s, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        seen = torch.stack([c, s, zero, -s, c, zero, zero, zero, zero + 1.0], dim=1).reshape(-1, 3, 3)
        seen_position = (seen @ target_position[..., None])[..., 0] * (2.0 / reach)
        seen_position[:, 1] += joint * self.place[1, self.first]
        features = torch.cat(
            [
                self._joint_features(estimate), (tip @ offset[..., None])[..., 0] * (2.0 / reach),
                (tip @ target_rotation).flatten(1), seen_position, (seen @ target_rotation).flatten(1),
            ],
            dim=1,
        )  # fmt: skip
        transposed = jacobian.transpose(1, 2)
        gradient = (transposed @ residual[..., None])[..., 0]
        norm = torch.linalg.vector_norm(residual, dim=1) * rotation_weight
        return self._features(observation, estimate, features, transposed @ jacobian, gradient, norm)

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
        tensors = (torch.from_numpy(a) for a in (features, hessians, gradients, norms))
        return self._features(observation, estimate, *tensors)

    def _features(self, observation: Tensor, estimate: Tensor, *tensors: Tensor) -> FeedbackFeatures:
        features, hessian, gradient, norm = tensors
        scale = torch.from_numpy(self.scale).to(gradient).expand_as(gradient)
        home = (torch.from_numpy(self.place[0]).to(estimate) - estimate) / scale
        centre = torch.zeros_like(home)
        centre[:, self.first] = self.direction(observation)[0]
        turn = self.turn.to(scale).expand_as(scale)
        return FeedbackFeatures(
            {"features": features, "hessian": hessian, "gradient": gradient, "scale": scale, "home": home,
             "centre": centre, "turn": turn, "estimate": estimate, "target": observation}, norm
        )  # fmt: skip

    def direction(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The first joint's angle (B,) that points at targets (B, 4, 4), from the middle of its limits, and the angle.

        Both are 0 where the first element does not turn by the joint's own angle.
        """
        if not self.points:
            return torch.zeros_like(target[:, 0, 3]), torch.zeros_like(target[:, 0, 3])
        angle = torch.atan2(target[:, 1, 3], target[:, 0, 3])
        row = self.core.table[0]
        joint = (angle - row[ROW_OFFSET]) * row[ROW_RATIO] - self.place[0, self.first]
        return joint - 2.0 * torch.pi * torch.round(joint / (2.0 * torch.pi)), angle


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
        positions, targets = estimate.detach().numpy(), pose_rows(target).numpy()
        loss_many(core.table, positions, targets, core.place, core.rotation_weight, losses, gradients)
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
        middle, inverse_half = torch.from_numpy(self.core.place).to(estimate)
        hinge = torch.relu(0.5 * (torch.abs(estimate - middle) * inverse_half - 1.0) + LIMIT_MARGIN)
        return distance / self.core.rotation_weight + chord + LIMIT_WEIGHT * hinge.sum(1)


class JointLoss:
    """Distance from given joint positions, the short way round for joints that turn without end.

    Args:
        core: the arm.
    """

    def __init__(self, core: ArmCore) -> None:
        self.core = core

    def __call__(self, estimate: Tensor, solution: Tensor) -> Tensor:
        """Joint positions (B, n), solutions (B, n) -> (B,)."""
        way = estimate - solution
        turns = torch.from_numpy(self.core.wraps).to(way.device) * torch.round(way.detach() / (2.0 * torch.pi))
        scale = torch.from_numpy(self.core.scale).to(way)
        return torch.linalg.vector_norm((way - 2.0 * torch.pi * turns) / scale, dim=1)


class ProposalLoss:
    """Tries every proposal of a stage with the forward process: the :class:`PoseLoss` of where it leads.

    Args:
        core: the arm.
        compiled: use the compiled twin for float32 tensors on the processor.
    """

    def __init__(self, core: ArmCore, compiled: bool = True) -> None:
        self.core, self.compiled = core, compiled
        self.loss, self.scale, self.place = PoseLoss(core, compiled=False), core.scale, core.place
        self.bounds = np.stack([np.where(core.wraps, -np.inf, core.lower), np.where(core.wraps, np.inf, core.upper)])

    def __call__(self, inputs: dict[str, Tensor], jumps: Tensor, steps: Tensor, dampings: Tensor) -> Tensor:
        """A stage's inputs, jumps (B, J, n), proposed steps and their damping (B, S, n) -> losses (B, J + S)."""
        estimate, target, hessian, gradient = (inputs[k] for k in ("estimate", "target", "hessian", "gradient"))
        if self.compiled and estimate.device.type == "cpu" and estimate.dtype == torch.float32:
            losses = np.empty((len(estimate), jumps.shape[1] + steps.shape[1]), np.float32)
            a, b, c = (t.contiguous().numpy() for t in (jumps, steps, dampings))
            try_many(
                self.core.table, estimate.numpy(), pose_rows(target).numpy(), self.scale, self.place, self.bounds,
                self.core.rotation_weight, hessian.numpy(), gradient.numpy(), a, b, c, losses,
            )  # fmt: skip
            return torch.from_numpy(losses)
        lower, upper = torch.from_numpy(self.bounds).to(estimate)
        ways = torch.cat([jumps, damped_steps(hessian, gradient, steps, dampings)], dim=1)
        moved = estimate[:, None] + ways * inputs["scale"][:, None]
        moved = torch.maximum(torch.minimum(moved, upper), lower)
        return self.loss(moved.flatten(0, 1), target.repeat_interleave(moved.shape[1], 0)).reshape(moved.shape[:2])


def pose_rows(poses: Tensor) -> Tensor:
    """Rotation (9) and position (3) of poses (B, 4, 4) -> (B, 12)."""
    return torch.cat([poses[:, :3, :3].flatten(1), poses[:, :3, 3]], dim=1)


def make_solver(core: ArmCore, config: JointNetworkConfig) -> FeedbackSolver:
    """An untrained solver for one arm."""
    joints = len(core.lower)
    space = JointBoxSpace(
        torch.from_numpy(core.lower).float(), torch.from_numpy(core.upper).float(), torch.from_numpy(core.wraps)
    )  # fmt: skip

    judge, numbers = ProposalLoss(core), iter(range(config.solver.num_stages))

    def stage() -> JointMlpStage:
        proposals = config.proposals(next(numbers))
        return JointMlpStage(feature_count(joints), joints, config.width, config.layers, *proposals, judge)

    return FeedbackSolver(KinematicsFeedback(core), space, stage, config.solver)


def pose_errors(process: ChainForward, positions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (B,) in metres and angle (B,) in radians of the tip from its targets (B, 4, 4)."""
    pose = process(positions)
    distance = torch.linalg.vector_norm(pose[:, :3, 3] - targets[:, :3, 3], dim=1)
    return distance, rotation_angle_torch(pose[:, :3, :3], targets[:, :3, :3])
