# SPDX-License-Identifier: Apache-2.0
"""Starts the node that restores JPEG images, and RViz on request.

ros2 launch dfips_ros image_restorer.launch.py input_topic:=/camera/image_raw/compressed output_topic:=/camera/restored
"""

from dfips_ros.nodes.launch_files import NODE_ARGUMENTS, Given, config_file, description

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("input_topic", "~/image/compressed", "Topic of the JPEG images (sensor_msgs/CompressedImage)."),
    ("output_topic", "~/restored", "Topic of the restored images (sensor_msgs/Image)."),
    ("consistency", "", "project, exact or off; by default project."),
    ("device", "", "auto, cpu or cuda; by default auto."),
    ("params_file", config_file("image_restorer.yaml"), "Parameters file of the node."),
    *NODE_ARGUMENTS,
)
TOPICS = {"image/compressed": "input_topic", "restored": "output_topic"}


def _nodes(context):
    given = Given(context)
    restorer = given.node("image_restorer", given.overrides(("consistency", "device")), given.remapped(TOPICS))
    topic = "image_restorer/restored"
    if given("output_topic") == "~/restored":
        return [restorer, *given.rviz("image_restorer.rviz", [topic])]
    return [restorer, *given.rviz_moved("image_restorer.rviz", {f"/{topic}": given("output_topic")})]


def generate_launch_description():
    """Arguments, node, RViz."""
    return description(ARGUMENTS, _nodes)
