# SPDX-License-Identifier: Apache-2.0
"""``dfips solve illumination``: one image of a known object in, one light out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DfipsError

if TYPE_CHECKING:
    import numpy as np

    from ..tasks.illumination import IlluminationSolution

DESCRIPTION = """\
Find the light that falls on an object of known shape and pose.

You need a colour or grey image, the object's mesh (metres, or --scale), its pose in the camera's optical frame (x
right, y down, z forward) and the camera's calibration; files as for `dfips solve object_pose`. Pixels where something
hides the object are told by --mask. The answer is a direction from the object towards a light far away, or the position
of a light near the object (--kind point), in the camera's frame.

examples:
  dfips solve illumination --mesh mug.obj --image photo.png --pose pose.yaml --camera camera.yaml
  dfips solve illumination --kind point --mesh mug.obj --image photo.png --pose pose.yaml --camera camera.yaml --json -
  dfips solve illumination --mesh mug.obj --image photo.png --pose pose.yaml --camera camera.yaml \\
    --sphere sphere.png --animation stages.gif
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--mesh", type=Path, required=True, help="the object (obj, stl, ply, dae, glb), in metres")
    parser.add_argument("--image", type=Path, required=True, help="8-bit image of the object (png, jpg)")
    parser.add_argument("--pose", type=Path, required=True, help="YAML file of the object's pose")
    parser.add_argument("--camera", type=Path, required=True, help="calibration as camera_calibration writes it")
    parser.add_argument("--kind", default="directional", choices=["directional", "point"],
                        help="of light (directional)")  # fmt: skip
    parser.add_argument("--mask", type=Path, help="png of the image's size, non-zero where the object is seen")
    parser.add_argument("--scale", type=float, default=1.0, help="factor to metres: 0.001 for millimetres (1)")
    parser.add_argument("--process", default="compiled", choices=["compiled", "pyrender"],
                        help="forward process (compiled: pyrender's equations, without OpenGL)")  # fmt: skip
    parser.add_argument("--sphere", type=Path, metavar="FILE", help="write the light on a shiny sphere (png)")
    parser.add_argument("--animation", type=Path, metavar="FILE", help="write the stages as an animation (gif)")
    parser.add_argument("--json", metavar="FILE", help="write all that was found as JSON; - for stdout")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")


def run(options: argparse.Namespace) -> int:
    """Solve one image."""
    from dataclasses import asdict

    from ..tasks.illumination import IlluminationEstimator, chrome_sphere
    from .files import read_camera, read_mask, read_pose, rectify, write_json

    camera = read_camera(options.camera)
    image = rectify(_read_image(options.image, camera.size), camera)
    pose = read_pose(options.pose)
    mask = read_mask(options.mask, camera.size) if options.mask else None
    if mask is not None and camera.is_distorted:
        mask = rectify(mask, camera, nearest=True)
    estimator = IlluminationEstimator.from_mesh(
        str(options.mesh), options.kind, options.device, options.weights, options.process, options.scale
    )
    solution = estimator.estimate(image, camera.camera_matrix, pose, mask)
    if options.sphere:
        _write_picture(options.sphere, chrome_sphere(solution, 256))
    if options.animation:
        from ..evaluation.illumination_pictures import stage_frames, write_animation

        write_animation(options.animation, stage_frames(estimator, image, camera.camera_matrix, pose))
    if options.json:
        names = {"mesh": str(options.mesh), "image": str(options.image)}
        write_json(options.json, {"command": "dfips solve illumination", **names, **asdict(solution)})
    if options.json != "-":
        print(describe(solution))
    return 0


def describe(solution: IlluminationSolution) -> str:
    """The solution in words, as YAML."""

    def vector(values: np.ndarray) -> str:
        return "{" + ", ".join(f"{k}: {v:.5f}" for k, v in zip("xyz", values, strict=True)) + "}"

    lines = [
        "# light in the camera's optical frame",
        f"direction: {vector(solution.direction)}  # from the object, +- {solution.direction_std_deg:.1f} degrees",
    ]
    if solution.position is not None:
        lines.append(f"position: {vector(solution.position)}  # metres")
    lines += [
        f"intensity: {solution.intensity:.4g}",
        f"ambient: {solution.ambient:.4g}",
        f"# residual {solution.residual_norms[0]:.4f} at first, {min(solution.residual_norms):.4f} at last, "
        f"{solution.pixels} pixels, {1e3 * solution.solve_time:.1f} ms",
    ]
    if solution.uncertain:
        lines.append(f"# uncertain: {solution.reason}")
    return "\n".join(lines)


def _read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) RGB, of the file's depth."""
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise DfipsError(f"--image {path}: cannot be read as an image.")
    if pixels.dtype != "uint8":
        raise DfipsError(f"--image {path}: expected 8 bit per channel, got {pixels.dtype}. Convert it to 8 bit first.")
    if pixels.shape[:2] != size:
        raise DfipsError(
            f"--image {path}: expected {size[1]}x{size[0]} pixels as the camera file says, "
            f"got {pixels.shape[1]}x{pixels.shape[0]}."
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    import cv2

    if path.suffix == "" or not cv2.haveImageWriter(str(path)):
        raise DfipsError(f"--sphere {path}: expected a file name that ends in .png or .jpg.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise DfipsError(f"--sphere {path}: cannot be written.")
