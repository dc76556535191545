# SPDX-License-Identifier: Apache-2.0
"""One object of ``dfips replay object_pose``: its tracker, its state, and what is answered for each mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bags.types import make, pose_message
from ..errors import DfipsError
from ..messages.labels import selection_in_words
from ..tasks.object_pose import ObjectPoseEstimator, ObjectPoseSolution, PoseTracker, TrackResult, TrackState

BORDER = "the mask touches the image border: part of the object may be unseen"


@dataclass(frozen=True)
class Frame:
    """What became of one object in one mask.

    Attributes:
        time: of the mask, nanoseconds.
        state: INITIALISING, TRACKING or LOST.
        reason: why, empty while all is well.
        T_camera_object: (4, 4) the pose, None where there is none; the fields below belong to it.
        iou: silhouette IoU.
        residual_norms: before the first stage and after each.
        solve_ms: time that the solver took.
        unusable: the mask or the camera could not be used at all.
    """

    time: int
    state: str
    reason: str
    T_camera_object: np.ndarray | None = None
    iou: float = 0.0
    residual_norms: tuple[float, ...] = ()
    solve_ms: float = float("nan")
    unusable: bool = False


class ReplayedObject:
    """State of one object between masks.

    Args:
        name: in messages and TF.
        estimator: of the object.
        tracker: around ``estimator``.
        mask_mode, label_value, class_name: as the node's parameters of these names.

    Attributes:
        number: as the node numbers its objects.
        frames: one for each mask.
    """

    def __init__(
        self,
        name: str,
        estimator: ObjectPoseEstimator,
        tracker: PoseTracker,
        mask_mode: str = "binary",
        label_value: int = 1,
        class_name: str = "",
    ) -> None:
        self.name, self.estimator, self.tracker = name, estimator, tracker
        self.mask_mode, self.label_value, self.class_name = mask_mode, label_value, class_name
        self.selection = selection_in_words(mask_mode, label_value, class_name)
        self.number = 1
        self.frames: list[Frame] = []
        self._state, self._failures = TrackState.INITIALISING, 0
        self._last_pose: np.ndarray | None = None

    def forget(self) -> None:
        """Begin anew; the frames stay."""
        self.tracker.reset()
        self._state, self._failures, self._last_pose = TrackState.INITIALISING, 0, None

    def answer(self, result: TrackResult | Exception, mask: np.ndarray | None, time: int, header: Any) -> Any:
        """Keep what a mask told, and give it as TrackedObject; ``solve_time`` is 0.

        Args:
            result: of the tracker, or why there is none.
            mask: (H, W) that the tracker saw.
            time: of the mask, nanoseconds.
            header: of the answer.
        """
        if isinstance(result, Exception) or mask is None:
            frame = self._failed(time, result)
        else:
            self._state, self._failures = result.state, 0
            frame = _frame(time, result, mask)
        self.frames.append(frame)
        tracked = isinstance(result, TrackResult) and frame.T_camera_object is not None
        return make(
            "dfips_ros/msg/TrackedObject", header=header, object_name=self.name, id=self.number,
            state=int(TrackState[frame.state]), reason=frame.reason,
            pose=self._pose(result.solution if tracked else None),  # type: ignore[union-attr]
            iou=frame.iou, residual_norms=np.array(frame.residual_norms, dtype=np.float32), solve_time=0.0,
        )  # fmt: skip

    def _failed(self, time: int, problem: object) -> Frame:
        """A mask that could not be worked on; after lost_frames of them the object is lost."""
        self._failures += 1
        if self._state == TrackState.TRACKING and self._failures >= self.tracker.config.lost_frames:
            self._state = TrackState.LOST
        text = str(problem) if isinstance(problem, DfipsError) else f"{type(problem).__name__}: {problem}"
        return Frame(time, self._state.name, text, unusable=True)

    def _pose(self, solution: ObjectPoseSolution | None) -> Any:
        """geometry_msgs/PoseWithCovariance; without a solution the last pose, marked unknown."""
        if solution is None:
            covariance = np.zeros(36)
            covariance[0] = -1.0
            matrix = np.eye(4) if self._last_pose is None else self._last_pose
        else:
            self._last_pose = matrix = solution.T_camera_object
            covariance = np.asarray(solution.covariance, dtype=np.float64).ravel()
        return make("geometry_msgs/msg/PoseWithCovariance", pose=pose_message(matrix), covariance=covariance)


def _frame(time: int, result: TrackResult, mask: np.ndarray) -> Frame:
    reason, solution = _reason(result, mask), result.solution
    if result.state != TrackState.TRACKING or solution is None:
        return Frame(time, result.state.name, reason)
    norms = tuple(float(n) for n in np.asarray(solution.residual_norms).ravel())
    pose, milliseconds = solution.T_camera_object, 1e3 * float(solution.solve_time)
    return Frame(time, result.state.name, reason, pose, float(solution.iou), norms, milliseconds)


def _reason(result: TrackResult, mask: np.ndarray) -> str:
    """The tracker's reason as the node gives it, empty while all is well."""
    if result.state != TrackState.TRACKING or result.solution is None:
        return result.reason
    reason = "" if result.reason == "tracking" else result.reason
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return f"{reason}; {BORDER}" if reason else BORDER
    return reason
