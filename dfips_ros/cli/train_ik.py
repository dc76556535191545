# SPDX-License-Identifier: Apache-2.0
"""``dfips train inverse_kinematics``: make weights for an arm."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .solve_ik import add_arm_arguments
from .training_options import add_training_options, with_training_options

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
    parser.add_argument("--from-weights", metavar="FILE", help="start from these weights")
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (3)")
    parser.add_argument("--shared-weights", action="store_true", help="one network for all stages")
    parser.add_argument("--supervision", choices=("task_space", "nearest"),
                        help="pull estimates towards the target pose (task_space, the default) or, in joint space, "
                             "towards the solution nearest to the start")  # fmt: skip
    parser.add_argument("--width", type=int, help="hidden width of a stage (256)")
    parser.add_argument("--batch-size", type=int, help="targets in a batch (512)")
    add_training_options(parser, "inverse_kinematics.safetensors", minutes=20.0, learning_rate=2e-3)


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
    model = config.model
    if options.stages is not None:
        model = replace(model, solver=replace(model.solver, num_stages=options.stages))
    if options.shared_weights:
        model = replace(model, solver=replace(model.solver, shared_weights=True))
    if options.width is not None:
        model = replace(model, width=options.width)
    if options.supervision is not None:
        config = replace(config, supervision=options.supervision)
    if options.batch_size is not None:
        config = replace(config, batch_size=options.batch_size)
    return replace(config, model=model, training=with_training_options(config.training, options))
