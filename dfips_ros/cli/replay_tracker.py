# SPDX-License-Identifier: Apache-2.0
"""The node ``pose_tracker`` without the node: masks and camera_info of a bag in, poses out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bags.types import make, make_header, nanoseconds_from_stamp, pose_message
from ..errors import CameraError, DfipsError, EncodingError, MaskError
from ..evaluation.figures import axes_origin, draw_overlay
from ..messages.camera import CameraModel, CameraView, camera_key
from ..messages.image import colour_from_image, mask_from_image
from ..messages.stream import Arrival, MaskStream
from ..tasks.object_pose import ObjectPoseEstimator, ObjectPoseSolution, PoseTracker, TrackResult, TrackState
from .replay_run import Output

MAX_IMAGE_OFFSET = 200_000_000  # ns: a colour image that is further from the mask is not its background
AXIS_SHARE = 0.45  # of the diameter
JPEG_QUALITY = 88
BORDER = "the mask touches the image border: part of the object may be unseen"


@dataclass(frozen=True)
class Frame:
    """What became of one mask.

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


@dataclass(frozen=True)
class PoseTopics:
    """Topics of the bag: masks, calibrations (None: the camera is given), colour images (None: there are none)."""

    mask: str
    camera_info: str | None
    image: str | None


@dataclass(frozen=True)
class PoseSettings:
    """What the node's parameters of the same names say."""

    object_name: str
    mask_mode: str = "binary"
    label_value: int = 1
    distortion: str = "rectify"


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What an overlay is drawn from, until the colour image of its mask is known."""

    frame: Frame
    recorded: int
    frame_id: str
    mask: np.ndarray
    view: CameraView


class PoseReplay:
    """Sends each mask through the tracker and answers as the node does; ``solve_time`` in the answers is 0.

    Differences to the node: no mask is dropped because the solver is busy; masks before the first camera_info are
    solved with that one; the overlay's background is the colour image nearest in time, and a JPEG. Times of solving
    are kept in :attr:`frames`, so that two runs write the same bytes.

    Args:
        topics: to read.
        namespace: before the topics that are written.
        settings: as the node's parameters.
        estimator: of the object.
        tracker: around ``estimator``.
        camera: used until the bag brings a calibration; None: none is known.
        on_overlay: is called with each frame and its overlay (H, W, 3) uint8 RGB; None draws none.
    """

    def __init__(
        self,
        topics: PoseTopics,
        namespace: str,
        settings: PoseSettings,
        estimator: ObjectPoseEstimator,
        tracker: PoseTracker,
        camera: Any = None,
        on_overlay: Callable[[Frame, np.ndarray], None] | None = None,
    ) -> None:
        self._topics, self._namespace, self._settings = topics, namespace, settings
        self._estimator, self._tracker, self._on_overlay = estimator, tracker, on_overlay
        self._camera: CameraModel | None = None
        self._camera_key: tuple[object, ...] | None = None
        if camera is not None:
            self._take_camera(camera)
        self._stream = MaskStream()
        self._state, self._failures = TrackState.INITIALISING, 0
        self._last_pose: np.ndarray | None = None
        self._waiting: list[_Drawing] = []
        self._image: Any = None
        self._origin = axes_origin(estimator.mesh.vertices)
        self.frames: list[Frame] = []
        self.late = 0

    @property
    def inputs(self) -> set[str]:
        """Topics to read."""
        image = self._topics.image if self._on_overlay is not None else None
        return {topic for topic in (self._topics.mask, self._topics.camera_info, image) if topic is not None}

    @property
    def outputs(self) -> set[str]:
        """Topics to write."""
        names = {f"{self._namespace}/{name}" for name in ("pose", "tracked_object")} | {"/tf"}
        return names if self._on_overlay is None else names | {self._overlay_topic}

    @property
    def _overlay_topic(self) -> str:
        return f"{self._namespace}/overlay/compressed"

    @property
    def missing(self) -> int:
        """Masks that the recording lacks, judged by gaps between the stamps."""
        return self._stream.dropped

    def take(self, topic: str, message: Any, time: int) -> Iterable[Output]:
        """Work on one message. Raises as :class:`~.replay_run.Pipeline` says."""
        if topic == self._topics.mask:
            return self._take_mask(message, time)
        if topic == self._topics.camera_info:
            self._take_camera(message)
            return ()
        return self._take_image(message)

    def finish(self) -> Iterator[Output]:
        """The overlays that still wait for an image."""
        yield from self._draw(None)

    # --- inputs

    def _take_camera(self, message: Any) -> None:
        """Take over a calibration; one that is not usable leaves the last usable one in place."""
        key = camera_key(message)
        if self._camera is None or key != self._camera_key:
            self._camera, self._camera_key = CameraModel(message, self._settings.distortion), key
        self._camera.frame_id = message.header.frame_id

    def _take_image(self, message: Any) -> Iterator[Output]:
        yield from self._draw(message, nanoseconds_from_stamp(message.header.stamp))
        self._image = message

    def _take_mask(self, message: Any, recorded: int) -> list[Output]:
        stamp = nanoseconds_from_stamp(message.header.stamp) or recorded
        arrival = self._stream.receive(1e-9 * stamp, 1e-9 * recorded)
        if arrival is Arrival.LATE:
            self.late += 1
            return []
        outputs: list[Output] = []
        if arrival is Arrival.CLOCK_SET_BACK:
            outputs += self._draw(None)
            self._tracker.reset()
            self._state, self._failures, self._last_pose = TrackState.INITIALISING, 0, None
        frame_id = message.header.frame_id or (self._camera.frame_id if self._camera is not None else "")
        try:
            seen = self._look(message, frame_id)
            result = self._tracker.update(seen[0], seen[1].camera_matrix, 1e-9 * stamp)
        except Exception as error:  # as the node does: whatever one mask raises must not end the rest
            text = str(error) if isinstance(error, DfipsError) else f"{type(error).__name__}: {error}"
            frame = self._failed(stamp, text)
            self.frames.append(frame)
            return [*outputs, *self._answer(frame, None, recorded, frame_id)]
        self._state, self._failures = result.state, 0
        solution = result.solution if result.state == TrackState.TRACKING else None
        frame = _frame(stamp, result, seen[0])
        self.frames.append(frame)
        outputs += self._answer(frame, solution, recorded, frame_id)
        if self._on_overlay is not None:
            self._waiting.append(_Drawing(frame, recorded, frame_id, *seen))
            outputs += self._draw_what_is_due(stamp)
        return outputs

    def _look(self, message: Any, frame_id: str) -> tuple[np.ndarray, CameraView]:
        """The mask as a pinhole camera sees it, and that camera."""
        if self._camera is None:
            raise CameraError("no usable camera_info")
        if not frame_id:
            raise MaskError("the mask's header.frame_id is empty, and so is camera_info's: set the optical frame.")
        mask = mask_from_image(message, self._settings.mask_mode, self._settings.label_value)
        view = self._camera.view((message.height, message.width))
        return view.rectify_mask(mask), view

    def _failed(self, stamp: int, reason: str) -> Frame:
        """A mask that could not be worked on; after lost_frames of them the object is lost."""
        self._failures += 1
        if self._state == TrackState.TRACKING and self._failures >= self._tracker.config.lost_frames:
            self._state = TrackState.LOST
        return Frame(stamp, self._state.name, reason, unusable=True)

    # --- outputs

    def _answer(self, frame: Frame, solution: ObjectPoseSolution | None, recorded: int, frame_id: str) -> list[Output]:
        header = make_header(frame.time, frame_id)
        if solution is None:
            covariance = np.zeros(36)
            covariance[0] = -1.0
            pose = _pose(np.eye(4) if self._last_pose is None else self._last_pose, covariance)
        else:
            self._last_pose = solution.T_camera_object
            pose = _pose(solution.T_camera_object, np.asarray(solution.covariance, dtype=np.float64).ravel())
        answer = make(
            "dfips_ros/msg/TrackedObject", header=header, object_name=self._settings.object_name, id=1,
            state=int(TrackState[frame.state]), reason=frame.reason, pose=pose,
            iou=frame.iou, residual_norms=np.array(frame.residual_norms, dtype=np.float32), solve_time=0.0,
        )  # fmt: skip
        outputs = [Output(f"{self._namespace}/tracked_object", answer, recorded)]
        if solution is not None:
            stamped = make("geometry_msgs/msg/PoseWithCovarianceStamped", header=header, pose=pose)
            outputs.append(Output(f"{self._namespace}/pose", stamped, recorded))
            outputs.append(Output("/tf", _transform(pose.pose, header, self._settings.object_name), recorded))
        return outputs

    def _draw_what_is_due(self, stamp: int) -> list[Output]:
        """Draw the overlays for which no nearer image can come."""
        if self._topics.image is None:
            return self._draw(None)
        known = 0 if self._image is None else nanoseconds_from_stamp(self._image.header.stamp)
        return self._draw(None, max(known, stamp - MAX_IMAGE_OFFSET))

    def _draw(self, newer: Any, until: int | None = None) -> list[Output]:
        """Draw the overlays that wait, those of masks up to ``until`` [ns] or all; ``newer``: an image that came."""
        ready = [d for d in self._waiting if until is None or d.frame.time <= until]
        self._waiting = [d for d in self._waiting if until is not None and d.frame.time > until]
        return [output for drawing in ready for output in self._draw_one(drawing, newer)]

    def _draw_one(self, drawing: _Drawing, newer: Any) -> list[Output]:
        import cv2

        assert self._on_overlay is not None
        frame, mask, pose = drawing.frame, drawing.mask, drawing.frame.T_camera_object
        colour = self._background(drawing, [image for image in (self._image, newer) if image is not None])
        seconds = 1e-9 * (frame.time - self.frames[0].time)
        lines = [f"{self._settings.object_name}   {seconds:6.2f} s   {frame.state}", frame.reason]
        silhouette = None
        if pose is not None:
            height, width = mask.shape
            silhouette = self._estimator.render_mask(pose, drawing.view.camera_matrix, (height, width))
            lines[1] = f"IoU {frame.iou:.3f}   {frame.reason}"
        picture = draw_overlay(
            _grey(mask) if colour is None else colour,
            silhouette,
            pose,
            drawing.view.camera_matrix,
            AXIS_SHARE * self._estimator.mesh.diameter,
            self._origin,
            frame.state,
            lines,
            None if colour is None else mask,
        )
        self._on_overlay(frame, picture)
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        header = make_header(frame.time, drawing.frame_id)
        message = make("sensor_msgs/msg/CompressedImage", header=header, format="bgr8; jpeg compressed bgr8",
                       data=data.ravel())  # fmt: skip
        return [Output(self._overlay_topic, message, drawing.recorded)]

    def _background(self, drawing: _Drawing, images: list[Any]) -> np.ndarray | None:
        """The colour image nearest to a mask, as the pinhole camera sees it, RGB; None where none can be used."""
        import cv2

        def offset(image: Any) -> int:
            return abs(nanoseconds_from_stamp(image.header.stamp) - drawing.frame.time)

        near = min(images, key=offset, default=None)
        if near is None or offset(near) > MAX_IMAGE_OFFSET:
            return None
        try:
            colour = _colour(near)
        except (EncodingError, cv2.error):
            return None
        height, width = drawing.mask.shape
        if colour.shape[:2] != (height, width):
            return cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
        return drawing.view.rectify_image(colour)


def _reason(result: TrackResult, mask: np.ndarray) -> str:
    """The tracker's reason as the node gives it, empty while all is well."""
    if result.state != TrackState.TRACKING or result.solution is None:
        return result.reason
    reason = "" if result.reason == "tracking" else result.reason
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return f"{reason}; {BORDER}" if reason else BORDER
    return reason


