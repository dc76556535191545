# SPDX-License-Identifier: Apache-2.0
"""``dfips bench ros``: from the mask that goes in to the pose that comes out, over real topics."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .bench_tables import add_common_arguments, report

DESCRIPTION = """\
Measure the pose tracker as a robot has it: 640x480 masks at camera rate over real ROS 2 topics, with the camera, the
node and a listener in processes of their own.

Measured: dropped frames, from mask in to pose out, of it in the solver and outside of it, memory, processor, start-up.

examples:
  dfips bench ros
  dfips bench ros --rate 30 --seconds 20 --csv ros.csv --markdown ros.md
"""
QUICK_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rate", type=float, default=60.0, metavar="HZ", help="of the camera (60)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="that it runs (10)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for logs (out/bench)")
    add_common_arguments(parser, f"{QUICK_SECONDS:g} s of masks")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    from ..checks import check_range
    from .bench_sections import measure_node

    check_range("rate", options.rate, 1.0, 240.0)
    check_range("seconds", options.seconds, 1.0, 3600.0)
    seconds = min(options.seconds, QUICK_SECONDS) if options.quick else options.seconds
    yield from measure_node(options, options.rate, seconds, f"ROS 2, {options.rate:g} Hz")
