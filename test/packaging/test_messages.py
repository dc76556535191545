# SPDX-License-Identifier: Apache-2.0
"""The messages of this package, and tf2_msgs, are built and known to rclpy."""

import numpy as np
import pytest

serialization = pytest.importorskip("rclpy.serialization")


def round_trip(message):
    return serialization.deserialize_message(serialization.serialize_message(message), type(message))


def test_tracked_object_round_trip():
    from dfips_ros.msg import TrackedObject

    message = TrackedObject(object_name="drill", state=TrackedObject.TRACKING, reason="", iou=0.5, solve_time=0.25)
    message.header.frame_id = "camera_optical_frame"
    message.pose.pose.position.z = 0.75
    message.pose.covariance = np.arange(36.0)
    message.residual_norms = [4.0, 2.0, 1.0]
    assert round_trip(message) == message


def test_states_are_those_of_the_tracker():
    from dfips_ros.msg import TrackedObject
    from dfips_ros.tasks.object_pose import TrackState

    assert {state.name: int(state) for state in TrackState} == {
        name: getattr(TrackedObject, name) for name in ("INITIALISING", "TRACKING", "LOST")
    }


def test_joint_solution_round_trip():
    from dfips_ros.msg import JointSolution

    message = JointSolution(status=JointSolution.SOLVED, tip="tool0", names=["a", "b"], positions=[0.5, -1.5])
    message.target.orientation.w = 0.5
    message.position_error, message.jump, message.restarts, message.solve_time = 1e-5, 0.25, 3, 0.125
    assert round_trip(message) == message
    assert JointSolution().status == JointSolution.FAILED  # what nobody filled in is no solution


def test_set_pose_round_trip():
    from dfips_ros.srv import SetPose

    request = SetPose.Request()
    request.pose.pose.orientation.w = 0.5
    assert round_trip(request) == request
    response = SetPose.Response(success=False, message="the quaternion is not of unit length")
    assert round_trip(response) == response


def test_tf_message_is_the_known_type():
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    assert TFMessage.get_fields_and_field_types() == {"transforms": "sequence<geometry_msgs/TransformStamped>"}
    message = TFMessage(transforms=[TransformStamped(child_frame_id="drill")])
    assert round_trip(message) == message
