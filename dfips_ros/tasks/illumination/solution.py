# SPDX-License-Identifier: Apache-2.0
"""What the illumination estimator answers, and the light shown on a sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...checks import check_range
from ...errors import ConfigError
from ...processes.shading import GAMMA, light_vectors, reflected

SPHERE_MATERIAL = (0.75, 0.8, 0.3)  # albedo, metallic, roughness
SPHERE_INTENSITY, SPHERE_AMBIENT = 4.0, 0.015


@dataclass(frozen=True)
class IlluminationSolution:
    """The light that explains an image.

    Attributes:
        kind: ``directional`` or ``point``.
        direction: (3,) float64 unit vector from the object's center towards the light, in the camera's optical frame.
        position: (3,) float64 of a point light in metres, in the camera's optical frame; None for a directional one.
        intensity: of the light, in the renderer's units times the exposure of the image. A point light of intensity i
            shines i / distance^2, the distance in object diameters.
        ambient: intensity of the ambient light in the same units; the albedo is unknown, so of both only the ratio
            means much.
        albedo: (3,) linear RGB of the material, 0 to 1.
        roughness: of the material, 0 to 1.
        metallic: of the material, 0 to 1.
        residual_norms: root mean square of simulated - observed over the object's pixels (image values 0 to 1), before
            the first stage, after each, and after the refinement.
        history: (T+2, 3) float64 light directions (directional) or positions in metres (point), the initial one first,
            the answer last.
        object_center: (3,) metres, center of the object in the camera's optical frame.
        object_diameter: metres.
        direction_std_deg: standard deviation of the direction that the residual and its derivatives tell, degrees;
            large where few differently turned surfaces are seen. It knows nothing of other, equally good answers.
        pixels: how many of the object's pixels were looked at.
        reason: why the estimate is doubtful, for people; empty while all is well.
        solve_time: seconds, from the image to the answer.
    """

    kind: str
    direction: np.ndarray
    position: np.ndarray | None
    intensity: float
    ambient: float
    albedo: np.ndarray
    roughness: float
    metallic: float
    residual_norms: tuple[float, ...]
    history: np.ndarray
    object_center: np.ndarray
    object_diameter: float
    direction_std_deg: float
    pixels: int
    reason: str
    solve_time: float

    @property
    def uncertain(self) -> bool:
        """Whether there is a reason to doubt the estimate."""
        return bool(self.reason)


def chrome_sphere(solution: IlluminationSolution, size: int = 128, stage: int = -1) -> np.ndarray:
    """The estimated light on a shiny sphere in the object's place, seen by the camera (Ma et al. 2020, figure 4).

    Args:
        solution: of :meth:`IlluminationEstimator.estimate`.
        size: side of the picture in pixels, 16 to 4096.
        stage: after which stage; 0 is the initial estimate, -1 the answer.

    Returns:
        (size, size, 3) uint8 RGB, black around the sphere.

    Raises:
        ConfigError: the size is out of range, or there is no such stage.
    """
    check_range("size", size, 16, 4096)
    count = len(solution.history)
    if not -count <= stage < count:
        raise ConfigError(f"stage={stage}: expected {-count} to {count - 1}, there are {count} estimates.")
    light = solution.history[stage]
    if solution.position is not None:
        light = (light - solution.object_center) / solution.object_diameter
    v, u = np.mgrid[:size, :size]
    x, y = ((2.0 * a + 1.0) / size - 1.0 for a in (u, v))
    square = x * x + y * y
    inside = square < 1.0
    normal = np.stack([x, y, -np.sqrt(np.maximum(1.0 - square, 0.0))], axis=-1)[inside]
    n = torch.from_numpy(normal)[None]
    view = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).expand_as(n)
    unit, _ = light_vectors(torch.from_numpy(light).reshape(1, 1, 3), 0.5 * n, solution.position is not None)
    albedo, metallic, roughness = (torch.tensor(value, dtype=torch.float64) for value in SPHERE_MATERIAL)
    shade = reflected(n, view, unit.expand_as(n), albedo, metallic, roughness)[0].numpy()
    picture = np.zeros((size, size), np.uint8)
    value = np.clip(SPHERE_AMBIENT + SPHERE_INTENSITY * shade, 0.0, 1.0) ** (1.0 / GAMMA)
    picture[inside] = np.round(255.0 * value)
    return np.repeat(picture[..., None], 3, axis=2)
