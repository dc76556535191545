# SPDX-License-Identifier: Apache-2.0
"""``dfips demo illumination``: where the light comes from, told by a tracked object, over real ROS 2 topics."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError, DfipsError

DESCRIPTION = """\
Follow a moving light by how it falls on a tracked object, over real ROS 2 topics, and compare with the truth.

Four processes: a camera publishes masks, colour images and camera_info at 15 Hz, the node pose_tracker tracks the
object from nothing, the node light_estimator tells the light from images and tracked poses, and a listener notes what
arrives and when. The images are drawn by pyrender: the drill that ships, or your mesh, turning slowly, with noise.
It uses a ROS domain of its own, on this machine only.

Written to --out: summary.json, an animation with the true and the estimated light on a sphere (mp4, webp), and a plot
of the errors. Exit status 1 when the median error is above 15 degrees, or fewer than 5 answers come in a second.

examples:
  dfips demo illumination
  dfips demo illumination --kind point --roughness 0.3 --metallic 0.8
  dfips demo illumination --mesh bracket.stl --scale 0.001 --out out/bracket
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kind", default="directional", choices=["directional", "point"], help="of the light")
    parser.add_argument("--seconds", type=float, default=20.0, help="length (20)")
    parser.add_argument("--roughness", type=float, default=0.5, help="of the material, 0 to 1 (0.5)")
    parser.add_argument("--metallic", type=float, default=0.0, help="of the material, 0 to 1 (0)")
    parser.add_argument("--mesh", type=Path, help="your own mesh instead of the drill")
    parser.add_argument("--scale", type=float, default=1.0, help="factor from the mesh's unit to metres (1)")
    parser.add_argument("--seed", type=int, default=0, help="of motion, light and noise (0)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file of the light estimator")
    parser.add_argument("--out", type=Path, default=Path("out/demo_illumination"),
                        help="folder for results (out/demo_illumination)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the summary there as well; - for stdout")
    parser.add_argument("--no-pictures", action="store_true", help="no animation and no plot")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    import sys
    import time

    from .demo_light_run import compare, failures, run_scene, summarise, table
    from .demo_light_scene import light_scene
    from .files import write_json
    from .machine import describe_machine, load_warning, machine_line

    if not 2.0 <= options.seconds <= 600.0:
        raise ConfigError(f"--seconds {options.seconds:g}: expected 2 to 600.")
    for name in ("roughness", "metallic"):
        if not 0.0 <= getattr(options, name) <= 1.0:
            raise ConfigError(f"--{name} {getattr(options, name):g}: expected 0 to 1.")
    parameters: dict[str, object] = {}
    if options.weights:
        if not options.weights.is_file():
            raise DfipsError(f"--weights {options.weights}: no such file.")
        parameters["weights"] = str(options.weights.resolve())
    out, progress = options.out.resolve(), not options.quiet
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DfipsError(f"--out {options.out}: cannot be made ({cause.strerror or cause}).") from cause
    machine = describe_machine()
    print(f"Machine: {machine_line(machine)}", file=sys.stderr)
    scene = light_scene(
        options.kind, options.seconds, options.seed, options.roughness, options.metallic, options.mesh, options.scale,
        progress,
    )  # fmt: skip
    record = run_scene(scene, out / "logs", parameters, progress)
    results = compare(scene, record)
    summary = summarise(scene, record, results)
    problems, written = failures(summary), [out / "summary.json"]
    if not options.no_pictures:
        from .demo_light_pictures import draw_pictures

        written += draw_pictures(scene, results, out, progress)
    content = {
        "command": "dfips demo illumination",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "config": {"kind": options.kind, "seconds": options.seconds, "seed": options.seed,
                   "roughness": options.roughness, "metallic": options.metallic, "mesh": scene.mesh_path.name,
                   "estimator_parameters": parameters},
        "summary": summary,
        "problems": problems,
    }  # fmt: skip
    write_json(written[0], content)
    if options.json:
        write_json(options.json, content)
    if options.json != "-":
        print(table(summary))
        if load_warning(machine):
            print(f"\n{load_warning(machine)}")
        print(f"\nWritten: {', '.join(map(str, written))}")
    for problem in problems:
        print(f"dfips demo: {problem}", file=sys.stderr)
    return 1 if problems else 0
