# SPDX-License-Identifier: Apache-2.0
"""The topics of the node ``grasp_target`` in one table; docs/ros_api.md is written from it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped

from dfips_ros.msg import TrackedObject

from .endpoints import Endpoint

GRASP_ENDPOINTS = {
    "tracked_object": Endpoint(
        "~/tracked_object",
        TrackedObject,
        "dfips_ros/msg/TrackedObject",
        "in",
        "The tracker's answers; remap it to pose_tracker's topic of that name.",
        depth=10,
    ),
    "target_pose": Endpoint(
        "~/target_pose",
        PoseStamped,
        "geometry_msgs/msg/PoseStamped",
        "out",
        "Where the tip is to be now, in base_frame, with the image's stamp. Only for poses that are fresh and certain; "
        "remap it to ik_solver's topic of that name.",
        depth=10,
    ),
    "grasp_pose": Endpoint(
        "~/grasp_pose",
        PoseStamped,
        "geometry_msgs/msg/PoseStamped",
        "out",
        "The same without standoff: the grasp itself.",
        depth=10,
    ),
    "planning_scene": Endpoint(
        "planning_scene",
        None,
        "moveit_msgs/msg/PlanningScene",
        "out",
        "The object as a collision object, each time whole (a diff that adds it), every scene_period while somebody "
        "listens and the pose is good; taken away on deactivate. Only with the parameter mesh, and only where "
        "moveit_msgs is installed.",
        depth=10,
    ),
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "Why there is no target, or its rate; age and certainty of the pose. Published in every lifecycle state.",
        managed=False,
    ),
}
