# SPDX-License-Identifier: Apache-2.0
"""``dfips bench object_pose``: time and memory on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .bench_tables import add_common_arguments, add_device_argument, report

DESCRIPTION = """\
Measure time and memory of the pose solver on this machine, and print the paper's figures beside them.

Measured: solving one 640x480 mask while tracking (median, p99), its parts from the mask's message to the pose, other
methods on the same masks, finding the pose from nothing, both renderers, training, and the node through real ROS 2
topics at 30 Hz (dropped frames, latency, resident memory, start-up).
Close other programs first; the figures are those of a machine that does nothing else.

examples:
  dfips bench
  dfips bench --quick
  dfips bench --skip node --frames 300
  dfips bench --json bench.json --csv bench.csv --markdown bench.md
  dfips bench pose --device cuda --csv bench.csv --append --markdown bench.md
"""
SECTIONS = ("solve", "parts", "methods", "initialise", "renderers", "training", "node")
QUICK_FRAMES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--frames", type=int, default=300, help="frames to track (300)")
    parser.add_argument("--skip", nargs="+", default=[], choices=SECTIONS, help="leave parts out")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for logs (out/bench)")
    add_device_argument(parser)
    add_common_arguments(parser, f"{QUICK_FRAMES} frames, without the methods that take seconds")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    from ..errors import ConfigError

    if not 30 <= options.frames <= 10_000:
        raise ConfigError(f"--frames {options.frames}: expected 30 to 10000.")
    if options.quick:
        options.frames = min(options.frames, QUICK_FRAMES)
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    from ..evaluation.bench_figures import pick_devices
    from . import bench_sections as sections

    measures = {
        "solve": sections.measure_solve, "parts": sections.measure_parts, "methods": sections.measure_methods,
        "initialise": sections.measure_initialise, "renderers": sections.measure_renderers,
        "training": sections.measure_training,
    }  # fmt: skip
    devices = pick_devices(options.device)
    for name in SECTIONS:
        if name in options.skip:
            continue
        if name == "node":
            yield from sections.measure_node(options)
        else:
            for device in devices:
                yield from measures[name](options, device)
