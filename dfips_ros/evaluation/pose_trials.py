# SPDX-License-Identifier: Apache-2.0
"""The inputs of the object pose evaluation: meshes at random poses, their masks, and initial poses that are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..checks import check_choice, check_range
from ..errors import MeshError
from ..geometry import make_pose, random_perturbations, random_rotations
from ..processes.mesh import SUFFIXES, Mesh, load_mesh
from ..processes.silhouette import RasterRenderer
from ..tasks.object_pose.degradation import degrade

COLUMNS_DEG = (15.0, 45.0, 90.0)
MASKS = ("perfect", "degraded")
IMAGE_SIZE = (480, 640)
CAMERA = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class PoseTrialConfig:
    """What is evaluated.

    Attributes:
        columns_deg: largest initial rotation errors, one column each.
        masks: ``perfect`` or ``degraded`` (edge noise, holes, occlusion, truncation).
        per_mesh: trials per mesh and column.
        distance: range of object distances, diameters.
        shift: largest initial error in the image plane, diameters.
        depth: largest relative initial error of the depth.
        seed: of everything.
    """

    columns_deg: tuple[float, ...] = COLUMNS_DEG
    masks: str = "perfect"
    per_mesh: int = 6
    distance: tuple[float, float] = (2.5, 5.0)
    shift: float = 0.1
    depth: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("masks", self.masks, MASKS)
        check_range("per_mesh", self.per_mesh, 1)


@dataclass(frozen=True)
class PoseTrial:
    """One input.

    Attributes:
        mesh: index of the mesh.
        column_deg: largest initial rotation error of its column.
        mask: (480, 640) bool.
        T_true: (4, 4) metres.
        T_initial: (4, 4) metres.
    """

    mesh: int
    column_deg: float
    mask: np.ndarray
    T_true: np.ndarray
    T_initial: np.ndarray


def load_evaluation_meshes(paths: Sequence[str | Path]) -> list[Mesh]:
    """Meshes from files and folders, each scaled so that its size is plausible (errors are in diameters).

    Raises:
        MeshError: nothing readable is there.
    """
    meshes = []
    for path in paths:
        root = Path(path).expanduser()
        files = sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES) if root.is_dir() else [root]
        for file in files:
            raw = load_mesh(file, max_diameter=1e9)
            name = f"{file.parent.name}/{file.stem}" if file.stem in ("textured", "visual", "model") else file.stem
            meshes.append(Mesh(name, raw.vertices * (0.2 / raw.diameter), raw.faces, path=raw.path))
    if not meshes:
        raise MeshError(f"meshes: no mesh file at {', '.join(map(str, paths)) or 'the given paths'}.")
    return meshes


def make_trials(meshes: Sequence[Mesh], config: PoseTrialConfig) -> list[PoseTrial]:
    """The same inputs for the same seed: every column sees the same true poses, only the initial errors grow."""
    trials = []
    for m, mesh in enumerate(meshes):
        rng = np.random.default_rng((config.seed, m))
        renderer = RasterRenderer(mesh)
        for _ in range(config.per_mesh):
            depth = rng.uniform(*config.distance) * mesh.diameter
            rotation = random_rotations(1, rng)[0]
            center = np.array([rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15), 1.0]) * depth
            pose = make_pose(rotation, center - rotation @ mesh.center)
            depth_image = renderer.render(torch.from_numpy(pose).float()[None], torch.from_numpy(CAMERA), IMAGE_SIZE)
            mask = (depth_image[0] > 0).numpy()
            if config.masks == "degraded":
                # What a border hides is black in the mask like what an occluder hides: a mask does not tell which.
                mask = degrade(mask.astype(np.uint8), rng)[0] > 0
            turn = random_perturbations(1, 1.0, rng)[0]  # scaled to each column below
            offset = rng.uniform(-1, 1, 3)
            for column in config.columns_deg:
                start = _turned(turn, np.deg2rad(column)) @ rotation
                moved = center + offset * np.array([config.shift * mesh.diameter] * 2 + [config.depth * center[2]])
                initial = make_pose(start, moved - start @ mesh.center)
                trials.append(PoseTrial(m, column, mask, pose, initial))
    return trials


def _turned(unit: np.ndarray, largest: float) -> np.ndarray:
    """A rotation of up to one radian, scaled to one of up to ``largest`` radians."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(Rotation.from_matrix(unit).as_rotvec() * largest).as_matrix()
