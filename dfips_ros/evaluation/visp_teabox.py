# SPDX-License-Identifier: Apache-2.0
"""Read the rendered tea box of ViSP's tutorials: images on a plain background with exact poses, and its CAD model.

Nothing of that data ships with this package; the user points to a copy of ViSP's folder ``tutorial/tracking``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from ..checks import check_pose
from ..errors import ConfigError, MeshError
from ..processes.mesh import Mesh

BACKGROUND_DIFFERENCE = 15  # grey levels, the largest over the channels; JPEG smears the edges by less


@dataclass(frozen=True)
class TeaboxFiles:
    """Where the parts of the sequence lie.

    Attributes:
        model: the .cao file, metres.
        camera: XML file with the intrinsic parameters.
        frames: pairs of image and text file with T_camera_object, in order.
    """

    model: Path
    camera: Path
    frames: tuple[tuple[Path, Path], ...]


def find_teabox(folder: str | Path) -> TeaboxFiles:
    """Find the sequence below ``folder``.

    Raises:
        ConfigError: there is no such folder, or a part of the sequence is not below it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(f"visp '{folder}': there is no such folder.")
    for truth in sorted(root.rglob("ground-truth")):
        data = truth.parent
        models = sorted(data.parent.parent.rglob(f"{data.name}.cao"))
        camera = data / "Camera_L.xml"
        poses = sorted(truth.glob("Camera_L_*.txt"))
        pairs = tuple((data / "color" / f"{p.stem.rsplit('_', 1)[1]}_L.jpg", p) for p in poses)
        if models and camera.is_file() and pairs and all(image.is_file() for image, _ in pairs):
            return TeaboxFiles(models[0], camera, pairs)
    raise ConfigError(
        f"visp '{folder}': no folder below it has ground-truth/Camera_L_*.txt, color/*_L.jpg, Camera_L.xml and a .cao "
        "model. Pass a copy of ViSP's tutorial/tracking."
    )


def read_cao(path: str | Path) -> Mesh:
    """Read a CAD model of ViSP whose faces are given by points (format V1), as triangles in the file's unit.

    Raises:
        MeshError: the file cannot be read, or has no such faces.
    """
    file = Path(path)
    try:
        lines = [line.split("#", 1)[0] for line in file.read_text().splitlines()]
        words = iter(" ".join(lines).split())
        if next(words) != "V1":
            raise ValueError("it does not begin with V1")
        vertices = np.array([[float(next(words)) for _ in range(3)] for _ in range(int(next(words)))])
        for _ in range(2 * int(next(words))):  # lines: two points each
            next(words)
        for _ in range(int(next(words))):  # faces from lines
            for _ in range(int(next(words))):
                next(words)
        polygons = [[int(next(words)) for _ in range(int(next(words)))] for _ in range(int(next(words)))]
    except (OSError, UnicodeDecodeError, ValueError, StopIteration) as cause:
        raise MeshError(f"mesh '{path}': cannot be read as a .cao model ({cause or 'it ends too early'}).") from cause
    triangles = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    if not triangles:
        raise MeshError(f"mesh '{path}': expected faces from points, found none.")
    return Mesh(file.stem, vertices, np.array(triangles), path=str(file))


def read_camera_xml(path: str | Path) -> np.ndarray:
    """Read the intrinsic parameters without distortion that ViSP writes. -> (3, 3) float64, pixels.

    Raises:
        ConfigError: the file cannot be read, or a parameter is missing.
    """
    try:
        tree = ElementTree.parse(path)
        px, py, u0, v0 = (float(tree.findtext(f".//{name}") or "missing") for name in ("px", "py", "u0", "v0"))
    except (OSError, ElementTree.ParseError, ValueError) as cause:
        raise ConfigError(f"camera '{path}': cannot be read ({cause}).") from cause
    return np.array([[px, 0.0, u0], [0.0, py, v0], [0.0, 0.0, 1.0]])


def read_pose_text(path: str | Path) -> np.ndarray:
    """Read T_camera_object from a text file of four rows. -> (4, 4) float64, metres.

    Raises:
        ConfigError: the file cannot be read.
        PoseError: it does not hold a rigid transform.
    """
    try:
        values = np.loadtxt(path)
    except (OSError, ValueError) as cause:
        raise ConfigError(f"pose '{path}': cannot be read ({cause}).") from cause
    return check_pose(values, str(path))


def mask_on_plain_background(path: str | Path) -> np.ndarray:
    """Threshold an image against the colour of its border. -> (H, W) uint8, 255 on the largest object.

    Raises:
        ConfigError: the image cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ConfigError(f"image '{path}': cannot be read.")
    border = np.concatenate([image[:4].reshape(-1, 3), image[:, :4].reshape(-1, 3), image[:, -4:].reshape(-1, 3)])
    difference = np.abs(image.astype(np.int16) - np.median(border, axis=0).astype(np.int16)).max(axis=2)
    seen = cv2.medianBlur((difference > BACKGROUND_DIFFERENCE).astype(np.uint8), 3)
    outlines, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(seen.shape, np.uint8)
    if outlines:  # the outline of the largest part, filled: patches of the background's colour are no holes
        cv2.drawContours(mask, [max(outlines, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return mask
