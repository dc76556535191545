# SPDX-License-Identifier: Apache-2.0
"""``dfips bench inverse_kinematics``: our solver and others on the same targets."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Compare inverse kinematics solvers on the same targets, on this machine, in one run.

Targets are the tip's poses at random joint positions; seeds are unrelated ones (cold) and near ones (warm). Measured on
one core: share solved within 1 mm, 0.1 degrees and the joint limits (checked by Pinocchio's forward kinematics), median
and p99 time, jumps of a joint by more than 0.5 rad. Also: the learned stages alone, after each stage, batches on all
cores, and the parts of our solve. Close other programs first.

Arms: panda, ur5, xarm7, kinova, z1, so101, from the package example-robot-data.
Methods: ours, ours_first (no restarts), lm and lm_first (without the learned stages), and those of these that are
installed, by hand: tracik, rtb, optik, ssik, pink, clik, kdl:
  pip install pytracik roboticstoolbox-python optik-py ssik pin-pink daqp qpsolvers; apt-get install python3-pykdl

examples:
  dfips bench inverse_kinematics
  dfips bench inverse_kinematics --robots panda --targets 200 --methods ours lm tracik
  dfips bench inverse_kinematics --out bench.csv --markdown docs/results/inverse_kinematics.md
  dfips bench inverse_kinematics --robots panda --compare own.safetensors shared.safetensors
"""
QUICK_ROBOTS, QUICK_TARGETS = ("panda",), 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robots", nargs="+", metavar="NAME", help="which arms (panda ur5 xarm7 kinova)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="which methods (all that are installed)")
    parser.add_argument("--targets", type=int, default=2000, help="per arm (2000)")
    parser.add_argument("--timeout", type=float, default=0.05, metavar="S", help="for one target, seconds (0.05)")
    parser.add_argument("--warm", type=float, default=0.1, metavar="RAD", help="how far warm seeds are off (0.1)")
    parser.add_argument("--batch", type=int, default=1000, help="targets in a batch (1000)")
    parser.add_argument("--weights", metavar="FILE", help="weights file, for a single arm (those that ship)")
    parser.add_argument("--compare", nargs="+", metavar="FILE",
                        help="compare weights files for a single arm, and nothing else")  # fmt: skip
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"],
                        help="cuda: batches on CUDA besides; auto: where there is a device")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="about half a minute: 100 targets, the panda alone")
    parser.add_argument("--seed", type=int, default=0, help="of targets and seeds (0)")
    parser.add_argument("--out", type=Path, default=Path("out/bench/inverse_kinematics.csv"), metavar="CSV",
                        help="file to write (out/bench/inverse_kinematics.csv)")  # fmt: skip
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown as well")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    import json
    import sys
    import time
    from dataclasses import asdict

    from ..errors import ConfigError, DfipsError
    from ..evaluation.bench_figures import pick_devices
    from ..evaluation.bench_ik_parts import cuda_rows, part_rows, parts_markdown
    from ..evaluation.ik_bench import IkBenchConfig, bench
    from ..evaluation.ik_tables import ik_markdown, training_markdown
    from ..evaluation.runner import write_rows
    from .files import write_json
    from .machine import commit, describe_machine, load_warning, machine_line

    robots = tuple(options.robots or (QUICK_ROBOTS if options.quick else IkBenchConfig.robots))
    config = IkBenchConfig(
        robots=robots, methods=tuple(options.methods or IkBenchConfig.methods),
        targets=min(options.targets, QUICK_TARGETS) if options.quick else options.targets, warm=options.warm,
        timeout=options.timeout, batch=options.batch, seed=options.seed,
    )  # fmt: skip
    if (options.weights or options.compare) and len(config.robots) != 1:
        name = "weights" if options.weights else "compare"
        raise ConfigError(f"--{name}: expected one arm in --robots, since weights belong to an arm.")
    machine = describe_machine()
    print(f"Machine: {machine_line(machine)}", file=sys.stderr)
    provenance = {
        "config": json.dumps(asdict(config), sort_keys=True), "seed": config.seed, "commit": commit() or "unknown",
        "machine": machine_line(machine), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    rows = bench(
        config, options.weights, provenance, options.quiet, lambda line: print(line, file=sys.stderr),
        options.compare or (),
    )  # fmt: skip
    if not options.compare and "cuda" in pick_devices(options.device):
        rows = [*rows, *({**row, **provenance} for row in cuda_rows(config, options.weights))]
    page = training_markdown(rows) if options.compare else ik_markdown(rows)
    if not options.compare:
        parts = [{**row, **provenance} for row in part_rows(config, options.weights)]
        rows, page = [*rows, *parts], f"{page}\n{parts_markdown(parts)}"
    try:
        write_rows(options.out, rows)
        if options.markdown:
            options.markdown.parent.mkdir(parents=True, exist_ok=True)
            options.markdown.write_text(page)
    except OSError as cause:
        raise DfipsError(f"--out {options.out}: cannot be written ({cause.strerror or cause}).") from cause
    if options.json:
        write_json(options.json, {"command": "dfips bench inverse_kinematics", "machine": machine, "rows": rows})
    if options.json != "-":
        print(page)
        if load_warning(machine):
            print(load_warning(machine))
        print(f"Written: {options.out}{f', {options.markdown}' if options.markdown else ''}")
    return 0
