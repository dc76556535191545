# SPDX-License-Identifier: Apache-2.0
"""A moving target for the demo: publishes poses at a fixed rate and notes what the node ik_solver makes of them.

    python -m dfips_ros.nodes.demo_target path.npz

Each answer and each command goes to stdout as one JSON object per line, with the time of arrival on the clock that
stamps the targets. ``dfips demo inverse_kinematics`` compares them with the path.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import JointState

from dfips_ros.msg import JointSolution

from .conversions import pose_from_matrix
from .ik_health import READY
from .stop_signals import RosUntilSignal

NOBODY_LISTENS = 3
SETTLE_SECONDS = 1.0
LAST_WORDS_SECONDS = 0.5
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


def report(event: str, **facts: object) -> None:
    """One line for the process that started this one."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class DemoTarget(Node):
    """Publishes the poses of a path, hears answers and commands.

    Args:
        poses: (N, 4, 4), T_base_tip.
        rate: poses per second.
        frame_id: of the poses.
    """

    def __init__(self, poses: np.ndarray, rate: float, frame_id: str) -> None:
        super().__init__("demo_target")
        self._messages = [PoseStamped(pose=pose_from_matrix(pose)) for pose in poses]
        for message in self._messages:
            message.header.frame_id = frame_id
        self._rate = rate
        self._ready = False
        self._targets = self.create_publisher(PoseStamped, "/ik_solver/target_pose", QOS)
        self._solutions = self.create_subscription(JointSolution, "/ik_solver/solution", self._hear_solution, QOS)
        self._commands = self.create_subscription(JointState, "/ik_solver/joint_command", self._hear_command, QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnostics, QOS)

    def wait_for_solver(self, timeout: float) -> bool:
        """Spin until the node listens and knows where the arm is. False: not within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.05)
            heard = self.count_publishers(self._solutions.topic_name) and self.count_publishers(
                self._commands.topic_name
            )
            if heard and self._ready and self._targets.get_subscription_count() >= 1:
                self._spin_until(time.monotonic() + SETTLE_SECONDS)
                return True
        return False

    def play(self) -> None:
        """Publish every pose at its time."""
        start = time.monotonic() + 0.1
        for index, message in enumerate(self._messages):
            deadline = start + index / self._rate
            self._spin_until(deadline)
            now = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
            self._targets.publish(message)
            report("target", index=index, stamp_ns=now, late_ms=1e3 * max(time.monotonic() - deadline, 0.0))
        self._spin_until(time.monotonic() + LAST_WORDS_SECONDS)

    def _spin_until(self, deadline: float) -> None:
        while (rest := deadline - time.monotonic()) > 0.0:
            rclpy.spin_once(self, timeout_sec=rest)

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        own = [status for status in message.status if status.name == "/ik_solver"]
        self._ready = any(s.level == DiagnosticStatus.OK and s.message == READY for s in own) or self._ready

    def _hear_solution(self, message: JointSolution) -> None:
        arrived = time.time_ns()
        report(
            "solution", received_ns=arrived, stamp_ns=message.header.stamp.sec * 10**9 + message.header.stamp.nanosec,
            status=message.status, reason=message.reason, positions=list(message.positions), jump=message.jump,
            iterations=message.iterations, stages=message.stages, restarts=message.restarts,
            solve_time=message.solve_time,
        )  # fmt: skip

    def _hear_command(self, message: JointState) -> None:
        report("command", received_ns=time.time_ns(), positions=list(message.position))


def main(arguments: list[str] | None = None) -> int:
    """Play a path once; exit status 3 when there is no solver, or no arm."""
    parser = argparse.ArgumentParser(prog="demo_target", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", help="file written by `dfips demo inverse_kinematics`: poses, rate, frame_id")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for solver and arm (60)")
    given = sys.argv if arguments is None else ["demo_target", *arguments]
    options = parser.parse_args(remove_ros_args(given)[1:])
    with np.load(options.path) as file:
        poses, rate, frame_id = file["poses"], float(file["rate"]), str(file["frame_id"])
    with RosUntilSignal(given):
        target = DemoTarget(poses, rate, frame_id)
        status = 0
        try:
            if target.wait_for_solver(options.timeout):
                report("started", targets=len(poses))
                target.play()
                report("finished")
            else:
                print(f"No ik_solver listened and no arm spoke for {options.timeout:g} s.", file=sys.stderr)
                status = NOBODY_LISTENS
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            target.destroy_node()
            rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
