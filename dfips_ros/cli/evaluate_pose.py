# SPDX-License-Identifier: Apache-2.0
"""``dfips evaluate object_pose``: methods on the same inputs, figures as rows of a CSV."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

SHIPPED_MESHES = Path(__file__).resolve().parents[1] / "data" / "demo" / "meshes"
PROTOCOLS = ("initial", "nothing", "sequences", "all")
COLUMNS_DEG = (15.0, 45.0, 90.0)
MASKS = ("perfect", "degraded")
TRIALS = 6
SECONDS = 20.0
# Options that mean something in some protocols only; their defaults are None, so that a given one is noticed.
ONLY_FOR = {
    "methods": ("initial", "all"), "columns": ("initial", "all"), "slow_trials": ("initial", "all"),
    "journal": ("initial", "all"), "pictures": ("initial",),
    "trials": ("initial", "nothing", "all"), "masks": ("initial", "nothing", "all"),
    "visp": ("sequences", "all"), "seconds": ("sequences", "all"),
}  # fmt: skip

DESCRIPTION = """\
Compare methods on the same inputs in one run and write one CSV row per method and column of the table.

Protocols:
  initial    all methods from an initial pose that is off by up to 15, 45 and 90 degrees
  nothing    the same masks without any initial pose
  sequences  tracking without reset: real frames, a generated sequence per mesh, ViSP's tea box if you have it
  all        all of them, both kinds of mask: CSVs, Markdown tables and pictures in the folder --out

Every row carries configuration, seed, commit and machine. `dfips table` turns the CSV into Markdown.

