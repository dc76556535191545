# SPDX-License-Identifier: Apache-2.0
"""``dfips train object_pose``: make weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from .training_options import add_training_options, with_training_options

DESCRIPTION = """\
Train the feedback solver; training data are rendered on the fly, nothing is downloaded.

The weights that ship work on meshes that they have never seen. Train when you want better ones for your object
(minutes), or new ones for everything (hours). A bar shows the loss of each stage. The weights file is a safetensors
file with the configuration and how it was made inside; the state to --resume from lies beside it.

examples:
  dfips train object_pose --mesh bracket.stl --minutes 10 --out bracket.safetensors
  dfips train object_pose --mesh bracket.stl --from-shipped --minutes 5 --out bracket.safetensors
  dfips train object_pose --mesh meshes/ --shapes 2000 --minutes 240 --out mine.safetensors
  dfips train object_pose --mesh meshes/ --shapes 2000 --minutes 480 --out mine.safetensors --resume
  dfips train object_pose --mesh bracket.stl --device cuda --batch-size 1024 --minutes 5 --out bracket.safetensors
Then use them: dfips solve object_pose --weights bracket.safetensors ...   (or the node's parameter `weights`)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--mesh", nargs="+", default=[], metavar="M", help="mesh files, or folders of them")
    parser.add_argument("--shapes", type=int, help="generated shapes to train on besides (0 with --mesh, else 2000)")
    parser.add_argument("--stretch-copies", type=int, default=0, metavar="N",
                        help="copies of every mesh, stretched at random, to train on besides (0)")  # fmt: skip
    parser.add_argument("--scale", type=float,
                        help="factor from the files' numbers to metres (0.001 for millimetres); meshes that are not "
                        "in metres after it are refused; without it every unit is taken")  # fmt: skip
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-weights", metavar="FILE", help="start from these weights")
    start.add_argument("--from-shipped", action="store_true", help="start from the weights that ship")
    parser.add_argument("--feedback", default="contour", choices=["contour", "image"],
                        help="what a stage sees: contour rows, or the paper's difference image (contour)")  # fmt: skip
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (5)")
    parser.add_argument("--batch-size", type=int, help="poses in a batch (96; a GPU is fuller with 1024)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"],
                        help="where it runs, the examples included (auto: CUDA where it is there)")  # fmt: skip
    add_training_options(parser, "object_pose.safetensors", minutes=10.0, learning_rate=1e-3)


def run(options: argparse.Namespace) -> int:
    """Train."""
    from ..tasks.object_pose.training_recipe import train
    from .files import write_json

    provenance = train(training_config(options), resume=options.resume, quiet=options.quiet)
    if options.json:
        write_json(options.json, {"command": "dfips train object_pose", "out": str(options.out), **provenance})
    if options.json != "-":
        print(f"Written: {options.out}")
        titles = {
            "validation_on_meshes_before": "On the given meshes, at poses never trained on, before:",
            "validation_on_meshes": "On the given meshes, at poses never trained on, after:",
            "validation": "On generated shapes never trained on:",
        }
        for key, title in titles.items():
            if key in provenance:
                print(title)
                for name, value in provenance[key].items():
                    print(f"  {name}: {value:.4g}")
    return 0


def training_config(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The options as a :class:`PoseTrainingConfig`; what was not given keeps its default."""
    from dataclasses import replace

    from ..tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig
    from ..tasks.object_pose.training_recipe import PoseTrainingConfig

    defaults = PoseTrainingConfig()
    model: ObjectPoseConfig = replace(defaults.model, feedback=options.feedback)
    if options.stages is not None:
        model = replace(model, solver=replace(model.solver, num_stages=options.stages))
    data: PoseDataConfig = replace(defaults.data, seed=options.seed)
    if options.batch_size is not None:
        data = replace(data, batch_size=options.batch_size)
    shapes = options.shapes if options.shapes is not None else 0 if options.mesh else 2000
    return PoseTrainingConfig(
        meshes=tuple(options.mesh),
        generated_shapes=shapes,
        stretch_copies=options.stretch_copies,
        scale=options.scale,
        out=str(options.out),
        initial_weights=_initial_weights(options),
        model=model,
        data=data,
        training=with_training_options(defaults.training, options),
        device=options.device,
    )


def _initial_weights(options: argparse.Namespace) -> str | None:
    if not options.from_shipped:
        return options.from_weights
    return str(Path(__file__).resolve().parents[1] / "data" / "weights" / "object_pose.safetensors")
