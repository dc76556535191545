# SPDX-License-Identifier: Apache-2.0
"""The scene of the illumination demo: an object that turns slowly under a light that moves, drawn by pyrender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..geometry import make_pose
from ..processes.mesh import Mesh, load_mesh
from ..processes.shading_geometry import shading_mesh
from ..processes.shading_pyrender import PyrenderShading
from ..tasks.object_pose.demo_data import demo_mesh_path
from ..tasks.object_pose.recording import Recording, make_recording
from ..tasks.object_pose.sequences import SequenceConfig, SequenceGenerator

RATE = 15.0
MAX_TURN_DEG = 20.0  # per second
ALBEDO = np.array([0.75, 0.55, 0.35])
AMBIENT = 0.08
INTENSITY = 3.0
LAMP_DISTANCE = 1.4  # object diameters
NOISE = 2.0  # grey levels
BACKGROUND = 35.0


@dataclass(frozen=True)
class LightScene:
    """What the camera shows, and the truth that is kept from it.

    Attributes:
        kind: ``directional`` or ``point``.
        mesh: the object; its file is ``mesh_path``, ``scale`` leads to metres.
        recording: what the camera shows.
        poses: per frame T_camera_object (4, 4).
        lights: (N, 3) per frame: unit direction towards the light, in the camera's frame.
    """

    kind: str
    mesh: Mesh
    mesh_path: Path
    scale: float
    recording: Recording
    poses: list[np.ndarray]
    lights: np.ndarray

    @cached_property
    def centers(self) -> np.ndarray:
        """(N, 3) metres, of the object in the camera's frame."""
        return np.array([pose[:3, :3] @ self.mesh.center + pose[:3, 3] for pose in self.poses])

    @cached_property
    def positions(self) -> np.ndarray:
        """(N, 3) metres, of a point light in the camera's frame."""
        return self.centers + LAMP_DISTANCE * self.mesh.diameter * self.lights


def moving_light(seconds: np.ndarray, seed: int) -> np.ndarray:
    """Unit directions (N, 3) towards a light that wanders above and beside the camera."""
    a, b, c = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, 3)
    towards = np.stack(
        [
            1.2 * np.sin(0.7 * seconds + a),
            -0.5 + 0.9 * np.sin(0.5 * seconds + b),
            -0.9 + 0.4 * np.sin(0.3 * seconds + c),
        ],
        axis=1,
    )
    return towards / np.linalg.norm(towards, axis=1, keepdims=True)


def light_scene(
    kind: str,
    seconds: float,
    seed: int,
    roughness: float,
    metallic: float,
    mesh_path: Path | None = None,
    scale: float = 1.0,
    progress: bool = True,
) -> LightScene:
    """Draw the scene.

    Args:
        kind: of the light.
        seconds: length.
        seed: of motion, light and noise.
        roughness, metallic: of the material, 0 to 1.
        mesh_path: the user's own mesh; by default the drill that ships.
        scale: factor from its unit to metres.
        progress: show a bar on stderr.
    """
    path = (demo_mesh_path("drill") if mesh_path is None else mesh_path).resolve()
    mesh = load_mesh(path, scale)
    config = SequenceConfig(
        seconds=seconds, rate=RATE, seed=seed, occlusion=0.0, hidden_seconds=0.0, holes=0.0, max_turn_deg=MAX_TURN_DEG
    )
    generator = SequenceGenerator(mesh, config)
    lights = moving_light(np.arange(len(generator)) / RATE, seed)
    shading, point = shading_mesh(mesh), kind == "point"
    rng = np.random.default_rng(seed)
    size, camera = (config.height, config.width), generator.camera_matrix

    def shown() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        bar = tqdm(range(len(generator)), desc="rendering the scene", unit="frame", disable=not progress or None)
        for index in bar:
            pose = generator.poses[index]
            center = pose[:3, :3] @ mesh.center + pose[:3, 3]
            scene = PyrenderShading(shading, make_pose(pose[:3, :3], center / mesh.diameter), camera, size)
            light = LAMP_DISTANCE * lights[index] if point else lights[index]
            image = scene.render(light, point, INTENSITY * (LAMP_DISTANCE**2 if point else 1.0), ALBEDO, metallic,
                                 roughness, AMBIENT)  # fmt: skip
            values = np.where(image.any(axis=2, keepdims=True), image, BACKGROUND) + rng.normal(0.0, NOISE, image.shape)
            yield generator.frame(index).mask, values.round().clip(0, 255).astype(np.uint8)

    recording = make_recording(camera, RATE, shown())
    return LightScene(kind, mesh, path, scale, recording, list(generator.poses), lights)
