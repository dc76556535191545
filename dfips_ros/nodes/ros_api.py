# SPDX-License-Identifier: Apache-2.0
"""Writes docs/ros_api.md and config/pose_tracker.yaml from the tables in the code.

python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md --config config/pose_tracker.yaml
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from .endpoints import ENDPOINTS, SERVICES, Endpoint
from .parameters import ParameterSpec, PoseTrackerParameters, specs_of

INTRODUCTION = """\
# ROS API

This page is written from the code by `python -P -m dfips_ros.nodes.ros_api --docs docs/ros_api.md`; a test checks
that it is up to date.

## Node `pose_tracker`

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

QOS_NOTE = """\
Every topic's quality of service (history, depth, reliability, durability) can be overridden by parameters at
start, for example
`qos_overrides./pose_tracker/mask.subscription.reliability:=reliable`, with the topic's name after remapping.
"""

CONFIG_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Parameters of the node pose_tracker, with their defaults.
# Written by `python -P -m dfips_ros.nodes.ros_api --config config/pose_tracker.yaml`.
# Copy it, change it, and start with
#   ros2 launch dfips_ros pose_tracker.launch.py params_file:=/path/to/your.yaml
# Arguments of the launch file win over this file.
/**/pose_tracker:
  ros__parameters:
"""


def docs_text() -> str:
    """The page docs/ros_api.md."""
    inputs = [each for each in ENDPOINTS.values() if each.direction == "in"]
    outputs = [each for each in ENDPOINTS.values() if each.direction == "out"]
    parts = [
        INTRODUCTION,
        "### Subscribed topics\n",
        _topic_table(inputs),
        "### Published topics\n",
        _topic_table(outputs),
        QOS_NOTE,
        "### Services\n",
        _table(("service", "type", "meaning"), [(f"`{n}`", f"`{t}`", d) for n, t, d in SERVICES]),
        "Besides those of every lifecycle node (`~/change_state`, `~/get_state`, ...) and of its parameters.\n",
        "### Parameters\n",
        "*live*: may be changed while the node is configured; the others need `cleanup` first.\n",
        _table(
            ("parameter", "type", "default", "range", "live", "meaning"),
            [_parameter_row(spec) for spec in specs_of(PoseTrackerParameters)],
        ),
    ]
    return "\n".join(parts)


def config_text() -> str:
    """The file config/pose_tracker.yaml."""
    lines = []
    for spec in specs_of(PoseTrackerParameters):
        allowed = "" if spec.allowed.startswith("any ") or spec.type_name == "bool" else f", {spec.allowed}"
        comment = f"{spec.description} ({spec.type_name}{allowed})"
        lines += textwrap.wrap(comment, 100, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    {spec.name}: {_yaml_value(spec.default)}")
    return CONFIG_HEAD + "\n".join(lines) + "\n"


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
    parser.add_argument("--config", type=Path, help="write the parameters file here")
    options = parser.parse_args(arguments)
    if options.docs is not None:
        options.docs.write_text(docs_text(), encoding="utf-8")
    if options.config is not None:
        options.config.write_text(config_text(), encoding="utf-8")
    if options.docs is None and options.config is None:
        print(docs_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
