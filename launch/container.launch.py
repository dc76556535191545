# SPDX-License-Identifier: Apache-2.0
"""Starts several nodes of this package in one process.

ros2 launch dfips_ros container.launch.py nodes:="pose_tracker ik_solver" params_file:=/data/cell.yaml \
    remap:="pose_tracker:~/mask:=/segmentation/mask pose_tracker:~/camera_info:=/camera/camera_info"
"""

from dfips_ros.nodes.launch_files import Given, config_file, description

# Name, default, description. An empty value leaves the choice to the parameters file.
ARGUMENTS = (
    ("nodes", "", "Nodes to run, with spaces between: kind, name=kind or namespace/name=kind."),
    ("params_file", config_file("container.yaml"), "Parameters file of container and nodes."),
    ("remap", "", "Remappings, with spaces between: node:from:=to for one node, from:=to for all."),
    ("namespace", "", "Namespace of the container; its nodes are below it."),
    ("log_level", "info", "Log level of the nodes: debug, info, warn, error or fatal."),
)


def _container(context):
    given = Given(context)
    rules = given("remap").split()
    wrong = [rule for rule in rules if ":=" not in rule]
    if wrong:
        raise RuntimeError(f"remap:={wrong[0]}: expected from:=to, or node:from:=to.")
    overrides = {"nodes": given("nodes").split()} if given("nodes").split() else {}
    return [given.node("container", overrides, words=[word for rule in rules for word in ("-r", rule)])]


def generate_launch_description():
    """Arguments and the container."""
    return description(ARGUMENTS, _container)
