# SPDX-License-Identifier: Apache-2.0
"""A pose_tracker and an ik_solver in processes of their own."""

from __future__ import annotations

import time

import numpy as np

from .ros_client import START, WAIT, LifecycleProcess

FRAME = "camera_optical_frame"
SIZE = (120, 160)


class NodeProcess(LifecycleProcess):
    """A pose_tracker in a process of its own."""

    def __init__(self, client, command, namespace, parameters, extra=()):
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image
        from tf2_msgs.msg import TFMessage

        from dfips_ros.msg import TrackedObject

        name, node = f"{namespace}/pose_tracker", client.node
        topics = {
            "pose": (PoseWithCovarianceStamped, f"{name}/pose"),
            "object": (TrackedObject, f"{name}/tracked_object"),
            "tf": (TFMessage, "/tf", 100),
            "diagnostics": (DiagnosticArray, "/diagnostics"),
        }
        self.stamp = 100.0
        self.mask_publisher = node.create_publisher(Image, f"{name}/mask", QoSProfile(depth=1))
        self.image_publisher = node.create_publisher(Image, f"{name}/image", QoSProfile(depth=1))
        self.info_publisher = node.create_publisher(CameraInfo, f"{name}/camera_info", QoSProfile(depth=1))
        super().__init__(client, command, name, parameters, topics, extra)

    # --- messages

    def camera_info(self, **fields):
        from sensor_msgs.msg import CameraInfo

        height, width = SIZE
        message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
        message.k = [150.0, 0.0, width / 2, 0.0, 150.0, height / 2, 0.0, 0.0, 1.0]
        message.p = [150.0, 0.0, width / 2, 0.0, 0.0, 150.0, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        message.header.frame_id = FRAME
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def mask(self, centre=(80, 60), half=20, encoding="mono8", value=255, size=SIZE, frame=FRAME, stamp=None):
        """A square mask with the next stamp."""
        from builtin_interfaces.msg import Time
        from sensor_msgs.msg import Image

        kind = {
            "mono8": np.uint8,
            "8UC1": np.uint8,
            "mono16": np.uint16,
            "16UC1": np.uint16,
            "32SC1": np.int32,
        }[encoding]
        pixels = np.zeros(size, dtype=kind)
        if half:
            x, y = centre
            pixels[y - half : y + half, x - half : x + half] = value
        if stamp is None:
            self.stamp += 1.0 / 30.0
            stamp = self.stamp
        message = Image(height=size[0], width=size[1], encoding=encoding, step=size[1] * pixels.itemsize)
        message.header.frame_id = frame
        message.header.stamp = Time(sec=int(stamp), nanosec=int((stamp % 1.0) * 1e9))
        message.data = pixels.tobytes()
        return message

    def handshake(self, info=True):
        """Exchange messages until they arrive in both directions; the tracker sees empty masks only."""
        objects = self.client.received["object"]
        self.discover(self.mask_publisher, self.info_publisher)

        def answered():
            if info:
                self.info_publisher.publish(self.camera_info())
                time.sleep(0.02)
            self.mask_publisher.publish(self.mask(half=0))
            time.sleep(0.03)
            return any(not info or "camera_info" not in each.reason for each in list(objects))

        self.client.wait(answered, f"the first answer of {self.name}", START)
        self.send(self.mask(half=0), None if info else False)  # its answer is the last: no other one is under way
        self.client.forget()

    def send(self, mask=None, info=None, timeout=WAIT):
        """Publish camera_info (unless ``info`` is False) and a mask; wait for the answer to that mask.

        On a busy machine a mask may be lost, as it would be of a camera: then the same one is sent again.
        """
        mask = self.mask() if mask is None else mask
        if info is not False:
            self.info_publisher.publish(self.camera_info() if info is None else info)
            time.sleep(0.02)
        objects = self.client.received["object"]
        stamp = (mask.header.stamp.sec, mask.header.stamp.nanosec)

        def answer():
            found = [o for o in list(objects) if (o.header.stamp.sec, o.header.stamp.nanosec) == stamp]
            return found[-1] if found else None

        what = f"tracked_object for the mask of stamp {stamp}"
        return self.client.ask(lambda: self.mask_publisher.publish(mask), answer, what, timeout)


class ArmProcess(LifecycleProcess):
    """An ik_solver in a process of its own; this side plays the arm."""

    def __init__(self, client, command, namespace, parameters, extra=()):
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray
        from trajectory_msgs.msg import JointTrajectory
        from visualization_msgs.msg import InteractiveMarkerFeedback

        from dfips_ros.msg import JointSolution

        name, node = f"{namespace}/ik_solver", client.node
        topics = {
            "solution": (JointSolution, f"{name}/solution"),
            "command": (JointState, f"{name}/joint_command", 100),
            "trajectory": (JointTrajectory, f"{name}/joint_trajectory"),
            "array": (Float64MultiArray, f"{name}/commands"),
            "diagnostics": (DiagnosticArray, "/diagnostics"),
        }
        self.targets = node.create_publisher(PoseStamped, f"{name}/target_pose", 10)
        self.markers = node.create_publisher(InteractiveMarkerFeedback, f"{name}/marker_feedback", 10)
        self.joints = node.create_publisher(JointState, f"{namespace}/joint_states", 10)
        super().__init__(client, command, name, parameters, topics, extra)

    def handshake(self):
        """Wait until publishers and subscriptions of both sides know each other."""
        self.discover(self.targets, self.markers, self.joints)
        self.client.forget()

    def be_at(self, names, positions):
        """Publish joint states until the node has told twice that it has joint states: by then it has these."""
        from sensor_msgs.msg import JointState

        message = JointState(name=[*names, "finger_joint"], position=[*map(float, positions), 0.01])

        def told():
            arrays = list(self.client.received["diagnostics"])
            return [status.message for array in arrays for status in array.status if status.name == self.name]

        before = len(told())

        def heard():
            self.joints.publish(message)
            time.sleep(0.05)
            own = told()[before:]
            return len(own) >= 2 and not any("the arm is not moved" in text for text in own[-2:])

        self.client.wait(heard, "joint states arrived", START)

    def target(self, pose, frame_id="base_link", age=0.0):
        """A PoseStamped of a matrix (4, 4) or a Pose, stamped now."""
        from geometry_msgs.msg import PoseStamped

        from dfips_ros.nodes.conversions import pose_from_matrix, stamp_from_seconds

        message = PoseStamped(pose=pose_from_matrix(pose) if isinstance(pose, np.ndarray) else pose)
        message.header.frame_id = frame_id
        message.header.stamp = stamp_from_seconds(time.time() - age)
        return message

    def send(self, message, publisher=None):
        """Publish a target, again if it gets lost; wait for its answer."""
        solutions = self.client.received["solution"]
        count = len(solutions)
        publisher = publisher or self.targets
        self.client.ask(lambda: publisher.publish(message), lambda: len(solutions) > count, "an answer on ~/solution")
        return solutions[-1]
