# SPDX-License-Identifier: Apache-2.0
"""The files that commands read and write: camera calibrations, poses, masks, JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks import check_camera_matrix, check_pose
from ..errors import CameraError, ConfigError, DfipsError, MaskError, PoseError
from ..geometry import pose_from_position_quaternion, quaternion_xyzw_from_matrix

DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
OUTPUT_FILES = ("json", "csv", "markdown", "journal", "out")
MAX_SEED = 2**31 - 1
POSE_EXAMPLE = "position: {x: 0.0, y: 0.0, z: 0.6}, orientation: {x: 0.0, y: 0.0, z: 0.0, w: 1.0}"


@dataclass(frozen=True)
class CameraFile:
    """A calibration as ``camera_calibration`` writes it.

    Attributes:
        camera_matrix: (3, 3) float64, pixels.
        size: (height, width) in pixels.
        distortion_model: "plumb_bob", "rational_polynomial", "equidistant", or "" without distortion.
        distortion: (D,) coefficients; all zero without distortion.
    """

    camera_matrix: np.ndarray
    size: tuple[int, int]
    distortion_model: str
    distortion: np.ndarray

    @property
    def is_distorted(self) -> bool:
        """True when the lens bends straight lines."""
        return bool(np.abs(self.distortion).max(initial=0.0) > 0)


def read_yaml(path: Path, error: type[DfipsError], what: str) -> dict:
    """The first document of a YAML file, a mapping; ``error`` with ``what`` and the path is raised where it is none."""
    import yaml

    try:
        documents = [d for d in yaml.safe_load_all(path.read_text()) if d is not None]
    except OSError as cause:
        raise error(f"{what} '{path}': cannot be read ({cause.strerror or cause}).") from cause
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        detail = str(cause).replace("\n", " ")
        raise error(f"{what} '{path}': is not YAML ({detail}).") from cause
    if not documents or not isinstance(documents[0], dict):
        raise error(
            f"{what} '{path}': expected a YAML mapping, got {type(documents[0] if documents else None).__name__}."
        )
    return documents[0]


def _numbers(entry: object, name: str, path: Path, error: type[DfipsError]) -> np.ndarray:
    """A list of numbers, bare or as ``{rows, cols, data}``."""
    data = entry.get("data") if isinstance(entry, dict) else entry
    try:
        return np.array(data, dtype=np.float64).ravel()
    except (TypeError, ValueError) as cause:
        raise error(f"camera '{path}': expected numbers in {name}, got {data!r}.") from cause


def _pixels(table: dict, key: str, short: str, path: Path) -> int:
    value = table.get(key, table.get(short))
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise CameraError(f"camera '{path}': expected {key} in pixels, got {value!r}.")
    return value


def read_camera(path: str | Path) -> CameraFile:
    """Read a calibration: ``image_width``, ``image_height``, ``camera_matrix``, ``distortion_coefficients``.

    ``k`` and ``d`` as ``ros2 topic echo --once camera_info`` prints them are read too.

    Raises:
        CameraError: the file is missing, is not YAML, lacks a key, or holds numbers that cannot be.
    """
    path = Path(path)
    table = read_yaml(path, CameraError, "camera")
    width = _pixels(table, "image_width", "width", path)
    height = _pixels(table, "image_height", "height", path)
    entry = table.get("camera_matrix", table.get("k"))
    if entry is None:
        raise CameraError(
            f"camera '{path}': has no camera_matrix. Expected a file as camera_calibration writes it "
            "(camera_matrix: {rows: 3, cols: 3, data: [fx, 0, cx, 0, fy, cy, 0, 0, 1]})."
        )
    numbers = _numbers(entry, "camera_matrix", path, CameraError)
    if numbers.size != 9:
        raise CameraError(f"camera '{path}': expected 9 numbers in camera_matrix, got {numbers.size}.")
    matrix = check_camera_matrix(numbers.reshape(3, 3), f"camera '{path}': camera_matrix")
    distortion = _numbers(
        table.get("distortion_coefficients", table.get("d", [])), "distortion_coefficients", path, CameraError
    )
    if not np.isfinite(distortion).all():
        raise CameraError(f"camera '{path}': expected finite distortion_coefficients, got {distortion.tolist()}.")
    model = str(table.get("distortion_model", "") or "")
    if np.abs(distortion).max(initial=0.0) > 0:
        model = model or "plumb_bob"
        if model not in DISTORTION_MODELS or distortion.size not in DISTORTION_MODELS[model]:
            known = ", ".join(f"{m} ({' or '.join(map(str, n))} coefficients)" for m, n in DISTORTION_MODELS.items())
            raise CameraError(
                f"camera '{path}': distortion_model {model!r} with {distortion.size} coefficients is not supported. "
                f"Known: {known}. Or rectify the mask first (image_proc) and give a calibration without distortion."
            )
    return CameraFile(matrix, (height, width), model, distortion)


def rectify(pixels: np.ndarray, camera: CameraFile, nearest: bool = False) -> np.ndarray:
    """Remove the lens distortion of an image (H, W) or (H, W, 3) uint8; the camera matrix stays the same."""
    import cv2

    if not camera.is_distorted:
        return pixels
    size = (camera.size[1], camera.size[0])
    if camera.distortion_model == "equidistant":
        maps = cv2.fisheye.initUndistortRectifyMap(
            camera.camera_matrix, camera.distortion, np.eye(3), camera.camera_matrix, size, cv2.CV_32FC1
        )
    else:
        maps = cv2.initUndistortRectifyMap(
            camera.camera_matrix, camera.distortion, np.eye(3), camera.camera_matrix, size, cv2.CV_32FC1
        )
    return cv2.remap(pixels, *maps, cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)


def read_pose(path: str | Path) -> np.ndarray:
    """Read a pose as ``ros2 topic echo`` prints Pose, PoseStamped or PoseWithCovarianceStamped. -> (4, 4).

    ``orientation`` is a quaternion (x, y, z, w); position in metres; in the camera's optical frame.

    Raises:
        PoseError: the file is missing, is not YAML, lacks a key, or the quaternion has no length.
    """
    path = Path(path)
    table = read_yaml(path, PoseError, "pose")
    while isinstance(table.get("pose"), dict):
        table = table["pose"]
    try:
        position = np.array([table["position"][k] for k in "xyz"], dtype=np.float64)
        quaternion = np.array([table["orientation"][k] for k in "xyzw"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as cause:
        raise PoseError(
            f"pose '{path}': expected, for example, {{{POSE_EXAMPLE}}}; missing or wrong: {cause}."
        ) from cause
    try:
        pose = pose_from_position_quaternion(position, quaternion)
    except ValueError as cause:
        raise PoseError(f"pose '{path}': {cause}") from cause
    return check_pose(pose, f"pose '{path}'")


def pose_as_dict(T_camera_object: np.ndarray) -> dict:
    """Position and quaternion as in a Pose message."""
    position = [float(v) for v in T_camera_object[:3, 3]]
    quaternion = [float(v) for v in quaternion_xyzw_from_matrix(T_camera_object[:3, :3])]
    return {
        "position": dict(zip("xyz", position, strict=True)),
        "orientation": dict(zip("xyzw", quaternion, strict=True)),
    }


def read_mask(path: str | Path, size: tuple[int, int] | None = None, label: int | None = None) -> np.ndarray:
    """Read a mask image. -> (H, W) uint8, 255 on the object.

    Args:
        path: png or another image with one channel (a grey picture saved as colour is taken too).
        size: (height, width) that it must have.
        label: value of the object in a label image; by default every non-zero pixel is the object.

    Raises:
        MaskError: missing, unreadable, of the wrong size, a colour picture, or empty.
    """
    import cv2

    if not Path(path).is_file():
        raise MaskError(f"mask '{path}': no such file.")
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise MaskError(f"mask '{path}': cannot be read as an image (png is best).")
    if pixels.ndim == 3:
        colours = pixels[..., :3]
        if (colours != colours[..., :1]).any():
            raise MaskError(f"mask '{path}': expected one channel, got a colour picture of shape {pixels.shape}.")
        pixels = colours[..., 0]
    if size is not None and pixels.shape != tuple(size):
        raise MaskError(
            f"mask '{path}': expected {size[1]}x{size[0]} pixels as the camera file says, "
            f"got {pixels.shape[1]}x{pixels.shape[0]}. Give the mask at full image size."
        )
    found = pixels == label if label is not None else pixels > 0
    if not found.any():
        wanted = "non-zero pixel" if label is None else f"pixel of value {label}"
        values = ", ".join(map(str, np.unique(pixels)[:12]))
        raise MaskError(f"mask '{path}': has no {wanted}; its values are {values}.")
    return found.astype(np.uint8) * 255


def check_options(options: argparse.Namespace) -> None:
    """What many commands have, before the work: a seed that is one, and files that can be written after it.

    Raises:
        ConfigError: the seed is none.
        DfipsError: a file of ``OUTPUT_FILES`` is a folder, or its folder cannot be made or written.
    """
    seed = getattr(options, "seed", None)
    if isinstance(seed, int) and not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed {seed}: expected a whole number in [0, {MAX_SEED}].")
    for name in OUTPUT_FILES:
        given = getattr(options, name, None)
        if given is None or str(given) in ("-", "") or (name == "csv" and options.command == "table"):  # reads one
            continue
        path = Path(given)
        into_folder = name == "out" and (options.command not in ("train", "evaluate") or "protocol" in options)
        if path.is_dir() and not into_folder:
            raise DfipsError(f"--{name} {given}: cannot be written (this is a folder).")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            why = "is not a folder" if not above.is_dir() else "is not for this user to write to"
            raise DfipsError(f"--{name} {given}: cannot be written ('{above}' {why}).")


def write_json(path: str | Path, content: object) -> None:
    """Write JSON, folders made as needed; "-" writes to stdout. Numbers that are not finite become null."""
    text = json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"
    if str(path) == "-":
        print(text, end="")
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    except OSError as cause:
        raise DfipsError(f"--json {path}: cannot be written ({cause.strerror or cause}).") from cause


def _plain(value: object) -> object:
    """As JSON has it: no NumPy, no paths, null for what is not finite."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON.")
