# SPDX-License-Identifier: Apache-2.0
"""``dfips evaluate``: methods on the same inputs, figures as rows of a CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

SHIPPED_MESHES = Path(__file__).resolve().parents[1] / "data" / "demo" / "meshes"

DESCRIPTION = """\
Compare methods on the same inputs in one run and write one CSV row per method and column of the table.

Every row carries configuration, seed, commit and machine. `dfips table` turns the CSV into Markdown.

examples:
  dfips evaluate object_pose --out results.csv
  dfips evaluate object_pose --mesh meshes/ --trials 10 --masks degraded --out results.csv --json results.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("task", choices=["object_pose"], help="what to evaluate")
    parser.add_argument("--mesh", nargs="+", default=[], metavar="M", help="mesh files or folders (those that ship)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="which methods (all)")
    parser.add_argument("--trials", type=int, default=6, help="poses per mesh and column (6)")
    parser.add_argument("--masks", nargs="+", default=["perfect"], choices=["perfect", "degraded"],
                        help="perfect silhouettes, or with edge noise, holes and occlusion (perfect)")  # fmt: skip
    parser.add_argument("--columns", nargs="+", type=float, default=[15.0, 45.0, 90.0], metavar="DEG",
                        help="largest initial rotation errors, a table each (15 45 90)")  # fmt: skip
    parser.add_argument("--slow-trials", type=int, default=1, metavar="N",
                        help="poses per mesh and column for methods that take seconds each (1)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of poses, initial errors and degradations (0)")
    parser.add_argument("--weights", metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--out", type=Path, default=Path("out/evaluate/object_pose.csv"), metavar="CSV",
                        help="file to write (out/evaluate/object_pose.csv)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Evaluate."""
    import torch

    from ..evaluation.pose_trials import PoseTrialConfig, load_evaluation_meshes
    from ..evaluation.runner import evaluate_object_pose, write_rows
    from .files import write_json
    from .machine import commit, describe_machine, machine_line

    torch.set_num_threads(1)
    meshes = load_evaluation_meshes(options.mesh or [SHIPPED_MESHES])
    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    rows: list[dict] = []
    for masks in options.masks:
        config = PoseTrialConfig(
            columns_deg=tuple(options.columns), masks=masks, per_mesh=options.trials, seed=options.seed
        )  # fmt: skip
        rows += evaluate_object_pose(
            meshes, config, options.methods, options.weights, options.device, provenance, options.slow_trials,
            options.quiet,
        )  # fmt: skip
        write_rows(options.out, rows)
    if options.json:
        write_json(options.json, {"command": "dfips evaluate object_pose", "rows": rows})
    if options.json != "-":
        print(f"Written: {options.out} ({len(rows)} rows). Show it with: dfips table {options.out}")
    return 0
