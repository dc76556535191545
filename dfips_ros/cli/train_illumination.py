# SPDX-License-Identifier: Apache-2.0
"""``dfips train illumination``: make weights."""

from __future__ import annotations

import argparse

from .training_options import add_training_options, with_training_options

DESCRIPTION = """\
Train the illumination solver on generated shapes and on your own meshes.

Views of the meshes are drawn once; lights, materials, exposure and noise are new for every example. The unit of a
mesh file does not matter. The state to --resume from lies beside the weights file.

examples:
  dfips train illumination --kind directional --minutes 30 --out mine.safetensors
  dfips train illumination --kind point --meshes parts/ --minutes 30 --out mine.safetensors
Then use them: dfips solve illumination --weights mine.safetensors ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kind", default="directional", choices=["directional", "point"],
                        help="of light (directional)")  # fmt: skip
    parser.add_argument("--meshes", nargs="+", default=[], metavar="M", help="mesh files, or folders of them")
    parser.add_argument("--generated-shapes", type=int, default=2000, metavar="N",
                        help="random shapes to train on besides (2000)")  # fmt: skip
    parser.add_argument("--views", type=int, help="views of the meshes, drawn before training (12000)")
    parser.add_argument("--stages", type=int, help="stages, each with its own weights (7)")
    parser.add_argument("--shared-weights", action="store_true", help="one network for all stages")
    parser.add_argument("--width", type=int, help="hidden width of a stage (64)")
    parser.add_argument("--batch-size", type=int, help="images in a batch (64)")
    parser.add_argument("--initial-weights", metavar="FILE", help="start from these weights")
    add_training_options(parser, "illumination.safetensors", minutes=30.0, learning_rate=1e-3)


def run(options: argparse.Namespace) -> int:
    """Train."""
    from dataclasses import replace

    from ..checks import check_range
    from ..solver import TrainingConfig
    from ..tasks.illumination.config import IlluminationConfig, LightDataConfig
    from ..tasks.illumination.training_recipe import LightTrainingConfig, train
    from ..tasks.object_pose.shapes import random_shape
    from ..tasks.object_pose.training_recipe import VALIDATION_SEED, find_meshes
    from .files import write_json

    check_range("generated_shapes", options.generated_shapes, 0, 1_000_000)
    model = IlluminationConfig(kind=options.kind)
    solver = replace(model.solver, shared_weights=options.shared_weights)
    if options.stages is not None:
        solver = replace(solver, num_stages=options.stages)
    model = replace(model, solver=solver, width=model.width if options.width is None else options.width)
    data = LightDataConfig(seed=options.seed)
    given = {"views": options.views, "batch_size": options.batch_size}
    data = replace(data, **{name: value for name, value in given.items() if value is not None})
    config = LightTrainingConfig(
        str(options.out), options.initial_weights, model, data, with_training_options(TrainingConfig(), options)
    )
    meshes = find_meshes(options.meshes, None) + [random_shape(seed) for seed in range(options.generated_shapes)]
    held_out = [random_shape(VALIDATION_SEED + i) for i in range(80)]
    provenance = train(config, meshes, held_out, resume=options.resume, quiet=options.quiet)
    if options.json:
        write_json(options.json, {"command": "dfips train illumination", "out": str(options.out), **provenance})
    if options.json != "-":
        unit = "diameters" if model.point else "distance of unit directions"
        print(f"Written: {options.out}")
        print(f"Error on shapes held out, before the first stage and after each ({unit}):")
        for name, values in provenance["validation"].items():
            print(f"  {name}: {', '.join(f'{value:.3f}' for value in values)}")
    return 0
