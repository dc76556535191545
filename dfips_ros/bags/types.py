# SPDX-License-Identifier: Apache-2.0
"""The message types that bags are read and written with: those of ROS 2 Jazzy, and this package's own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DfipsError, require
from ..geometry import quaternion_xyzw_from_matrix

PACKAGE = "dfips_ros"
# Of vision_msgs 4, which is not among the types of a plain ROS 2.
VISION = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}


class BagError(DfipsError):
    """A bag cannot be read or written."""


def require_rosbags() -> None:
    """Raise :class:`~dfips_ros.errors.MissingDependencyError` unless ``rosbags`` is installed."""
    require("rosbags", "A bag", "pip install rosbags")


@functools.cache
def typestore() -> Any:
    """The types by name, as a ``rosbags`` typestore.

    Raises:
        MissingDependencyError: ``rosbags`` is not installed.
        BagError: the package's message definitions are not where the build puts them.
    """
    require_rosbags()
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in VISION.items():
        types.update(get_types_from_msg(text, name))
    for file in sorted(_definitions().glob("*.msg")):
        types.update(get_types_from_msg(file.read_text(), f"{PACKAGE}/msg/{file.stem}"))
    store.register(types)
    return store


def _definitions() -> Path:
    """The folder with this package's .msg files: in a checkout ``msg``, installed ``share/dfips_ros/msg``."""
    here = Path(__file__).resolve()
    for folder in here.parents:
        for candidate in (folder / "msg", folder / "share" / PACKAGE / "msg"):
            if (candidate / "TrackedObject.msg").is_file():
                return candidate
    raise BagError(f"message definitions: expected share/{PACKAGE}/msg in a folder above {here}. Install it again.")


def make(type_name: str, /, **fields: Any) -> Any:
    """A message of this type; all its fields are to be given."""
    return typestore().types[type_name](**fields)


def stamp_from_nanoseconds(nanoseconds: int) -> Any:
    """builtin_interfaces/Time of a time."""
    return make("builtin_interfaces/msg/Time", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def nanoseconds_from_stamp(stamp: Any) -> int:
    """Time of a builtin_interfaces/Time."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def make_header(nanoseconds: int, frame_id: str) -> Any:
    """std_msgs/Header with this time and frame."""
    return make("std_msgs/msg/Header", stamp=stamp_from_nanoseconds(nanoseconds), frame_id=frame_id)


def pose_message(matrix: np.ndarray) -> Any:
    """geometry_msgs/Pose of a rigid transform (4, 4)."""
    position, quaternion = matrix[:3, 3].tolist(), quaternion_xyzw_from_matrix(matrix[:3, :3]).tolist()
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", **dict(zip("xyz", position, strict=True))),
        orientation=make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", quaternion, strict=True))),
    )
