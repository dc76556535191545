# SPDX-License-Identifier: Apache-2.0
"""``dfips demo object_pose``: the pose tracker on real ROS 2 topics, against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError, DfipsError

DESCRIPTION = """\
Track objects over real ROS 2 topics and compare with the truth.

A camera process publishes masks, colour images and camera_info at 30 Hz, the pose_tracker node tracks the object
from nothing (no prior pose), and a listener notes what arrives and when. Parts:
  foam_brick, gelatin_box   ten real YCB-Video frames with true poses, played forth and back for 5 seconds
  drill                     20 generated seconds: hand-like motion, noisy masks, occlusion, a short disappearance
It uses a ROS domain of its own, on this machine only.

Written to --out: summary.json, and for each part an animation (mp4, webp), a picture and a plot of the errors.
Exit status 1 when an object was never found, or was lost and not found again.

examples:
  dfips demo
  dfips demo --parts drill --seconds 10 --out out/drill
  dfips demo --mesh bracket.stl --scale 0.001      your own object on the generated trajectory
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for results (out/demo)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the generated part (20)")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these parts (all three)")
    parser.add_argument("--mesh", type=Path, help="your own mesh instead of the drill, then the only part by default")
    parser.add_argument("--scale", type=float, default=1.0, help="factor from the mesh's unit to metres (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated part (0)")
    parser.add_argument("--weights", type=Path, help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the solver (2, as the node)")
    parser.add_argument("--json", metavar="FILE", help="write the summary there as well; - for stdout")
    parser.add_argument("--no-pictures", action="store_true", help="no animation and no plots")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def chosen_parts(options: argparse.Namespace) -> list[str]:
    """Names of the parts to run, in order."""
    from .demo_parts import GENERATED, part_names

    names = part_names()
    if options.parts is None:
        return [GENERATED] if options.mesh else names
    unknown = [name for name in options.parts if name not in names]
    if unknown:
        raise ConfigError(f"--parts {' '.join(unknown)}: expected some of {', '.join(names)}.")
    return [name for name in names if name in options.parts]


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    import sys
    import time

    from .demo_parts import GENERATED, REAL_SECONDS, generated_part, real_part
    from .demo_report import compare, failures, summarise, table
    from .demo_run import run_part
    from .files import write_json
    from .machine import describe_machine, load_warning, machine_line

    if not 1.0 <= options.seconds <= 3600.0:
        raise ConfigError(f"--seconds {options.seconds:g}: expected 1 to 3600.")
    if not 1 <= options.threads <= 256:
        raise ConfigError(f"--threads {options.threads}: expected 1 to 256.")
    names = chosen_parts(options)
    out = options.out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DfipsError(f"--out {options.out}: cannot be made ({cause.strerror or cause}).") from cause
    parameters: dict[str, object] = {"device": options.device, "max_solve_threads": options.threads}
    if options.weights:
        if not options.weights.is_file():
            raise DfipsError(f"--weights {options.weights}: no such file.")
        parameters["weights"] = str(options.weights.resolve())
    progress = not options.quiet
    machine = describe_machine()
    print(f"Machine: {machine_line(machine)}", file=sys.stderr)

    summaries, problems, pictures = [], [], []
    for number, name in enumerate(names, start=1):
        if not progress:  # a log shows no bars
            print(f"Part {number} of {len(names)}: {name}, up to {options.seconds:g} s of frames", file=sys.stderr)
        if name == GENERATED:
            part = generated_part(options.seconds, options.seed, options.mesh, options.scale, progress)
        else:
            part = real_part(name, min(REAL_SECONDS, options.seconds))
        record = run_part(part, out / "logs" / part.name, parameters, progress)
        results = compare(part, record)
        summary = summarise(part, record, results)
        summaries.append(summary)
        problems += failures(summary)
        if not options.no_pictures:
            from .demo_pictures import draw_pictures

            pictures += draw_pictures(part, results, out, progress)

    content = {
        "command": "dfips demo",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "config": {"seconds": options.seconds, "seed": options.seed, "tracker_parameters": parameters},
        "parts": summaries,
        "problems": problems,
    }
    write_json(out / "summary.json", content)
    if options.json:
        write_json(options.json, content)
    if options.json != "-":
        print(table(summaries))
        if load_warning(machine):
            print(f"\n{load_warning(machine)}")
        print(f"\nWritten: {', '.join(str(p) for p in [out / 'summary.json', *pictures])}")
    for problem in problems:
        print(f"dfips demo: {problem}", file=sys.stderr)
    return 1 if problems else 0
