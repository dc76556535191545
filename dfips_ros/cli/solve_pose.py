# SPDX-License-Identifier: Apache-2.0
"""``dfips solve object_pose``: one mask in, one pose out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DfipsError

if TYPE_CHECKING:
    import numpy as np

    from ..tasks.object_pose import ObjectPoseEstimator, ObjectPoseSolution
    from .files import CameraFile

DESCRIPTION = """\
Find an object's pose in one segmentation mask.

You need the object's mesh (metres, or --scale), a mask at full image size (png, non-zero on the object), and the
camera's calibration as camera_calibration writes it:

  image_width: 640
  image_height: 480
  camera_matrix: {rows: 3, cols: 3, data: [615.0, 0.0, 320.0, 0.0, 615.0, 240.0, 0.0, 0.0, 1.0]}
  distortion_model: plumb_bob
  distortion_coefficients: {rows: 1, cols: 5, data: [0.0, 0.0, 0.0, 0.0, 0.0]}

With lens distortion, the mask is rectified first, and the overlay shows the rectified picture.

Without --initial the pose is searched from nothing. With it, the solver starts there: a YAML file as `ros2 topic echo`
prints a Pose (or PoseStamped), in metres, in the camera's optical frame (x right, y down, z forward):

  position: {x: 0.0, y: 0.0, z: 0.6}
  orientation: {x: 0.0, y: 0.0, z: 0.0, w: 1.0}

examples:
  dfips solve object_pose --mesh bracket.stl --scale 0.001 --mask mask.png --camera camera.yaml
  dfips solve object_pose --mesh mug.obj --mask mask.png --camera camera.yaml --image photo.png --overlay out.png
  dfips solve object_pose --mesh mug.obj --mask mask.png --camera camera.yaml --initial pose.yaml --json -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--mesh", type=Path, required=True, help="the object (obj, stl, ply, dae, glb), in metres")
    parser.add_argument("--mask", type=Path, required=True, help="png of the full image size, non-zero on the object")
    parser.add_argument("--camera", type=Path, required=True, help="calibration as camera_calibration writes it")
    parser.add_argument("--scale", type=float, default=1.0, help="factor to metres: 0.001 for millimetres (1)")
    parser.add_argument("--models-info", type=Path, metavar="FILE",
                        help="symmetries: a BOP models_info.json in the mesh's unit (found on the mesh)")  # fmt: skip
    parser.add_argument("--models-info-key", metavar="KEY",
                        help="its entry (the mesh's file name, or the number in it: obj_000005.ply is 5)")  # fmt: skip
    parser.add_argument("--label", type=int, help="the mask is a label image, the object has this value")
    parser.add_argument("--initial", type=Path, metavar="POSE", help="YAML file of a pose to start from")
    parser.add_argument("--image", type=Path, help="colour image for the overlay (by default the mask)")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="write a picture of the result (png, jpg)")
    parser.add_argument("--json", metavar="FILE", help="write pose, covariance, IoU, history as JSON; - for stdout")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")


def run(options: argparse.Namespace) -> int:
    """Solve one mask."""
    import sys

    from ..tasks.object_pose import ObjectPoseEstimator
    from ..tasks.object_pose.crop import covers_border
    from ..tasks.object_pose.models_info import load_symmetries
    from .files import read_camera, read_mask, read_pose, rectify, write_json

    if options.overlay:
        _check_picture_name(options.overlay)
    camera = read_camera(options.camera)
    mask = read_mask(options.mask, camera.size, options.label)
    initial = read_pose(options.initial) if options.initial else None
    image = _read_image(options.image, camera) if options.image else None
    if camera.is_distorted:
        mask = rectify(mask, camera, nearest=True)
    weights = str(options.weights) if options.weights else None
    symmetries = None
    if options.models_info:
        symmetries = load_symmetries(options.models_info, options.mesh, options.models_info_key or "", options.scale)
    elif options.models_info_key:
        raise ConfigError("--models-info-key belongs to --models-info FILE, which has the entry. Give both.")
    estimator = ObjectPoseEstimator.from_mesh(
        str(options.mesh), scale=options.scale, device=options.device, weights=weights, symmetries=symmetries
    )
    print("Getting ready (the first time on a machine: compiling, up to a minute) ...", file=sys.stderr)
    estimator.warm_up()  # so that the solve time is not that of a compiler
    solution = estimator.estimate(mask, camera.camera_matrix, initial)
    if options.overlay:
        _write_overlay(options.overlay, estimator, solution, camera, mask, image)
    if options.json:
        write_json(options.json, solution_as_dict(options, estimator, solution, camera))
    if options.json != "-":
        print(describe(estimator, solution))
    if covers_border(mask):
        print("The mask covers most of the image's border: is it inverted, or the object too near?", file=sys.stderr)
    return 0


