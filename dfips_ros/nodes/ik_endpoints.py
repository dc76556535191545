# SPDX-License-Identifier: Apache-2.0
"""The topics and services of the node ``ik_solver`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import InteractiveMarkerFeedback

from dfips_ros.msg import JointSolution

from .endpoints import Endpoint

IK_ENDPOINTS = {
    "target_pose": Endpoint(
        "~/target_pose",
        PoseStamped,
        "geometry_msgs/msg/PoseStamped",
        "in",
        "Where the tip is to be. frame_id: base (also when empty), or any link that does not move with respect to it. "
        "Stamp: a target older than target_timeout is refused; zero stands for now. The newest wins.",
        reliable=False,
    ),
    "marker_feedback": Endpoint(
        "~/marker_feedback",
        InteractiveMarkerFeedback,
        "visualization_msgs/msg/InteractiveMarkerFeedback",
        "in",
        "The same from an interactive marker of RViz: its pose while it is dragged. Remap it to the marker's feedback.",
        reliable=False,
    ),
    "joint_states": Endpoint(
        "joint_states",
        JointState,
        "sensor_msgs/msg/JointState",
        "in",
        "Where a motion begins. Joints are matched by name, may come in several messages, and others are ignored.",
        depth=10,
        reliable=False,
    ),
    "robot_description": Endpoint(
        "robot_description",
        String,
        "std_msgs/msg/String",
        "in",
        "The URDF, as robot_state_publisher gives it. Read while configuring, unless the parameter urdf names a file.",
        latched=True,
    ),
    "joint_command": Endpoint(
        "~/joint_command",
        JointState,
        "sensor_msgs/msg/JointState",
        "out",
        "Positions and velocities of the arm's joints, `rate` times a second while the arm moves to a target and for "
        "hold_time after. Never faster than max_joint_speed.",
        depth=10,
    ),
    "solution": Endpoint(
        "~/solution",
        JointSolution,
        "dfips_ros/msg/JointSolution",
        "out",
        "One answer for every target: status and reason, joints, errors, jump from the seed, work and time.",
        depth=10,
    ),
    "joint_trajectory": Endpoint(
        "~/joint_trajectory",
        JointTrajectory,
        "trajectory_msgs/msg/JointTrajectory",
        "out",
        "The command as one point, due two periods later. Only with publish_trajectory.",
    ),
    "commands": Endpoint(
        "~/commands",
        Float64MultiArray,
        "std_msgs/msg/Float64MultiArray",
        "out",
        "The positions alone, in the order of ~/joint_command. Only with publish_array.",
    ),
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "State, last status and reason, errors, solve time, target rate, refusals. Published in every lifecycle state.",
        managed=False,
    ),
}

# Services: name, type, description.
IK_SERVICES = (
    (
        "solve_ik",
        "moveit_msgs/srv/GetPositionIK",
        "The contract of MoveIt's srv_kinematics_plugin and of `/compute_ik`, see [moveit.md](moveit.md). Only where "
        "moveit_msgs is installed. It moves nothing. Refused unless active.",
    ),
)
