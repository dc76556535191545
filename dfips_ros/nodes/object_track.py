# SPDX-License-Identifier: Apache-2.0
"""One object of the node ``pose_tracker``: its solver, its state, and what is answered for each mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header

from dfips_ros.msg import TrackedObject

from ..tasks.object_pose import ObjectPoseEstimator, ObjectPoseSolution, PoseTracker, TrackResult, TrackState
from ..tasks.object_pose.prediction import predict_pose, predicted_covariance
from . import conversions
from .mask_stream import ResetBarrier
from .tracker_parameters import ObjectParameters, PoseTrackerParameters

MAX_MOTION_SECONDS = 0.2  # between two poses that tell a velocity

COLOURS = (
    (0.1, 0.8, 0.3, 0.6), (0.2, 0.5, 1.0, 0.6), (1.0, 0.6, 0.1, 0.6), (0.8, 0.3, 0.9, 0.6), (0.9, 0.9, 0.2, 0.6),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Answer:
    """What a mask told about an object.

    Attributes:
        track: of the object.
        message: for ``~/tracked_object``.
        solution: None where there is none.
        tracking: the message's pose is one of this mask, and may be used.
        controlled: pose for ``~/pose`` and the transform with its header: ahead in time where that was asked for.
    """

    track: ObjectTrack
    message: TrackedObject
    solution: ObjectPoseSolution | None = None
    tracking: bool = False
    controlled: tuple[PoseWithCovariance, Header] | None = None


class ObjectTrack:
    """State of one object between masks.

    Args:
        parameters: of the node as if this were its single object.
        own: what was told of this object; None: it is the single one that the node's parameters describe.
        estimator, tracker: of this object alone.
        number: stable number of the object.

    Attributes:
        configured: it came with the node's parameters, and not by ``~/add_object``.
        settle: is called before the tracker is changed, and returns when nobody else works with it.
    """

    def __init__(
        self,
        parameters: PoseTrackerParameters,
        own: ObjectParameters | None,
        estimator: ObjectPoseEstimator,
        tracker: PoseTracker,
        number: int,
    ) -> None:
        self.parameters = parameters
        self.own = own
        self.estimator = estimator
        self.tracker = tracker
        self.number = number
        self.configured = False
        self.settle: Callable[[], None] = lambda: None
        self.name = parameters.name
        colour = COLOURS[(number - 1) % len(COLOURS)]
        self.marker = conversions.MeshMarker(estimator.mesh, parameters.name, colour)
        self.barrier = ResetBarrier()
        self.state = TrackState.INITIALISING
        self._last_pose: np.ndarray | None = None  # in the frame of the outputs
        self._motion: list[tuple[float, np.ndarray]] = []  # the last two poses, T_camera_object
        self._failures_in_a_row = 0

    def forget(self) -> None:
        """Begin anew: no pose, no history."""
        self.settle()
        self.tracker.reset()
        self.barrier.lift()
        self.state = TrackState.INITIALISING
        self._last_pose = None
        self._motion = []
        self._failures_in_a_row = 0

    def start_from(self, pose: np.ndarray) -> None:
        """Begin anew at this pose T_camera_object (4, 4).

        Raises:
            PoseError: the camera cannot see it there.
        """
        self.settle()
        self.tracker.set_pose(pose)
        self._motion = []

    def answer(
        self,
        result: TrackResult,
        at_border: bool,
        header: Header,
        T_output_camera: np.ndarray | None = None,
        problem: str = "",
    ) -> Answer:
        """Of a mask that was worked on. Without a solution the pose is the last one and is marked unknown.

        Args:
            result: of the tracker.
            at_border: the mask touches the image's border.
            header: of the outputs.
            T_output_camera: (4, 4), or None where the outputs are in the camera's frame.
            problem: why the pose cannot be given in the frame of the outputs; empty: it can.
        """
        self.state, self._failures_in_a_row = result.state, 0
        message = self._message(header, _reason(result, at_border))
        solution = result.solution
        if solution is not None:
            message.iou = float(solution.iou)
            message.residual_norms = np.asarray(solution.residual_norms, dtype=np.float64).ravel().tolist()
            message.solve_time = float(solution.solve_time)
        if result.state != TrackState.TRACKING or solution is None:
            return Answer(self, message, solution)
        self._motion = [*self._motion[-1:], (result.stamp, np.asarray(solution.T_camera_object))]
        if problem:
            message.reason = problem
            return Answer(self, message, solution)
        pose, covariance = moved(solution.T_camera_object, solution.covariance, T_output_camera)
        self._last_pose = pose
        message.pose = conversions.pose_with_covariance(pose, covariance)
        controlled = self._ahead(solution.covariance, header, T_output_camera) or (message.pose, header)
        return Answer(self, message, solution, True, controlled)

    def failure(self, problem: str, header: Header) -> Answer:
        """Of a mask that could not be worked on; after lost_frames of them the object is lost."""
        self._failures_in_a_row += 1
        if self.state == TrackState.TRACKING and self._failures_in_a_row >= self.parameters.lost_frames:
            self.state = TrackState.LOST
        return Answer(self, self._message(header, problem))

    def _message(self, header: Header, reason: str) -> TrackedObject:
        message = TrackedObject(header=header, object_name=self.name, id=self.number, reason=reason)
        message.state = int(self.state)
        message.pose = conversions.unknown_pose_with_covariance(self._last_pose)
        return message

    def _ahead(
        self, covariance: np.ndarray, header: Header, T_output_camera: np.ndarray | None
    ) -> tuple[PoseWithCovariance, Header] | None:
        """Pose and header ``prediction`` seconds later; None where that is not wanted, or no velocity is known."""
        seconds = self.parameters.prediction
        if seconds <= 0.0 or len(self._motion) < 2:
            return None
        (before_stamp, before), (stamp, last) = self._motion
        gap = stamp - before_stamp
        if not 0.0 < gap <= MAX_MOTION_SECONDS:
            return None
        ratio = seconds / gap
        pose = predict_pose(before, last, ratio, self.estimator.mesh.center)
        later = conversions.make_header(
            conversions.stamp_from_seconds(conversions.seconds_from_stamp(header.stamp) + seconds), header.frame_id
        )
        pose, covariance = moved(pose, predicted_covariance(covariance, ratio), T_output_camera)
        return conversions.pose_with_covariance(pose, covariance), later


def moved(
    pose: np.ndarray, covariance: np.ndarray, T_output_camera: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pose (4, 4) and covariance (6, 6) of a camera's frame in another frame; None: the camera's."""
    if T_output_camera is None:
        return pose, covariance
    turn = np.kron(np.eye(2), T_output_camera[:3, :3])
    return T_output_camera @ pose, turn @ covariance @ turn.T


def _reason(result: TrackResult, at_border: bool) -> str:
    """The tracker's reason, empty while all is well."""
    if result.state != TrackState.TRACKING or result.solution is None:
        return result.reason
    reason = "" if result.reason == "tracking" else result.reason
    if at_border:
        border = "the mask touches the image border: part of the object may be unseen"
        return f"{reason}; {border}" if reason else border
    return reason
