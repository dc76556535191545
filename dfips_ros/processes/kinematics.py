# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of a serial chain from a URDF: Pinocchio is the reference, two fast copies are built from it.

``T_base_tip(q) = E_1(q) ... E_m(q) T`` with ``E_i(q) = A_i M_i(ratio_i q[variable_i] + offset_i)``: constant placements
A_i and T read off the Pinocchio model, M_i a turn about, or a shift along, the z axis. Mimic joints share a variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, require
from ..geometry import make_pose_torch
from .kinematics_jit import ROW_PRISMATIC, ROW_RATIO, ROW_VARIABLE, forward_many
from .urdf import Joint, joint_table, read_urdf

MIMIC_DEPTH = 10


@dataclass(frozen=True, eq=False)
class SerialChain:
    """The joints between two links of a robot, as plain arrays.

    Attributes:
        names: (n,) of the joints that can be commanded, from base to tip; angles in radians, shifts in metres.
        lower: (n,) limits; -pi where ``wraps``.
        upper: (n,) limits; pi where ``wraps``.
        wraps: (n,) bool, joints that turn without end.
        table: (m + 1, 16) float64, one row per moving element (rotation 9, translation 3, 1 if prismatic, variable,
            ratio, offset), then the tip.
        base: name of the first link.
        tip: name of the last link.
        model: the whole robot in Pinocchio.
        notes: what was odd about the URDF and how it was read.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    wraps: np.ndarray
    table: np.ndarray
    base: str
    tip: str
    model: Any
    sources: dict[str, tuple[str, float, float]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def from_urdf(path_or_xml: str | Path, tip: str, base: str | None = None) -> SerialChain:
        """Read the chain between two links.

        Args:
            path_or_xml: a URDF file, or its text.
            tip: name of the last link.
            base: name of the first link, an ancestor of the tip; the root by default.

        Raises:
            ConfigError: no such file or link, not a URDF, no moving joint between the two, a joint with several degrees
                of freedom or a prismatic joint without limits between them.
        """
        require("pinocchio", "Forward kinematics", "pip install pin")
        import pinocchio

        xml, notes = read_urdf(path_or_xml)
        joints = joint_table(xml)
        try:
            model = pinocchio.buildModelFromXML(xml)
        except (ValueError, RuntimeError) as cause:
            raise ConfigError(f"URDF: Pinocchio cannot read it ({cause}).") from cause
        links = [frame.name for frame in model.frames if frame.type == pinocchio.FrameType.BODY]
        if base is None:
            base = _root_link(xml)
        for role, name in (("tip", tip), ("base", base)):
            if name not in links:
                raise ConfigError(f"{role}={name!r}: no such link; the URDF has {', '.join(links)}.")
        return _chain(model, joints, tip, base, notes)

    def full_configuration(self, positions: np.ndarray) -> np.ndarray:
        """The configuration of the whole Pinocchio model; joints that are not of this chain are neutral."""
        import pinocchio

        q = pinocchio.neutral(self.model)
        value = dict(zip(self.names, np.asarray(positions, dtype=np.float64), strict=True))
        for name, (source, ratio, offset) in self.sources.items():
            joint = self.model.joints[self.model.getJointId(name)]
            if source not in value:
                continue
            x = ratio * value[source] + offset
            if joint.nq == 2:
                q[joint.idx_q : joint.idx_q + 2] = np.cos(x), np.sin(x)
            else:
                q[joint.idx_q] = x
        return q

    def reference(self, positions: np.ndarray) -> np.ndarray:
        """T_base_tip (4, 4) by Pinocchio itself, for joint positions (n,)."""
        import pinocchio

        data = self.model.createData()
        pinocchio.framesForwardKinematics(self.model, data, self.full_configuration(positions))
        base, tip = (data.oMf[self.model.getFrameId(name, pinocchio.FrameType.BODY)] for name in (self.base, self.tip))
        return base.actInv(tip).homogeneous

    def forward(self, positions: np.ndarray) -> np.ndarray:
        """T_base_tip (B, 4, 4) of joint positions (B, n)."""
        return forward_many(self.table, np.ascontiguousarray(positions, dtype=np.float64))


def _root_link(xml: str) -> str:
    root = ElementTree.fromstring(xml)
    children = {e.get("link") for e in root.iterfind("joint/child")}
    return next(name for e in root.iterfind("link") if (name := e.get("name", "")) not in children)


def _chain(model: Any, joints: dict[str, Joint], tip: str, base: str, notes: list[str]) -> SerialChain:
    import pinocchio

    frames = {name: model.frames[model.getFrameId(name, pinocchio.FrameType.BODY)] for name in (tip, base)}
    path = []
    index = frames[tip].parentJoint
    while index not in (frames[base].parentJoint, 0):
        path.append(index)
        index = model.parents[index]
    if index != frames[base].parentJoint:
        raise ConfigError(f"base={base!r}: it is not between the root of the robot and the tip {tip!r}.")
    path.reverse()
    sources = {name: _source(joints, name) for name in joints if joints[name].kind in Joint.MOVING}
    chain_joints = [joints[model.names[i]] for i in path]
    for joint in chain_joints:
        if joint.kind not in Joint.MOVING:
            raise ConfigError(f"joint '{joint.name}': a {joint.kind} joint cannot be part of a chain.")
    names = tuple(dict.fromkeys(sources[joint.name][0] for joint in chain_joints))
    if not names:
        raise ConfigError(f"tip={tip!r}, base={base!r}: there is no moving joint between them.")
    limits = _limits(names, chain_joints, joints, sources)

    rows = np.zeros((len(path) + 1, 16))
    before = frames[base].placement.inverse().homogeneous
    for row, i, joint in zip(rows, path, chain_joints, strict=False):
        turn = np.eye(4)
        turn[:3, :3] = _z_to(joint.axis)
        source, ratio, offset = sources[joint.name]
        _write(row, before @ model.jointPlacements[i].homogeneous @ turn)
        row[ROW_PRISMATIC:] = joint.kind == "prismatic", names.index(source), ratio, offset
        before = turn.T
    _write(rows[-1], before @ frames[tip].placement.homogeneous)
    return SerialChain(names, *limits, rows, base, tip, model, sources, tuple(notes))


def _write(row: np.ndarray, pose: np.ndarray) -> None:
    row[:9], row[9:12] = pose[:3, :3].ravel(), pose[:3, 3]


def _source(joints: dict[str, Joint], name: str) -> tuple[str, float, float]:
    """The joint that moves this one, and ``x = ratio q + offset``."""
    ratio, offset = 1.0, 0.0
    for _ in range(MIMIC_DEPTH):
        mimic = joints[name].mimic
        if mimic is None:
            return name, ratio, offset
        source, k, c = mimic
        if source not in joints:
            raise ConfigError(f"joint '{name}': it mimics '{source}', which is not in the URDF.")
        name, ratio, offset = source, ratio * k, ratio * c + offset
    raise ConfigError(f"joint '{name}': its mimic tags form a loop.")


def _limits(
    names: tuple[str, ...], chain: list[Joint], joints: dict[str, Joint], sources: dict[str, tuple[str, float, float]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limits of the commanded joints that keep those which mimic them inside theirs, too."""
    lower = np.array([joints[name].lower for name in names])
    upper = np.array([joints[name].upper for name in names])
    for joint in chain:
        source, ratio, offset = sources[joint.name]
        if source != joint.name and ratio != 0:
            i = names.index(source)
            ends = sorted(((joint.lower - offset) / ratio, (joint.upper - offset) / ratio))
            lower[i], upper[i] = max(lower[i], ends[0]), min(upper[i], ends[1])
    for name, low, high in zip(names, lower, upper, strict=True):
        if not low <= high:
            raise ConfigError(f"joint '{name}': expected lower <= upper limit, got [{low}, {high}].")
    wraps = np.isinf(lower) & np.isinf(upper)
    for name, wrap, low, high in zip(names, wraps, lower, upper, strict=True):
        turns = all(j.kind != "prismatic" for j in chain if sources[j.name][0] == name)
        if not (np.isfinite([low, high]).all() or (wrap and turns)):
            raise ConfigError(f"joint '{name}': expected finite limits, got [{low}, {high}]. Set them in the URDF.")
    return np.where(wraps, -np.pi, lower), np.where(wraps, np.pi, upper), wraps


