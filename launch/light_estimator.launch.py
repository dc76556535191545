# SPDX-License-Identifier: Apache-2.0
"""Starts the node that tells where the light comes from, and RViz on request.

ros2 launch dfips_ros light_estimator.launch.py mesh:=/data/bracket.stl image_topic:=/camera/image_raw \
    camera_info_topic:=/camera/camera_info pose_topic:=/pose_tracker/pose
"""

from dfips_ros.nodes.launch_files import FIXED_FRAME, NODE_ARGUMENTS, Given, config_file, description

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("mesh", "", "Mesh of the object (obj, stl, ply, dae, glb): absolute path, file:// or package:// URI."),
    ("mesh_scale", "", "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres."),
    ("object_name", "", "Name of the object; by default the mesh file's name without ending."),
    ("kind", "", "What light is looked for: directional or point; by default directional."),
    ("rate", "", "No more images than this are worked on [Hz]; by default 10."),
    ("image_topic", "~/image", "Topic of the camera images (sensor_msgs/Image)."),
    ("camera_info_topic", "~/camera_info", "Topic of the calibration (sensor_msgs/CameraInfo)."),
    ("pose_topic", "~/pose", "Topic of the object's pose (geometry_msgs/PoseWithCovarianceStamped)."),
    ("params_file", config_file("light_estimator.yaml"), "Parameters file of the node."),
    FIXED_FRAME,
    *NODE_ARGUMENTS,
)
TOPICS = ("image", "camera_info", "pose")
SHOWN_TOPICS = ("markers", "chrome_sphere")  # by RViz, below the node's name


def _nodes(context):
    given = Given(context)
    overrides = given.overrides(("mesh", "object_name", "kind"), ("mesh_scale", "rate"))
    estimator = given.node("light_estimator", overrides, given.remapped({name: f"{name}_topic" for name in TOPICS}))
    shown = [f"light_estimator/{name}" for name in SHOWN_TOPICS]
    return [estimator, *given.rviz("light_estimator.rviz", shown, given("fixed_frame"))]


def generate_launch_description():
    """Arguments, node, RViz."""
    return description(ARGUMENTS, _nodes)
