# SPDX-License-Identifier: Apache-2.0
"""Track one object over a sequence of masks: a plain state machine around the estimator, without ROS."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ...checks import check_camera_matrix, check_mask, check_pose, check_pose_in_view, check_range
from ...errors import ConfigError, MaskError, PoseError
from ...geometry import rotation_angle
from .crop import covers_border
from .estimator import ObjectPoseSolution
from .hypotheses import EstimatorConfig
from .prediction import predict_pose
from .symmetry import Symmetries

TRACKING_ENOUGH = 0.04  # 1 - IoU, at the resolution of the stages
LEVEL_DECAY = 0.001  # of the usual IoU in each mask: the masks' quality may change
EQUAL_IOU = 0.03  # poses that explain a noisy mask this nearly as well are told apart by the last good pose alone


class TrackState(enum.IntEnum):
    """What the tracker knows."""

    INITIALISING = 0
    TRACKING = 1
    LOST = 2


@dataclass(frozen=True)
class TrackerConfig:
    """When a track is accepted, and when it is given up.

    Attributes:
        init_iou: a pose found from nothing must explain the mask at least so well.
        lost_iou: a tracked pose that explains the mask worse than this counts as a miss.
        lost_frames: so many misses in a row and the track is lost.
        min_mask_pixels: smaller masks count as a miss.
        predict: start from the pose that a constant velocity predicts, where it fits better than the last pose.
        max_prediction: seconds; over longer gaps the last pose is used as it is.
        max_gap: seconds without an accepted pose after which the last one is forgotten.
        reinit_interval: while no pose is known, search in every n-th mask only (a search takes longer than a track).
        search_at_loss: search in the very mask with which the track is lost, too.
        doubt_iou: a pose that explains its mask by this much worse than usual is doubtful: an object that something
            hides more and more drags its pose along. The last pose that is not doubtful is the one to find it by.
        review_frames: after so many doubtful masks in a row look around the last good pose for one that explains the
            mask as well as usual; 0 never does.
    """

    init_iou: float = 0.8
    lost_iou: float = 0.6
    lost_frames: int = 3
    min_mask_pixels: int = 64
    predict: bool = True
    max_prediction: float = 0.2
    max_gap: float = 2.0
    reinit_interval: int = 1
    search_at_loss: bool = True
    doubt_iou: float = 0.06
    review_frames: int = 15

    def __post_init__(self) -> None:
        check_range("init_iou", self.init_iou, 0.0, 1.0)
        check_range("lost_iou", self.lost_iou, 0.0, 1.0)
        if self.lost_iou > self.init_iou:
            raise ConfigError(
                f"lost_iou={self.lost_iou}: expected at most init_iou={self.init_iou}; "
                "otherwise a pose would be accepted and lost at once."
            )
        check_range("lost_frames", self.lost_frames, 1)
        check_range("min_mask_pixels", self.min_mask_pixels, 1)
        check_range("max_prediction", self.max_prediction, 0.0)
        check_range("max_gap", self.max_gap, 0.0)
        check_range("reinit_interval", self.reinit_interval, 1)
        check_range("doubt_iou", self.doubt_iou, 0.0, 1.0)
        check_range("review_frames", self.review_frames, 0)


@dataclass(frozen=True)
class TrackResult:
    """What one mask changed.

    Attributes:
        state: INITIALISING, TRACKING or LOST.
        reason: why the state is what it is, one sentence.
        solution: the pose, or None where this mask gave none that may be used.
        stamp: the mask's time, seconds.
    """

    state: TrackState
    reason: str
    solution: ObjectPoseSolution | None
    stamp: float


def tracking_estimator_config(config: TrackerConfig) -> EstimatorConfig:
    """An estimator's settings for following an object at camera rate.

    From frame to frame the pose is nearly known: stages stop as soon as the silhouettes agree, the polish is lighter,
    a retry is worth its time only when the track would be lost, and what mask is too small the tracker decides.
    """
    defaults = EstimatorConfig()
    polish = None if defaults.refine is None else replace(defaults.refine, iterations=4)
    return replace(
        defaults, solver=replace(defaults.solver, enough=TRACKING_ENOUGH), refine=polish, refine_size=192,
        refine_faces=2000, retry_iou=config.lost_iou, retry_pixels=0.0, search_pixels=0.0, min_mask_pixels=1,
    )  # fmt: skip


class PoseSource(Protocol):
    """What a tracker needs of an estimator."""

    def estimate(
        self,
        mask: np.ndarray,
        camera_matrix: np.ndarray,
        initial: np.ndarray | None = None,
        retry_iou: float | None = None,
    ) -> ObjectPoseSolution:
        """See ``ObjectPoseEstimator.estimate``."""
        ...


class PoseTracker:
    """Follows one object.

    Args:
        estimator: solves single masks.
        config: see :class:`TrackerConfig`.
    """

    def __init__(self, estimator: PoseSource, config: TrackerConfig | None = None) -> None:
        self.estimator = estimator
        self.config = config or TrackerConfig()
        mesh = getattr(estimator, "mesh", None)
        self._center = np.zeros(3) if mesh is None else mesh.center
        self._symmetries: Symmetries = getattr(estimator, "symmetries", None) or Symmetries.none()
        self.state = TrackState.INITIALISING
        self.reason = "no mask has arrived yet"
        self.reset()

    def reset(self) -> None:
        """Forget the track: the next mask is solved from nothing."""
        self.state, self.reason = TrackState.INITIALISING, "reset; waiting for a mask"
        self._poses: list[tuple[float, np.ndarray]] = []
        self._misses = 0
        self._searches = 0
        self._given: np.ndarray | None = None
        self._good: np.ndarray | None = None
        self._level, self._doubts = 0.0, 0
        self._last_stamp = -math.inf

    def set_pose(self, T_camera_object: np.ndarray) -> None:
        """Start the next mask from this pose.

        Args:
            T_camera_object: (4, 4) metres, optical frame.

        Raises:
            PoseError: not rigid, or behind the camera.
        """
        pose = check_pose_in_view(check_pose(T_camera_object), center=self._center)
        self.reset()
        self._given = pose
        self.reason = "a pose was set; waiting for a mask"

    def ordinary_starts(self, mask: np.ndarray, stamp: float) -> np.ndarray | None:
        """Poses (K, 4, 4) that :meth:`update` would start from; None where it does not just follow a seen object."""
        if self.state != TrackState.TRACKING or stamp < self._last_stamp:
            return None
        if self._is_old(stamp) or np.count_nonzero(mask) < self.config.min_mask_pixels or covers_border(mask):
            return None
        return np.stack(self._starts(stamp))

    def update(
        self,
        mask: np.ndarray,
        camera_matrix: np.ndarray,
        stamp: float,
        solved: ObjectPoseSolution | Exception | None = None,
    ) -> TrackResult:
        """Take one mask.

        Args:
            mask: (H, W) bool or integer, non-zero on the object.
            camera_matrix: (3, 3).
            stamp: time of the mask, seconds. One older than the last (a bag that starts again) resets the track.
            solved: what the estimator made of this mask from :meth:`ordinary_starts`, where it was asked before.

        Raises:
            MaskError, CameraError: the input is of the wrong kind. A mask that is empty or tiny is no error but a miss.
        """
        seen = check_mask(mask)
        matrix = check_camera_matrix(camera_matrix)
        if stamp < self._last_stamp:
            self.reset()
        self._last_stamp = stamp
        pixels = int(np.count_nonzero(seen))
        if pixels < self.config.min_mask_pixels:
            what = "the mask is empty" if pixels == 0 else f"the mask is tiny ({pixels} pixels)"
            return self._miss(f"{what}, at least {self.config.min_mask_pixels} pixels are needed", stamp)
        if covers_border(seen):
            why = "the mask covers most of the image's border: is it inverted, or the object too near?"
            return self._miss(why, stamp)
        self._forget_old(stamp)
        try:
            if self.state == TrackState.TRACKING:
                return self._track(seen, matrix, stamp, solved)
            return self._search(seen, matrix, stamp)
        except (MaskError, PoseError) as error:  # a pose of the tracker's own that cannot be started from is a miss too
            return self._miss(str(error), stamp)

    def _track(
        self, mask: np.ndarray, matrix: np.ndarray, stamp: float, solved: ObjectPoseSolution | Exception | None
    ) -> TrackResult:
        if isinstance(solved, Exception):
            raise solved
        solution = solved or self.estimator.estimate(mask, matrix, initial=np.stack(self._starts(stamp)))
        self._doubts = 0 if self._as_usual(solution) else self._doubts + 1
        if self.config.review_frames and self._doubts and self._doubts % self.config.review_frames == 0:
            # Around the last good pose alone: a search from nothing takes so long that masks would be dropped.
            other = self._near_good(mask, matrix)
            solution = other if self._as_usual(other) else solution
        if solution.iou >= self.config.lost_iou:
            return self._accept(solution, stamp)
        found = self._miss(f"IoU {solution.iou:.2f} is below lost_iou={self.config.lost_iou}", stamp)
        if found.state == TrackState.TRACKING or not self.config.search_at_loss:
            return found
        return self._search(mask, matrix, stamp, found.reason)

    def _search(self, mask: np.ndarray, matrix: np.ndarray, stamp: float, why: str = "") -> TrackResult:
        # While the last good pose is known, an object that reappears bit by bit is waited for: half of it may be
        # explained fairly well by a wrong pose.
        needed = max(self.config.init_iou, self._level - 2 * self.config.doubt_iou)
        best: ObjectPoseSolution | None = None
        if self._given is not None:
            best, needed = self.estimator.estimate(mask, matrix, initial=self._given), self.config.init_iou
        if best is None or best.iou < needed:
            self._searches += 1
            if (self._searches - 1) % self.config.reinit_interval == 0:
                found = self._look_around(mask, matrix)
                best = found if best is None or found.iou > best.iou else best
            elif best is None and self._good is not None:
                best = self.estimator.estimate(mask, matrix, initial=self._good)
        if best is not None and best.iou >= needed:
            return self._accept(best, stamp)
        reached = "" if best is None else f"best IoU {best.iou:.2f} is below {needed:.2f}"
        self.reason = "; ".join(part for part in (why, reached) if part) or "searching"
        return TrackResult(self.state, self.reason, None, stamp)

    def _as_usual(self, solution: ObjectPoseSolution) -> bool:
        """Whether a pose explains its mask about as well as the poses before."""
        return solution.iou >= self._level - self.config.doubt_iou

    def _near_good(self, mask: np.ndarray, matrix: np.ndarray) -> ObjectPoseSolution:
        """The best pose around the last good one."""
        usual = max(self._level - self.config.doubt_iou, 0.0)
        return self.estimator.estimate(mask, matrix, initial=self._good, retry_iou=usual)

    def _look_around(self, mask: np.ndarray, matrix: np.ndarray) -> ObjectPoseSolution:
        """The best pose around the last good one or, where none is as good as usual, of all.

        Many objects look nearly alike from two sides: of poses that explain the mask as well, the one nearest to the
        last good pose is taken.
        """
        if self._good is None:
            return self.estimator.estimate(mask, matrix)
        near = self._near_good(mask, matrix)
        if self._as_usual(near):
            return near
        far = self.estimator.estimate(mask, matrix)
        if near.iou >= far.iou - EQUAL_IOU:
            return near
        if far.alternatives:
            poses = np.stack([far.T_camera_object, *far.alternatives])
            equal = np.stack([self._symmetries.nearest(pose, self._good) for pose in poses])
            nearest = int(rotation_angle(equal[:, :3, :3], self._good[:3, :3]).argmin())
            if nearest > 0:
                return self.estimator.estimate(mask, matrix, initial=equal[nearest])
        return far

    def _starts(self, stamp: float) -> list[np.ndarray]:
        """The last pose, and the one that a constant velocity predicts."""
        last_stamp, last = self._poses[-1]
        if not self.config.predict or len(self._poses) < 2:
            return [last]
        before_stamp, before = self._poses[-2]
        past, ahead = last_stamp - before_stamp, stamp - last_stamp
        if past <= 0 or not 0 < ahead <= self.config.max_prediction or past > self.config.max_prediction:
            return [last]
        ratio = ahead / past
        predicted = predict_pose(before, last, ratio, self._center)
        center = np.append(self._center, 1.0)
        if predicted[2] @ center <= 0.1 * (last[2] @ center):
            return [last]
        return [predicted, last]

    def _accept(self, solution: ObjectPoseSolution, stamp: float) -> TrackResult:
        if self.state != TrackState.TRACKING:
            self._poses = []
        self._poses = [*self._poses[-1:], (stamp, solution.T_camera_object)]
        self._misses, self._searches, self._given = 0, 0, None
        self._level = max(solution.iou, self._level - LEVEL_DECAY)
        if self._good is None or self._as_usual(solution):
            self._good = solution.T_camera_object
        self.state, self.reason = TrackState.TRACKING, "tracking"
        if solution.alternatives:
            self.reason = f"tracking; {len(solution.alternatives)} other poses explain the mask as well"
        return TrackResult(self.state, self.reason, solution, stamp)

    def _miss(self, why: str, stamp: float) -> TrackResult:
        self._misses += 1
        if self.state == TrackState.TRACKING:
            if self._misses >= self.config.lost_frames:
                self.state = TrackState.LOST
            else:
                why = f"{why} (miss {self._misses} of {self.config.lost_frames})"
        self.reason = why
        return TrackResult(self.state, why, None, stamp)

    def _is_old(self, stamp: float) -> bool:
        """Whether the last pose is from too long ago."""
        return bool(self._poses) and stamp - self._poses[-1][0] > self.config.max_gap

    def _forget_old(self, stamp: float) -> None:
        if self._is_old(stamp):
            self._poses, self._good, self._level, self._doubts = [], None, 0.0, 0
            if self.state == TrackState.TRACKING:
                self.state, self.reason = TrackState.LOST, f"no mask for more than {self.config.max_gap} s"
