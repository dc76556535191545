# SPDX-License-Identifier: Apache-2.0
"""Configurations of the illumination task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import check_choice, check_range, config_from_dict
from ...errors import ConfigError
from ...solver import SolverConfig

KINDS = ("directional", "point")


@dataclass(frozen=True)
class IlluminationConfig:
    """The network and how it is unrolled.

    Attributes:
        kind: ``directional`` or ``point``.
        crop_size: side of the picture of the object that pixels are taken from.
        pixels: how many of the object's pixels the stages compare.
        fine_pixels: how many the refinement after the last stage compares.
        width: hidden width of a stage.
        solver: how the stages are unrolled.
    """

    kind: str = "directional"
    crop_size: int = 128
    pixels: int = 128
    fine_pixels: int = 512
    width: int = 64
    solver: SolverConfig = field(default_factory=lambda: SolverConfig(num_stages=7))

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_range("crop_size", self.crop_size, 32, 512)
        check_range("pixels", self.pixels, 32, 4096)
        check_range("fine_pixels", self.fine_pixels, 32, 16_384)
        check_range("width", self.width, 8, 1024)

    @property
    def point(self) -> bool:
        """Whether the light is a point light."""
        return self.kind == "point"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a weights file."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> IlluminationConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        plain = dict(values)
        solver = config_from_dict(SolverConfig, plain.pop("solver", {}))
        return config_from_dict(IlluminationConfig, {**plain, "solver": solver})


@dataclass(frozen=True)
class LightDataConfig:
    """Training examples of the illumination task.

    Attributes:
        batch_size: images in a batch.
        views: how many views of objects (mesh, pose) are drawn before training; lights and materials are new each time.
        view_pixels: surface points kept of a view.
        depth_range: object distances in diameters, sampled log-uniformly.
        point_range: distances of a point light from the object's center in diameters, sampled log-uniformly.
        lit: least part of the visible surface points that the light reaches.
        largest_ambient: of the ambient light over the light's ``intensity / pi``.
        textured: part of the examples whose albedo varies over the surface.
        wrong_pose: part of the views whose pose is told slightly wrong.
        pose_noise_deg: spread of that error in degrees; a shift of the object goes with it.
        noise: largest standard deviation of the pixel noise, image values 0 to 1.
        seed: of the examples.
    """

    batch_size: int = 64
    views: int = 12_000
    view_pixels: int = 384
    depth_range: tuple[float, float] = (2.0, 10.0)
    point_range: tuple[float, float] = (0.7, 2.0)
    lit: float = 0.15
    largest_ambient: float = 0.3
    textured: float = 0.15
    wrong_pose: float = 0.15
    pose_noise_deg: float = 2.0
    noise: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, 1, 100_000)
        check_range("views", self.views, 1, 10_000_000)
        check_range("view_pixels", self.view_pixels, 32, 16_384)
        for name in ("depth_range", "point_range"):
            low, high = getattr(self, name)
            if not 0.6 <= low < high:
                raise ConfigError(f"{name}={(low, high)}: expected 0.6 <= low < high, in diameters.")
        for name in ("lit", "largest_ambient", "textured", "wrong_pose"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("pose_noise_deg", self.pose_noise_deg, 0.0, 45.0)
        check_range("noise", self.noise, 0.0, 0.5)
