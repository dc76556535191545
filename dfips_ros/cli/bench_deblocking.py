# SPDX-License-Identifier: Apache-2.0
"""``dfips bench deblocking``: time to restore JPEGs on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Measure how long restoring a JPEG takes on this machine: bytes in, image out, for each kind of consistency.

Without --jpeg, a 640x480 colour frame of the demo is encoded again at quality 30.
Close other programs first; the figures are those of a machine that does nothing else.

examples:
  dfips bench deblocking
  dfips bench deblocking --jpeg photo.jpg --threads 4 --out bench.csv
"""
DEMO = Path(__file__).resolve().parents[1] / "data" / "demo" / "ycb_video" / "000001-color.jpg"
QUALITY = 30
WARM_UP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--jpeg", type=Path, metavar="FILE", help="JPEG to restore (a frame of the demo)")
    parser.add_argument("--repeats", type=int, default=40, metavar="N", help="how often (40)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the solver (2)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for stdout")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the figures as CSV, for `dfips table`")


def run(options: argparse.Namespace) -> int:
    """Measure."""
    import numpy as np
    import torch

    from ..checks import check_range
    from ..errors import ConfigError
    from ..evaluation.runner import write_rows
    from ..tasks.deblocking import JpegRestorer
    from ..tasks.deblocking.restorer import CONSISTENCIES
    from .files import write_json
    from .machine import commit, describe_machine, load_warning, machine_line

    check_range("repeats", options.repeats, 1, 100_000)
    check_range("threads", options.threads, 1, 256)
    try:
        data = options.jpeg.read_bytes() if options.jpeg else _demo()
    except OSError as cause:
        raise ConfigError(f"jpeg '{options.jpeg}': cannot be read ({cause.strerror or cause}).") from cause
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    rows = []
    for kind in CONSISTENCIES:
        restorer = JpegRestorer(options.weights, options.device, kind)
        found = [restorer.solve(data) for _ in range(WARM_UP + options.repeats)][WARM_UP:]
        median, p99 = np.percentile([1e3 * one.seconds for one in found], [50, 99])
        header = found[0].header
        rows.append({
            "consistency": kind, "size": f"{header.width}x{header.height}", "planes": len(header.sampling),
            "ms_median": round(float(median), 1), "ms_p99": round(float(p99), 1), "repeats": len(found),
            "threads": options.threads, "device": str(restorer.device), "bfloat16": restorer.bfloat16,
            "commit": commit() or "unknown", "machine": machine_line(machine),
        })  # fmt: skip
    if options.out:
        write_rows(options.out, rows)
    if options.json:
        write_json(options.json, {"command": "dfips bench deblocking", "machine": machine, "rows": rows})
    if options.json != "-":
        for row in rows:
            print(f"{row['size']}, consistency {row['consistency']}: {row['ms_median']} ms (p99 {row['ms_p99']} ms)")
        if warning := load_warning(machine):
            print(f"\n{warning}")
    return 0


def _demo() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    with Image.open(DEMO) as image:
        image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
