# SPDX-License-Identifier: Apache-2.0
"""The topics of the node ``image_restorer`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image

from .endpoints import Endpoint

RESTORER_ENDPOINTS = {
    "compressed": Endpoint(
        "~/image/compressed",
        CompressedImage,
        "sensor_msgs/msg/CompressedImage",
        "in",
        "JPEG images, grey or colour; anything else is refused, and /diagnostics says why. The newest wins: what "
        "arrives while the solver works is replaced, never queued.",
        reliable=False,
    ),
    "restored": Endpoint(
        "~/restored",
        Image,
        "sensor_msgs/msg/Image",
        "out",
        "The restored image (mono8 or rgb8) with the header of the compressed one.",
        depth=10,
    ),
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "Last reason, residual, time, rates, dropped and refused images. Published in every lifecycle state.",
        managed=False,
    ),
}
