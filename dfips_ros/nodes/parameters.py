# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node from one table: a frozen dataclass whose fields carry default, range and description.

Declaration, reading, validation, docs/ros_api.md and the test of config/*.yaml all come from that table.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, cast
from urllib.parse import unquote, urlparse

from ament_index_python.packages import get_package_share_directory
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from ..errors import ConfigError
from .camera_conversions import DISTORTION_MODES
from .image_conversions import MASK_MODES

P = TypeVar("P")

_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string"}


@dataclass(frozen=True)
class ParameterSpec:
    """What is known of one parameter.

    Attributes:
        name: as in ROS.
        default: its type is the parameter's type.
        description: one sentence, with the unit.
        low, high: range, ends included; None: no bound.
        choices: the valid strings; empty: any.
        live: it may be changed while the node is configured.
    """

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    @property
    def type_name(self) -> str:
        """bool, integer, double or string."""
        return _TYPE_NAMES[type(self.default)]

    @property
    def allowed(self) -> str:
        """The valid values, in words."""
        if self.choices:
            return " | ".join(repr(choice) for choice in self.choices)
        if self.low is not None or self.high is not None:
            low = "-inf" if self.low is None else f"{self.low:g}" if isinstance(self.default, float) else str(self.low)
            high = (
                "inf" if self.high is None else f"{self.high:g}" if isinstance(self.default, float) else str(self.high)
            )
            return f"{low} to {high}"
        return "true | false" if isinstance(self.default, bool) else f"any {self.type_name}"

    def check(self, value: object) -> bool | int | float | str:
        """The value in the parameter's type; a whole number is taken for a double.

        Raises:
            ConfigError: names the parameter, the value and what is allowed.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"parameter {self.name}={value!r}: expected {self.type_name} ({self.allowed}).")
        wrong = bool(self.choices) and value not in self.choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            wrong = not math.isfinite(value)
            wrong = wrong or (self.low is not None and value < self.low)
            wrong = wrong or (self.high is not None and value > self.high)
        if wrong:
            raise ConfigError(f"parameter {self.name}={value!r}: allowed is {self.allowed}.")
        return cast("bool | int | float | str", value)

    def descriptor(self) -> ParameterDescriptor:
        """For ``declare_parameter`` and ``ros2 param describe``."""
        descriptor = ParameterDescriptor(description=self.description)
        if self.choices:
            descriptor.additional_constraints = f"one of {self.allowed}"
        low, high = self.low, self.high
        if isinstance(self.default, float) and (low is not None or high is not None):
            bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
            descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
        elif isinstance(self.default, int) and low is not None and high is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        if isinstance(self.default, float):
            descriptor.dynamic_typing = True  # so that `mesh_scale: 1` is taken for 1.0; check() keeps other types out
        return descriptor


def parameter(
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A field of a parameter table. The arguments are those of :class:`ParameterSpec`."""
    spec = {"description": description, "low": low, "high": high, "choices": choices, "live": live}
    return field(default=default, metadata={"spec": spec})


def specs_of(table: type) -> tuple[ParameterSpec, ...]:
    """The specs of a parameter table, in its order."""
    return tuple(_spec(each) for each in fields(table))


def _spec(each: Field[Any]) -> ParameterSpec:
    return ParameterSpec(name=each.name, default=cast(Any, each.default), **each.metadata["spec"])


class ParameterReader(Generic[P]):
    """Declares the parameters of a table on a node, reads them, and judges changes.

    A bad initial value (from a file or the command line) does not stop the node from starting: it is kept as
    a problem, and :meth:`read` raises it until the parameter is set to a valid value.
    """

    def __init__(self, node: Node, table: type[P]) -> None:
        self._node = node
        self._table = table
        self._specs = {spec.name: spec for spec in specs_of(table)}
        self._problems: dict[str, str] = {}
        given = getattr(node, "_parameter_overrides", {})
        for spec in self._specs.values():
            self._declare(spec, given.get(spec.name))
        for name in given:
            if name not in self._specs and name != "use_sim_time" and not name.startswith("qos_overrides."):
                close = difflib.get_close_matches(name, self._specs, 1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                node.get_logger().warning(f"unknown parameter '{name}' is ignored.{hint}")

    def _declare(self, spec: ParameterSpec, given: Any) -> None:
        try:
            if given is not None:
                spec.check(given.value)
            self._node.declare_parameter(spec.name, spec.default, spec.descriptor())
        except (ConfigError, InvalidParameterTypeException, InvalidParameterValueException) as problem:
            self._problems[spec.name] = str(problem)
            self._node.declare_parameter(spec.name, spec.default, spec.descriptor(), ignore_override=True)

    def read(self) -> P:
        """The checked parameters.

        Raises:
            ConfigError: the first parameter that is wrong, its value and what is allowed.
        """
        if self._problems:
            raise ConfigError(" ".join(self._problems.values()))
        return self._make({name: self._node.get_parameter(name).value for name in self._specs})

    def judge(self, changes: Mapping[str, object], configured: bool) -> P | None:
        """The parameters after a change at run time, or None when the change is of no interest here.

        Args:
            changes: new values by name; names that are not in the table are ignored.
            configured: True while the node holds resources made from the present parameters.

        Raises:
            ConfigError: a value is wrong, or the parameter cannot be changed while the node is configured.
        """
        ours = {name: value for name, value in changes.items() if name in self._specs}
        values = {name: self._node.get_parameter(name).value for name in self._specs}
        for name, value in ours.items():
            spec = self._specs[name]
            if spec.check(value) != spec.check(values[name]) and configured and not spec.live:
                raise ConfigError(
                    f"parameter {name} cannot change from {values[name]!r} to {value!r} while the node is "
                    "configured. "
                    "Deactivate and clean up the node, set it, then configure and activate."
                )
        if configured:
            return self._make({**values, **ours}) if ours else None
        for name in ours:  # checks across parameters wait until `configure`, so that several can be set in turn
            self._problems.pop(name, None)
        return None

    def _make(self, values: Mapping[str, object]) -> P:
        return self._table(**{name: self._specs[name].check(value) for name, value in values.items()})


@dataclass(frozen=True)
class PoseTrackerParameters:
    """The parameters of the node ``pose_tracker``. :func:`specs_of` gives their ranges and descriptions."""

    mesh: str = parameter(
        "", "Mesh of the object (obj, stl, ply, dae, glb): a path, a file:// or a package:// URI. Required."
    )
    mesh_scale: float = parameter(
        1.0,
        "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres.",
        low=1e-6,
        high=1e6,
    )
    models_info: str = parameter(
        "",
        "File with the object's symmetries in the format of BOP's models_info.json, in the mesh file's unit: a path, "
        "a file:// or a package:// URI. Empty: they are found on the mesh.",
    )
    models_info_key: str = parameter(
        "",
        "Entry of the object in models_info. Empty: the mesh file's name without ending, or the number in it "
        "(obj_000005.ply is '5').",
    )
    object_name: str = parameter("", "Name of the object in messages. Empty: the mesh file's name without ending.")
    weights: str = parameter("", "Weights file of the solver. Empty: the weights that ship with the package.")
    device: str = parameter(
        "auto", "Where the solver runs. auto: the GPU where there is one.", choices=("auto", "cpu", "cuda")
    )
    mask_mode: str = parameter(
        "binary",
        "How a mask is read. binary: every non-zero pixel is the object. label: the pixels equal to label_value.",
        choices=MASK_MODES,
        live=True,
    )
    label_value: int = parameter(
        1, "Label of the object; only read with mask_mode label.", low=-(2**31), high=2**31 - 1, live=True
    )
    distortion: str = parameter(
        "rectify",
        "What to do when camera_info says that the lens distorts. rectify: undistort each mask. refuse: "
        "report an "
        "error. ignore: use K as if there were no distortion. rectified: the masks are made from rectified "
        "images "
        "(image_rect), so P is used.",
        choices=DISTORTION_MODES,
        live=True,
    )
    publish_tf: bool = parameter(True, "Publish the transform camera -> object on /tf.", live=True)
    object_frame: str = parameter("", "Child frame of that transform. Empty: object_name.")
    publish_markers: bool = parameter(True, "Publish the mesh for RViz on ~/markers.", live=True)
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    lost_iou: float = parameter(
        0.6,
        "The object counts as lost when the silhouette IoU stays below this.",
        low=0.0,
        high=1.0,
        live=True,
    )
    lost_frames: int = parameter(
        3,
        "Number of frames in a row below lost_iou after which the object is lost.",
        low=1,
        high=1000,
        live=True,
    )
    init_iou: float = parameter(
        0.8,
        "Silhouette IoU from which a pose that was found from nothing is accepted.",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_mask_pixels: int = parameter(
        64, "Masks with fewer object pixels count as empty.", low=1, high=100_000_000, live=True
    )
    max_solve_threads: int = parameter(2, "CPU threads that the solver may use.", low=1, high=256)
    camera_info_timeout: float = parameter(
        2.0,
        "Time without any camera_info or mask [s] after which /diagnostics says so.",
        low=0.1,
        high=3600.0,
        live=True,
    )
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if not self.mesh.strip():
            raise ConfigError("parameter mesh='': expected a mesh file, for example mesh:=/data/bracket.stl.")
        if self.models_info_key and not self.models_info.strip():
            raise ConfigError(
                f"parameter models_info_key={self.models_info_key!r}: expected models_info beside it, the file that "
                "has this entry."
            )
        if self.init_iou < self.lost_iou:
            raise ConfigError(
                f"parameter init_iou={self.init_iou}: expected at least lost_iou={self.lost_iou}; otherwise "
                "an accepted "
                "pose would be lost at once."
            )
        for name in ("object_frame", "object_name"):
            if getattr(self, name).startswith("/"):
                raise ConfigError(f"parameter {name}={getattr(self, name)!r}: a tf2 frame must not start with '/'.")

    @cached_property
    def mesh_path(self) -> Path:
        """The mesh file; ``file://`` and ``package://`` are resolved.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("mesh", self.mesh)

    @cached_property
    def models_info_path(self) -> Path | None:
        """The file with the symmetries; None where none is given.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("models_info", self.models_info) if self.models_info.strip() else None

    @cached_property
    def name(self) -> str:
        """Name of the object."""
        return self.object_name or self.mesh_path.stem

    @cached_property
    def frame(self) -> str:
        """Child frame of the published transform."""
        return self.object_frame or self.name


def resolve_path(name: str, text: str) -> Path:
    """The file that the parameter ``name`` means; ``file://`` and ``package://`` are resolved.

    Raises:
        ConfigError: unknown kind of URI, or the package is not installed.
    """
    uri = urlparse(text.strip())
    if uri.scheme == "file":
        return Path(unquote(uri.path))
    if uri.scheme == "package":
        try:
            share = get_package_share_directory(uri.netloc)
        except (LookupError, ValueError) as cause:
            raise ConfigError(f"parameter {name}={text!r}: the package '{uri.netloc}' is not installed.") from cause
        return Path(share) / unquote(uri.path).lstrip("/")
    if "://" in text:
        raise ConfigError(f"parameter {name}={text!r}: expected a path, file:// or package://, not {uri.scheme}://.")
    return Path(text.strip()).expanduser()
