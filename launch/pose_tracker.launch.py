# SPDX-License-Identifier: Apache-2.0
"""Starts the pose tracker, and RViz on request.

ros2 launch dfips_ros pose_tracker.launch.py mesh:=/data/bracket.stl mask_topic:=/segmentation/mask \
    camera_info_topic:=/camera/camera_info image_topic:=/camera/image_raw rviz:=true
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
    ("mesh", "", "Mesh of the object (obj, stl, ply, dae, glb): absolute path, file:// or package:// URI."),
    ("mesh_scale", "", "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres."),
    ("object_name", "", "Name of the object; by default the mesh file's name without ending."),
    ("mask_topic", "~/mask", "Topic of the masks (sensor_msgs/Image)."),
    ("camera_info_topic", "~/camera_info", "Topic of the calibration (sensor_msgs/CameraInfo)."),
    ("image_topic", "~/image", "Topic of the colour image behind the overlay (optional)."),
    ("label_info_topic", "~/label_info", "Topic of the labels of classes (vision_msgs/LabelInfo; optional)."),
    ("instance_masks_topic", "~/instance_masks", "Topic of instance masks (yolo_msgs/DetectionArray; optional)."),
    ("initial_pose_topic", "~/initial_pose", "Topic of hints where an object is (PoseStamped; optional)."),
    ("output_frame", "", "Frame in which poses are given; by default that of the masks. Needs tf2_ros."),
    ("params_file", PathJoinSubstitution([CONFIG, "pose_tracker.yaml"]), "Parameters file of the node."),
    ("namespace", "", "Namespace of the node."),
    ("rviz", "false", "Start RViz too: true or false."),
    ("fixed_frame", "", "Fixed frame of RViz, usually the camera's optical frame; by default that of its file."),
    ("log_level", "info", "Log level of the node: debug, info, warn, error or fatal."),
    ("autostart", "", "Configure and activate the node by itself: true or false; by default true."),
    ("use_sim_time", "", "Take the time from /clock: true or false; by default false."),
)

# What the RViz file shows of the node, below its name.
SHOWN_TOPICS = ("markers", "stages", "pose", "overlay")


def _node(context):
    """The node; arguments that were given win over the parameters file."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    overrides = {}
    for name in ("autostart", "use_sim_time"):
        if value(name):
            overrides[name] = _boolean(name, value(name))
    if value("mesh_scale"):
        overrides["mesh_scale"] = _number("mesh_scale", value("mesh_scale"))
    for name in ("mesh", "object_name", "output_frame"):
        if value(name):
            overrides[name] = ParameterValue(value(name), value_type=str)  # a name like 003 stays text
    remappings = [
        (f"~/{name}", value(f"{name}_topic"))
        for name in ("mask", "camera_info", "image", "label_info", "instance_masks", "initial_pose")
        if value(f"{name}_topic") != f"~/{name}"
    ]
    node = Node(
        package="dfips_ros",
        executable="pose_tracker",
        name="pose_tracker",
        namespace=value("namespace"),
        parameters=[value("params_file"), *([overrides] if overrides else [])],
        remappings=remappings,
        arguments=["--ros-args", "--log-level", value("log_level")],
        output="screen",
        emulate_tty=True,
    )
    return [node]


def _rviz(context):
    """RViz when it is wanted; the topics in its file move into the node's namespace."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    if not _boolean("rviz", value("rviz")):
        return []
    namespace = value("namespace").strip("/")
    topics = [f"pose_tracker/{name}" for name in SHOWN_TOPICS]
    fixed_frame = ["-f", value("fixed_frame")] if value("fixed_frame") else []
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "pose_tracker.rviz"]), *fixed_frame],
        remappings=[(f"/{topic}", f"/{namespace}/{topic}") for topic in topics] if namespace else [],
    )
    return [rviz]


def _boolean(name, text):
    if text.lower() not in ("true", "false"):
        raise RuntimeError(f"{name}:={text}: expected true or false.")
    return text.lower() == "true"


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise RuntimeError(f"{name}:={text}: expected a number, for example 0.001.") from None


def generate_launch_description():
    """Arguments, node, RViz."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_node), OpaqueFunction(function=_rviz)])
