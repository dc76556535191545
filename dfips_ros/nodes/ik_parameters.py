# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the node ``ik_solver``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import ConfigError
from .parameters import parameter, resolve_path


@dataclass(frozen=True)
class IkSolverParameters:
    """The parameters of the node ``ik_solver``. :func:`~.parameters.specs_of` gives their ranges and descriptions."""

    urdf: str = parameter(
        "", "URDF file: a path, a file:// or a package:// URI. Empty: the robot comes from the topic robot_description."
    )
    robot_description_timeout: float = parameter(
        30.0, "How long to wait for that topic while configuring [s].", low=0.1, high=3600.0
    )
    tip: str = parameter("", "Link that is to reach the target. Required.")
    base: str = parameter("", "First link of the arm, an ancestor of tip. Empty: the root of the robot.")
    srdf: str = parameter(
        "",
        "SRDF file (path or URI, as urdf): solutions in which the robot touches itself are refused. Empty: no check "
        "for collisions.",
    )
    weights: str = parameter(
        "",
        "Weights file of the learned stages (path or URI). Empty: those that ship for this arm; without any the node "
        "works with Levenberg-Marquardt and restarts, and says so.",
    )
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    rate: float = parameter(100.0, "Joint commands per second while the arm moves [Hz].", low=1.0, high=1000.0)
    max_joint_speed: float = parameter(
        1.0,
        "No joint is commanded faster than this [rad/s or m/s], nor faster than the URDF's velocity limit.",
        low=1e-3,
        high=100.0,
        live=True,
    )
    max_joint_step: float = parameter(
        0.5,
        "A target whose solution moves a joint farther than this from where it is [rad or m] has no solution: no jumps "
        "to another branch, and no arm that falls behind its targets. 0: no such limit.",
        low=0.0,
        high=100.0,
    )
    target_timeout: float = parameter(
        0.5, "Targets that are older than this when they arrive are refused [s].", low=1e-3, high=3600.0, live=True
    )
    joint_states_timeout: float = parameter(
        1.0,
        "Joint states older than this are no seed for a motion, and end one [s].",
        low=1e-3,
        high=3600.0,
        live=True,
    )
    hold_time: float = parameter(
        0.5,
        "How long commands go on after the arm has reached the last target [s]; then the node is silent, and the next "
        "target starts from joint_states again.",
        low=0.0,
        high=3600.0,
        live=True,
    )
    timeout: float = parameter(0.01, "Time for one target [s].", low=0.0, high=10.0, live=True)
    position_tolerance: float = parameter(1e-4, "Allowed distance of the tip from the target [m].", low=1e-9, high=1.0)
    orientation_tolerance: float = parameter(1e-3, "Allowed angle between tip and target [rad].", low=1e-9, high=3.15)
    position_only: bool = parameter(False, "Any orientation of the tip will do.")
    return_approximate: bool = parameter(
        False, "Where a target cannot be reached, go as near as approximate_position and approximate_orientation allow."
    )
    approximate_position: float = parameter(
        0.05, "Largest distance of an approximate solution [m].", low=1e-9, high=10.0
    )
    approximate_orientation: float = parameter(
        0.05, "Largest angle of an approximate solution [rad].", low=1e-9, high=3.15
    )
    posture_weight: float = parameter(
        0.0, "How strongly a redundant arm keeps its present posture, 0 to 1.", low=0.0, high=1.0
    )
    publish_trajectory: bool = parameter(
        False, "Publish commands on ~/joint_trajectory too, for a joint_trajectory_controller.", live=True
    )
    publish_array: bool = parameter(
        False, "Publish commands on ~/commands too, for a forward_command_controller.", live=True
    )
    group: str = parameter(
        "", "Planning group that the service solve_ik answers for. Empty: any name is taken.", live=True
    )
    service_timeout: float = parameter(
        0.05, "Time for a request to solve_ik that names none [s].", low=1e-3, high=10.0, live=True
    )
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if not self.tip.strip():
            raise ConfigError("parameter tip='': expected the link that is to reach targets, for example tip:=tool0.")
        for name in ("position", "orientation"):
            allowed, near = getattr(self, f"{name}_tolerance"), getattr(self, f"approximate_{name}")
            if self.return_approximate and near < allowed:
                raise ConfigError(f"parameter approximate_{name}={near}: expected at least {name}_tolerance={allowed}.")

    @cached_property
    def urdf_path(self) -> Path | None:
        """The URDF file, or None where the robot comes from the topic.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("urdf", self.urdf) if self.urdf.strip() else None

    @cached_property
    def srdf_path(self) -> Path | None:
        """The SRDF file, or None. Raises as :attr:`urdf_path`."""
        return resolve_path("srdf", self.srdf) if self.srdf.strip() else None

    @cached_property
    def weights_path(self) -> Path | None:
        """The weights file, or None for those that ship for the arm. Raises as :attr:`urdf_path`."""
        return resolve_path("weights", self.weights) if self.weights.strip() else None
