# SPDX-License-Identifier: Apache-2.0
"""The topics and services of the node ``pose_tracker`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from dfips_ros.msg import TrackedObject, TrackedObjectArray


@dataclass(frozen=True)
class Endpoint:
    """One topic of a node.

    Attributes:
        topic: name as given to rclpy; ``~/`` stands for the node's name.
        message_type: message class; None: handed over at creation.
        type_name: for documentation.
        direction: ``in`` or ``out``.
        description: one or two sentences.
        depth, reliable, latched: default quality of service; all can be overridden by parameters.
        managed: an output that is silent unless the node is active.
    """

    topic: str
    message_type: Any
    type_name: str
    direction: str
    description: str
    depth: int = 1
    reliable: bool = True
    latched: bool = False
    managed: bool = True

    @property
    def qos(self) -> QoSProfile:
        """Default quality of service; an input's is that of sensor data."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE,
        )

    @property
    def qos_text(self) -> str:
        """Quality of service in words."""
        words = [
            "reliable" if self.reliable else "best effort",
            "transient local" if self.latched else "volatile",
        ]
        return ", ".join([*words, f"depth {self.depth}"])

    def publisher(self, node: LifecycleNode, message_type: Any = None) -> Any:
        """Create the publisher."""
        create = node.create_lifecycle_publisher if self.managed else node.create_publisher
        kind = self.message_type if message_type is None else message_type
        return create(kind, self.topic, self.qos, qos_overriding_options=_overrides())

    def subscription(self, node: LifecycleNode, callback: Callable[..., None], message_type: Any = None) -> Any:
        """Create the subscription."""
        kind = self.message_type if message_type is None else message_type
        return node.create_subscription(kind, self.topic, callback, self.qos, qos_overriding_options=_overrides())


def _overrides() -> QoSOverridingOptions:
    kinds = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
    return QoSOverridingOptions(policy_kinds=kinds)


