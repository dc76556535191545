# SPDX-License-Identifier: Apache-2.0
"""The topics and services of the node ``pose_tracker`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from dfips_ros.msg import TrackedObject


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

    def subscription(self, node: LifecycleNode, callback: Callable[..., None]) -> Any:
        """Create the subscription."""
        return node.create_subscription(
            self.message_type, self.topic, callback, self.qos, qos_overriding_options=_overrides()
        )


def _overrides() -> QoSOverridingOptions:
    kinds = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
    return QoSOverridingOptions(policy_kinds=kinds)


ENDPOINTS = {
    "mask": Endpoint(
        "~/mask",
        Image,
        "sensor_msgs/msg/Image",
        "in",
        "Segmentation mask or label image (mono8, 8UC1, mono16, 16UC1, 32SC1). Its stamp and frame go to the "
        "outputs. "
        "The newest mask wins: what arrives while the solver works is replaced, never queued.",
        reliable=False,
    ),
    "camera_info": Endpoint(
        "~/camera_info",
        CameraInfo,
        "sensor_msgs/msg/CameraInfo",
        "in",
        "Calibration of the camera. The last usable one is kept; stamps need not match those of the masks. K "
        "is scaled "
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
    "pose": Endpoint(
        "~/pose",
        PoseWithCovarianceStamped,
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "out",
        "Pose of the object in the mask's frame with the mask's stamp. Only while TRACKING.",
        depth=10,
    ),
    "tracked_object": Endpoint(
        "~/tracked_object",
        TrackedObject,
        "dfips_ros/msg/TrackedObject",
        "out",
        "One answer for every mask, whatever the state: state and reason, pose, silhouette IoU, residuals, solve time.",
        depth=10,
    ),
    "tf": Endpoint(
        "/tf",
        None,
        "tf2_msgs/msg/TFMessage",
        "out",
        "Transform from the mask's frame to object_frame. Only while TRACKING, and only with publish_tf.",
        depth=100,
    ),
    "markers": Endpoint(
        "~/markers",
        MarkerArray,
        "visualization_msgs/msg/MarkerArray",
        "out",
        "The mesh for RViz, at most 10 times a second while somebody listens; deleted when the object is "
        "lost and on deactivate.",
        latched=True,
    ),
    "overlay": Endpoint(
        "~/overlay",
        Image,
        "sensor_msgs/msg/Image",
        "out",
        "Contour of the simulated mask and axes of the object over the image, or over the mask where no "
        "image comes "
        "(bgr8). Made only while somebody listens.",
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
        "Forget the pose; the next mask is solved from nothing. Refused unless active.",
    ),
    (
        "~/set_pose",
        "dfips_ros/srv/SetPose",
        "Continue from this pose with the next mask. frame_id must be the camera's optical frame or empty. "
        "Refused unless active.",
    ),
)
