# SPDX-License-Identifier: Apache-2.0
"""The data that ship with the package: three meshes with their symmetries, and ten real YCB-Video frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from ...errors import ConfigError, DfipsError
from ...processes.mesh import Mesh, load_mesh

DEMO_FOLDER = Path(__file__).resolve().parents[2] / "data" / "demo"


@dataclass(frozen=True)
class RealFrame:
    """A real image with its label and true pose.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 on the object.
        T_camera_object: (4, 4) float64, the data set's pose.
    """

    image: np.ndarray
    mask: np.ndarray
    T_camera_object: np.ndarray


@cache
def _table(name: str) -> dict:
    file = DEMO_FOLDER / name
    try:
        return json.loads(file.read_text())
    except OSError as cause:
        raise DfipsError(f"The demo's data are incomplete: cannot read {file}. Install the package again.") from cause


def demo_mesh_names() -> list[str]:
    """Names of the meshes that ship."""
    return sorted(_table("meshes/models_info.json"))


def demo_mesh_path(name: str) -> Path:
    """File of a mesh that ships.

    Raises:
        ConfigError: there is no mesh of that name.
    """
    table = _table("meshes/models_info.json")
    if name not in table:
        raise ConfigError(f"demo mesh {name!r}: expected one of {', '.join(sorted(table))}.")
    return DEMO_FOLDER / "meshes" / table[name]["file"]


def demo_mesh(name: str) -> Mesh:
    """A mesh that ships, in metres."""
    return load_mesh(demo_mesh_path(name))


def demo_symmetries(name: str) -> np.ndarray:
    """Transforms object -> object that leave the object as it is, the identity first. -> (S, 4, 4) float64, metres."""
    demo_mesh_path(name)
    entries = _table("meshes/models_info.json")[name]["symmetries_discrete"]
    return np.stack([np.eye(4), *(np.array(entry, dtype=np.float64).reshape(4, 4) for entry in entries)])


def ycb_object_names() -> list[str]:
    """Objects of the real frames whose mesh ships."""
    return sorted(_table("ycb_video/poses.json")["objects"])


def ycb_camera_matrix() -> np.ndarray:
    """Pinhole matrix of the real frames. -> (3, 3) float64, pixels."""
    return np.array(_table("ycb_video/poses.json")["camera_matrix"], dtype=np.float64)


def ycb_frames(name: str) -> list[RealFrame]:
    """The ten real frames, with mask and pose of the object called ``name``.

    Raises:
        ConfigError: the frames do not show an object of that name.
    """
    table = _table("ycb_video/poses.json")
    if name not in table["objects"]:
        raise ConfigError(f"object {name!r}: the real frames show {', '.join(sorted(table['objects']))}.")
    value = table["objects"][name]["label_value"]
    frames = []
    for entry in table["frames"]:
        image, label = (cv2.imread(str(DEMO_FOLDER / "ycb_video" / entry[k]), flag)
                        for k, flag in (("color", cv2.IMREAD_COLOR), ("label", cv2.IMREAD_UNCHANGED)))  # fmt: skip
        if image is None or label is None:
            raise DfipsError(f"The demo's data are incomplete: {entry['color']} or {entry['label']} cannot be read.")
        mask = np.where(label == value, 255, 0).astype(np.uint8)
        pose = np.array(entry["T_camera_object"][name], dtype=np.float64)
        frames.append(RealFrame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask, pose))
    return frames
