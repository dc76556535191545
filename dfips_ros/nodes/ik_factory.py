# SPDX-License-Identifier: Apache-2.0
"""Makes the solvers of the node ``ik_solver`` from its parameters, and warms them up."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
import torch

from ..tasks.inverse_kinematics import InverseKinematicsConfig, InverseKinematicsEstimator
from .ik_frames import FixedFrames
from .ik_parameters import IkSolverParameters
from .ik_service import PositionIkService

THREADS = 1
DEVICE = "cpu"  # a GPU is for batches
WARM_UP_SECONDS = 0.1


@dataclass(frozen=True)
class IkSolvers:
    """What the node works with.

    Attributes:
        follower: solves targets near the present joints.
        service: answers requests from any seed.
        frames: the robot's links that do not move with respect to the arm's base.
        speed_limits: (n,) of the URDF, rad/s or m/s; infinite where it has none.
        notes: what is to be said about this arm, by topic.
    """

    follower: InverseKinematicsEstimator
    service: PositionIkService
    frames: FixedFrames
    speed_limits: np.ndarray
    notes: dict[str, str]


def solver_config(parameters: IkSolverParameters) -> InverseKinematicsConfig:
    """The part of the parameters that the solver takes, for targets that are followed."""
    return InverseKinematicsConfig(
        position_tolerance=parameters.position_tolerance,
        orientation_tolerance=parameters.orientation_tolerance,
        position_only=parameters.position_only,
        max_joint_step=parameters.max_joint_step or None,
        posture_weight=parameters.posture_weight,
        return_approximate=parameters.return_approximate,
        approximate_position=max(parameters.approximate_position, parameters.position_tolerance),
        approximate_orientation=max(parameters.approximate_orientation, parameters.orientation_tolerance),
    )


def make_solvers(parameters: IkSolverParameters, urdf: str) -> IkSolvers:
    """Load the arm and its weights, and compile what the first target would wait for.

    Args:
        parameters: of the node.
        urdf: a file, or the URDF itself.

    Raises:
        ConfigError: the URDF, the SRDF or a link cannot be used.
        CheckpointError: the weights cannot be used.
    """
    logging.getLogger("dfips_ros.tasks.inverse_kinematics").setLevel(logging.ERROR)  # the node itself tells the notes
    torch.set_num_threads(THREADS)
    numba.set_num_threads(THREADS)  # type: ignore[attr-defined]
    base, weights = parameters.base or None, parameters.weights_path
    config = solver_config(parameters)
    srdf = str(parameters.srdf_path) if parameters.srdf_path else None

    def make(settings: InverseKinematicsConfig) -> InverseKinematicsEstimator:
        return InverseKinematicsEstimator.from_urdf(urdf, parameters.tip, base, DEVICE, weights, settings, srdf)

    follower, anywhere = make(config), make(replace(config, max_joint_step=None, return_approximate=False))
    chain = follower.chain
    middle = 0.5 * (follower.lower + follower.upper)
    follower.solve(follower.forward(middle), middle + 1e-3, WARM_UP_SECONDS)
    anywhere.solve(anywhere.forward(middle), None, WARM_UP_SECONDS)
    frames = FixedFrames(chain.model, chain.base)
    service = PositionIkService(anywhere, frames, FixedFrames(chain.model, chain.tip))
    notes = {
        "arm": f"{chain.base} to {chain.tip}, {len(follower.joint_names)} joints",
        "weights": "learned stages" if follower.has_weights else "none for this arm: Levenberg-Marquardt and restarts",
        "self-collision check": "on" if srdf else "off (parameter srdf)",
        **({"URDF": " ".join(chain.notes)} if chain.notes else {}),
    }
    return IkSolvers(follower, service, frames, _speed_limits(chain.model, follower.joint_names), notes)


def _speed_limits(model: Any, names: tuple[str, ...]) -> np.ndarray:
    """The URDF's velocity limits; zero or nothing there stands for none."""
    limits = np.array([model.velocityLimit[model.joints[model.getJointId(name)].idx_v] for name in names])
    return np.where(np.isfinite(limits) & (limits > 0.0), limits, np.inf)
