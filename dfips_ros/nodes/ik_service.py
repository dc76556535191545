# SPDX-License-Identifier: Apache-2.0
"""The contract of ``moveit_msgs/srv/GetPositionIK``: from a request to its answer, whatever the messages' classes.

It is the one that MoveIt's ``srv_kinematics_plugin`` and the clients of ``/compute_ik`` rely on. The messages are used
by their field names alone, so that nothing here needs moveit_msgs.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from ..errors import DfipsError, PoseError
from ..tasks.inverse_kinematics import TIMED_OUT, InverseKinematicsEstimator, JointSolution
from .conversions import matrix_from_pose
from .ik_frames import FixedFrames

# moveit_msgs/msg/MoveItErrorCodes
SUCCESS = 1
FAILURE = 99999
TIMEOUT = -6
INVALID_GROUP_NAME = -15
INVALID_GOAL_CONSTRAINTS = -16
INVALID_ROBOT_STATE = -17
INVALID_LINK_NAME = -18
FRAME_TRANSFORM_FAILURE = -21
NO_IK_SOLUTION = -31

MAX_TIMEOUT = 10.0  # seconds; the node does nothing else meanwhile
CONSTRAINT_KINDS = ("joint_constraints", "position_constraints", "orientation_constraints", "visibility_constraints")


def service_type() -> Any:
    """The class moveit_msgs/srv/GetPositionIK, or None where moveit_msgs is not installed."""
    try:
        return importlib.import_module("moveit_msgs.srv").GetPositionIK
    except ImportError:
        return None


class ServiceError(DfipsError):
    """A request that cannot be served. ``code``: what MoveIt calls it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class PositionIkService:
    """Answers requests for one arm.

    Args:
        estimator: of the arm.
        frames: of the robot, relative to the arm's base.
        tip_frames: of the robot, relative to the arm's tip.
    """

    def __init__(self, estimator: InverseKinematicsEstimator, frames: FixedFrames, tip_frames: FixedFrames) -> None:
        self._estimator = estimator
        self._frames = frames
        self._tip_frames = tip_frames

    def answer(self, request: Any, response: Any, present: dict[str, float], group: str, timeout: float) -> Any:
        """Fill in and return the response; every fault becomes an error code with a message.

        Args:
            request: with a field ``ik_request``.
            response: with fields ``solution`` and ``error_code``.
            present: positions of joints that the request does not name, by name; may lack some.
            group: planning group to answer for; empty: any.
            timeout: seconds, where the request names none.
        """
        try:
            solution = self._solve(request.ik_request, present, group, timeout)
            if not solution.success:
                code = TIMEOUT if solution.status == TIMED_OUT else NO_IK_SOLUTION
                return set_code(response, code, solution.reason)
        except ServiceError as error:
            return set_code(response, error.code, str(error))
        except Exception as error:
            kind = "" if isinstance(error, DfipsError) else f"{type(error).__name__}: "
            return set_code(response, FAILURE, f"{kind}{error}")
        joint_state = response.solution.joint_state
        joint_state.header.frame_id = self._estimator.base
        joint_state.name = list(solution.names)
        joint_state.position = [float(p) for p in solution.positions]
        return set_code(response, SUCCESS)

    def _solve(self, request: Any, present: dict[str, float], group: str, timeout: float) -> JointSolution:
        if group and request.group_name != group:
            raise ServiceError(
                INVALID_GROUP_NAME, f"group_name='{request.group_name}': this node answers for '{group}' alone."
            )
        given = [kind for kind in CONSTRAINT_KINDS if getattr(request.constraints, kind)]
        if given:
            raise ServiceError(INVALID_GOAL_CONSTRAINTS, f"constraints.{given[0]}: expected none, they are not served.")
        stamped, link = self._target(request)
        target = self._pose(stamped) @ self._tip_of(link)
        seconds = request.timeout.sec + 1e-9 * request.timeout.nanosec
        if seconds < 0.0:
            raise ServiceError(FAILURE, f"timeout={seconds:g} s: expected zero (for the default) or more.")
        seed = self._seed(request.robot_state.joint_state, present)
        return self._estimator.solve(target, seed, min(seconds or timeout, MAX_TIMEOUT))

    @staticmethod
    def _target(request: Any) -> tuple[Any, str]:
        """The one target, and the link that it is for (empty: the tip)."""
        poses, links = list(request.pose_stamped_vector), list(request.ik_link_names)
        if not poses:
            return request.pose_stamped, request.ik_link_name
        if len(poses) != 1 or len(links) > 1:
            raise ServiceError(
                INVALID_LINK_NAME,
                f"pose_stamped_vector: expected one pose and one link, got {len(poses)} and {len(links)}: this arm has "
                "one tip.",
            )
        return poses[0], links[0] if links else ""

    def _pose(self, stamped: Any) -> np.ndarray:
        """T_base_link of a PoseStamped."""
        try:
            frame = self._frames.pose(stamped.header.frame_id)
        except PoseError as error:
            raise ServiceError(FRAME_TRANSFORM_FAILURE, str(error)) from error
        return frame @ matrix_from_pose(stamped.pose, "pose_stamped.pose")

    def _tip_of(self, link: str) -> np.ndarray:
        """T_link_tip, for a link that does not move with respect to the tip."""
        try:
            return np.linalg.inv(self._tip_frames.pose(link))
        except PoseError as error:
            tip = self._estimator.tip
            text = f"ik_link_name='{link}': expected '{tip}', or a link that does not move with respect to it."
            raise ServiceError(INVALID_LINK_NAME, text) from error

    def _seed(self, state: Any, present: dict[str, float]) -> dict[str, float] | None:
        """Where to start: the request's joints by name, then the present ones, then the middle of the limits."""
        names, positions = list(state.name), list(state.position)
        if len(names) != len(positions):
            raise ServiceError(
                INVALID_ROBOT_STATE,
                f"robot_state.joint_state: expected as many positions as names, got {len(positions)} and {len(names)}.",
            )
        estimator = self._estimator
        given = {n: float(p) for n, p in zip(names, positions, strict=True) if n in estimator.joint_names}
        wrong = sorted(name for name, position in given.items() if not math.isfinite(position))
        if wrong:
            raise ServiceError(INVALID_ROBOT_STATE, f"robot_state.joint_state: joint '{wrong[0]}' is not finite.")
        if not given and not present:
            return None
        middle = dict(zip(estimator.joint_names, 0.5 * (estimator.lower + estimator.upper), strict=True))
        known = {name: position for name, position in present.items() if name in middle}
        return {**middle, **known, **given}


def set_code(response: Any, code: int, text: str = "") -> Any:
    """The response with a code, and the reason where its type has room for one."""
    response.error_code.val = code
    if hasattr(response.error_code, "message"):
        response.error_code.message = text
        response.error_code.source = "dfips_ros/ik_solver"
    return response
