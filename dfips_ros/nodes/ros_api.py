# SPDX-License-Identifier: Apache-2.0
"""Writes docs/ros_api.md and config/*.yaml from the tables in the code.

python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md --config config/pose_tracker.yaml config/ik_solver.yaml
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from .endpoints import ENDPOINTS, SERVICES, Endpoint
from .ik_endpoints import IK_ENDPOINTS, IK_SERVICES
from .ik_parameters import IkSolverParameters
from .parameters import ParameterSpec, PoseTrackerParameters, specs_of
from .restorer_endpoints import RESTORER_ENDPOINTS
from .restorer_parameters import ImageRestorerParameters

HEAD = """\
# ROS API

This page is written from the code by `python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md`; a test checks
that it is up to date. Nodes: [`pose_tracker`](#node-pose_tracker), [`ik_solver`](#node-ik_solver),
[`image_restorer`](#node-image_restorer).
"""

POSE_TRACKER = """\
Tracks the 6-DoF pose of one known object from segmentation masks. Executable `pose_tracker` of the package
`dfips_ros`; a lifecycle node that configures and activates itself unless `autostart` is false.

| transition | what happens |
|---|---|
| configure | parameters are checked, mesh and weights are loaded, the solver runs once |
| activate | masks and camera_info are subscribed, tracking begins anew |
| deactivate | unsubscribed, the marker is deleted; everything stays loaded |
| cleanup | everything is freed |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

Poses map the mesh file's own frame (times `mesh_scale`) to the camera's optical frame (x right, y down, z
forward), in metres. Outputs carry the mask's stamp and frame. A mask without a frame gets that of camera_info, a
mask without a stamp the time of its arrival. A mask that is not newer than the one before is left out, and log and
`/diagnostics` say so; when the clock is set back by half a second or more (a bag that starts again), tracking
begins anew. The figures in `/diagnostics` count from the last activation.

States of `~/tracked_object`: `INITIALISING` (no pose yet), `TRACKING`, `LOST` (there was a pose; the object is
looked for). `reason` says why. Use the pose of `~/tracked_object` only when `covariance[0] >= 0`: during the first
misses the state is still `TRACKING`, while the pose is the last one and `covariance[0]` is -1. `~/pose` and the
transform are only published while `TRACKING`, and only for masks that gave a pose. `residual_norms` has one entry more
than the stages that ran, or none when nothing was solved.
"""

IK_SOLVER = """\
Moves the tip of a serial arm to target poses. Executable `ik_solver` of the package `dfips_ros`; a lifecycle node that
configures and activates itself unless `autostart` is false.

| transition | what happens |
|---|---|
| configure | parameters are checked, the robot and its weights are loaded, the solver runs once |
| activate | targets and joint states are subscribed, the service answers |
| deactivate | unsubscribed, commands end; everything stays loaded |
| cleanup | everything is freed |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

A target is solved when it arrives, from where the arm was sent last, or from `joint_states` when it is at rest. Its
answer is on `~/solution`: `SOLVED` (within the tolerances), `APPROXIMATE` (as near as possible, only with
`return_approximate`), `FAILED` (no solution in time, or only one that moves a joint by more than `max_joint_step`),
`REFUSED` (not worked on: a frame that is not known or moves, a pose that is not one, a target that is too old, no joint
states). `reason` says why. After `FAILED` and `REFUSED` the arm goes on to the target before.

`~/joint_command` goes in a straight line of joint space to the last solution, no joint faster than `max_joint_speed`
and the URDF's velocity limit. It begins at `joint_states`, ends `hold_time` after the arm has been sent all the way,
and is never published before a target has come. It goes to no controller by itself: remap it, or use
`publish_trajectory` or `publish_array`. Never remap it to `joint_states` of a real robot, where a motion begins.

Targets that are not newer than the one before are left out; when their clock is set back by half a second or more, they
are taken again. The figures in `/diagnostics` count from the last activation.
"""

IMAGE_RESTORER = """\
Removes the artefacts of JPEG compression from camera images. Executable `image_restorer` of the package `dfips_ros`; a
lifecycle node that configures and activates itself unless `autostart` is false.

| transition | what happens |
|---|---|
| configure | parameters are checked, the weights are loaded, the solver runs once |
| activate | images are subscribed |
| deactivate | unsubscribed; the solver stays loaded |
| cleanup | everything is freed |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

Every JPEG that can be read gives one restored image, unless a newer one came while the solver worked. What cannot be
read (another format, cut short, CMYK, 12 bits, more than `max_pixels`) gives none, and the reason is in `/diagnostics`.
"""

QOS_NOTE = """\
## Quality of service

Every topic's quality of service (history, depth, reliability, durability) can be overridden by parameters at
start, for example
`qos_overrides./pose_tracker/mask.subscription.reliability:=reliable`, with the topic's name after remapping.
"""

CONFIG_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Parameters of the node {node}, with their defaults.
# Written by `python -P -m dfips_ros.nodes.ros_api --config config/{node}.yaml`.
# Copy it, change it, and start with
#   ros2 launch dfips_ros {node}.launch.py params_file:=/path/to/your.yaml
# Arguments of the launch file win over this file.
/**/{node}:
  ros__parameters:
"""


@dataclass(frozen=True)
class NodeTables:
    """What a node's documentation is made of."""

    introduction: str
    endpoints: Mapping[str, Endpoint]
    services: Sequence[tuple[str, str, str]]
    parameters: type


NODES = {
    "pose_tracker": NodeTables(POSE_TRACKER, ENDPOINTS, SERVICES, PoseTrackerParameters),
    "ik_solver": NodeTables(IK_SOLVER, IK_ENDPOINTS, IK_SERVICES, IkSolverParameters),
    "image_restorer": NodeTables(IMAGE_RESTORER, RESTORER_ENDPOINTS, (), ImageRestorerParameters),
}


def docs_text() -> str:
    """The page docs/ros_api.md."""
    return "\n".join([HEAD, *(_node_text(name, tables) for name, tables in NODES.items()), QOS_NOTE])


def _node_text(name: str, tables: NodeTables) -> str:
    inputs = [each for each in tables.endpoints.values() if each.direction == "in"]
    outputs = [each for each in tables.endpoints.values() if each.direction == "out"]
    parts = [
        f"## Node `{name}`\n",
        tables.introduction,
        f"### Subscribed topics of `{name}`\n",
        _topic_table(inputs),
        f"### Published topics of `{name}`\n",
        _topic_table(outputs),
        f"### Services of `{name}`\n",
        _table(("service", "type", "meaning"), [(f"`{n}`", f"`{t}`", d) for n, t, d in tables.services])
        + "\nBesides those of every lifecycle node (`~/change_state`, `~/get_state`, ...) and of its parameters.\n"
        if tables.services
        else "Those of every lifecycle node (`~/change_state`, `~/get_state`, ...) and of its parameters.\n",
        f"### Parameters of `{name}`\n",
        "*live*: may be changed while the node is configured; the others need `cleanup` first.\n",
        _table(
            ("parameter", "type", "default", "range", "live", "meaning"),
            [_parameter_row(spec) for spec in specs_of(tables.parameters)],
        ),
    ]
    return "\n".join(parts)


def config_text(node: str) -> str:
    """The file config/<node>.yaml."""
    lines = []
    for spec in specs_of(NODES[node].parameters):
        allowed = "" if spec.allowed.startswith("any ") or spec.type_name == "bool" else f", {spec.allowed}"
        comment = f"{spec.description} ({spec.type_name}{allowed})"
        lines += textwrap.wrap(comment, 100, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    {spec.name}: {_yaml_value(spec.default)}")
    return CONFIG_HEAD.format(node=node) + "\n".join(lines) + "\n"


def _yaml_value(value: object) -> str:
    return yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None).splitlines()[0]


def _parameter_row(spec: ParameterSpec) -> tuple[str, ...]:
    default = '`""`' if spec.default == "" else f"`{_yaml_value(spec.default)}`"
    allowed = "" if spec.allowed.startswith("any ") else spec.allowed.replace(" | ", ", ").replace("'", "`")
    return (f"`{spec.name}`", spec.type_name, default, allowed, "yes" if spec.live else "", spec.description)


def _topic_table(endpoints: list[Endpoint]) -> str:
    rows = [(f"`{each.topic}`", f"`{each.type_name}`", each.qos_text, each.description) for each in endpoints]
    return _table(("topic", "type", "quality of service", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files that were named, or print the page."""
    parser = argparse.ArgumentParser(prog="ros_api", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=Path, help="write the page here")
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="write the parameters files NODE.yaml here")
    options = parser.parse_args(arguments)
    if options.docs is not None:
        options.docs.write_text(docs_text(), encoding="utf-8")
    for file in options.config:
        if file.stem not in NODES:
            parser.error(f"--config {file}: expected a file named after a node: {', '.join(NODES)}.")
        file.write_text(config_text(file.stem), encoding="utf-8")
    if options.docs is None and not options.config:
        print(docs_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
