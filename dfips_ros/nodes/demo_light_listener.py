# SPDX-License-Identifier: Apache-2.0
"""A listener for the demo of illumination: notes what the node light_estimator says, and when it arrived.

    python -m dfips_ros.nodes.demo_light_listener

Each ``light`` goes to stdout as one JSON object per line, with the image's stamp and the time of arrival on the same
system clock. ``dfips demo illumination`` compares them with the truth, which never leaves that process.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from dfips_ros.msg import LightEstimate

from .demo_listener import INFO_QOS, QOS
from .light_health import STATUS_NAMES
from .stop_signals import RosUntilSignal


class DemoLightListener(Node):
    """Subscribes to the answers; once matched with the node, to camera_info, which is how the camera knows to start."""

    def __init__(self) -> None:
        super().__init__("demo_light_listener")
        self._light = self.create_subscription(LightEstimate, "/light_estimator/light", self._hear, QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear_health, QOS)
        self._timer = self.create_timer(0.1, self._look_for_estimator)

    def _look_for_estimator(self) -> None:
        if self.count_publishers(self._light.topic_name) == 0:
            return
        self._timer.cancel()
        self.create_subscription(CameraInfo, "/demo/camera_info", lambda message: None, INFO_QOS)

    def _hear(self, message: LightEstimate) -> None:
        direction, position, stamp = message.direction, message.position, message.header.stamp
        _report(
            event="light", received_ns=time.time_ns(), stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
            status=STATUS_NAMES[message.status], reason=message.reason,
            direction=[direction.x, direction.y, direction.z], position=[position.x, position.y, position.z],
            residual_norms=[float(norm) for norm in message.residual_norms], solve_time=message.solve_time,
        )  # fmt: skip

    def _hear_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/light_estimator":
                _report(event="health", values={pair.key: pair.value for pair in status.values})


def _report(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Listen until interrupted."""
    try:
        with RosUntilSignal(sys.argv):
            listener = DemoLightListener()
            with contextlib.suppress(ExternalShutdownException):
                rclpy.spin(listener)
        listener.destroy_node()
    except KeyboardInterrupt:  # a second one
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
