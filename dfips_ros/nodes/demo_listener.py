# SPDX-License-Identifier: Apache-2.0
"""A listener for the demo: notes what the pose tracker says, and when it arrived.

    python -m dfips_ros.nodes.demo_listener

Each ``tracked_object`` goes to stdout as one JSON object per line, with the mask's stamp and the time of arrival on
the same system clock. ``dfips demo`` compares them with the truth, which never leaves that process.
"""

from __future__ import annotations

import json
import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from dfips_ros.msg import TrackedObject

from .stop_signals import RosUntilSignal

STATE_NAMES = {
    TrackedObject.INITIALISING: "INITIALISING",
    TrackedObject.TRACKING: "TRACKING",
    TrackedObject.LOST: "LOST",
}
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
INFO_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class DemoListener(Node):
    """Subscribes to the tracker; once matched with it, to camera_info, which is how the camera knows to start."""

    def __init__(self) -> None:
        super().__init__("demo_listener")
        self._tracked = self.create_subscription(TrackedObject, "/pose_tracker/tracked_object", self._hear, QOS)
        self._info: Subscription | None = None
        self._timer = self.create_timer(0.1, self._look_for_tracker)

    def _look_for_tracker(self) -> None:
        if self.count_publishers(self._tracked.topic_name) == 0:
            return
        self._timer.cancel()
        self._info = self.create_subscription(CameraInfo, "/demo/camera_info", lambda message: None, INFO_QOS)
        _write({"event": "matched"})

    def _hear(self, message: TrackedObject) -> None:
        arrived = time.time_ns()
        position = message.pose.pose.position
        orientation = message.pose.pose.orientation
        _write(
            {
                "event": "tracked_object",
                "received_ns": arrived,
                "stamp_ns": message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec,
                "state": STATE_NAMES.get(message.state, str(message.state)),
                "has_pose": bool(message.pose.covariance[0] >= 0),
                "reason": message.reason,
                "position": [position.x, position.y, position.z],
                "quaternion_xyzw": [orientation.x, orientation.y, orientation.z, orientation.w],
                "iou": message.iou,
                "solve_time": message.solve_time,
            }
        )


def _write(facts: dict) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Listen until interrupted."""
    with RosUntilSignal(sys.argv):
        listener = DemoListener()
        try:
            rclpy.spin(listener)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            listener.destroy_node()
            rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
