# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce explicit-feedback``: error against parameter count, with and without an explicit difference."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Train four ways to ask a small network for a pose, at several widths: error against parameter count.

The paper's supplement says that the explicit difference of simulated and observed image, and unbounded updates, shrink
the network. This command trains the solver (image feedback), direct regression, a DeepIM-style and an IEF-style method
on the same examples of one category, judges them on instances that none has seen, and writes a CSV and a Markdown
table into the folder --out. An interrupted run goes on when the same command is given again.

examples:
  dfips reproduce explicit-feedback --quick
  dfips reproduce explicit-feedback --out out/reproduce/full
  dfips reproduce explicit-feedback --mesh meshes/chair --widths 8 32 --samples 100000 --out out/reproduce/chair
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--quick", action="store_true",
                        help="toy size, under two minutes: shows that all works, not what is better")  # fmt: skip
    parser.add_argument("--mesh", nargs="+", default=[], metavar="M",
                        help="files or folders with instances of one category, a fifth of them held out "
                        "(generated vehicles)")  # fmt: skip
    parser.add_argument("--widths", nargs="+", type=int, metavar="N",
                        help="channels of the first layer, a row for each (8 16 32 64; quick: 8 16)")  # fmt: skip
    parser.add_argument("--samples", type=int, metavar="N",
                        help="examples for each training, the same for all (400000; quick: 2048)")  # fmt: skip
    parser.add_argument("--bfloat16", action="store_true",
                        help="matrix products in bfloat16: faster where the processor has it")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights, examples and trials (0)")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"),
                        help="folder for CSV, Markdown and what a later run goes on from (out/reproduce)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Train, judge, write.

    Raises:
        DfipsError: as its message says.
    """
    from dataclasses import replace

    import torch

    from ..evaluation.pose_trials import load_evaluation_meshes
    from ..evaluation.reproduce_explicit_feedback import (
        ExplicitFeedbackConfig,
        generated_category,
        quick_config,
        reproduce,
    )
    from ..evaluation.runner import write_rows
    from ..evaluation.tables import markdown_table
    from .files import write_json
    from .machine import commit, describe_machine, machine_line

    torch.set_num_threads(1)
    config = quick_config(options.seed) if options.quick else ExplicitFeedbackConfig(seed=options.seed)
    given = {"widths": options.widths and tuple(options.widths), "samples": options.samples}
    config = replace(
        config, bfloat16=options.bfloat16, **{name: value for name, value in given.items() if value is not None}
    )
    meshes = load_evaluation_meshes(options.mesh) if options.mesh else generated_category(config.generated)
    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    out = options.out / ("explicit_feedback_quick.csv" if options.quick else "explicit_feedback.csv")
    states = options.out / f"{out.stem}_states"
    rows = []
    for rows in reproduce(meshes, config, states, provenance, options.quiet):
        write_rows(out, rows)
        out.with_suffix(".md").write_text(markdown_table(rows))
    if options.json:
        write_json(options.json, {"command": "dfips reproduce explicit-feedback", "rows": rows})
    if options.json != "-":
        print(markdown_table(rows))
        print(f"Written: {out} and .md ({len(rows)} rows)")
    return 0
