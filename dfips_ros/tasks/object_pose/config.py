# SPDX-License-Identifier: Apache-2.0
"""Configurations of the object pose task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import check_choice, check_range, config_from_dict
from ...errors import ConfigError
from ...solver import SolverConfig

FEEDBACKS = ("contour", "image")


@dataclass(frozen=True)
class ObjectPoseConfig:
    """The network and how it is unrolled.

    Attributes:
        feedback: ``contour`` (rows of a learned weighted Gauss-Newton) or ``image`` (a CNN on the difference image, the
            paper's form, for one object or category).
        crop_size: side of the crop in pixels.
        width: hidden width of a contour stage, or base channels of an image stage.
        simulation_faces: the mesh is simplified to about this many faces for the forward process.
        solver: how the stages are unrolled.
    """

    feedback: str = "contour"
    crop_size: int = 128
    width: int = 64
    simulation_faces: int = 5000
    solver: SolverConfig = field(default_factory=SolverConfig)

    def __post_init__(self) -> None:
        check_choice("feedback", self.feedback, FEEDBACKS)
        check_range("crop_size", self.crop_size, 32, 512)
        check_range("width", self.width, 8, 1024)
        check_range("simulation_faces", self.simulation_faces, 100, 1_000_000)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a weights file."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ObjectPoseConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        plain = dict(values)
        solver = config_from_dict(SolverConfig, plain.pop("solver", {}))
        return config_from_dict(ObjectPoseConfig, {**plain, "solver": solver})


@dataclass(frozen=True)
class PoseDataConfig:
    """Training examples of the object pose task.

    Attributes:
        batch_size: poses in a batch.
        depth_range: object distances in diameters, sampled log-uniformly.
        angles: largest initial rotation error in degrees, one is drawn per example.
        angle_weights: how often each of ``angles`` is drawn.
        initial_shift: largest initial translation error in the image plane, diameters.
        initial_log_depth: largest initial error of log-depth.
        degraded: fraction of masks with noise, holes, occlusion or a missing part.
        seed: of the examples.
    """

    batch_size: int = 96
    depth_range: tuple[float, float] = (2.2, 12.0)
    angles: tuple[float, ...] = (10.0, 45.0, 70.0)
    angle_weights: tuple[float, ...] = (0.2, 0.6, 0.2)
    initial_shift: float = 0.12
    initial_log_depth: float = 0.14
    degraded: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, 1, 100_000)
        low, high = self.depth_range
        if not 1.0 <= low < high:
            raise ConfigError(f"depth_range={self.depth_range}: expected 1 <= low < high, in diameters.")
        if len(self.angles) != len(self.angle_weights) or abs(sum(self.angle_weights) - 1.0) > 1e-6:
            raise ConfigError(f"angle_weights={self.angle_weights}: expected one per angle, adding up to 1.")
        check_range("degraded", self.degraded, 0.0, 1.0)
        check_range("initial_shift", self.initial_shift, 0.0, 1.0)
        check_range("initial_log_depth", self.initial_log_depth, 0.0, 1.0)
