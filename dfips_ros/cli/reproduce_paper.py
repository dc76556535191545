# SPDX-License-Identifier: Apache-2.0
"""What ``dfips reproduce table-1`` and its neighbours share: options, and the run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluation.paper_config import PaperConfig, Workspace

OUT = Path("out/reproduce")
SHARED = """
What is missing is trained and judged; what is there from an earlier run, of this table or of another one, is used. An
interrupted run goes on when the same command is given again, and a longer --minutes trains on. Ten categories of
generated objects; instances that are judged are never trained on. Every row has the same initial error and budget.
In the first half of it one stage is trained for all, as far as a task has such; then each goes on from a copy.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--quick", action="store_true",
                        help="toy size, under two minutes: shows that all works, not what is better")  # fmt: skip
    parser.add_argument("--minutes", type=float, metavar="M", help="of each training (60; quick: a few batches)")
    parser.add_argument("--batches", type=int, metavar="N",
                        help="of each pose training, in place of --minutes; a quarter of it for illumination, twice as "
                        "many for inverse kinematics, which takes about as long")  # fmt: skip
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="out of the ten of the paper (all)")
    parser.add_argument("--meshes", nargs="+", metavar="NAME=PATH",
                        help="mesh files or folders of a category to judge on, in place of all generated instances; "
                        "trained is on generated ones")  # fmt: skip
    parser.add_argument("--instances", type=int, metavar="N", help="generated instances of a category to train on (40)")
    parser.add_argument("--held-out", type=int, metavar="N", help="generated instances of a category to judge on (4)")
    parser.add_argument("--trials", type=int, metavar="N", help="poses of each instance that is judged (2)")
    parser.add_argument("--angle", type=float, metavar="DEG", help="largest initial rotation error (30)")
    parser.add_argument("--feedback", choices=("image", "contour"),
                        help="what the stages that are trained see: the paper's difference image, or contour rows "
                        "(image)")  # fmt: skip
    parser.add_argument("--width", type=int, metavar="N", help="channels of a stage's first layer (24)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images, table 4 apart (128)")
    parser.add_argument("--methods", nargs="+", metavar="NAME",
                        help="rows of table 1 and curves of figure 1: initial nmr softras direct ours ours_softras "
                        "ours_gauss_newton gauss_newton gauss_newton_8 shipped shipped_softras shipped_gauss_newton "
                        "(all)")  # fmt: skip
    parser.add_argument("--bfloat16", action="store_true",
                        help="matrix products in bfloat16: faster where the processor has it")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights, examples and trials (0)")
    parser.add_argument("--out", type=Path, default=OUT,
                        help=f"folder for results and what a later run goes on from ({OUT})")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write which files were written as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def paper_config(options: argparse.Namespace) -> PaperConfig:
    """The options as a configuration; what was not given keeps its default.

    Raises:
        ConfigError: a value cannot be.
    """
    from dataclasses import replace

    from ..evaluation.paper_config import PaperConfig, quick_config

    config = quick_config(options.seed) if options.quick else PaperConfig(seed=options.seed)
    given = {
        "categories": options.categories and tuple(options.categories),
        "meshes": options.meshes and tuple(options.meshes), "instances": options.instances,
        "held_out": options.held_out, "per_mesh": options.trials, "angle_deg": options.angle,
        "feedback": options.feedback, "width": options.width, "crop_size": options.size,
        "methods": options.methods and tuple(options.methods),
    }  # fmt: skip
    config = replace(config, bfloat16=options.bfloat16, **{n: v for n, v in given.items() if v is not None})
    if options.minutes is not None or options.batches is not None:
        config = replace(config, minutes=options.minutes, batches=options.batches)
    return config


def workspace(options: argparse.Namespace) -> Workspace:
    """Where the results go."""
    from ..evaluation.paper_config import Workspace
    from .machine import commit, describe_machine, machine_line

    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    return Workspace(paper_config(options), options.out, provenance, options.quiet)


def run(options: argparse.Namespace) -> int:
    """Make the table or figure that the command names.

    Raises:
        DfipsError: as its message says.
    """
    import torch

    from ..evaluation.reproduce_paper import EXPERIMENTS
    from .files import write_json

    torch.set_num_threads(1)
    written = EXPERIMENTS[options.task](workspace(options))
    if options.json:
        command = f"dfips reproduce {options.task}"
        write_json(options.json, {"command": command, "files": [str(file) for file in written]})
    if options.json != "-":
        print(next(file for file in written if file.suffix == ".md").read_text())
        print(f"Written: {', '.join(map(str, written))}")
    return 0
