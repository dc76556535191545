# SPDX-License-Identifier: Apache-2.0
"""``dfips evaluate illumination``: methods on the same pictures, figures as rows of a CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

METHODS = ("initial", "least_squares", "adam_lambert", "adam_phong", "adam_same", "gauss_newton_7", "gauss_newton_50",
           "gauss_newton_refined", "nelder_mead", "ours_1", "ours_3", "ours_7_one_start", "ours_7", "ours",
           "ours_pyrender")  # fmt: skip

DESCRIPTION = """\
Compare illumination methods on pictures that pyrender makes of your meshes under random lights and materials.

A row for each class of materials (matt, glossy, metallic), subset and method. Subsets: all pictures; those that tell
the light (its Cramer-Rao bound is small: a box of which two faces are lit does not tell it); an even choice for slow
methods. Distances of unit directions, or diameters of the object for point lights. All methods get the same
pixels and the same starts. Adam and Nelder-Mead are slow. With --photos the directions of real photographs of a sphere
are compared too (the folder has lights.txt and gray/).

examples:
  dfips evaluate illumination --mesh meshes/ --kind directional --out directional.csv
  dfips evaluate illumination --mesh meshes/ --kind point --methods initial least_squares ours_7 --out point.csv
  dfips evaluate illumination --mesh meshes/ --materials matt --out parts.csv
  dfips evaluate illumination --mesh meshes/ --materials glossy --out parts.csv --append
  dfips evaluate illumination --photos uw_psm/ --out photos.csv --pictures pictures/
Then: dfips table directional.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--mesh", nargs="+", default=[], metavar="M", help="mesh files or folders, of any unit")
    parser.add_argument("--kind", default="directional", choices=["directional", "point"],
                        help="of light (directional)")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help="which methods (all)")
    parser.add_argument("--materials", nargs="+", default=["matt", "glossy", "metallic"], metavar="CLASS",
                        help="classes of materials (matt glossy metallic)")  # fmt: skip
    parser.add_argument("--trials", type=int, default=4, metavar="N", help="pictures of each mesh and class (4)")
    parser.add_argument("--slow-trials", type=int, default=24, metavar="N",
                        help="pictures of each class for slow methods (24)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the pictures (0)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of ours (those that ship)")
    parser.add_argument("--shared", type=Path, metavar="FILE",
                        help="weights with one network for all stages, for the method ours_shared")  # fmt: skip
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs of a sphere instead of meshes")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER",
                        help="write the stages on the first meshes as an animation, or the photographs")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="processor threads of the networks (1)")
    parser.add_argument("--append", action="store_true",
                        help="add the rows to those in --out, for an evaluation in parts, one class each")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("out/evaluate/illumination.csv"), help="CSV to write")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Evaluate."""
    import csv

    import torch

    from ..checks import check_range
    from ..errors import ConfigError
    from ..evaluation.illumination_photos import evaluate_photos
    from ..evaluation.illumination_pictures import write_animation
    from ..evaluation.illumination_runner import animated_trials, evaluate_illumination, with_means
    from ..evaluation.runner import write_rows
    from ..tasks.object_pose.training_recipe import find_meshes
    from .files import write_json
    from .machine import commit, describe_machine, machine_line

    check_range("threads", options.threads, 1, 256)
    check_range("slow_trials", options.slow_trials, 1)
    torch.set_num_threads(options.threads)
    provenance = {"commit": commit() or "unknown", "machine": machine_line(describe_machine())}
    written = [options.out]
    if options.photos:
        rows, picture = evaluate_photos(options.photos, options.weights, provenance)
        if options.pictures:
            written.append(_write_picture(options.pictures / "illumination_photos.png", picture))
    else:
        if not options.mesh:
            raise ConfigError("mesh: give mesh files or folders of them, or --photos FOLDER.")
        meshes = find_meshes(options.mesh, None)
        methods = list(options.methods) + (["ours_shared"] if options.shared else [])
        rows = evaluate_illumination(
            meshes, options.kind, list(dict.fromkeys(methods)), options.materials, options.trials, options.slow_trials,
            options.seed, options.weights, options.shared, provenance, options.quiet,
        )  # fmt: skip
        if options.pictures:
            animation = options.pictures / f"illumination_{options.kind}.gif"
            write_animation(animation, animated_trials(meshes, options.kind, options.seed, options.weights))
            written.append(animation)
        if options.append and options.out.is_file():
            with options.out.open(newline="") as file:
                rows = with_means([*csv.DictReader(file), *rows])
    write_rows(options.out, rows)
    if options.json:
        write_json(options.json, {"command": "dfips evaluate illumination", "rows": rows})
    if options.json != "-":
        for path in written:
            print(f"Written: {path}")
        print(f"{len(rows)} rows. Show them with: dfips table {options.out}")
    return 0


def _write_picture(path: Path, picture) -> Path:  # type: ignore[no-untyped-def]
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return path
