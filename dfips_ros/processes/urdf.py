# SPDX-License-Identifier: Apache-2.0
"""What a URDF says about its joints beyond what Pinocchio's model keeps, and repairs that let Pinocchio read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from ..errors import ConfigError


@dataclass(frozen=True)
class Joint:
    """One joint tag.

    Attributes:
        name: of the joint.
        kind: ``revolute``, ``continuous``, ``prismatic``, ``fixed``, ``floating`` or ``planar``.
        axis: (3,) of unit length, in the joint's frame.
        lower: limit, -inf where there is none.
        upper: limit, inf where there is none.
        mimic: the joint that it follows, the multiplier and the offset.
    """

    MOVING: ClassVar[tuple[str, ...]] = ("revolute", "continuous", "prismatic")

    name: str
    kind: str
    axis: np.ndarray
    lower: float
    upper: float
    mimic: tuple[str, float, float] | None


def read_urdf(path_or_xml: str | Path) -> tuple[str, list[str]]:
    """The text of a URDF that Pinocchio can read, and notes on what had to be repaired.

    A revolute joint without limits, or with infinite ones, becomes a continuous one. ``<safety_controller>`` tags (soft
    limits of a controller) have no say here.

    Raises:
        ConfigError: no such file, or not a URDF.
    """
    text = str(path_or_xml)
    if not text.lstrip().startswith("<"):
        file = Path(path_or_xml)
        if not file.is_file():
            raise ConfigError(f"URDF: no file '{path_or_xml}'. Give a path, or the text of a URDF itself.")
        text = file.read_text(encoding="utf-8", errors="replace")
    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as cause:
        raise ConfigError(f"URDF: not well-formed XML ({cause}).") from cause
    if root.tag != "robot":
        raise ConfigError(f"URDF: expected a <robot> at the top, got <{root.tag}>.")
    if "ros.org/wiki/xacro" in text and any("xacro" in str(e.tag) for e in root.iter()):
        raise ConfigError("URDF: this is a xacro file. Expand it first: ros2 run xacro xacro FILE > robot.urdf")
    notes = []
    for joint in root.iterfind("joint"):
        name, kind = joint.get("name", ""), joint.get("type", "")
        limit = joint.find("limit")
        for tag in joint.findall("safety_controller"):
            joint.remove(tag)
        if kind not in ("revolute", "prismatic"):
            continue
        low, high = _limits(limit, name)
        if math.isfinite(low) and math.isfinite(high):
            continue
        if kind == "revolute":
            notes.append(f"joint '{name}' has no limits in the URDF: it is taken to turn without end.")
            joint.set("type", "continuous")
            if limit is not None:
                joint.remove(limit)
        else:
            if limit is None:
                limit = ElementTree.SubElement(joint, "limit", {"effort": "0", "velocity": "0"})
            limit.set("lower", "0")
            limit.set("upper", "0")
            joint.set("unlimited", "true")
    return ElementTree.tostring(root, encoding="unicode"), notes


def _limits(limit: ElementTree.Element | None, name: str) -> tuple[float, float]:
    """Lower and upper; infinite where nothing is said, or that they are."""
    if limit is None or (limit.get("lower") is None and limit.get("upper") is None):
        return -math.inf, math.inf
    try:
        low, high = float(limit.get("lower", "0")), float(limit.get("upper", "0"))
    except ValueError as cause:
        raise ConfigError(f"joint '{name}': its limits are not numbers ({cause}).") from cause
    if math.isnan(low) or math.isnan(high):
        raise ConfigError(f"joint '{name}': its limits are not numbers (lower {low}, upper {high}).")
    return low if math.isfinite(low) else -math.inf, high if math.isfinite(high) else math.inf


def _numbers(text: str, count: int, name: str) -> list[float]:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ConfigError(f"joint '{name}': expected {count} finite numbers, got '{text}'.")
    return values


def joint_table(xml: str) -> dict[str, Joint]:
    """All joints of a URDF that :func:`read_urdf` has read.

    Raises:
        ConfigError: an axis of zero length, or something that is not a number.
    """
    joints = {}
    for element in ElementTree.fromstring(xml).iterfind("joint"):
        name, kind = element.get("name", ""), element.get("type", "")
        axis_tag, mimic_tag = element.find("axis"), element.find("mimic")
        axis = np.array(_numbers(axis_tag.get("xyz", "1 0 0") if axis_tag is not None else "1 0 0", 3, name))
        length = float(np.linalg.norm(axis))
        if kind in Joint.MOVING and length < 1e-9:
            raise ConfigError(f"joint '{name}': its axis has zero length.")
        low, high = -math.inf, math.inf
        if kind != "continuous" and element.get("unlimited") is None:
            low, high = _limits(element.find("limit"), name)
        mimic = None
        if mimic_tag is not None:
            ratio, offset = _numbers(f"{mimic_tag.get('multiplier', '1')} {mimic_tag.get('offset', '0')}", 2, name)
            mimic = (mimic_tag.get("joint", ""), ratio, offset)
        joints[name] = Joint(name, kind, axis / max(length, 1e-12), low, high, mimic)
    return joints
