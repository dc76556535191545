# SPDX-License-Identifier: Apache-2.0
"""Pictures of objects under known lights, made by pyrender: what illumination methods are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..checks import check_choice, check_range
from ..geometry import make_pose, random_rotations
from ..processes.mesh import Mesh
from ..processes.shading import GAMMA, radiance
from ..processes.shading_geometry import shading_mesh
from ..processes.shading_pyrender import PyrenderShading
from ..tasks.illumination.config import KINDS, LightDataConfig
from ..tasks.illumination.data import (
    LEVEL,
    SMALLEST_VIEW,
    camera_of,
    random_lights,
    random_materials,
    surface_points,
)  # fmt: skip

CAMERA = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
IMAGE_SIZE = (480, 640)
MATERIALS = ("matt", "glossy", "metallic")
DISTANCES = (2.0, 5.0)  # of the object from the camera, diameters
LEVELS = (0.3, 1.1)  # image value of the brighter pixels before clipping
TINT = (0.3, 1.0)  # of the two weaker channels of the albedo, over the strongest


@dataclass(frozen=True)
class LightTrialConfig:
    """The trials.

    Attributes:
        kind: of light.
        material: ``matt``, ``glossy`` or ``metallic``.
        per_mesh: trials with each mesh.
        noise: standard deviation of the pixel noise, image values 0 to 1.
        seed: of the trials.
    """

    kind: str = "directional"
    material: str = "matt"
    per_mesh: int = 4
    noise: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_choice("material", self.material, MATERIALS)
        check_range("per_mesh", self.per_mesh, 1, 10_000)
        check_range("noise", self.noise, 0.0, 0.5)


@dataclass(frozen=True)
class LightTrial:
    """One picture and its truth.

    Attributes:
        mesh: index of the object.
        image: (480, 640, 3) uint8 RGB.
        T_camera_object: (4, 4) metres (of the mesh file).
        light: (3,) unit direction, or position from the object's center in diameters; camera axes.
    """

    mesh: int
    image: np.ndarray
    T_camera_object: np.ndarray
    light: np.ndarray


def make_trials(meshes: Sequence[Mesh], config: LightTrialConfig) -> Iterator[LightTrial]:
    """Draw the trials one after the other; the same for the same meshes and configuration."""
    rng = np.random.default_rng([config.seed, KINDS.index(config.kind), MATERIALS.index(config.material)])
    draws = torch.Generator().manual_seed(int(rng.integers(2**31)))
    point, lights = config.kind == "point", LightDataConfig()
    for index, mesh in enumerate(meshes):
        shaded = shading_mesh(mesh)
        made = 0
        for _ in range(50 * config.per_mesh):
            if made == config.per_mesh:
                break
            depth = float(np.exp(rng.uniform(*np.log(DISTANCES))))
            ray = np.array([*rng.uniform([-0.25, -0.15], [0.25, 0.15]), 1.0])
            center = depth * ray / np.linalg.norm(ray)
            pose = make_pose(random_rotations(1, rng)[0], center)
            seen, position, normal = surface_points(shaded, pose, _small(CAMERA), 160)
            if seen.sum() < SMALLEST_VIEW:
                continue
            p, n = (torch.from_numpy(a[seen])[None] for a in (position, normal))
            light = random_lights(n, p, point, lights, draws)
            image = _picture(PyrenderShading(shaded, pose, CAMERA, IMAGE_SIZE), p, n, center, light, config, draws, rng)
            metric = make_pose(pose[:3, :3], mesh.diameter * center - pose[:3, :3] @ mesh.center)
            made += 1
            yield LightTrial(index, image, metric, light[0].double().numpy())


def _small(camera: np.ndarray) -> np.ndarray:
    """A camera of 160 by 160 pixels with the same field of view across: enough to count what is lit."""
    small = camera_of(1.0, 160)
    small[0, 0] = small[1, 1] = 160.0 / IMAGE_SIZE[1] * camera[0, 0]
    return small


def _picture(
    scene: PyrenderShading,
    position: torch.Tensor,
    normal: torch.Tensor,
    center: np.ndarray,
    light: torch.Tensor,
    config: LightTrialConfig,
    draws: torch.Generator,
    rng: np.random.Generator,
) -> np.ndarray:
    """(H, W, 3) uint8: random material of the class, exposure, ambient light and noise."""
    point = config.kind == "point"
    albedo, metallic, roughness = (float(v) for v in random_materials(1, draws, config.material)[0])
    ambient = LightDataConfig().largest_ambient * rng.uniform() ** 2 / np.pi
    if point:
        ambient /= float((light**2).sum())
    x = torch.tensor([[*light[0].tolist(), 0.0, albedo, metallic, roughness, ambient * albedo]])
    towards = -(position + torch.from_numpy(center).float())
    view = towards / torch.linalg.vector_norm(towards, dim=-1, keepdim=True)
    level = float(radiance(x, position, normal, view, point)[0].quantile(LEVEL))
    exposure = rng.uniform(*LEVELS) ** GAMMA / max(level, 1e-9)
    tint = np.array([1.0, *rng.uniform(*TINT, 2)])
    rng.shuffle(tint)
    picture = scene.render(light[0].numpy(), point, exposure, albedo * tint, metallic, roughness, ambient * exposure)
    noisy = picture + 255.0 * config.noise * rng.normal(size=picture.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)
