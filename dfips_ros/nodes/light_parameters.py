# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the node ``light_estimator``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import ConfigError
from .camera_conversions import DISTORTION_MODES
from .parameters import parameter, resolve_path


@dataclass(frozen=True)
class LightEstimatorParameters:
    """The parameters of the node ``light_estimator``. :func:`~.parameters.specs_of` gives ranges and descriptions."""

    mesh: str = parameter(
        "",
        "Mesh of the object that is looked at (obj, stl, ply, dae, glb): a path, a file:// or a package:// URI. "
        "Required; the same as the tracker's.",
    )
    mesh_scale: float = parameter(
        1.0, "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres.", low=1e-6, high=1e6
    )
    object_name: str = parameter("", "Name of the object in messages. Empty: the mesh file's name without ending.")
    kind: str = parameter(
        "directional",
        "What light is looked for. directional: far away. point: near the object.",
        choices=("directional", "point"),
    )
    weights: str = parameter(
        "",
        "Weights file of the solver: a path, a file:// or a package:// URI. Empty: the weights that ship with the "
        "package.",
    )
    device: str = parameter(
        "auto", "Where the solver runs. auto: the GPU where there is one.", choices=("auto", "cpu", "cuda")
    )
    rate: float = parameter(
        10.0, "No more images than this are worked on [Hz]; the others are left out.", low=0.05, high=1000.0, live=True
    )
    pose_tolerance: float = parameter(
        0.05,
        "The pose nearest in time is taken for an image, if their stamps differ by no more than this [s].",
        low=0.0,
        high=10.0,
        live=True,
    )
    pose_timeout: float = parameter(
        0.5, "How long an image waits for its pose [s]; then it is refused.", low=0.01, high=10.0, live=True
    )
    distortion: str = parameter(
        "rectify",
        "What to do when camera_info says that the lens distorts. rectify: undistort each image. refuse: report an "
        "error. ignore: use K as if there were no distortion. rectified: the images are rectified already "
        "(image_rect), so P is used.",
        choices=DISTORTION_MODES,
    )
    sphere_size: int = parameter(128, "Side of the picture on ~/chrome_sphere [pixels].", low=16, high=1024, live=True)
    max_solve_threads: int = parameter(
        1, "CPU threads that the solver may use. Its tensors are small: more of them seldom help.", low=1, high=256
    )
    input_timeout: float = parameter(
        2.0, "Time without an image [s] after which /diagnostics says so.", low=0.1, high=3600.0, live=True
    )
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if not self.mesh.strip():
            raise ConfigError("parameter mesh='': expected a mesh file, for example mesh:=/data/bracket.stl.")

    @cached_property
    def mesh_path(self) -> Path:
        """The mesh file.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("mesh", self.mesh)

    @cached_property
    def weights_path(self) -> Path | None:
        """The weights file, or None for the one that ships. Raises as :attr:`mesh_path`."""
        return resolve_path("weights", self.weights) if self.weights.strip() else None

    @cached_property
    def name(self) -> str:
        """Name of the object."""
        return self.object_name or self.mesh_path.stem
