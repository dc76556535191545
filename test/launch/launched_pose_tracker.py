# SPDX-License-Identifier: Apache-2.0
"""Launch test of pose_tracker.launch.py: the node becomes active under the given names and answers to a mask.

Run by test_launch_files.py, or directly: launch_test test/launch/launched_pose_tracker.py
"""

import tempfile
import threading
import time
import unittest
from pathlib import Path

import launch_testing.actions
import launch_testing.asserts
import numpy as np
import rclpy
import trimesh
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from dfips_ros.msg import TrackedObject


def generate_test_description():
    mesh = Path(tempfile.mkdtemp()) / "box.stl"
    trimesh.creation.box((0.10, 0.06, 0.03)).export(mesh)
    launch_file = Path(get_package_share_directory("dfips_ros")) / "launch" / "pose_tracker.launch.py"
    arguments = {
        "mesh": str(mesh),
        "mesh_scale": "1",
        "object_name": "007",
        "namespace": "robot",
        "mask_topic": "/segmentation/mask",
        "camera_info_topic": "/camera/camera_info",
    }
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_file)), launch_arguments=arguments.items()
    )
    return LaunchDescription([include, launch_testing.actions.ReadyToTest()])


class TestPoseTracker(unittest.TestCase):
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

    def test_answers_to_a_mask(self):
        masks = self.node.create_publisher(Image, "/segmentation/mask", 1)
        infos = self.node.create_publisher(CameraInfo, "/camera/camera_info", 1)
        answers = []
        self.node.create_subscription(TrackedObject, "/robot/pose_tracker/tracked_object", answers.append, 10)
        end = time.monotonic() + 60.0
        while time.monotonic() < end and not any(each.state == TrackedObject.TRACKING for each in answers):
            stamp = self.node.get_clock().now().to_msg()
            info = CameraInfo(width=160, height=120, k=[150.0, 0.0, 79.5, 0.0, 150.0, 59.5, 0.0, 0.0, 1.0])
            mask = Image(width=160, height=120, step=160, encoding="mono8")
            pixels = np.zeros((120, 160), np.uint8)
            pixels[45:75, 55:105] = 255
            mask.data = pixels.tobytes()
            for message in (info, mask):
                message.header.stamp = stamp
                message.header.frame_id = "camera"
            infos.publish(info)
            masks.publish(mask)
            time.sleep(0.1)
        self.assertTrue(answers, "no answer on /robot/pose_tracker/tracked_object")
        self.assertEqual(answers[-1].object_name, "007")
        self.assertEqual(answers[-1].state, TrackedObject.TRACKING, answers[-1].reason)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_exit_code(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
