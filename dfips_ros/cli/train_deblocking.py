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
  dfips train deblocking --images BSD400/ --network colour --minutes 5 --out colour.safetensors
  dfips train deblocking --images BSD400/ --network dncnn --minutes 30 --out dncnn.safetensors
  dfips train deblocking --images BSD400/ --minutes 60 --out mine.safetensors --resume
  dfips train deblocking --images BSD400/ --stages 1 --minutes 30 --out first.safetensors
  dfips train deblocking --images BSD400/ --first first.safetensors --minutes 10 --out mine.safetensors
Then use them: dfips solve deblocking --weights mine.safetensors in.jpg out.png
"""
CLIP, WARMUP = 0.05, 0.05  # of ours: gradients have a norm of about 0.02, single ones that are far larger undo it
SIMILARITY, BLOCKING = 0.01, 0.02  # of the loss


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--images", nargs="+", required=True, metavar="I", help="lossless images, or folders of them")
    parser.add_argument("--held-out", type=int, default=12, metavar="N", help="images kept for validation (12)")
    parser.add_argument("--network", default="luminance", choices=["luminance", "colour", "dncnn"],
                        help="ours, ours for colour planes, or the baseline (luminance)")  # fmt: skip
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (3; dncnn has 1)")
    parser.add_argument("--first", default="", metavar="FILE",
                        help="weights whose stages come first and are kept; train the further ones")  # fmt: skip
    parser.add_argument("--initial-weights", default="", metavar="FILE",
                        help="start from these weights of the same network, all stages trained further")  # fmt: skip
    parser.add_argument("--width", type=int, help="channels of dncnn (48)")
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

    from ..errors import ConfigError
    from ..solver import TrainingConfig, pick_device
    from ..tasks.deblocking.config import COLOUR, DNCNN, DeblockingConfig
    from ..tasks.deblocking.config import DeblockingDataConfig as Data
    from ..tasks.deblocking.config import DeblockingLossConfig as Loss
    from ..tasks.deblocking.training_recipe import DeblockingTrainingConfig

    if options.width is not None and options.network != "dncnn":
        raise ConfigError(f"width={options.width}: is for --network dncnn. Leave it out.")
    model = {"luminance": DeblockingConfig(), "colour": COLOUR, "dncnn": DNCNN}[options.network]
    given = {name: getattr(options, name) for name in ("width", "depth") if getattr(options, name) is not None}
    if options.stages is not None:
        given["solver"] = replace(model.solver, num_stages=options.stages)
    model = replace(model, **given)
    data = Data(seed=options.seed)
    if options.network == "colour":
        data = replace(data, chroma=1.0)
    if options.crop_size is not None:
        data = replace(data, crop_size=options.crop_size)
    if options.batch_size is not None:
        data = replace(data, batch_size=options.batch_size, tables_per_batch=min(8, options.batch_size))
    careful = TrainingConfig(gradient_clip=CLIP, warmup=WARMUP)
    luminance = options.network == "luminance"
    loss = Loss(SIMILARITY, BLOCKING) if luminance else Loss()
    training = with_training_options(careful if luminance else TrainingConfig(), options)
    device = str(pick_device(options.device))
    return DeblockingTrainingConfig(
        tuple(options.images), options.held_out, options.first, options.initial_weights, str(options.out), device,
        model, data, training, loss,
    )  # fmt: skip
