# SPDX-License-Identifier: Apache-2.0
"""``dfips bench scaling``: how the time of a pose solve grows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from .bench_tables import add_common_arguments, add_device_argument, report

DESCRIPTION = """\
Measure how the time of a pose solve grows with faces, image size, batch, stages and objects.

faces    the whole solve with a mesh file of 300 to a million faces, and one silhouette with all of them
size     the whole solve of an image of 64x64 to 512x512, and the stages alone in a crop of that size
batch    1 to 4096 poses at once, by the stages alone
stages   1 to 7 (the last one that was trained is used again past it)
objects  1 to 8 tracked in one image: in one batch, each in a thread, one after the other
A row that would take longer than the budget gets fewer repeats, or none, and says so.

examples:
  dfips bench scaling
  dfips bench scaling --sweeps faces batch --csv scaling.csv --markdown scaling.md
  dfips bench scaling --device cuda --csv scaling.csv --append --markdown scaling.md
"""
SWEEPS = ("faces", "size", "batch", "stages", "objects")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=SWEEPS, help="what grows (all of them)")
    parser.add_argument("--repeats", type=int, default=100, metavar="N", help="solves in each row (100)")
    parser.add_argument("--budget", type=float, default=10.0, metavar="S", help="seconds for one row (10)")
    parser.add_argument("--weights", metavar="FILE", help="weights file (those that ship)")
    add_device_argument(parser)
    add_common_arguments(parser, "meshes up to 20,000 faces, fewer repeats, a second for each row")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    from ..checks import check_range
    from ..evaluation.bench_figures import pick_devices
    from ..evaluation.bench_scaling import ScalingConfig, measure_scaling

    check_range("repeats", options.repeats, 1, 100_000)
    check_range("budget", options.budget, 0.01, 3600.0)
    config = ScalingConfig(
        sweeps=tuple(options.sweeps), repeats=min(options.repeats, 20) if options.quick else options.repeats,
        budget=min(options.budget, 1.0) if options.quick else options.budget, quick=options.quick,
        weights=options.weights,
    )  # fmt: skip
    for device in pick_devices(options.device):
        yield from measure_scaling(config, device)
