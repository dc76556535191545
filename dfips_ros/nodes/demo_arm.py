# SPDX-License-Identifier: Apache-2.0
"""An arm without hardware: its joints are where they were commanded last.

    ros2 run dfips_ros demo_arm --urdf arm.urdf --tip tool0 --ros-args -r joint_command:=ik_solver/joint_command

Publishes ``joint_states`` for every joint of the URDF that moves, from the middle of the limits on, and takes
``joint_command`` (sensor_msgs/JointState) at once and exactly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import JointState

from ..errors import DfipsError
from ..processes.kinematics import SerialChain
from .stop_signals import RosUntilSignal

RATE = 100.0
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)


class DemoArm(Node):
    """A perfect arm.

    Args:
        start: position of each joint, by name.
        rate: joint states per second.
    """

    def __init__(self, start: Mapping[str, float], rate: float) -> None:
        super().__init__("demo_arm")
        self._positions = dict(start)
        self._publisher = self.create_publisher(JointState, "joint_states", QOS)
        self.create_subscription(JointState, "joint_command", self._on_command, QOS)
        self.create_timer(1.0 / rate, self._publish)

    def _on_command(self, message: JointState) -> None:
        for name, position in zip(message.name, message.position, strict=False):
            if name in self._positions:
                self._positions[name] = position

    def _publish(self) -> None:
        message = JointState(name=list(self._positions), position=list(self._positions.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(message)


def start_positions(chain: SerialChain, given: list[float]) -> dict[str, float]:
    """Positions of all joints of the robot: those of the arm as given or in the middle, the others at zero.

    Raises:
        DfipsError: as many positions were given as the arm has not.
    """
    if given and len(given) != len(chain.names):
        raise DfipsError(
            f"--start: expected {len(chain.names)} positions ({', '.join(chain.names)}), got {len(given)}."
        )
    arm = dict(zip(chain.names, given or (0.5 * (chain.lower + chain.upper)).tolist(), strict=True))
    return {**dict.fromkeys(list(chain.model.names)[1:], 0.0), **arm}


def main(arguments: list[str] | None = None) -> int:
    """Be an arm until interrupted."""
    parser = argparse.ArgumentParser(prog="demo_arm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--urdf", required=True, help="URDF file of the robot")
    parser.add_argument("--tip", required=True, help="last link of the arm")
    parser.add_argument("--base", help="first link of the arm (the root of the robot)")
    parser.add_argument("--start", nargs="+", type=float, default=[], help="positions of the arm's joints")
    parser.add_argument("--rate", type=float, default=RATE, help=f"joint states per second ({RATE:g})")
    given = sys.argv if arguments is None else ["demo_arm", *arguments]
    options = parser.parse_args(remove_ros_args(given)[1:])
    try:
        start = start_positions(SerialChain.from_urdf(options.urdf, options.tip, options.base), options.start)
    except DfipsError as error:
        print(error, file=sys.stderr)
        return 2
    with RosUntilSignal(given):
        arm = DemoArm(start, options.rate)
        try:
            rclpy.spin(arm)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            arm.destroy_node()
            rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
