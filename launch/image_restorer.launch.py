# SPDX-License-Identifier: Apache-2.0
"""Starts the node that restores JPEG images, and RViz on request.

ros2 launch dfips_ros image_restorer.launch.py input_topic:=/camera/image_raw/compressed output_topic:=/camera/restored
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("dfips_ros"), "config"])

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("input_topic", "~/image/compressed", "Topic of the JPEG images (sensor_msgs/CompressedImage)."),
    ("output_topic", "~/restored", "Topic of the restored images (sensor_msgs/Image)."),
    ("consistency", "", "project, exact or off; by default project."),
    ("device", "", "auto, cpu or cuda; by default auto."),
    ("params_file", PathJoinSubstitution([CONFIG, "image_restorer.yaml"]), "Parameters file of the node."),
    ("namespace", "", "Namespace of the node."),
    ("rviz", "false", "Start RViz too: true or false."),
    ("log_level", "info", "Log level of the node: debug, info, warn, error or fatal."),
    ("autostart", "", "Configure and activate the node by itself: true or false; by default true."),
    ("use_sim_time", "", "Take the time from /clock: true or false; by default false."),
)


def _node(context):
    """The node; arguments that were given win over the parameters file."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    overrides = {}
    for name in ("autostart", "use_sim_time"):
        if value(name):
            overrides[name] = _boolean(name, value(name))
    for name in ("consistency", "device"):
        if value(name):
            overrides[name] = ParameterValue(value(name), value_type=str)
    topics = {"image/compressed": value("input_topic"), "restored": value("output_topic")}
    restorer = Node(
        package="dfips_ros",
        executable="image_restorer",
        name="image_restorer",
        namespace=value("namespace"),
        parameters=[value("params_file"), *([overrides] if overrides else [])],
        remappings=[(f"~/{name}", topic) for name, topic in topics.items() if topic != f"~/{name}"],
        arguments=["--ros-args", "--log-level", value("log_level")],
        output="screen",
        emulate_tty=True,
    )
    return [restorer]


def _rviz(context):
    """RViz when it is wanted; the topic in its file moves with the node's."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    if not _boolean("rviz", value("rviz")):
        return []
    namespace, topic = value("namespace").strip("/"), value("output_topic")
    inside = f"/{namespace}/image_restorer/restored" if namespace else "/image_restorer/restored"
    shown = inside if topic == "~/restored" else topic
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "image_restorer.rviz"])],
        remappings=[("/image_restorer/restored", shown)] if shown != "/image_restorer/restored" else [],
    )
    return [rviz]


def _boolean(name, text):
    if text.lower() not in ("true", "false"):
        raise RuntimeError(f"{name}:={text}: expected true or false.")
    return text.lower() == "true"


def generate_launch_description():
    """Arguments, node, RViz."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_node), OpaqueFunction(function=_rviz)])
