# SPDX-License-Identifier: Apache-2.0
"""Starts several nodes of this package in one process.

ros2 launch dfips_ros container.launch.py nodes:="pose_tracker ik_solver" params_file:=/data/cell.yaml \
    remap:="pose_tracker:~/mask:=/segmentation/mask pose_tracker:~/camera_info:=/camera/camera_info"
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("dfips_ros"), "config"])

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("nodes", "", "Nodes to run, with spaces between: kind, name=kind or namespace/name=kind."),
    ("params_file", PathJoinSubstitution([CONFIG, "container.yaml"]), "Parameters file of container and nodes."),
    ("remap", "", "Remappings, with spaces between: node:from:=to for one node, from:=to for all."),
    ("namespace", "", "Namespace of the container; its nodes are below it."),
    ("log_level", "info", "Log level of the nodes: debug, info, warn, error or fatal."),
)


def _node(context):
    """The container; arguments that were given win over the parameters file."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    rules = value("remap").split()
    wrong = [rule for rule in rules if ":=" not in rule]
    if wrong:
        raise RuntimeError(f"remap:={wrong[0]}: expected from:=to, or node:from:=to.")
    overrides = [{"nodes": value("nodes").split()}] if value("nodes").split() else []
    container = Node(
        package="dfips_ros",
        executable="container",
        name="container",
        namespace=value("namespace"),
        parameters=[value("params_file"), *overrides],
        arguments=["--ros-args", "--log-level", value("log_level"), *(word for rule in rules for word in ("-r", rule))],
        output="screen",
        emulate_tty=True,
    )
    return [container]


def generate_launch_description():
    """Arguments and the container."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_node)])
