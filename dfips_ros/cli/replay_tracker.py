# SPDX-License-Identifier: Apache-2.0
"""The node ``pose_tracker`` without the node: masks and camera_info of a bag in, poses out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bags.types import make, make_header, nanoseconds_from_stamp
from ..errors import CameraError, MaskError
from ..messages.camera import CameraModel, CameraView, camera_key
from ..messages.labels import LabelTable, Masks, masks_from_image
from ..messages.stream import Arrival, MaskStream
from ..tasks.object_pose import PoseTracker, TrackResult
from ..tasks.object_pose.multi_tracker import MultiTracker
from .replay_object import ReplayedObject
from .replay_overlay import Drawing, OnOverlay, ReplayOverlays
from .replay_run import Output


@dataclass(frozen=True)
class PoseTopics:
    """Topics of the bag: masks, calibrations (None: the camera is given), colour images (None: there are none), labels
    of classes (None: no object has a class)."""

    mask: str
    camera_info: str | None
    image: str | None
    label_info: str | None = None


class PoseReplay:
    """Sends each mask through the trackers and answers as the node does; ``solve_time`` in the answers is 0.

    Differences to the node: no mask is dropped because the solver is busy; masks before the first camera_info are
    solved with that one; the overlay's background is the colour image nearest in time, and a JPEG. Times of solving
    are kept in the objects' frames, so that two runs write the same bytes.

    Args:
        topics: to read.
        namespace: before the topics that are written.
        objects: to track; of several, all are also written in one array for each mask.
        distortion: as the node's parameter.
        camera: used until the bag brings a calibration; None: none is known.
        labels: LabelInfo used until the bag brings one; None: none is known.
        on_overlay: see :class:`~.replay_overlay.ReplayOverlays`; None draws none.
    """

    def __init__(
        self,
        topics: PoseTopics,
        namespace: str,
        objects: Sequence[ReplayedObject],
        distortion: str = "rectify",
        camera: Any = None,
        labels: Any = None,
        on_overlay: OnOverlay | None = None,
    ) -> None:
        self._topics, self._namespace, self.objects, self._distortion = topics, namespace, objects, distortion
        self._trackers: MultiTracker[PoseTracker] = MultiTracker()
        for each in objects:
            each.number = self._trackers.add(each.name, each.tracker)
        self._camera: CameraModel | None = None
        self._camera_key: tuple[object, ...] | None = None
        if camera is not None:
            self._take_camera(camera)
        self._labels = LabelTable(topics.label_info or "")
        if labels is not None:
            self._labels.take(labels)
        self._stream = MaskStream()
        self._overlays: ReplayOverlays | None = None
        if on_overlay is not None:
            topic = f"{namespace}/overlay/compressed"
            self._overlays = ReplayOverlays(topic, objects, topics.image is not None, on_overlay)
        self.late = 0

    @property
    def inputs(self) -> set[str]:
        """Topics to read."""
        image = self._topics.image if self._overlays is not None else None
        told = (self._topics.mask, self._topics.camera_info, self._topics.label_info, image)
        return {topic for topic in told if topic is not None}

    @property
    def outputs(self) -> set[str]:
        """Topics to write."""
        array = ["tracked_objects"] if len(self.objects) > 1 else []
        names = {f"{self._namespace}/{name}" for name in ("pose", "tracked_object", *array)} | {"/tf"}
        return names if self._overlays is None else names | {self._overlays.topic}

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
        if topic == self._topics.label_info:
            self._labels.take(message)
            return ()
        return () if self._overlays is None else self._overlays.take_image(message)

    def finish(self) -> Iterable[Output]:
        """The overlays that still wait for an image."""
        return () if self._overlays is None else self._overlays.finish()

    # --- inputs

    def _take_camera(self, message: Any) -> None:
        """Take over a calibration; one that is not usable leaves the last usable one in place."""
        key = camera_key(message)
        if self._camera is None or key != self._camera_key:
            self._camera, self._camera_key = CameraModel(message, self._distortion), key
        self._camera.frame_id = message.header.frame_id

    def _take_mask(self, message: Any, recorded: int) -> list[Output]:
        time = nanoseconds_from_stamp(message.header.stamp) or recorded
        arrival = self._stream.receive(1e-9 * time, 1e-9 * recorded)
        if arrival is Arrival.LATE:
            self.late += 1
            return []
        outputs: list[Output] = []
        if arrival is Arrival.CLOCK_SET_BACK:
            outputs += self.finish()
            for each in self.objects:
                each.forget()
        frame_id = message.header.frame_id or (self._camera.frame_id if self._camera is not None else "")
        header = make_header(time, frame_id)
        try:
            masks, view = self._look(message, frame_id)
            results = self._track(masks, view, time)
        except Exception as error:  # as the node does: whatever one mask raises must not end the rest
            return [*outputs, *self._answers({each.name: error for each in self.objects}, {}, time, header, recorded)]
        outputs += self._answers(results, masks, time, header, recorded)
        seen = [mask for mask in masks.values() if isinstance(mask, np.ndarray)]
        if self._overlays is not None and seen:
            frames = [each.frames[-1] for each in self.objects]
            outputs += self._overlays.add(Drawing(frames, recorded, frame_id, np.logical_or.reduce(seen), view))
        return outputs

    def _look(self, message: Any, frame_id: str) -> tuple[Masks, CameraView]:
        """The masks as a pinhole camera sees them, an error where an object has none, and that camera."""
        if self._camera is None:
            raise CameraError("no usable camera_info")
        if not frame_id:
            raise MaskError("the mask's header.frame_id is empty, and so is camera_info's: set the optical frame.")
        masks = masks_from_image(message, self.objects, self._labels)
        view = self._camera.view((message.height, message.width))
        for name, mask in masks.items():
            if isinstance(mask, np.ndarray):
                masks[name] = view.rectify_mask(mask)
        return masks, view

    def _track(self, masks: Masks, view: CameraView, time: int) -> dict[str, TrackResult | Exception]:
        usable = {name: mask for name, mask in masks.items() if isinstance(mask, np.ndarray)}
        failed = {name: error for name, error in masks.items() if isinstance(error, Exception)}
        return {**failed, **self._trackers.update(usable, view.camera_matrix, 1e-9 * time)}

    # --- outputs

    def _answers(
        self, results: dict[str, Any], masks: Masks, time: int, header: Any, recorded: int
    ) -> list[Output]:  # fmt: skip
        """What the node publishes for one mask, in its order."""
        outputs, answers, transforms = [], [], []
        for each in self.objects:
            mask = masks.get(each.name)
            answer = each.answer(results[each.name], mask if isinstance(mask, np.ndarray) else None, time, header)
            answers.append(answer)
            outputs.append(Output(f"{self._namespace}/tracked_object", answer, recorded))
            if each.frames[-1].T_camera_object is None:
                continue
            if each is self.objects[0]:
                stamped = make("geometry_msgs/msg/PoseWithCovarianceStamped", header=header, pose=answer.pose)
                outputs.append(Output(f"{self._namespace}/pose", stamped, recorded))
            transforms.append(_transform(answer.pose.pose, header, each.name))
        if transforms:
            outputs.append(Output("/tf", make("tf2_msgs/msg/TFMessage", transforms=transforms), recorded))
        if len(self.objects) > 1:
            array = make("dfips_ros/msg/TrackedObjectArray", header=header, objects=answers)
            outputs.append(Output(f"{self._namespace}/tracked_objects", array, recorded))
        return outputs


def _transform(pose: Any, header: Any, child: str) -> Any:
    """geometry_msgs/TransformStamped, header.frame_id -> child."""
    at = pose.position
    transform = make(
        "geometry_msgs/msg/Transform",
        translation=make("geometry_msgs/msg/Vector3", x=at.x, y=at.y, z=at.z),
        rotation=pose.orientation,
    )
    return make("geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform)
