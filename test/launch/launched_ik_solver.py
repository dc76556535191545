# SPDX-License-Identifier: Apache-2.0
"""Launch test of ik_solver.launch.py: the node becomes active under the given names and moves the arm to a target.

Run by test_ik_launch.py, or directly: launch_test test/launch/launched_ik_solver.py
"""

import math
import tempfile
import threading
import time
import unittest
from pathlib import Path

import launch_testing.actions
import launch_testing.asserts
import rclpy
from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

# A shoulder and an elbow that turn about z, half a metre each.
URDF = """<robot name="planar"><link name="base"/><link name="upper"/><link name="lower"/><link name="tip"/>
<joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" effort="1" velocity="9"/></joint>
<joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0.5 0 0"/>
<axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="1" velocity="9"/></joint>
<joint name="end" type="fixed"><parent link="lower"/><child link="tip"/><origin xyz="0.5 0 0"/></joint></robot>"""
START, GOAL = (0.2, 0.9), (0.4, 1.1)


def generate_test_description():
    urdf = Path(tempfile.mkdtemp()) / "planar.urdf"
    urdf.write_text(URDF)
    launch_file = Path(get_package_share_directory("dfips_ros")) / "launch" / "ik_solver.launch.py"
    arguments = {
        "urdf": str(urdf), "tip": "tip", "namespace": "cell", "target_topic": "/goal",
        "command_topic": "/robot_joint_commands", "array_topic": "/controller/commands",
    }  # fmt: skip
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_file)), launch_arguments=arguments.items()
    )
    return LaunchDescription([include, launch_testing.actions.ReadyToTest()])


def target(shoulder, elbow):
    message = PoseStamped()
    message.pose.position.x = 0.5 * (math.cos(shoulder) + math.cos(shoulder + elbow))
    message.pose.position.y = 0.5 * (math.sin(shoulder) + math.sin(shoulder + elbow))
    message.pose.orientation.z = math.sin((shoulder + elbow) / 2)
    message.pose.orientation.w = math.cos((shoulder + elbow) / 2)
    message.header.frame_id = "base"
    return message


class TestIkSolver(unittest.TestCase):
    def setUp(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("tester", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.spin, daemon=True)
        self.thread.start()

    def spin(self):
        try:
            self.executor.spin()
        except Exception:  # the context was shut down
            pass

    def tearDown(self):
        self.context.try_shutdown()
        self.thread.join(5.0)

    def test_moves_to_the_target(self):
        targets = self.node.create_publisher(PoseStamped, "/goal", 1)
        joints = self.node.create_publisher(JointState, "/cell/joint_states", 1)
        commands, arrays = [], []
        self.node.create_subscription(JointState, "/robot_joint_commands", commands.append, 10)
        self.node.create_subscription(Float64MultiArray, "/controller/commands", arrays.append, 10)
        end = time.monotonic() + 90.0
        while time.monotonic() < end and not (commands and abs(commands[-1].position[0] - GOAL[0]) < 1e-3):
            joints.publish(JointState(name=["elbow", "shoulder"], position=[START[1], START[0]]))
            targets.publish(target(*GOAL))
            time.sleep(0.1)
        self.assertTrue(commands, "no command on /robot_joint_commands")
        self.assertEqual(list(commands[-1].name), ["shoulder", "elbow"])
        self.assertAlmostEqual(commands[-1].position[0], GOAL[0], delta=1e-3)
        self.assertAlmostEqual(arrays[-1].data[1], GOAL[1], delta=1e-3)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_exit_code(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
