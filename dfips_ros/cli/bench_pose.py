# SPDX-License-Identifier: Apache-2.0
"""``dfips bench object_pose``: time and memory on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Measure time and memory on this machine, and print the paper's figures beside them.

Measured: solving one 640x480 mask while tracking (median, p99), finding the pose from nothing, both renderers, and the
node through real ROS 2 topics at 30 Hz (dropped frames, latency, resident memory, start-up).
Close other programs first; the figures are those of a machine that does nothing else.

examples:
  dfips bench
  dfips bench --skip node --frames 300
  dfips bench --json bench.json --csv bench.csv --markdown bench.md
"""
SECTIONS = ("solve", "initialise", "renderers", "node")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--frames", type=int, default=300, help="frames to track (300)")
    parser.add_argument("--skip", nargs="+", default=[], choices=SECTIONS, help="leave parts out")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--seed", type=int, default=0, help="of the sequence (0)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for logs (out/bench)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the solver (2, as the node)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for stdout")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the figures as a Markdown table")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    import sys
    import time

    from ..errors import ConfigError, DfipsError
    from .bench_sections import Figure, measure_initialise, measure_node, measure_renderers, measure_solve
    from .bench_tables import as_csv, as_markdown, as_text
    from .files import write_json
    from .machine import describe_machine, load_warning, machine_line

    if not 30 <= options.frames <= 10_000:
        raise ConfigError(f"--frames {options.frames}: expected 30 to 10000.")
    if not 1 <= options.threads <= 256:
        raise ConfigError(f"--threads {options.threads}: expected 1 to 256.")
    machine = describe_machine()
    print(f"Machine: {machine_line(machine)}", file=sys.stderr)
    measures = {
        "solve": measure_solve,
        "initialise": measure_initialise,
        "renderers": measure_renderers,
        "node": measure_node,
    }
    figures: list[Figure] = []
    for name in SECTIONS:
        if name not in options.skip:
            figures += measures[name](options)
    rows = [figure.as_row() for figure in figures]
    content = {
        "command": "dfips bench",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "config": {"frames": options.frames, "seed": options.seed, "device": options.device, "threads": options.threads,
                   "weights": str(options.weights) if options.weights else None},
        "figures": rows,
    }  # fmt: skip
    if options.json:
        write_json(options.json, content)
    for path, text in ((options.csv, as_csv(rows, content)), (options.markdown, as_markdown(rows, content))):
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            except OSError as cause:
                raise DfipsError(f"{path}: cannot be written ({cause.strerror or cause}).") from cause
    if options.json != "-":
        print(as_text(rows))
        if load_warning(machine):
            print(f"\n{load_warning(machine)}")
    return 0
