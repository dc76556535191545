# SPDX-License-Identifier: Apache-2.0
"""``dfips bench deblocking``: time to restore JPEGs on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .bench_tables import add_common_arguments, add_device_argument, report

DESCRIPTION = """\
Measure how long restoring a JPEG takes on this machine: bytes in, image out, for each kind of consistency; its parts;
and plain decoding and DnCNN on the same bytes.

Without --jpeg, a 640x480 colour frame of the demo is encoded again at quality 30.
Close other programs first; the figures are those of a machine that does nothing else.

examples:
  dfips bench deblocking
  dfips bench deblocking --jpeg photo.jpg --threads 4 --csv bench.csv
"""
DEMO = Path(__file__).resolve().parents[1] / "data" / "demo" / "ycb_video" / "000001-color.jpg"
QUALITY = 30
WARM_UP = 3


QUICK_REPEATS, QUICK_KINDS = 5, ("exact",)
SECTION = "deblocking: "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--jpeg", type=Path, metavar="FILE", help="JPEG to restore (a frame of the demo)")
    parser.add_argument("--repeats", type=int, default=40, metavar="N", help="how often (40)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    add_device_argument(parser)
    add_common_arguments(parser, "5 repeats, exact consistency alone")
    parser.add_argument("--out", dest="csv", type=Path, metavar="CSV", help="another name of --csv")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    return report(options, lambda: _figures(options))


def _figures(options: argparse.Namespace) -> Iterator[Any]:
    from ..checks import check_range
    from ..errors import ConfigError
    from ..evaluation.bench_figures import pick_devices
    from ..evaluation.bench_jpeg import measure_parts, measure_peers
    from ..tasks.deblocking import JpegRestorer
    from ..tasks.deblocking.restorer import CONSISTENCIES

    check_range("repeats", options.repeats, 1, 100_000)
    try:
        data = options.jpeg.read_bytes() if options.jpeg else _demo()
    except OSError as cause:
        raise ConfigError(f"jpeg '{options.jpeg}': cannot be read ({cause.strerror or cause}).") from cause
    repeats = min(options.repeats, QUICK_REPEATS) if options.quick else options.repeats
    for device in pick_devices(options.device):
        for kind in QUICK_KINDS if options.quick else CONSISTENCIES:
            restorer = JpegRestorer(options.weights, device, kind)
            header = restorer.solve(data).header
            note = f"{header.width}x{header.height}, {len(header.sampling)} planes" + (
                ", bfloat16" if restorer.bfloat16 else ""
            )
            yield from measure_parts(restorer, data, repeats, WARM_UP, section=f"{SECTION}parts", note=note)
        yield from measure_peers(data, repeats, device, section=f"{SECTION}methods")


def _demo() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    with Image.open(DEMO) as image:
        image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
