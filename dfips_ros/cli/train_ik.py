# SPDX-License-Identifier: Apache-2.0
"""``dfips train inverse_kinematics``: make weights for an arm."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .solve_ik import add_arm_arguments

if TYPE_CHECKING:
    from ..tasks.inverse_kinematics.training_recipe import KinematicsTrainingConfig

DESCRIPTION = """\
Train the learned stages for one serial arm; examples are made on the fly from its URDF, nothing is downloaded.

An arm without weights is solved by Levenberg-Marquardt with restarts. With weights the first try mostly succeeds. They
fit every robot with the same arm, on whatever stand and with whatever tool. A bar shows the loss of each stage. The
weights file is a safetensors file with the configuration and how it was made inside; the state to --resume from lies
beside it.

examples:
  dfips train inverse_kinematics --urdf arm.urdf --tip tool0 --minutes 20 --out arm.safetensors
  dfips train inverse_kinematics --urdf arm.urdf --tip tool0 --minutes 40 --out arm.safetensors --resume
Then use them: dfips solve inverse_kinematics --weights arm.safetensors ...   (or the node's parameter `weights`)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arm_arguments(parser)
    parser.add_argument("--minutes", type=float, default=20.0, help="stop after that long, resumed time included (20)")
    parser.add_argument("--batches", type=int, metavar="N", help="stop after that many batches")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted or finished training of --out")
    parser.add_argument(
        "--out", type=Path, default=Path("inverse_kinematics.safetensors"), help="weights file to write"
    )
    parser.add_argument("--from-weights", metavar="FILE", help="start from these weights")
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (3)")
    parser.add_argument("--shared-weights", action="store_true", help="one network for all stages")
    parser.add_argument("--width", type=int, help="hidden width of a stage (256)")
    parser.add_argument("--batch-size", type=int, help="targets in a batch (512)")
    parser.add_argument("--learning-rate", type=float, help="peak of the schedule (0.002)")
    parser.add_argument("--bfloat16", action="store_true",
                        help="matrix products in bfloat16: faster where the processor has it")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights and examples (0)")
    parser.add_argument("--json", metavar="FILE", help="write how it went as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Train."""
    from ..tasks.inverse_kinematics.training_recipe import train
    from .files import write_json

    provenance = train(training_config(options), resume=options.resume, quiet=options.quiet)
    if options.json:
        write_json(options.json, {"command": "dfips train inverse_kinematics", "out": str(options.out), **provenance})
    if options.json != "-":
        print(f"Written: {options.out}")
        print("Stages alone, without polish, at targets never trained on, after stage 1, 2, ...:")
        for name, values in provenance["validation"].items():
            print(f"  {name}: {' '.join(f'{value:.4g}' for value in values)}")
    return 0


def training_config(options: argparse.Namespace) -> KinematicsTrainingConfig:
    """The options as a configuration; what was not given keeps its default."""
    from dataclasses import replace

    from ..tasks.inverse_kinematics.training_recipe import KinematicsTrainingConfig

    config = KinematicsTrainingConfig(
        urdf=str(options.urdf), tip=options.tip, base=options.base, out=str(options.out),
        initial_weights=options.from_weights, data_seed=1 + options.seed,
    )  # fmt: skip
    model, training = config.model, config.training
    if options.stages is not None:
        model = replace(model, solver=replace(model.solver, num_stages=options.stages))
    if options.shared_weights:
        model = replace(model, solver=replace(model.solver, shared_weights=True))
    if options.width is not None:
        model = replace(model, width=options.width)
    training = replace(
        training, minutes=options.minutes, max_batches=options.batches, seed=options.seed, bfloat16=options.bfloat16
    )  # fmt: skip
    if options.learning_rate is not None:
        training = replace(training, learning_rate=options.learning_rate)
    if options.batch_size is not None:
        config = replace(config, batch_size=options.batch_size)
    return replace(config, model=model, training=training)
