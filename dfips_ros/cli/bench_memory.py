# SPDX-License-Identifier: Apache-2.0
"""``dfips bench memory``: memory and start-up of the library and of each node."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .bench_tables import add_common_arguments, report

DESCRIPTION = """\
Measure memory and start-up: of each task of the library, step by step from import to the second solve, and of each
node, from the start of its process until it is active. Everything runs in processes of its own.

Compiled code is kept from earlier runs. With --cold, everything is measured once more without it, as after an
installation; that takes minutes.

examples:
  dfips bench memory
  dfips bench memory --skip nodes
  dfips bench memory --cold --csv memory.csv --markdown memory.md
"""
TASKS = ("object_pose", "inverse_kinematics", "illumination", "deblocking")
NODES = ("pose_tracker", "ik_solver", "light_estimator", "image_restorer")
ARM = "panda"
OBJECT = "drill"
PATIENCE = 600.0  # seconds for one process: without compiled code it takes its time
POLL_SECONDS = 0.02
SETTLE_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--skip", nargs="+", default=[], choices=["library", "nodes"], help="leave parts out")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="of the library (all)")
    parser.add_argument("--nodes", nargs="+", default=list(NODES), choices=NODES, help="which nodes (all)")
    parser.add_argument("--cold", action="store_true", help="once more without compiled code from earlier runs")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for logs (out/bench)")
    add_common_arguments(parser, "the same, and --cold is not looked at")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    import tempfile

    folder = options.out.resolve() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    yield from _of_one_cache(options, folder, "warm", {})
    if options.cold and not options.quick:
        with tempfile.TemporaryDirectory(prefix="dfips_numba_") as empty:
            for name in ("library", "nodes"):  # each finds an empty folder
                cache = {"NUMBA_CACHE_DIR": str(Path(empty) / name)}
                yield from _of_one_cache(options, folder, "cold", cache, only=name)


def _of_one_cache(
    options: argparse.Namespace, folder: Path, cache: str, environment: dict[str, str], only: str = ""
) -> Iterator[Any]:
    more = {"note": f"{cache} cache of compiled code"}
    if "library" not in options.skip and only in ("", "library"):
        for task in options.tasks:
            yield from _library(task, folder, environment, f"memory: library, {cache}", more)
    if "nodes" not in options.skip and only in ("", "nodes"):
        for node in options.nodes:
            yield from _node(node, folder, environment, f"memory: nodes, {cache}", more)


def _library(task: str, folder: Path, environment: dict[str, str], section: str, more: dict[str, str]) -> Iterator[Any]:
    """Seconds and resident memory after each step of a task."""
    import sys
    import time

    from ..evaluation.bench_figures import Figure
    from .children import ChildError, Children

    steps: list[dict] = []
    with Children() as children:
        child = children.start(
            f"memory_{task}", [sys.executable, "-m", "dfips_ros.evaluation.bench_memory", task], folder, environment,
            steps.append,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while child.exit_code is None and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        child.check()
        if child.exit_code is None:
            raise ChildError(f"{task}: its first solves took more than {PATIENCE:g} s. Its log is {child.log}.")
    for step in steps:
        part: dict[str, Any] = {"part": step["step"], "section": section, **more}
        yield Figure(f"{task}: time", round(step["seconds"], 4), "s", **part)
        yield Figure(f"{task}: resident memory", step["mb"], "MB", **part)
    ready = sum(step["seconds"] for step in steps if step["step"] in ("make the estimator", "first solve"))
    note = f"{more['note']}; what configuring a node does, and its first answer"
    yield Figure(f"{task}: made, and solved once", round(ready, 4), "s", section=section, note=note)


def _node(node: str, folder: Path, environment: dict[str, str], section: str, more: dict[str, str]) -> Iterator[Any]:
    """Seconds from the start of the process until the node is inactive and active, and its memory then."""
    import json
    import re
    import sys
    import time

    from ..evaluation.bench_figures import Figure
    from .children import ChildError, Children
    from .demo_run import private_environment

    command = [sys.executable, "-m", f"dfips_ros.nodes.{node}", "--ros-args"]
    for name, value in _parameters(node).items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    with Children() as children:
        began = time.time()
        child = children.start(node, command, folder, {**private_environment(), **environment})
        end, when = time.monotonic() + PATIENCE, None
        while when is None and time.monotonic() < end:
            child.check()
            when = re.search(r"\[(\d+\.\d+)\] \[" + node + r"\]: active", child.log.read_text(errors="replace"))
            time.sleep(POLL_SECONDS)
        if when is None:
            raise ChildError(f"{node} was not active after {PATIENCE:g} s. Its log ends with:\n{child.log_tail()}")
        time.sleep(SETTLE_SECONDS)
        memory, most = child.memory_mb(), child.memory_mb("VmHWM")
    seconds, note = round(float(when[1]) - began, 3), more["note"]
    yield Figure(f"{node}: start of the process to active", seconds, "s", section=section, note=note)
    peak = "" if most is None else f"; peak {most:.0f} MB"
    yield Figure(f"{node}: resident memory", memory, "MB", section=section, note=f"{note}{peak}")


def _parameters(node: str) -> dict[str, object]:
    """What each node cannot do without."""
    from ..processes.example_robots import example_robot
    from ..tasks.object_pose.demo_data import demo_mesh_path

    if node == "ik_solver":
        robot = example_robot(ARM)
        return {"urdf": str(robot.urdf), "tip": robot.tip, "base": robot.base}
    return {} if node == "image_restorer" else {"mesh": str(demo_mesh_path(OBJECT))}
