# SPDX-License-Identifier: Apache-2.0
"""Starts the pose tracker, and RViz on request.

ros2 launch dfips_ros pose_tracker.launch.py mesh:=/data/bracket.stl mask_topic:=/segmentation/mask \
    camera_info_topic:=/camera/camera_info image_topic:=/camera/image_raw rviz:=true
"""

from dfips_ros.nodes.launch_files import FIXED_FRAME, NODE_ARGUMENTS, Given, config_file, description

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
    ("params_file", config_file("pose_tracker.yaml"), "Parameters file of the node."),
    FIXED_FRAME,
    *NODE_ARGUMENTS,
)
TOPICS = ("mask", "camera_info", "image", "label_info", "instance_masks", "initial_pose")
SHOWN_TOPICS = ("markers", "stages", "pose", "overlay")  # by RViz, below the node's name


def _nodes(context):
    given = Given(context)
    overrides = given.overrides(("mesh", "object_name", "output_frame"), ("mesh_scale",))
    tracker = given.node("pose_tracker", overrides, given.remapped({name: f"{name}_topic" for name in TOPICS}))
    shown = [f"pose_tracker/{name}" for name in SHOWN_TOPICS]
    return [tracker, *given.rviz("pose_tracker.rviz", shown, given("fixed_frame"))]


def generate_launch_description():
    """Arguments, node, RViz."""
    return description(ARGUMENTS, _nodes)
