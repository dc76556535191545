# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node from one table: a frozen dataclass whose fields carry default, range and description.

Declaration, reading, validation, docs/ros_api.md and the test of config/*.yaml all come from that table.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from ..errors import ConfigError
from ..messages.uri import path_from_uri

P = TypeVar("P")

Value = bool | int | float | str | tuple[str, ...]

_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string array"}


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
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    @property
    def type_name(self) -> str:
        """bool, integer, double, string or string array."""
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

    @property
    def ros_default(self) -> bool | int | float | str | list[str]:
        """The default as rclpy and YAML take it: without a string in it an empty list would have no type."""
        return list(self.default) or [""] if isinstance(self.default, tuple) else self.default

    def check(self, value: object) -> Value:
        """The value in the parameter's type; a whole number is taken for a double, empty strings leave a list.

        Raises:
            ConfigError: names the parameter, the value and what is allowed.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and value is None:  # what ROS makes of `[]` in a parameters file
            value = ()
        if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            value = tuple(each for each in value if each)
        if type(value) is not kind:
            raise ConfigError(f"parameter {self.name}={value!r}: expected {self.type_name} ({self.allowed}).")
        wrong = bool(self.choices) and value not in self.choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            wrong = not math.isfinite(value)
            wrong = wrong or (self.low is not None and value < self.low)
            wrong = wrong or (self.high is not None and value > self.high)
        if wrong:
            raise ConfigError(f"parameter {self.name}={value!r}: allowed is {self.allowed}.")
        return cast(Value, value)

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
        # So that `mesh_scale: 1` is taken for 1.0, and an empty list for one of strings; check() keeps other types out.
        descriptor.dynamic_typing = isinstance(self.default, (float, tuple))
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


def members(names: str, table: type) -> Any:
    """A field that holds one ``table`` for each name in the parameter ``names``, by name.

    In ROS the parameters of the table are ``<names>.<name>.<parameter>``.
    """
    return field(default_factory=dict, metadata={"members": (names, table)})


def specs_of(table: type) -> tuple[ParameterSpec, ...]:
    """The specs of a parameter table, in its order; without those of its members."""
    return tuple(_spec(each) for each in fields(table) if "spec" in each.metadata)


def members_of(table: type) -> dict[str, tuple[str, type]]:
    """The tables of members: field -> (parameter with their names, table)."""
    return {each.name: each.metadata["members"] for each in fields(table) if "members" in each.metadata}


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
        self._members = members_of(table)
        self._specs: dict[str, ParameterSpec] = {}
        self._problems: dict[str, str] = {}
        given = getattr(node, "_parameter_overrides", {})
        for spec in specs_of(table):
            self._declare(spec)
        for names, _ in self._members.values():
            self._declare_members(names, self._node.get_parameter(names).value)
        for name in given:
            if name not in self._specs and name != "use_sim_time" and not name.startswith("qos_overrides."):
                close = difflib.get_close_matches(name, self._specs, 1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                node.get_logger().warning(f"unknown parameter '{name}' is ignored.{hint}")

    def _declare(self, spec: ParameterSpec) -> None:
        given = getattr(self._node, "_parameter_overrides", {}).get(spec.name)
        try:
            if given is not None:
                spec.check(given.value)
            self._node.declare_parameter(spec.name, spec.ros_default, spec.descriptor())
        except (ConfigError, InvalidParameterTypeException, InvalidParameterValueException) as problem:
            self._problems[spec.name] = str(problem)
            self._node.declare_parameter(spec.name, spec.ros_default, spec.descriptor(), ignore_override=True)
        self._specs[spec.name] = spec  # only now: declaring calls :meth:`judge`

    def _declare_members(self, names: str, listed: object) -> None:
        """Declare the parameters of members that are new in the list ``names``."""
        tables = [table for parameter_name, table in self._members.values() if parameter_name == names]
        for table in tables:
            for name in cast("tuple[str, ...]", self._specs[names].check(listed)):
                for spec in specs_of(table):
                    full = f"{names}.{name}.{spec.name}"
                    if full not in self._specs:
                        self._declare(replace(spec, name=full))

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
        for name, value in ours.items():  # checks across parameters wait for `configure`: several can be set in turn
            self._problems.pop(name, None)
            self._declare_members(name, value)
        return None

    def _make(self, values: Mapping[str, object]) -> P:
        checked = {name: self._specs[name].check(value) for name, value in values.items()}
        given: dict[str, Any] = {spec.name: checked[spec.name] for spec in specs_of(self._table)}
        for holder, (names, table) in self._members.items():
            given[holder] = {
                name: table(**{spec.name: checked[f"{names}.{name}.{spec.name}"] for spec in specs_of(table)})
                for name in given[names]
            }
        return self._table(**given)


def resolve_path(name: str, text: str) -> Path:
    """The file that the parameter ``name`` means; ``file://`` and ``package://`` are resolved.

    Raises:
        ConfigError: unknown kind of URI, or the package is not installed.
    """
    try:
        return path_from_uri(text)
    except ConfigError as error:
        raise ConfigError(f"parameter {name}={text!r}: {error}") from error
