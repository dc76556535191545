# SPDX-License-Identifier: Apache-2.0
"""``dfips evaluate deblocking``: methods on the same JPEGs, figures as rows of a CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Compare deblocking methods on folders of clean images that nothing was trained on.

Protocol of the published tables: luminance, libjpeg's standard tables, PSNR, SSIM and PSNR-B of the image rounded to
8 bit. Methods: jpeg (the plain decoder), direct, two, three (ours after 1, 2, 3 stages), ours (3 stages, made
consistent), dncnn and dncnn3 (need their weights), dip (Deep Image Prior: minutes per image, so it gets the first
images of each set at the lowest quality, and all others a second row over just these).

examples:
  dfips evaluate deblocking --sets BSD68=data/BSD68 LIVE1=data/LIVE1 classic5=data/classic5
  dfips evaluate deblocking --sets LIVE1=data/LIVE1 --quality 10 --methods jpeg ours dncnn --dncnn dncnn.safetensors
  dfips evaluate deblocking --sets LIVE1=data/LIVE1 --quality 10 --methods ours dip --journal out/dip.jsonl
Then: dfips table out/evaluate/deblocking.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=FOLDER", help="lossless images")
    parser.add_argument("--quality", nargs="+", type=int, default=[10, 20, 30, 40], metavar="Q",
                        help="qualities of libjpeg (10 20 30 40)")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=["jpeg", "direct", "two", "three", "ours"], metavar="M",
                        help="methods (jpeg direct two three ours)")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ours (those that ship)")
    parser.add_argument("--dncnn", type=Path, metavar="FILE", help="weights of a DnCNN that `dfips train` made")
    parser.add_argument("--dncnn3", type=Path, metavar="FILE", help="the published DnCNN3.mat (needs h5py)")
    parser.add_argument("--slow-images", type=int, default=2, metavar="N", help="images of each set for dip (2)")
    parser.add_argument("--dip-iterations", type=int, default=2400, metavar="N", help="of dip (2400)")
    parser.add_argument("--journal", type=Path, metavar="FILE",
                        help="keeps dip's figures of each image, to go on with or for other weights")  # fmt: skip
    parser.add_argument("--cited", action="store_true", help="published figures of peers, too (classic5, LIVE1)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER",
                        help="write crops side by side, one picture per set: input, DnCNN, ours, truth")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="processor threads of the networks (1)")
    parser.add_argument("--out", type=Path, default=Path("out/evaluate/deblocking.csv"), help="CSV to write")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Evaluate."""
    import torch

    from ..errors import ConfigError
    from ..evaluation.deblocking_gallery import write_gallery
    from ..evaluation.deblocking_runner import evaluate_deblocking
    from ..evaluation.runner import write_rows
    from .files import write_json
    from .machine import commit, describe_machine, machine_line

    pairs = [text.partition("=") for text in options.sets]
    for name, _, folder in pairs:
        if not name or not folder:
            raise ConfigError(f"sets: expected NAME=FOLDER, for example LIVE1=data/LIVE1, got '{name}{folder}'.")
    sets = {name: folder for name, _, folder in pairs}
    torch.set_num_threads(max(1, options.threads))
    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    rows = evaluate_deblocking(
        sets, options.quality, options.methods, options.weights, options.dncnn, options.dncnn3, options.slow_images,
        options.dip_iterations, provenance, options.quiet, options.cited, options.journal,
    )  # fmt: skip
    write_rows(options.out, rows)
    if options.pictures:
        for picture in write_gallery(sets, min(options.quality), options.pictures, options.weights, options.dncnn):
            if options.json != "-":
                print(f"Written: {picture}")
    if options.json:
        write_json(options.json, {"command": "dfips evaluate deblocking", "rows": rows})
    if options.json != "-":
        print(f"Written: {options.out} ({len(rows)} rows). Show it with: dfips table {options.out}")
    return 0
