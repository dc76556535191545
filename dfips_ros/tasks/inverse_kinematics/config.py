# SPDX-License-Identifier: Apache-2.0
"""Configurations of the inverse kinematics task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import check_range, config_from_dict
from ...errors import ConfigError
from ...solver import SolverConfig


@dataclass(frozen=True)
class InverseKinematicsConfig:
    """What counts as a solution, and how it is searched for.

    Attributes:
        position_tolerance: largest distance of the tip from the target, metres.
        orientation_tolerance: largest angle between tip and target, radians.
        position_only: any orientation of the tip will do.
        max_joint_step: no joint of a solution is farther from the seed than this (radians or metres); None for no such
            bound. It needs a seed.
        posture_weight: how far a redundant arm moves within its null space towards the posture, in [0, 1]; 0 leaves it
            where the search ended, 1 goes as near as the pose allows.
        posture: joint positions to stay near to, in the order of the joint names; None for the seed.
        return_approximate: where there is no solution, return the nearest pose that was found, if it is within
            ``approximate_position`` and ``approximate_orientation`` of the target.
        approximate_position: metres.
        approximate_orientation: radians.
        max_restarts: random restarts after the first tries have failed, at most; the deadline may come first.
        num_seeds: so many of the first stage's proposals are followed up by the other stages, each for itself.
        random_seed: of the restarts; the same call gives the same solution.
    """

    position_tolerance: float = 1e-5
    orientation_tolerance: float = 1e-5
    position_only: bool = False
    max_joint_step: float | None = None
    posture_weight: float = 0.0
    posture: tuple[float, ...] | None = None
    return_approximate: bool = False
    approximate_position: float = 0.05
    approximate_orientation: float = 0.05
    max_restarts: int = 100_000
    num_seeds: int = 4
    random_seed: int = 0

    def __post_init__(self) -> None:
        check_range("position_tolerance", self.position_tolerance, 1e-9, 1.0)
        check_range("orientation_tolerance", self.orientation_tolerance, 1e-9, 3.15)
        if self.max_joint_step is not None:
            check_range("max_joint_step", self.max_joint_step, 1e-9)
        check_range("posture_weight", self.posture_weight, 0.0, 1.0)
        for value in self.posture or ():
            check_range("posture", value)
        check_range("approximate_position", self.approximate_position, self.position_tolerance)
        check_range("approximate_orientation", self.approximate_orientation, self.orientation_tolerance)
        check_range("max_restarts", self.max_restarts, 0, 10_000_000)
        check_range("num_seeds", self.num_seeds, 1, 64)
        check_range("random_seed", self.random_seed, 0, 2**31)

    def check_posture(self, names: tuple[str, ...]) -> None:
        """Raise :class:`ConfigError` unless the posture, where there is one, has a position for each joint."""
        if self.posture is not None and len(self.posture) != len(names):
            raise ConfigError(f"posture={self.posture}: expected {len(names)} positions, for {', '.join(names)}.")


@dataclass(frozen=True)
class JointNetworkConfig:
    """The stages and how they are unrolled.

    Attributes:
        width: hidden width of a stage.
        layers: hidden layers of a stage.
        jumps: joint positions that the first stage proposes, of which the one nearest to the target is taken.
        steps: steps that each later stage proposes, of which the one that ends nearest to the target is taken. With
            shared weights every stage proposes jumps and steps.
        solver: how the stages are unrolled.
    """

    width: int = 256
    layers: int = 2
    jumps: int = 12
    steps: int = 4
    solver: SolverConfig = field(
        default_factory=lambda: SolverConfig(num_stages=3, adaptive=False, keep_best=False)
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_range("width", self.width, 8, 4096)
        check_range("layers", self.layers, 1, 8)
        check_range("jumps", self.jumps, 1, 64)
        check_range("steps", self.steps, 1, 64)

    def proposals(self, stage: int) -> tuple[int, int]:
        """Jumps and steps that a stage proposes."""
        if self.solver.shared_weights:
            return self.jumps, self.steps
        return (self.jumps, 0) if stage == 0 else (0, self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a weights file."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> JointNetworkConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        plain = dict(values)
        solver = config_from_dict(SolverConfig, plain.pop("solver", {}))
        return config_from_dict(JointNetworkConfig, {**plain, "solver": solver})
