# SPDX-License-Identifier: Apache-2.0
"""``dfips demo inverse_kinematics``: an arm follows a moving target through the node ik_solver."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DfipsError

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation.ik_path import TargetPath
    from ..processes.kinematics import SerialChain
    from .demo_ik_run import FollowRecord

DESCRIPTION = """\
Let an arm follow a moving target through the node ik_solver, over real ROS 2 topics.

Three processes: the target publishes poses at 100 Hz, the node ik_solver answers each of them and commands the joints
within their speed limits, and an arm without hardware goes where it is commanded. The path is within the arm's reach.
The answers are checked by Pinocchio's forward kinematics. Without --urdf the arm is a panda, whose URDF comes with the
package example-robot-data. It uses a ROS domain of its own, on this machine only.

Written to --out: summary.json, and an animation of the arm (mp4, webp).
Exit status 1 when an answer is not a solution, or a joint was commanded faster than allowed. A target that a newer one
replaces while the machine is busy has no answer; how many is told.

examples:
  dfips demo inverse_kinematics
  dfips demo inverse_kinematics --robot ur5 --seconds 30
  dfips demo inverse_kinematics --urdf arm.urdf --base base_link --tip tool0 --out out/arm
"""
MAX_JOINT_SPEED = 1.5  # rad/s; the path needs half of it
PICTURE_RATE = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", metavar="NAME", help="arm of example-robot-data (panda)")
    parser.add_argument("--urdf", type=Path, help="your own robot instead")
    parser.add_argument("--tip", metavar="LINK", help="last link of the arm, with --urdf")
    parser.add_argument("--base", metavar="LINK", help="first link of the arm, with --urdf (the root of the robot)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the path (20)")
    parser.add_argument("--rate", type=float, default=100.0, help="targets and commands per second (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the path (0)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship for this arm)")
    parser.add_argument("--out", type=Path, default=Path("out/demo_inverse_kinematics"),
                        help="folder for results (out/demo_inverse_kinematics)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the summary there as well; - for stdout")
    parser.add_argument("--no-pictures", action="store_true", help="no animation")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    import sys
    import time

    from ..evaluation.ik_path import moving_target
    from ..processes.example_robots import example_robot
    from ..processes.kinematics import SerialChain
    from .demo_ik_run import failures, follow, summarise, table
    from .files import write_json
    from .machine import describe_machine, load_warning, machine_line

    if not 2.0 <= options.seconds <= 3600.0:
        raise ConfigError(f"--seconds {options.seconds:g}: expected 2 to 3600.")
    if not 1.0 <= options.rate <= 1000.0:
        raise ConfigError(f"--rate {options.rate:g}: expected 1 to 1000.")
    if options.urdf is None and (options.tip or options.base):
        raise ConfigError("--tip and --base: expected --urdf too; with --robot both are known.")
    if options.urdf is not None and not options.tip:
        raise ConfigError("--urdf: expected --tip too, the link that is to follow the target.")
    if options.urdf is not None:
        urdf, tip, base = options.urdf, options.tip, options.base
    else:
        robot = example_robot(options.robot)
        urdf, tip, base = robot.urdf, robot.tip, robot.base
    chain = SerialChain.from_urdf(urdf, tip, base)
    path = moving_target(chain, options.seconds, options.rate, options.seed)
    out = options.out.resolve()
    parameters: dict[str, object] = {"rate": options.rate, "max_joint_speed": MAX_JOINT_SPEED}
    if options.weights:
        parameters["weights"] = str(options.weights.resolve())
    machine = describe_machine()
    print(f"Machine: {machine_line(machine)}", file=sys.stderr)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DfipsError(f"--out {options.out}: cannot be made ({cause.strerror or cause}).") from cause
    record = follow(path, chain, urdf.resolve(), out / "logs", parameters, not options.quiet)
    summary = summarise(path, chain, record)
    problems = failures(summary, MAX_JOINT_SPEED / options.rate)
    written = [out / "summary.json"]
    if not options.no_pictures:
        written += _animate(chain, path, record, out / "arm", not options.quiet)
    content = {
        "command": "dfips demo inverse_kinematics",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "config": {"urdf": urdf.name, "base": chain.base, "tip": chain.tip, "seconds": options.seconds,
                   "seed": options.seed, "solver_parameters": parameters},
        "summary": summary,
        "problems": problems,
    }  # fmt: skip
    write_json(written[0], content)
    if options.json:
        write_json(options.json, content)
    if options.json != "-":
        print(table(summary, chain.names))
        if load_warning(machine):
            print(f"\n{load_warning(machine)}")
        print(f"\nWritten: {', '.join(map(str, written))}")
    for problem in problems:
        print(f"dfips demo: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _animate(chain: SerialChain, path: TargetPath, record: FollowRecord, stem: Path, progress: bool) -> list[Path]:
    """Draw the commanded arm and the target at its time."""
    import numpy as np
    from tqdm import tqdm

    from ..evaluation.figures import write_animation
    from ..evaluation.ik_pictures import ArmDrawing

    if not record.commands or not record.targets:
        return []
    times = np.array([event["received_ns"] for event in record.commands])
    stamps = np.array([event["stamp_ns"] for event in record.targets])
    ticks = np.arange(max(times[0], stamps[0]), min(times[-1], stamps[-1]), round(1e9 / PICTURE_RATE))
    commands = np.searchsorted(times, ticks, side="right") - 1
    targets = path.poses[[record.targets[i]["index"] for i in np.searchsorted(stamps, ticks, side="right") - 1]]
    drawing = ArmDrawing(chain, np.array([record.commands[i]["positions"] for i in commands]))

    def pictures() -> Iterator[np.ndarray]:
        bar = tqdm(range(len(ticks)), desc="drawing the arm", unit="picture", disable=not progress or None)
        for index in bar:
            yield drawing.draw(index, targets[index], (f"{chain.tip}   {index / PICTURE_RATE:5.2f} s",))

    return write_animation(pictures(), stem, PICTURE_RATE)
