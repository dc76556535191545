# SPDX-License-Identifier: Apache-2.0
"""``dfips solve deblocking``: one JPEG in, one image out."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Restore one JPEG: remove blocks and ringing.

The luminance goes through the solver, which encodes and decodes its estimate between the stages with the tables of
the file; the colour planes go through a network of their own. Baseline and progressive JPEGs are read, grey or colour,
4:2:0, 4:2:2 or 4:4:4. Write to a lossless format.

examples:
  dfips solve deblocking photo.jpg restored.png
  dfips solve deblocking photo.jpg restored.png --consistency project --json -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("jpeg", type=Path, help="the JPEG")
    parser.add_argument("out", type=Path, help="picture to write (png, bmp, tiff)")
    parser.add_argument("--consistency", default="exact", choices=["exact", "project", "off"],
                        help="how strictly the luminance must explain the JPEG (exact)")  # fmt: skip
    parser.add_argument("--max-pixels", type=int, default=32_000_000, metavar="N",
                        help="larger images are refused (32000000)")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--json", metavar="FILE", help="write residuals, agreement, time as JSON; - for stdout")


def run(options: argparse.Namespace) -> int:
    """Restore one file."""
    import cv2

    from ..errors import ConfigError
    from ..tasks.deblocking import JpegRestorer
    from .files import write_json
    from .machine import describe_machine

    if options.out.suffix.lower() not in (".png", ".bmp", ".tif", ".tiff"):
        raise ConfigError(f"out '{options.out}': expected a lossless format (png, bmp, tiff).")
    try:
        data = options.jpeg.read_bytes()
    except OSError as cause:
        raise ConfigError(f"jpeg '{options.jpeg}': cannot be read ({cause.strerror or cause}).") from cause
    restorer = JpegRestorer(options.weights, options.device, options.consistency, options.max_pixels)
    found = restorer.solve(data)
    image = found.image if found.image.ndim == 2 else cv2.cvtColor(found.image, cv2.COLOR_RGB2BGR)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.out), image):
        raise ConfigError(f"out '{options.out}': cannot be written.")
    header = found.header
    if options.json:
        write_json(
            options.json,
            {
                "command": "dfips solve deblocking", "jpeg": str(options.jpeg), "out": str(options.out),
                "width": header.width, "height": header.height, "process": header.process,
                "sampling": [list(pair) for pair in header.sampling], "consistency": options.consistency,
                "residual_norms": list(found.residual_norms), "agreement": found.agreement,
                "solve_time": found.seconds, "machine": describe_machine(),
            },
        )  # fmt: skip
    if options.json != "-":
        print(
            f"Written: {options.out} ({header.width}x{header.height}, {1e3 * found.seconds:.0f} ms). Encoded again, "
            f"its luminance differs from the JPEG's by {found.residual_norms[-1]:.2f} grey levels; "
            f"{100 * found.agreement:.3f} % of the coefficients agree."
        )
    return 0
