# SPDX-License-Identifier: Apache-2.0
"""Images for the light estimator, and its answers as messages."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from dfips_ros.msg import LightEstimate

from ..errors import EncodingError
from ..tasks.illumination import IlluminationSolution
from .conversions import colour_from_image, labels_from_image

KINDS = {"directional": LightEstimate.DIRECTIONAL, "point": LightEstimate.POINT}
YELLOW = ColorRGBA(r=1.0, g=0.8, b=0.1, a=0.9)
ARROW_FROM, ARROW_TO = 1.6, 0.6  # ends of the arrow, in object diameters from its center
ARROW_WIDTHS = (0.04, 0.10, 0.16)  # shaft, head, length of the head, in object diameters
SPHERE_SIZE = 0.15  # in object diameters


def shading_from_image(message: Image) -> np.ndarray:
    """The image as the estimator takes it. -> (H, W, 3) uint8 RGB, or (H, W) uint8 of a grey one.

    Raises:
        EncodingError: more than 8 bits a channel, a mask, or an encoding that cannot be read.
    """
    encoding = message.encoding
    if encoding in ("mono8", "8UC1"):
        return labels_from_image(message)
    if "16" in encoding or "32" in encoding or "64" in encoding:
        raise EncodingError(
            f"image encoding '{encoding}': expected 8 bits a channel, gamma-encoded (rgb8, bgr8, mono8). Raw values of "
            "a sensor and depth images do not tell the brightness that is needed here: convert the image first."
        )
    return np.ascontiguousarray(colour_from_image(message, "rgb"))


def refusal(header: Header, name: str, kind: str, reason: str) -> LightEstimate:
    """The answer for an image that was not worked on."""
    return LightEstimate(header=header, object_name=name, kind=KINDS[kind], status=LightEstimate.REFUSED, reason=reason)


def light_estimate(solution: IlluminationSolution, header: Header, name: str) -> LightEstimate:
    """The answer for an image."""
    message = LightEstimate(header=header, object_name=name, kind=KINDS[solution.kind], reason=solution.reason)
    message.status = LightEstimate.UNCERTAIN if solution.uncertain else LightEstimate.ESTIMATED
    x, y, z = (float(value) for value in solution.direction)
    message.direction = Vector3(x=x, y=y, z=z)
    message.direction_std = math.radians(solution.direction_std_deg)
    if solution.position is not None:
        message.position = _point(solution.position)
    message.intensity, message.ambient = float(solution.intensity), float(solution.ambient)
    message.residual_norms = [float(norm) for norm in solution.residual_norms]
    message.solve_time = float(solution.solve_time)
    return message


def light_markers(solution: IlluminationSolution, header: Header, name: str, lifetime: float) -> MarkerArray:
    """An arrow towards the object, and for a point light a sphere.

    Args:
        solution: where the light is.
        header: of the image.
        name: of the object, the markers' namespace.
        lifetime: seconds after which they vanish.
    """
    centre, diameter = np.asarray(solution.object_center, np.float64), float(solution.object_diameter)
    direction = np.asarray(solution.direction, np.float64)
    until = Duration(sec=int(lifetime), nanosec=int(lifetime % 1.0 * 1e9))
    arrow = Marker(header=header, ns=name, id=0, type=Marker.ARROW, action=Marker.ADD, color=YELLOW, lifetime=until)
    arrow.pose.orientation.w = 1.0
    arrow.points = [_point(centre + end * diameter * direction) for end in (ARROW_FROM, ARROW_TO)]
    arrow.scale = Vector3(x=ARROW_WIDTHS[0] * diameter, y=ARROW_WIDTHS[1] * diameter, z=ARROW_WIDTHS[2] * diameter)
    if solution.position is None:
        return MarkerArray(markers=[arrow])
    lamp = Marker(header=header, ns=name, id=1, type=Marker.SPHERE, action=Marker.ADD, color=YELLOW, lifetime=until)
    lamp.pose.orientation.w = 1.0
    lamp.pose.position = _point(solution.position)
    lamp.scale.x = lamp.scale.y = lamp.scale.z = SPHERE_SIZE * diameter
    away = float(np.linalg.norm(np.asarray(solution.position) - centre))
    arrow.points[0] = _point(centre + max(away, ARROW_TO * diameter) * direction)  # flies from the lamp
    return MarkerArray(markers=[arrow, lamp])


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return Point(x=x, y=y, z=z)
