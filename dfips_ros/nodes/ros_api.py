# SPDX-License-Identifier: Apache-2.0
"""Writes docs/ros_api.md and config/*.yaml from the tables in the code.

python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md --config config/pose_tracker.yaml config/ik_solver.yaml
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from .container import CONTAINER_ENDPOINTS, ContainerParameters
from .endpoints import ENDPOINTS, SERVICES, Endpoint
from .grasp_endpoints import GRASP_ENDPOINTS
from .grasp_parameters import GraspTargetParameters
from .ik_endpoints import IK_ENDPOINTS, IK_SERVICES
from .ik_parameters import IkSolverParameters
from .light_endpoints import LIGHT_ENDPOINTS
from .light_parameters import LightEstimatorParameters
from .parameters import ParameterSpec, members_of, specs_of
from .restorer_endpoints import RESTORER_ENDPOINTS
from .restorer_parameters import ImageRestorerParameters
from .tracker_parameters import PoseTrackerParameters

HEAD = """\
# ROS API

This page is written from the code by `python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md`; a test checks
that it is up to date. Nodes: [`pose_tracker`](#node-pose_tracker), [`ik_solver`](#node-ik_solver),
[`grasp_target`](#node-grasp_target), [`light_estimator`](#node-light_estimator),
[`image_restorer`](#node-image_restorer), and the [`container`](#node-container) for several of them in one process.

All but the container are lifecycle nodes. By themselves they configure and activate at the start; under a lifecycle
manager set `autostart` to false. They form no bond, so Nav2's manager needs `bond_timeout: 0.0` for them. `configure`
answers when everything is loaded: after seconds, the first time on a machine after up to a minute, as code is compiled.
"""

POSE_TRACKER = """\
Tracks the 6-DoF poses of one or several known objects from segmentation masks. Executable `pose_tracker` of the package
`dfips_ros`; a lifecycle node that configures and activates itself unless `autostart` is false.

| transition | what happens |
|---|---|
| configure | parameters are checked, meshes and weights are loaded, the solver runs once for each object |
| activate | masks and camera_info are subscribed, tracking begins anew |
| deactivate | unsubscribed, the markers are deleted; everything stays loaded |
| cleanup | everything is freed, objects that were added by service too |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

Poses map the mesh file's own frame (times `mesh_scale`) to the camera's optical frame (x right, y down, z
forward), in metres; with `output_frame` to that frame, through tf2 at the mask's stamp. Outputs carry the mask's stamp
and frame. A mask without a frame gets that of camera_info, a mask without a stamp the time of its arrival. A mask that
is not newer than the one before is left out, and log and `/diagnostics` say so; when the clock is set back by half a
second or more (a bag that starts again), tracking begins anew. The figures in `/diagnostics` count from the last
activation.

States of `~/tracked_object`: `INITIALISING` (no pose yet), `TRACKING`, `LOST` (there was a pose; the object is
looked for). `reason` says why. Use the pose of `~/tracked_object` only when `covariance[0] >= 0`: during the first
misses the state is still `TRACKING`, while the pose is the last one and `covariance[0]` is -1. `~/pose` and the
transform are only published while `TRACKING`, and only for masks that gave a pose. `residual_norms` has one entry more
than the stages that ran, or none when nothing was solved.

Masks are never queued: the newest one that has come while the solver was at work is taken next, those before it are
dropped (and counted). `/diagnostics` says for the last 300 masks how long they lay here until work on them began
(`mask wait`), and how old they were when their poses were published (`mask to pose`, where their stamps are of the
node's clock). `masks outdated` counts those that lay here for more than two periods: one more than until the next was
due.

With `prediction`, `~/pose` and the transform run ahead of the mask by that time, in pose and stamp, as soon as two
masks have told a velocity; the covariance grows with it. All other outputs are as measured.

After `~/reset` and `~/set_pose` no result of an older mask is published. Older is a mask whose stamp is before the
call; where stamps are not of the node's clock (more than a second behind it), one that arrived before the call.

### Several objects

List them in `objects`, and give each its parameters: in a parameters file

```yaml
/**/pose_tracker:
  ros__parameters:
    objects: ["cup", "drill"]
    objects.cup.mesh: "package://my_objects/meshes/cup.stl"
    objects.cup.label_value: 1
    objects.drill.mesh: "package://my_objects/meshes/drill.obj"
    objects.drill.class_name: "power drill"
```

All are found in one label image, which is read once, and solved in one batch on the CPU's cores. Each object needs
pixels of its own: a `label_value`, or a `class_name` whose label comes with `~/label_info`. Every object has a number
(`id`) that is never used again while the node runs. An object that is not found is told with its state and reason.
A search takes ten times as long as to follow an object. So while another object is tracked, one that is in sight but
has no pose is looked for beside it, in a thread of its own and thoroughly in every fifth mask only; its masks are left
out meanwhile, with the reason `searching`. What the search finds is of a mask that is old by then: it is not published,
but the next mask is solved from there.
`~/tracked_object` then has one message for each object and mask, `~/tracked_objects` all of a mask together, and
`~/pose` is that of the first object.

`~/add_object` loads one more object in a thread of its own: the others are tracked meanwhile, at a somewhat lower rate
(mesh and solver compete with them for the cores for about a second), and the answer comes when it is loaded. Objects
added so are not in the parameters: they last until cleanup. With a single mesh, set `mask_mode` to `label` first, as
else every non-zero pixel is the first object's.

With `mask_source` `detections`, masks come as borders of instances from `yolo_msgs/msg/DetectionArray`; holes are not
told there.

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
`return_approximate`), `FAILED` (no solution in time, or only one that moves a joint by more than `max_joint_step`, from
its seed, its command or its place in `joint_states`: an arm that does not follow its commands is not led away),
`REFUSED` (not worked on: a frame that is not known or moves, a pose that is not one, a target that is too old, no joint
states). `reason` says why. After `FAILED` and `REFUSED` the arm goes on to the target before.

`~/joint_command` goes in a straight line of joint space to the last solution, no joint faster than `max_joint_speed`
and the URDF's velocity limit. It begins at `joint_states`, ends `hold_time` after the arm has been sent all the way,
and is never published before a target has come. It goes to no controller by itself: remap it, or use
`publish_trajectory` or `publish_array`. Never remap it to `joint_states` of a real robot, where a motion begins.

Targets that are not newer than the one before are left out; when their clock is set back by half a second or more, they
are taken again. Those without a stamp are never left out. The figures in `/diagnostics` count from the last activation.
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

GRASP_TARGET = """\
Turns the pose of a tracked object into the target of an arm. Executable `grasp_target` of the package `dfips_ros`; a
lifecycle node that configures and activates itself unless `autostart` is false. [grasping.md](grasping.md) goes the
whole way from a CAD file to a moving arm.

| transition | what happens |
|---|---|
| configure | parameters are checked, the mesh for the planning scene is loaded, /tf is listened to where it is needed |
| activate | the tracker's answers are subscribed |
| deactivate | unsubscribed; the object leaves the planning scene |
| cleanup | everything is freed |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

`T_base_tip = T_base_camera T_camera_object T_object_grasp`, then back against `approach_axis` by `standoff`. Poses that
come in `base_frame` already (the tracker's `output_frame`) are taken as they are. A target is published for each pose
that is `TRACKING`, no older than `max_age`, of `min_iou` and certain enough; otherwise none, and `/diagnostics` says
why. The covariance is judged at the grasp point, where the uncertainty of the rotation counts by its lever. The node
moves nothing by itself: an `ik_solver` that hears no target any more goes to the last one and stops there.

To go in, set `standoff` to 0: the target then moves at `approach_speed` along the approach axis.
"""

LIGHT_ESTIMATOR = """\
Tells where the light comes from, by how it falls on a tracked object. Executable `light_estimator` of the package
`dfips_ros`; a lifecycle node that configures and activates itself unless `autostart` is false.

| transition | what happens |
|---|---|
| configure | parameters are checked, mesh and weights are loaded |
| activate | images, camera_info and poses are subscribed |
| deactivate | unsubscribed; everything stays loaded |
| cleanup | everything is freed |

When a transition is refused, the log and `/diagnostics` say why. Put the parameter right and configure again.

Poses and images need not have the same stamps: an image waits until the pose nearest in time is known. Of several
images whose pose differs by `pose_tolerance` at most, the newest is worked on. An image without such a pose is refused
after `pose_timeout`, unless a newer one had its pose meanwhile. Every answer is on `~/light`: `ESTIMATED`, `UNCERTAIN`
(there is a light, and a reason to doubt it) or `REFUSED` (black or saturated, object out of view, no pose, no
camera_info or one of another size, more than 8 bits a channel), and `reason` says why. It has the image's stamp and
frame; an image without a frame has that of camera_info, or else of its pose.

With Fast DDS, many colour images are lost on the way when they are sent best effort. If `/diagnostics` shows a lower
image rate than the camera's, ask for reliable images (the camera must offer them):
`qos_overrides./camera/image_raw.subscription.reliability:=reliable`.
"""

CONTAINER = """\
Runs several nodes of this package in one process. Executable `container` of the package `dfips_ros`.

```bash
ros2 run dfips_ros container --ros-args -p nodes:="[pose_tracker, ik_solver]" --params-file my.yaml \\
    -r pose_tracker:~/mask:=/segmentation/mask
```

Each node has its own name, namespace and parameters: those of a parameters file under its name, as if it ran alone.
Remappings that begin with a node's name are for that node. `-p` on the command line goes to all of them.

Each node has a thread and a ROS context of its own. It answers as it does alone, and an error in one leaves the others
at work; a crash of the interpreter ends all. They share the processor time of one interpreter: numba, torch and the
middleware work beside each other, Python itself does not. What it saves is memory: Python, torch and numba are loaded
once. SIGINT and SIGTERM end all of them in order. A node that is loading is waited for; a SIGTERM does not wait then.
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
#   ros2 launch dfips_ros {launch}:=/path/to/your.yaml
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
    lifecycle: bool = True
    launch: str = "{node}.launch.py params_file"


NODES = {
    "pose_tracker": NodeTables(POSE_TRACKER, ENDPOINTS, SERVICES, PoseTrackerParameters),
    "ik_solver": NodeTables(IK_SOLVER, IK_ENDPOINTS, IK_SERVICES, IkSolverParameters),
    "grasp_target": NodeTables(
        GRASP_TARGET, GRASP_ENDPOINTS, (), GraspTargetParameters, launch="grasp.launch.py grasp_params_file"
    ),
    "light_estimator": NodeTables(LIGHT_ESTIMATOR, LIGHT_ENDPOINTS, (), LightEstimatorParameters),
    "image_restorer": NodeTables(IMAGE_RESTORER, RESTORER_ENDPOINTS, (), ImageRestorerParameters),
    "container": NodeTables(CONTAINER, CONTAINER_ENDPOINTS, (), ContainerParameters, lifecycle=False),
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
        *((f"### Subscribed topics of `{name}`\n", _topic_table(inputs)) if inputs else ()),
        f"### Published topics of `{name}`\n",
        _topic_table(outputs),
        f"### Services of `{name}`\n",
        _services_text(tables),
        f"### Parameters of `{name}`\n",
        "*live*: may be changed while the node is configured; the others need `cleanup` first.\n"
        if tables.lifecycle
        else "They are read once, at the start.\n",
        _table(
            ("parameter", "type", "default", "range", "live", "meaning"),
            [_parameter_row(spec) for spec in specs_of(tables.parameters)],
        ),
        *(_members_text(names, table) for names, table in members_of(tables.parameters).values()),
    ]
    return "\n".join(parts)


def _services_text(tables: NodeTables) -> str:
    every = "of every lifecycle node (`~/change_state`, `~/get_state`, ...) and " if tables.lifecycle else ""
    if not tables.services:
        return f"Those {every}of its parameters.\n"
    rows = [(f"`{name}`", f"`{kind}`", meaning) for name, kind, meaning in tables.services]
    return _table(("service", "type", "meaning"), rows) + f"\nBesides those {every}of its parameters.\n"


def _members_text(names: str, table: type) -> str:
    rows = [_parameter_row(replace(spec, name=f"{names}.<name>.{spec.name}")) for spec in specs_of(table)]
    head = f"For each name in `{names}`:\n\n"
    return head + _table(("parameter", "type", "default", "range", "live", "meaning"), rows)


def config_text(node: str) -> str:
    """The file config/<node>.yaml."""
    lines = []
    for spec in specs_of(NODES[node].parameters):
        allowed = "" if spec.allowed.startswith("any ") or spec.type_name == "bool" else f", {spec.allowed}"
        comment = f"{spec.description} ({spec.type_name}{allowed})"
        lines += textwrap.wrap(comment, 100, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    {spec.name}: {_yaml_value(spec.ros_default)}")
        for names, table in members_of(NODES[node].parameters).values():
            if names == spec.name:
                own = ", ".join(f"{names}.<name>.{each.name}" for each in specs_of(table))
                text = f"Each has parameters of its own, with dots in one key: {own}; see docs/ros_api.md."
                lines += textwrap.wrap(text, 100, initial_indent="    # ", subsequent_indent="    # ")
    return CONFIG_HEAD.format(node=node, launch=NODES[node].launch.format(node=node)) + "\n".join(lines) + "\n"


def _yaml_value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_yaml_value(each) for each in value) + "]"
    return yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None).splitlines()[0]


def _parameter_row(spec: ParameterSpec) -> tuple[str, ...]:
    default = '`""`' if spec.default == "" else f"`{_yaml_value(spec.ros_default)}`"
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
