# SPDX-License-Identifier: Apache-2.0
"""``dfips warm``: compile now what the first start on a machine would wait for."""

from __future__ import annotations

import argparse
import sys

DESCRIPTION = """\
Compile the solvers' inner loops and keep the result, so that the first start of a node takes no longer than the next.

Without it a node does the same when it is configured for the first time, which takes up to a minute. What is compiled
is kept beside the installed modules, or below ~/.cache where they cannot be written (NUMBA_CACHE_DIR names another
folder); after an update only what has changed is compiled again. Run it as the user who runs the nodes, on the same
kind of processor. `./run` does it as the last step of its set-up.

examples:
  dfips warm
  dfips warm --tasks object_pose
"""
TASKS = ("object_pose", "inverse_kinematics", "illumination")  # nothing is compiled for the others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="which (all)")
    parser.add_argument("--json", metavar="FILE", help="write what was compiled as JSON; - for stdout")


def run(options: argparse.Namespace) -> int:
    """Compile each task in a process of its own, side by side."""
    import subprocess
    import time

    from .files import write_json

    begin, safe = time.monotonic(), getattr(sys.flags, "safe_path", False)  # nothing from the current folder
    running = {
        task: subprocess.Popen([sys.executable, *(["-P"] if safe else []), "-m", __name__, task])
        for task in options.tasks
    }
    failed = [task for task, process in running.items() if process.wait() != 0]
    for task in failed:
        print(f"{task}: not compiled, see above; its node compiles when it starts.", file=sys.stderr)
    ready, seconds = [task for task in running if task not in failed], round(time.monotonic() - begin, 1)
    if options.json:
        write_json(options.json, {"command": "dfips warm", "compiled": ready, "failed": failed, "seconds": seconds})
    if options.json != "-":
        print(f"Compiled in {seconds} s: {', '.join(ready) or 'nothing'}.")
    return 1 if failed else 0


def main(task: str) -> int:
    """What configuring a node of the task compiles."""
    from ..errors import DfipsError
    from ..evaluation.bench_memory import TASKS as STEPS

    try:
        if task == "object_pose":
            from ..tasks.object_pose import ObjectPoseEstimator
            from ..tasks.object_pose.demo_data import demo_mesh_path

            ObjectPoseEstimator.from_mesh(demo_mesh_path("foam_brick"), device="cpu").warm_up()
            return 0
        for step in STEPS[task]():
            step()
    except DfipsError as reason:
        print(f"{task}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
