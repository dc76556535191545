# SPDX-License-Identifier: Apache-2.0
"""What the node ``pose_tracker`` publishes about its objects."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from dfips_ros.msg import TrackedObjectArray

from . import conversions
from .detections import detection_array
from .endpoints import ENDPOINTS
from .label_info import vision_message_type
from .object_track import Answer, ObjectTrack
from .symmetry_text import symmetries_text
from .tracker_parameters import PoseTrackerParameters

MARKER_PERIOD_SECONDS = 0.1


class TrackerOutputs:
    """The publishers of answers; messages of packages that are not installed are left out.

    Args:
        node: creates the publishers.
        tf_type: the class TFMessage; None: no transforms.
    """

    def __init__(self, node: LifecycleNode, tf_type: Any) -> None:
        names = ("pose", "tracked_object", "tracked_objects", "symmetries", "markers", "stages", "overlay")
        self._publishers: dict[str, Any] = {name: ENDPOINTS[name].publisher(node) for name in names}
        detections = vision_message_type("Detection3DArray")
        if detections is not None:
            self._publishers["detections"] = ENDPOINTS["detections"].publisher(node, detections)
        self._tf_type: Any = None
        self._marker_time = 0.0
        self._ghost_time = 0.0
        self._shown: dict[str, Header] = {}  # markers, by name of the object
        self.use_tf(node, tf_type)

    @property
    def overlay(self) -> Any:
        """Publisher of the overlay."""
        return self._publishers["overlay"]

    def use_tf(self, node: Any, tf_type: Any) -> None:
        """Publish transforms from now on; None: no more."""
        self._tf_type = tf_type
        if tf_type is not None and "tf" not in self._publishers:
            publisher = self._publishers["tf"] = ENDPOINTS["tf"].publisher(node, tf_type)
            if node.lifecycle == "active":
                publisher.on_activate(None)

    def destroy(self, node: LifecycleNode) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def publish(
        self, answers: Sequence[Answer], header: Header, first: ObjectTrack | None, parameters: PoseTrackerParameters
    ) -> None:
        """The answers to one mask.

        Args:
            answers: in the order of adding.
            header: of the outputs.
            first: the object whose pose goes to ``~/pose``.
            parameters: of the node.
        """
        for each in answers:
            self._publishers["tracked_object"].publish(each.message)
            if each.track is first and each.controlled is not None:
                self._publishers["pose"].publish(conversions.pose_with_covariance_stamped(*each.controlled))
        if parameters.publish_tf and self._tf_type is not None:
            transforms = [
                conversions.transform_from_pose(pose.pose, stamped, each.track.parameters.frame)
                for each in answers
                if each.controlled is not None
                for pose, stamped in (each.controlled,)
            ]
            if transforms:
                self._publishers["tf"].publish(self._tf_type(transforms=transforms))
        if self._is_heard("tracked_objects"):
            array = TrackedObjectArray(header=header, objects=[each.message for each in answers])
            self._publishers["tracked_objects"].publish(array)
        if self._is_heard("detections"):
            messages = importlib.import_module("vision_msgs.msg")
            self._publishers["detections"].publish(detection_array(messages, header, answers))
        self._publish_markers(answers, header, parameters.publish_markers)
        if parameters.publish_stages:
            self._publish_ghosts(answers, header)

    def publish_symmetries(self, tracks: Sequence[ObjectTrack]) -> None:
        """Those of all objects; kept for whoever subscribes later."""
        text = symmetries_text({track.name: track.estimator.symmetries for track in tracks})
        self._publishers["symmetries"].publish(String(data=text))

    def hide_markers(self, names: Sequence[str] | None = None) -> None:
        """Take markers away; None: all of them."""
        gone = {name: self._shown.pop(name) for name in list(self._shown) if names is None or name in names}
        if gone:
            markers = [conversions.deleted_marker(header, name) for name, header in gone.items()]
            self._publishers["markers"].publish(MarkerArray(markers=markers))

    def _publish_markers(self, answers: Sequence[Answer], header: Header, wanted: bool) -> None:
        """One message for all objects: it is the only one that a late listener gets."""
        now = time.monotonic()
        seen = [each for each in answers if each.tracking and wanted]
        names = {each.track.name for each in seen}
        gone = [each.track.name for each in answers if each.track.name in self._shown and each.track.name not in names]
        due = bool(seen) and now - self._marker_time >= MARKER_PERIOD_SECONDS and self._is_heard("markers")
        if not (gone or due):
            return
        markers = [conversions.deleted_marker(self._shown.pop(name), name) for name in gone]
        for each in seen:
            markers.append(each.track.marker.at(each.message.pose.pose, header))
            self._shown[each.track.name] = header
        self._publishers["markers"].publish(MarkerArray(markers=markers))
        self._marker_time = now

    def _publish_ghosts(self, answers: Sequence[Answer], header: Header) -> None:
        now = time.monotonic()
        if now - self._ghost_time < MARKER_PERIOD_SECONDS or not self._is_heard("stages"):
            return
        markers: list[Any] = []
        for each in answers:
            if not each.tracking or each.solution is None:
                continue
            end = conversions.matrix_from_pose(each.message.pose.pose)  # in the frame of the outputs
            T_output_camera = end @ np.linalg.inv(each.solution.T_camera_object)
            poses = [conversions.pose_from_matrix(T_output_camera @ pose) for pose in each.solution.history]
            markers += each.track.marker.ghosts(poses, header)
        if markers:
            self._publishers["stages"].publish(MarkerArray(markers=markers))
            self._ghost_time = now

    def _is_heard(self, name: str) -> bool:
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0
