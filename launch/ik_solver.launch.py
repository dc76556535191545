# SPDX-License-Identifier: Apache-2.0
"""Starts the inverse kinematics node, and on request robot_state_publisher and RViz.

ros2 launch dfips_ros ik_solver.launch.py tip:=tool0 command_topic:=/robot_joint_commands
ros2 launch dfips_ros ik_solver.launch.py urdf:=/data/arm.urdf tip:=tool0 simulate:=true rviz:=true
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("dfips_ros"), "config"])

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
    ("params_file", PathJoinSubstitution([CONFIG, "ik_solver.yaml"]), "Parameters file of the node."),
    ("namespace", "", "Namespace of the node."),
    ("simulate", "false", "Without a robot: the commands are its joint states, from a start in reach; needs urdf."),
    ("rviz", "false", "Start RViz too: true or false."),
    ("log_level", "info", "Log level of the node: debug, info, warn, error or fatal."),
    ("autostart", "", "Configure and activate the node by itself: true or false; by default true."),
    ("use_sim_time", "", "Take the time from /clock: true or false; by default false."),
)

# What the RViz file shows of the node, below its name.
SHOWN_TOPICS = ("target_pose",)


def _nodes(context):
    """The nodes; arguments that were given win over the parameters file."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    overrides = {}
    for name in ("autostart", "use_sim_time"):
        if value(name):
            overrides[name] = _boolean(name, value(name))
    for name in ("urdf", "tip", "base", "srdf", "group"):
        if value(name):
            overrides[name] = ParameterValue(value(name), value_type=str)
    topics = {"target_pose": "target_topic", "marker_feedback": "marker_feedback_topic",
              "joint_command": "command_topic"}  # fmt: skip
    remappings = [(f"~/{name}", value(topic)) for name, topic in topics.items() if value(topic) != f"~/{name}"]
    for name, topic, switch in (
        ("joint_trajectory", value("trajectory_topic"), "publish_trajectory"),
        ("commands", value("array_topic"), "publish_array"),
    ):
        if topic:
            remappings.append((f"~/{name}", topic))
            overrides[switch] = True
    if value("service") != "solve_ik":
        remappings.append(("solve_ik", value("service")))
    solver = Node(
        package="dfips_ros",
        executable="ik_solver",
        name="ik_solver",
        namespace=value("namespace"),
        parameters=[value("params_file"), *([overrides] if overrides else [])],
        remappings=remappings,
        arguments=["--ros-args", "--log-level", value("log_level")],
        output="screen",
        emulate_tty=True,
    )
    return [solver, *_simulated_robot(value)]


def _simulated_robot(value):
    """An arm that goes where it is commanded, and its links' transforms."""
    if not _boolean("simulate", value("simulate")):
        return []
    urdf = value("urdf").removeprefix("file://")
    if not urdf or not Path(urdf).is_file():
        raise RuntimeError(f"urdf:={urdf}: simulate:=true expected a URDF file that is there.")
    command = value("command_topic").replace("~/", "ik_solver/")
    description = ParameterValue(Path(urdf).read_text(), value_type=str)
    return [
        Node(
            package="dfips_ros",
            executable="demo_arm",
            name="demo_arm",
            namespace=value("namespace"),
            arguments=["--urdf", urdf, "--tip", value("tip"), *(["--base", value("base")] if value("base") else [])],
            remappings=[("joint_command", command)],
        ),
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            namespace=value("namespace"),
            parameters=[{"robot_description": description}],
        ),
    ]


def _rviz(context):
    """RViz when it is wanted; the topics in its file move into the node's namespace."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    if not _boolean("rviz", value("rviz")):
        return []
    namespace = value("namespace").strip("/")
    fixed_frame = ["-f", value("base")] if value("base") else []
    shown = [*(f"ik_solver/{name}" for name in SHOWN_TOPICS), "robot_description"]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "ik_solver.rviz"]), *fixed_frame],
        remappings=[(f"/{topic}", f"/{namespace}/{topic}") for topic in shown] if namespace else [],
    )
    return [rviz]


def _boolean(name, text):
    if text.lower() not in ("true", "false"):
        raise RuntimeError(f"{name}:={text}: expected true or false.")
    return text.lower() == "true"


def generate_launch_description():
    """Arguments, nodes, RViz."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes), OpaqueFunction(function=_rviz)])
