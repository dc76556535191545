# SPDX-License-Identifier: Apache-2.0
"""``dfips train deblocking``: make weights."""

from __future__ import annotations

import argparse

from .training_options import add_training_options, with_training_options

DESCRIPTION = """\
Train the deblocking solver, or the DnCNN baseline, on your own clean images.

Crops are encoded on the fly by libjpeg at random qualities. Images must be lossless (PNG, BMP, TIFF); colour ones are
read as grey. The state to --resume from lies beside the weights file.

examples:
  dfips train deblocking --images BSD400/ --minutes 30 --out mine.safetensors
  dfips train deblocking --images BSD400/ --network dncnn --minutes 30 --out dncnn.safetensors
  dfips train deblocking --images BSD400/ --minutes 60 --out mine.safetensors --resume
Then use them: dfips solve deblocking --weights mine.safetensors in.jpg out.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--images", nargs="+", required=True, metavar="I", help="lossless images, or folders of them")
    parser.add_argument("--held-out", type=int, default=12, metavar="N", help="images kept for validation (12)")
    parser.add_argument("--network", default="dct_unet", choices=["dct_unet", "dncnn"], help="what to train (dct_unet)")
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (3; dncnn has 1)")
    parser.add_argument("--width", type=int, help="channels (48)")
    parser.add_argument("--depth", type=int, help="residual blocks (2), or convolutions of dncnn (10)")
    parser.add_argument("--batch-size", type=int, help="crops in a batch (16)")
    parser.add_argument("--crop-size", type=int, help="side of a crop in pixels, a multiple of 8 (64)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where to train (auto)")
    add_training_options(parser, "deblocking.safetensors", minutes=30.0, learning_rate=1e-3)


def run(options: argparse.Namespace) -> int:
    """Train."""
    from ..tasks.deblocking.training_recipe import train
    from .files import write_json

    provenance = train(training_config(options), resume=options.resume, quiet=options.quiet)
    if options.json:
        write_json(options.json, {"command": "dfips train deblocking", "out": str(options.out), **provenance})
    if options.json != "-":
        print(f"Written: {options.out}")
        print("PSNR in dB on images held out, of the decoded JPEG and after each stage:")
        for quality, values in provenance["validation"].items():
            print(f"  quality {quality}: {', '.join(f'{value:.2f}' for value in values)}")
    return 0


def training_config(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The options as a :class:`DeblockingTrainingConfig`; what was not given keeps its default."""
    from dataclasses import replace

    from ..solver import TrainingConfig, pick_device
    from ..tasks.deblocking.config import DNCNN, DeblockingConfig, DeblockingDataConfig
    from ..tasks.deblocking.training_recipe import DeblockingTrainingConfig

    model = DNCNN if options.network == "dncnn" else DeblockingConfig()
    given = {name: getattr(options, name) for name in ("width", "depth") if getattr(options, name) is not None}
    if options.stages is not None:
        given["solver"] = replace(model.solver, num_stages=options.stages)
    model = replace(model, **given)
    data = DeblockingDataConfig(seed=options.seed)
    if options.crop_size is not None:
        data = replace(data, crop_size=options.crop_size)
    if options.batch_size is not None:
        data = replace(data, batch_size=options.batch_size, tables_per_batch=min(8, options.batch_size))
    training = with_training_options(TrainingConfig(), options)
    device = str(pick_device(options.device))
    return DeblockingTrainingConfig(
        tuple(options.images), options.held_out, str(options.out), device, model, data, training
    )