ENDPOINTS = {
    "mask": Endpoint(
        "~/mask",
        Image,
        "sensor_msgs/msg/Image",
        "in",
        "Segmentation mask or label image (mono8, 8UC1, mono16, 16UC1, 32SC1). Its stamp and frame go to the outputs. "
        "The newest mask wins: what arrives while the solver works is replaced, never queued.",
        reliable=False,
    ),
    "instance_masks": Endpoint(
        "~/instance_masks",
        None,
        "yolo_msgs/msg/DetectionArray",
        "in",
        "Instead of ~/mask, with mask_source detections: the borders of a detector's instances. An object is the "
        "instance of its class_name (empty: its name) that was followed before, else the one with the highest score.",
        reliable=False,
    ),
    "label_info": Endpoint(
        "~/label_info",
        None,
        "vision_msgs/msg/LabelInfo",
        "in",
        "Which label a class has in the label image; for objects with a class_name and no label_value. Only where "
        "vision_msgs is installed.",
        latched=True,
    ),
    "camera_info": Endpoint(
        "~/camera_info",
        CameraInfo,
        "sensor_msgs/msg/CameraInfo",
        "in",
        "Calibration of the camera. The last usable one is kept; stamps need not match those of the masks. K is scaled "
        "when the mask is a resized image; binning and region of interest are taken into account.",
        reliable=False,
    ),
    "image": Endpoint(
        "~/image",
        Image,
        "sensor_msgs/msg/Image",
        "in",
        "Optional colour image, the background of the overlay. Subscribed only while somebody listens to the overlay.",
        reliable=False,
    ),
    "initial_pose": Endpoint(
        "~/initial_pose",
        PoseStamped,
        "geometry_msgs/msg/PoseStamped",
        "in",
        "Hint where to begin the search, for instance from a detector: used for the one object that has no pose now. "
        "Ignored while all objects are TRACKING; refused while several are not: ~/set_pose says which is meant. Frame "
        "as for ~/set_pose.",
        reliable=False,
    ),
    "pose": Endpoint(
        "~/pose",
        PoseWithCovarianceStamped,
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "out",
        "Pose of the object, of the first one of several, with the mask's stamp and in its frame (see prediction, "
        "output_frame). Only while TRACKING.",
        depth=10,
    ),
    "tracked_object": Endpoint(
        "~/tracked_object",
        TrackedObject,
        "dfips_ros/msg/TrackedObject",
        "out",
        "One answer for every mask and object, whatever the state: state and reason, pose, silhouette IoU, residuals, "
        "solve time.",
        depth=10,
    ),
    "tracked_objects": Endpoint(
        "~/tracked_objects",
        TrackedObjectArray,
        "dfips_ros/msg/TrackedObjectArray",
        "out",
        "The same answers of all objects to one mask together, in the order of adding.",
        depth=10,
    ),
    "detections": Endpoint(
        "~/detections",
        None,
        "vision_msgs/msg/Detection3DArray",
        "out",
        "For every mask the objects that it gave a pose of; empty when none is seen. id: the object's number. "
        "class_id: class_name or else the name. score: silhouette IoU. bbox: bounding box of the mesh. Only where "
        "vision_msgs is installed.",
        depth=10,
    ),
    "symmetries": Endpoint(
        "~/symmetries",
        String,
        "std_msgs/msg/String",
        "out",
        "Symmetries of all objects as JSON in the format of BOP's models_info.json, in metres; models_info reads it "
        "back. Anew when an object is added or removed.",
        latched=True,
    ),
    "tf": Endpoint(
        "/tf",
        None,
        "tf2_msgs/msg/TFMessage",
        "out",
        "Transform from the mask's frame (or output_frame) to each object's frame. Only while TRACKING, and only with "
        "publish_tf.",
        depth=100,
    ),
    "markers": Endpoint(
        "~/markers",
        MarkerArray,
        "visualization_msgs/msg/MarkerArray",
        "out",
        "The meshes for RViz, one namespace each, at most 10 times a second while somebody listens; deleted when an "
        "object is lost or removed, and on deactivate.",
        latched=True,
    ),
    "stages": Endpoint(
        "~/stages",
        MarkerArray,
        "visualization_msgs/msg/MarkerArray",
        "out",
        "The meshes at the poses that the stages went through, from red and pale to the object's colour, with "
        "publish_stages, as often as ~/markers; they vanish after half a second.",
    ),
    "overlay": Endpoint(
        "~/overlay",
        Image,
        "sensor_msgs/msg/Image",
        "out",
        "Contours of the simulated masks and axes of the objects over the image, or over the masks where no image "
        "comes (bgr8). Made only while somebody listens.",
    ),
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "State, reason, IoU, solve time, input rate, dropped masks, last error. Published in every lifecycle state.",
        managed=False,
    ),
}

# Services: name, type, description.
SERVICES = (
    (
        "~/reset",
        "std_srvs/srv/Trigger",
        "Forget the poses; the next mask is solved from nothing. No result of a mask from before the reset is "
        "published after it. Refused unless active.",
    ),
    (
        "~/set_pose",
        "dfips_ros/srv/SetPose",
        "Continue from this pose with the next mask, none from before the call. frame_id must be the camera's optical "
        "frame or empty (with output_frame: any that tf2 knows). object_name may be empty when there is one object. "
        "Refused unless active.",
    ),
    (
        "~/add_object",
        "dfips_ros/srv/AddObject",
        "Track one more object. It is loaded beside the tracking of the others and answered for from the next mask "
        "after that; then the call returns. Lasts until cleanup. Refused while unconfigured, and where name, frame or "
        "label are taken.",
    ),
    (
        "~/remove_object",
        "dfips_ros/srv/RemoveObject",
        "Track an object no more, from the next mask on. The last one may go too. Refused while unconfigured.",
    ),
)