def _frame(stamp: int, result: TrackResult, mask: np.ndarray) -> Frame:
    reason, solution = _reason(result, mask), result.solution
    if result.state != TrackState.TRACKING or solution is None:
        return Frame(stamp, result.state.name, reason)
    norms = tuple(float(n) for n in np.asarray(solution.residual_norms).ravel())
    pose, milliseconds = solution.T_camera_object, 1e3 * float(solution.solve_time)
    return Frame(stamp, result.state.name, reason, pose, float(solution.iou), norms, milliseconds)


def _colour(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image or a CompressedImage."""
    import cv2

    if not hasattr(message, "format"):
        return np.ascontiguousarray(colour_from_image(message, "rgb"))
    pixels = cv2.imdecode(np.asarray(message.data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise EncodingError(f"image of format '{message.format}': cannot be decoded.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _grey(mask: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) of the mask alone."""
    return np.repeat((40 + mask.view(np.uint8) * np.uint8(85))[..., None], 3, axis=2)


def _pose(matrix: np.ndarray, covariance: np.ndarray) -> Any:
    """geometry_msgs/PoseWithCovariance."""
    return make("geometry_msgs/msg/PoseWithCovariance", pose=pose_message(matrix), covariance=covariance)


def _transform(pose: Any, header: Any, child: str) -> Any:
    """tf2_msgs/TFMessage with one transform, header.frame_id -> child."""
    at = pose.position
    transform = make(
        "geometry_msgs/msg/Transform",
        translation=make("geometry_msgs/msg/Vector3", x=at.x, y=at.y, z=at.z),
        rotation=pose.orientation,
    )
    stamped = make("geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform)
    return make("tf2_msgs/msg/TFMessage", transforms=[stamped])
