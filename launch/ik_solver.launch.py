# SPDX-License-Identifier: Apache-2.0
"""Starts the inverse kinematics node, and on request robot_state_publisher and RViz.

ros2 launch dfips_ros ik_solver.launch.py tip:=tool0 command_topic:=/robot_joint_commands
ros2 launch dfips_ros ik_solver.launch.py urdf:=/data/arm.urdf tip:=tool0 simulate:=true rviz:=true
"""

from dfips_ros.nodes.launch_files import NODE_ARGUMENTS, Given, config_file, description

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("urdf", "", "URDF file: absolute path, file:// or package:// URI; by default the topic robot_description."),
    ("tip", "", "Link that is to reach the target."),
    ("base", "", "First link of the arm; by default the root of the robot."),
    ("srdf", "", "SRDF file: solutions in which the robot touches itself are refused."),
    ("group", "", "Planning group that the service solve_ik answers for; by default any."),
    ("target_topic", "~/target_pose", "Topic of the targets (geometry_msgs/PoseStamped)."),
    ("marker_feedback_topic", "~/marker_feedback", "Topic of an interactive marker's feedback."),
    ("command_topic", "~/joint_command", "Topic of the joint commands (sensor_msgs/JointState)."),
    ("trajectory_topic", "", "Topic of a joint_trajectory_controller; publishes there when given."),
    ("array_topic", "", "Topic of a forward_command_controller; publishes there when given."),
    ("service", "solve_ik", "Name of the service that MoveIt's srv_kinematics_plugin calls."),
    ("params_file", config_file("ik_solver.yaml"), "Parameters file of the node."),
    ("simulate", "false", "Without a robot: the commands are its joint states, from a start in reach; needs urdf."),
    *NODE_ARGUMENTS,
)
TOPICS = {"target_pose": "target_topic", "marker_feedback": "marker_feedback_topic", "joint_command": "command_topic",
          "joint_trajectory": "trajectory_topic", "commands": "array_topic"}  # fmt: skip
SHOWN_TOPICS = ("ik_solver/target_pose", "robot_description")  # by RViz


def _nodes(context):
    given = Given(context)
    overrides = given.overrides(("urdf", "tip", "base", "srdf", "group"))
    overrides |= {f"publish_{name}": True for name in ("trajectory", "array") if given(f"{name}_topic")}
    remappings = given.remapped(TOPICS)
    if given("service") != "solve_ik":
        remappings.append(("solve_ik", given("service")))
    nodes = [given.node("ik_solver", overrides, remappings)]
    if given.boolean("simulate"):
        nodes += given.simulated_arm(given("urdf"), given("command_topic").replace("~/", "ik_solver/"))
    return [*nodes, *given.rviz("ik_solver.rviz", SHOWN_TOPICS, given("base"))]


def generate_launch_description():
    """Arguments, nodes, RViz."""
    return description(ARGUMENTS, _nodes)
