# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the node ``grasp_target``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import ConfigError
from ..geometry import make_pose, matrix_from_quaternion_xyzw
from .parameters import parameter, resolve_path

AXES = ("x", "y", "z", "-x", "-y", "-z")
ROTATION = "'roll pitch yaw' [rad] as in a URDF's origin, or a quaternion 'x y z w'"


@dataclass(frozen=True)
class GraspTargetParameters:
    """The parameters of the node ``grasp_target``. :func:`~.parameters.specs_of` gives ranges and descriptions."""

    object_name: str = parameter("", "Object of the tracker to grasp. Empty: the only one that it tracks.")
    base_frame: str = parameter("", "Frame of the targets, the first link of the arm. Required.")
    camera_xyz: str = parameter(
        "",
        "Where the camera's optical frame is in base_frame: 'x y z' [m]. Empty, with camera_rotation: looked up in "
        "/tf at the time of the image, which needs tf2_ros.",
    )
    camera_rotation: str = parameter("", f"How the camera's optical frame lies in base_frame: {ROTATION}.")
    grasp_xyz: str = parameter(
        "0 0 0", "Where the tip is in the object's frame when it grasps: 'x y z' [m].", live=True
    )
    grasp_rotation: str = parameter("0 0 0", f"How the tip lies in the object's frame then: {ROTATION}.", live=True)
    standoff: float = parameter(
        0.10,
        "The target stays back from the grasp by this, against approach_axis [m]. Set it to 0 to go in.",
        low=0.0,
        high=10.0,
        live=True,
    )
    approach_axis: str = parameter(
        "z", "Axis of the tip along which it goes to the object, the z of most grippers.", choices=AXES, live=True
    )
    approach_speed: float = parameter(
        0.05, "A change of standoff moves the target no faster than this [m/s].", low=1e-4, high=10.0, live=True
    )
    min_iou: float = parameter(0.8, "Poses with a smaller silhouette IoU give no target.", low=0.0, high=1.0, live=True)
    max_position_deviation: float = parameter(
        0.02,
        "Poses that leave the grasp point less certain than this give no target: standard deviation in the worst "
        "direction [m]. 0: no such limit.",
        low=0.0,
        high=10.0,
        live=True,
    )
    max_rotation_deviation: float = parameter(
        0.0,
        "The same for the object's rotation [rad]. 0: no such limit; of an object that is symmetric about an axis, one "
        "rotation is never certain.",
        low=0.0,
        high=10.0,
        live=True,
    )
    max_age: float = parameter(
        0.5, "Poses that are older than this when they arrive give no target [s].", low=1e-3, high=3600.0, live=True
    )
    mesh: str = parameter(
        "",
        "Mesh of the object for MoveIt's planning scene: a path, a file:// or a package:// URI. Empty: the scene is "
        "left alone. Needs moveit_msgs.",
    )
    mesh_scale: float = parameter(
        1.0, "Factor from the mesh file's units to metres, as the tracker has it.", low=1e-6, high=1e6
    )
    collision_shape: str = parameter(
        "mesh", "What MoveIt gets: the mesh, simplified, or the box around it.", choices=("mesh", "box")
    )
    scene_period: float = parameter(
        0.5, "Time between two updates of the planning scene [s].", low=0.02, high=60.0, live=True
    )
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if not self.base_frame.strip():
            raise ConfigError(
                "parameter base_frame='': expected the first link of the arm, for example base_frame:=base_link."
            )
        if self.base_frame.startswith("/"):
            raise ConfigError(f"parameter base_frame={self.base_frame!r}: a frame's name does not begin with '/'.")
        if bool(self.camera_xyz.strip()) != bool(self.camera_rotation.strip()):
            given, missing = ("xyz", "rotation") if self.camera_xyz.strip() else ("rotation", "xyz")
            raise ConfigError(
                f"parameter camera_{given}={getattr(self, f'camera_{given}')!r}: expected camera_{missing} too, or "
                "neither for a look-up in /tf."
            )
        _ = self.T_base_camera, self.T_object_grasp  # read them now, so that a wrong one is told now

    @cached_property
    def T_base_camera(self) -> np.ndarray | None:
        """The fixed camera, (4, 4); None where /tf has it."""
        if not self.camera_xyz.strip():
            return None
        return read_pose("camera", self.camera_xyz, self.camera_rotation)

    @cached_property
    def T_object_grasp(self) -> np.ndarray:
        """The tip when it grasps, (4, 4)."""
        return read_pose("grasp", self.grasp_xyz, self.grasp_rotation)

    @cached_property
    def approach(self) -> np.ndarray:
        """Unit vector of approach_axis in the tip's frame."""
        vector = np.eye(3)["xyz".index(self.approach_axis[-1])]
        return -vector if self.approach_axis.startswith("-") else vector

    @cached_property
    def mesh_path(self) -> Path | None:
        """The mesh file, or None.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("mesh", self.mesh) if self.mesh.strip() else None


def read_pose(name: str, xyz: str, rotation: str) -> np.ndarray:
    """T (4, 4) of the texts of the parameters ``<name>_xyz`` and ``<name>_rotation``.

    Raises:
        ConfigError: they are no position and no rotation.
    """
    position = _numbers(f"{name}_xyz", xyz, (3,), "'x y z' in metres")
    turn = _numbers(f"{name}_rotation", rotation, (3, 4), ROTATION)
    if len(turn) == 3:
        return make_pose(Rotation.from_euler("xyz", turn).as_matrix(), position)
    length = math.sqrt(float(turn @ turn))
    if abs(length - 1.0) > 0.01:
        raise ConfigError(
            f"parameter {name}_rotation={rotation!r}: expected a unit quaternion 'x y z w', got length {length:.4g}. "
            "No rotation is '0 0 0 1'."
        )
    return make_pose(matrix_from_quaternion_xyzw(turn), position)


def _numbers(name: str, text: str, counts: tuple[int, ...], what: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) not in counts or not np.isfinite(values).all():
        raise ConfigError(f"parameter {name}={text!r}: expected {what}.")
    return values
