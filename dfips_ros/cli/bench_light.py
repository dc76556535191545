# SPDX-License-Identifier: Apache-2.0
"""``dfips bench illumination``: time to find the light on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from .bench_tables import add_common_arguments, add_device_argument, report

DESCRIPTION = """\
Measure how long finding the light in a picture takes: the whole, its parts, and other methods on the same pictures.

The pictures show the demo's drill under random lights, 640x480, rendered by pyrender.
Methods: least squares, Adam on the same shading, Gauss-Newton, Nelder-Mead.

examples:
  dfips bench illumination
  dfips bench illumination --kinds directional --csv light.csv --markdown light.md
"""
KINDS = ("directional", "point")
OBJECT = "drill"
QUICK_PICTURES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="of light (both)")
    parser.add_argument("--pictures", type=int, default=40, metavar="N", help="of each kind (40)")
    parser.add_argument("--weights", metavar="FILE", help="weights file, for a single kind (those that ship)")
    add_device_argument(parser)
    add_common_arguments(parser, "6 pictures, without Nelder-Mead")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    from ..checks import check_range
    from ..errors import ConfigError
    from ..evaluation.bench_figures import pick_devices
    from ..evaluation.bench_light import make_inputs, measure_parts, measure_peers
    from ..tasks.illumination import IlluminationEstimator
    from ..tasks.object_pose.demo_data import demo_mesh

    check_range("pictures", options.pictures, 1, 10_000)
    if options.weights and len(options.kinds) != 1:
        raise ConfigError("--weights: expected one kind in --kinds, since weights belong to a kind.")
    mesh, count = demo_mesh(OBJECT), min(options.pictures, QUICK_PICTURES) if options.quick else options.pictures
    for kind in options.kinds:
        inputs = make_inputs(mesh, kind, count, options.seed)
        for device in pick_devices(options.device):
            solver = IlluminationEstimator(mesh, kind, device, options.weights)
            note = f"640x480 picture, {OBJECT}"
            yield from measure_parts(solver, inputs, device, section="illumination: parts", note=note)
            if device == "cpu":
                more = {"section": "illumination: methods"}
                yield from measure_peers(solver, inputs, options.weights, options.quick, **more)