def _z_to(axis: np.ndarray) -> np.ndarray:
    """A rotation that takes the z axis to a unit vector (3,)."""
    x, y, z = axis
    if z > 1.0 - 1e-12:
        return np.eye(3)
    if z < -1.0 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    length = np.hypot(x, y)
    u, v = x / length, y / length  # the axis lies over (u, v)
    return np.array([[u * z, -v, x], [v * z, u, y], [-length, 0.0, z]])


class ChainTable(Protocol):
    """What forward kinematics need of an arm."""

    @property
    def table(self) -> np.ndarray:
        """(m + 1, 16) as in :class:`SerialChain`."""
        ...


class ChainForward:
    """Forward kinematics in torch: batched, differentiable, on any device; a ``ForwardProcess``.

    Args:
        chain: the arm, or anything with such a ``table``.
        dtype: of its constants.
    """

    def __init__(self, chain: ChainTable, dtype: torch.dtype = torch.float32) -> None:
        self.table = torch.from_numpy(chain.table).to(dtype)
        self.variables = chain.table[:-1, ROW_VARIABLE].astype(int).tolist()
        self.ratios = chain.table[:-1, ROW_RATIO].tolist()
        self.prismatic = (chain.table[:-1, ROW_PRISMATIC] > 0).tolist()

    def to(self, like: Tensor) -> ChainForward:
        """Move the constants to the device and the type of a tensor."""
        if self.table.device != like.device or self.table.dtype != like.dtype:
            self.table = self.table.to(like)
        return self

    def __call__(self, estimate: Tensor) -> Tensor:
        """Joint positions (B, n) -> T_base_tip (B, 4, 4)."""
        rotation, position, _, _ = self.with_axes(estimate)
        return make_pose_torch(rotation, position)

    def with_axes(self, estimate: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Rotation (B, 3, 3) and position (B, 3) of the tip, and of each element its axis and origin (B, 3)."""
        self.to(estimate)
        count = len(estimate)
        rotation: Tensor = self.table[0, :9].reshape(3, 3).expand(count, 3, 3)
        position: Tensor = self.table[0, 9:12].expand(count, 3)
        axes, origins = [], []
        for i, variable in enumerate(self.variables):
            if i > 0:
                position = position + rotation @ self.table[i, 9:12]
                rotation = rotation @ self.table[i, :9].reshape(3, 3)
            x = estimate[:, variable] * self.ratios[i] + self.table[i, 15]
            axes.append(rotation[:, :, 2])
            origins.append(position)
            if self.prismatic[i]:
                position = position + rotation[:, :, 2] * x[:, None]
            else:
                c, s = torch.cos(x)[:, None], torch.sin(x)[:, None]
                a, b = rotation[:, :, 0], rotation[:, :, 1]
                rotation = torch.stack([c * a + s * b, c * b - s * a, rotation[:, :, 2]], dim=2)
        last = self.table[-1]
        return rotation @ last[:9].reshape(3, 3), position + rotation @ last[9:12], axes, origins

    def with_jacobian(self, estimate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotation (B, 3, 3) and position (B, 3) of the tip, and its Jacobian (B, 6, n): linear, angular."""
        rotation, position, axes, origins = self.with_axes(estimate)
        columns = [torch.zeros(len(estimate), 6, dtype=estimate.dtype, device=estimate.device)] * estimate.shape[1]
        for i, variable in enumerate(self.variables):
            if self.prismatic[i]:
                column = torch.cat([axes[i], torch.zeros_like(axes[i])], dim=1)
            else:
                column = torch.cat([torch.linalg.cross(axes[i], position - origins[i]), axes[i]], dim=1)
            columns[variable] = columns[variable] + self.ratios[i] * column
        return rotation, position, torch.stack(columns, dim=2)
