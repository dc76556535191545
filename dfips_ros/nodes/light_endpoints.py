# SPDX-License-Identifier: Apache-2.0
"""The topics of the node ``light_estimator`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from dfips_ros.msg import LightEstimate

from .endpoints import Endpoint

LIGHT_ENDPOINTS = {
    "image": Endpoint(
        "~/image",
        Image,
        "sensor_msgs/msg/Image",
        "in",
        "Camera images, colour or grey, 8 bits a channel, gamma-encoded as cameras give them. Others are refused.",
        depth=5,
        reliable=False,
    ),
    "camera_info": Endpoint(
        "~/camera_info",
        CameraInfo,
        "sensor_msgs/msg/CameraInfo",
        "in",
        "Calibration of the camera. The last usable one is kept; its stamp need not match. K is scaled when the image "
        "is a resized one.",
        reliable=False,
    ),
    "pose": Endpoint(
        "~/pose",
        PoseWithCovarianceStamped,
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "in",
        "Pose of the object in the image's frame; remap it to the tracker's. An image gets the pose nearest in time, "
        "which may come after it.",
        depth=10,
        reliable=False,
    ),
    "light": Endpoint(
        "~/light",
        LightEstimate,
        "dfips_ros/msg/LightEstimate",
        "out",
        "One answer for every image that was worked on or refused: status and reason, direction or position, "
        "intensity, ambient light, residuals, solve time.",
        depth=10,
    ),
    "markers": Endpoint(
        "~/markers",
        MarkerArray,
        "visualization_msgs/msg/MarkerArray",
        "out",
        "For RViz: an arrow that flies as the light does, to the object; for a point light, a sphere where it is. Each "
        "vanishes by itself when no other follows. Made only while somebody listens.",
    ),
    "chrome_sphere": Endpoint(
        "~/chrome_sphere",
        Image,
        "sensor_msgs/msg/Image",
        "out",
        "The estimated light on a shiny sphere in the object's place (rgb8). Made only while somebody listens.",
    ),
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "Last status and reason, residual, times, rates, images left out. Published in every lifecycle state.",
        managed=False,
    ),
}