examples:
  dfips evaluate object_pose --out results.csv
  dfips evaluate object_pose --mesh meshes/ --trials 10 --masks degraded --out results.csv --json results.json
  dfips evaluate object_pose --mesh meshes/ --methods ours ours_refined --pictures pictures/
  dfips evaluate object_pose --protocol nothing --mesh meshes/ --out from_nothing.csv
  dfips evaluate object_pose --protocol sequences --visp visp/tutorial/tracking --out sequences.csv
  dfips evaluate object_pose --protocol all --mesh meshes/ --journal half_done.jsonl --out results/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--protocol", choices=PROTOCOLS, default="initial", help="what is given (initial)")
    parser.add_argument("--mesh", nargs="+", default=[], metavar="M",
                        help="mesh files or folders (those that ship; sequences: the drill)")  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="which methods (all)")
    parser.add_argument("--trials", type=int, metavar="N", help=f"poses per mesh and column ({TRIALS})")
    parser.add_argument("--masks", nargs="+", choices=MASKS,
                        help="perfect silhouettes, or with edge noise, holes and occlusion (initial: perfect; "
                        "nothing: both)")  # fmt: skip
    parser.add_argument("--columns", nargs="+", type=float, metavar="DEG",
                        help="largest initial rotation errors, a table each (15 45 90)")  # fmt: skip
    parser.add_argument("--slow-trials", type=int, metavar="N",
                        help="poses per mesh for methods that take seconds each, in the column of 45 degrees (1); "
                        "the table has a second part for them")  # fmt: skip
    parser.add_argument("--journal", type=Path, metavar="FILE",
                        help="note what is solved; the same command goes on from there if interrupted")  # fmt: skip
    parser.add_argument("--pictures", type=Path, metavar="DIR",
                        help="also draw the worst cases and some successes, two PNGs per kind of mask")  # fmt: skip
    parser.add_argument("--visp", metavar="FOLDER", help="ViSP's tutorial/tracking: also track its rendered tea box")
    parser.add_argument("--seconds", type=float, metavar="S",
                        help=f"length of a generated sequence; the real ones have at most 5 ({SECONDS:g})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of poses, initial errors and degradations (0)")
    parser.add_argument("--weights", metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--out", type=Path, metavar="CSV",
                        help="file to write (out/evaluate/object_pose.csv, or object_pose_PROTOCOL.csv); "
                        "protocol all: folder (out/evaluate/object_pose)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Evaluate.

    Raises:
        ConfigError: an option is given that the protocol does not have.
    """
    for name, protocols in ONLY_FOR.items():
        if getattr(options, name) is not None and options.protocol not in protocols:
            raise ConfigError(
                f"--{name.replace('_', '-')} belongs to --protocol {' or '.join(protocols)}, not to "
                f"{options.protocol}. Leave it out."
            )
    import torch

    from .files import write_json
    from .machine import commit, describe_machine, machine_line

    torch.set_num_threads(1)
    names = {"initial": "object_pose.csv", "all": "object_pose"}
    out = options.out or Path("out/evaluate") / names.get(options.protocol, f"object_pose_{options.protocol}.csv")
    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    protocol = {"initial": _from_initial, "nothing": _from_nothing, "sequences": _sequences, "all": _all}
    rows = protocol[options.protocol](options, out, provenance)
    if options.json:
        write_json(
            options.json,
            {"command": "dfips evaluate object_pose", "protocol": options.protocol, "rows": rows},
        )
    if options.json != "-" and options.protocol != "all":
        print(f"Written: {out} ({len(rows)} rows). Show it with: dfips table {out}")
    return 0


def _all(options: argparse.Namespace, out: Path, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every protocol, each as CSV and Markdown in the folder ``out``, and pictures."""
    from ..evaluation.tables import markdown_table

    rows = []
    options.pictures = out / "object_pose"
    for suffix, protocol in (("", _from_initial), ("_nothing", _from_nothing), ("_sequences", _sequences)):
        file = out / f"object_pose{suffix}.csv"
        done = protocol(options, file, provenance)
        file.with_suffix(".md").write_text(markdown_table(done))
        if options.json != "-":
            print(f"Written: {file} and .md ({len(done)} rows)", flush=True)
        rows += done
    return rows


def _from_initial(options: argparse.Namespace, out: Path, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    from ..evaluation.pose_trials import PoseTrialConfig, load_evaluation_meshes
    from ..evaluation.runner import evaluate_object_pose, write_rows

    meshes = load_evaluation_meshes(options.mesh or [SHIPPED_MESHES])
    trials = TRIALS if options.trials is None else options.trials
    slow_trials = 1 if options.slow_trials is None else options.slow_trials
    rows: list[dict[str, Any]] = []
    for masks in options.masks or (MASKS if options.protocol == "all" else ["perfect"]):
        config = PoseTrialConfig(
            columns_deg=tuple(options.columns or COLUMNS_DEG), masks=masks, per_mesh=trials, seed=options.seed
        )  # fmt: skip
        rows += evaluate_object_pose(
            meshes, config, options.methods, options.weights, options.device, provenance, slow_trials,
            quiet=options.quiet, journal=options.journal,
        )  # fmt: skip
        write_rows(out, rows)
        if options.pictures:
            from ..evaluation.pose_gallery import solve_cases, write_gallery

            cases = solve_cases(meshes, config, options.weights, options.device, options.quiet)
            for picture in write_gallery(cases, options.pictures, masks):
                if options.json != "-":
                    print(f"Written: {picture}")
    return rows


def _from_nothing(options: argparse.Namespace, out: Path, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    from ..evaluation.pose_search import evaluate_search
    from ..evaluation.pose_trials import PoseTrialConfig, load_evaluation_meshes
    from ..evaluation.runner import write_rows

    meshes = load_evaluation_meshes(options.mesh or [SHIPPED_MESHES])
    config = PoseTrialConfig(per_mesh=TRIALS if options.trials is None else options.trials, seed=options.seed)
    rows = evaluate_search(
        meshes, config, options.masks or MASKS, options.weights, options.device, provenance, options.quiet
    )
    write_rows(out, rows)
    return rows


def _sequences(options: argparse.Namespace, out: Path, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    from ..evaluation.pose_sequences import PoseSequenceConfig, evaluate_sequences, make_sequences
    from ..evaluation.pose_trials import load_evaluation_meshes
    from ..evaluation.runner import write_rows

    seconds = SECONDS if options.seconds is None else options.seconds
    config = PoseSequenceConfig(seconds=seconds, real_seconds=min(5.0, seconds), seed=options.seed)
    meshes = load_evaluation_meshes(options.mesh) if options.mesh else []
    sequences = make_sequences(meshes, config, options.visp)
    rows = evaluate_sequences(sequences, config, options.weights, options.device, provenance, options.quiet)
    write_rows(out, rows)
    return rows