def solution_as_dict(
    options: argparse.Namespace,
    estimator: ObjectPoseEstimator,
    solution: ObjectPoseSolution,
    camera: CameraFile,
) -> dict:
    """Everything about a solution, ready for JSON."""
    from .files import pose_as_dict
    from .machine import describe_machine

    return {
        "command": "dfips solve object_pose",
        "mesh": {"path": str(options.mesh), "name": estimator.mesh.name, "scale": options.scale,
                 "diameter": float(estimator.mesh.diameter)},
        "mask": str(options.mask),
        "camera": {"path": str(options.camera), "camera_matrix": camera.camera_matrix,
                   "rectified": camera.is_distorted},
        "initial": str(options.initial) if options.initial else None,
        "pose": pose_as_dict(solution.T_camera_object),
        "T_camera_object": solution.T_camera_object,
        "covariance": solution.covariance,
        "iou": float(solution.iou),
        "truncated": solution.truncated,
        "residual_norms": [float(r) for r in solution.residual_norms],
        "solve_time": float(solution.solve_time),
        "history": list(solution.history),
        "alternatives": list(solution.alternatives),
        "machine": describe_machine(),
    }  # fmt: skip


def describe(estimator: ObjectPoseEstimator, solution: ObjectPoseSolution) -> str:
    """The solution in words, its pose as YAML."""
    import numpy as np

    from .files import pose_as_dict

    pose = pose_as_dict(solution.T_camera_object)
    deviation = np.sqrt(np.clip(np.diag(solution.covariance), 0.0, None))
    position = ", ".join(f"{k}: {v:.5f}" for k, v in pose["position"].items())
    orientation = ", ".join(f"{k}: {v:.5f}" for k, v in pose["orientation"].items())
    lines = [
        f"# {estimator.mesh.name} in the camera's optical frame, metres",
        f"position: {{{position}}}",
        f"orientation: {{{orientation}}}",
        "# standard deviation: x y z " + " ".join(f"{1e3 * d:.1f}" for d in deviation[:3]) + " mm, rotation "
        + " ".join(f"{np.degrees(d):.2f}" for d in deviation[3:]) + " deg",
        f"# silhouette IoU {solution.iou:.4f}, {1e3 * solution.solve_time:.1f} ms",
    ]  # fmt: skip
    if solution.truncated:
        lines.append("# the mask reaches the border of the image: part of the object may be unseen")
    if len(solution.alternatives):
        lines.append(f"# {len(solution.alternatives)} other poses explain the mask as well: see --json")
    return "\n".join(lines)


def _read_image(path: Path, camera: CameraFile) -> np.ndarray:
    """(H, W, 3) uint8 RGB, rectified."""
    import cv2

    from .files import rectify

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DfipsError(f"--image {path}: cannot be read as an image.")
    if pixels.shape[:2] != camera.size:
        raise DfipsError(
            f"--image {path}: expected {camera.size[1]}x{camera.size[0]} pixels as the camera file says, "
            f"got {pixels.shape[1]}x{pixels.shape[0]}."
        )
    return rectify(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), camera)


def _write_overlay(
    path: Path,
    estimator: ObjectPoseEstimator,
    solution: ObjectPoseSolution,
    camera: CameraFile,
    mask: np.ndarray,
    image: np.ndarray | None,
) -> None:
    import cv2
    import numpy as np

    from ..evaluation.figures import axes_origin, draw_overlay

    canvas = np.repeat((mask // 3 + 40)[..., None], 3, axis=2).astype(np.uint8) if image is None else image
    picture = draw_overlay(
        canvas,
        estimator.render_mask(solution.T_camera_object, camera.camera_matrix, camera.size),
        solution.T_camera_object,
        camera.camera_matrix,
        0.45 * estimator.mesh.diameter,
        axes_origin(estimator.mesh.vertices),
        lines=(f"{estimator.mesh.name}   IoU {solution.iou:.3f}",),
        mask=None if image is None else mask,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except OSError as cause:
        raise DfipsError(f"--overlay {path}: cannot be written ({cause.strerror or cause}).") from cause
    if not written:
        raise DfipsError(f"--overlay {path}: cannot be written.")


def _check_picture_name(path: Path) -> None:
    import cv2

    if path.suffix == "" or not cv2.haveImageWriter(str(path)):
        raise DfipsError(f"--overlay {path}: expected a file name that ends in .png or .jpg.")
