# SPDX-License-Identifier: Apache-2.0
"""Symmetries of an object: found on its mesh, or read from a BOP ``models_info.json`` entry.

A symmetry is a rigid transform from object to object that leaves the shape as it is. Poses that differ by one cannot be
told apart; the tracker reports the member nearest to the last pose, metrics take the nearest to the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ...errors import ConfigError
from ...geometry import fibonacci_directions, make_pose, rotation_angle
from ...processes.mesh import Mesh
from .mesh_set import surface_samples

_ORDERS = (2, 3, 4, 5, 6, 8)
_IRREGULAR_ANGLES = np.deg2rad([17.0, 41.0, 77.0, 131.0])
_MEAN_TOLERANCE, _TAIL_TOLERANCE = 0.008, 0.03  # diameters
_SAME_AXIS = np.cos(np.deg2rad(12.0))
_MAX_GROUP = 60


@dataclass(frozen=True)
class Symmetries:
    """The symmetry group of an object, in the frame of its mesh.

    Attributes:
        discrete: (N, 4, 4) transforms, the identity first.
        axes: (M, 3) unit axes of continuous rotations.
        offsets: (M, 3) a point on each of them, metres.
    """

    discrete: np.ndarray
    axes: np.ndarray
    offsets: np.ndarray

    @staticmethod
    def none() -> Symmetries:
        """Only the identity."""
        return Symmetries(np.eye(4)[None], np.zeros((0, 3)), np.zeros((0, 3)))

    @staticmethod
    def from_models_info(entry: Mapping[str, Any], scale: float = 0.001) -> Symmetries:
        """Read an entry of BOP's ``models_info.json``.

        Args:
            entry: may hold ``symmetries_discrete`` (rows of 16 numbers) and ``symmetries_continuous`` (each an ``axis``
                and an ``offset``).
            scale: factor from its unit (BOP: millimetres) to metres.

        Raises:
            ConfigError: a transform has another length, or is not rigid.
        """
        discrete = [np.eye(4)]
        for values in entry.get("symmetries_discrete", []):
            matrix = np.asarray(values, dtype=np.float64)
            if matrix.size != 16:
                raise ConfigError(f"symmetries_discrete: expected 16 numbers, got {matrix.size}.")
            matrix = matrix.reshape(4, 4).copy()
            matrix[:3, 3] *= scale
            turn = matrix[:3, :3]
            if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
                raise ConfigError(f"symmetries_discrete: expected a rotation, got {matrix[:3, :3].tolist()}.")
            discrete.append(matrix)
        axes, offsets = [], []
        for rotation in entry.get("symmetries_continuous", []):
            axis = np.asarray(rotation["axis"], dtype=np.float64)
            length = np.linalg.norm(axis)
            if axis.shape != (3,) or not length > 0:
                raise ConfigError(f"symmetries_continuous: expected an axis of three numbers, got {rotation['axis']}.")
            axes.append(axis / length)
            offsets.append(np.asarray(rotation.get("offset", (0, 0, 0)), dtype=np.float64) * scale)
        return Symmetries(np.stack(discrete), np.reshape(axes, (-1, 3)), np.reshape(offsets, (-1, 3)))

    @staticmethod
    def from_mesh(mesh: Mesh) -> Symmetries:
        """Find rotations about the centroid that map the surface onto itself, within a hundredth of the diameter."""
        return _SymmetryFinder(mesh).find()

    @property
    def is_trivial(self) -> bool:
        """True if only the identity is a symmetry."""
        return len(self.discrete) == 1 and len(self.axes) == 0

    @property
    def is_sphere(self) -> bool:
        """True if the object may be turned at will: two free axes generate every rotation."""
        return len(self.axes) > 1

    def members(self, steps: int = 72) -> np.ndarray:
        """All transforms, a continuous one sampled in ``steps`` angles; those of a sphere are left out.

        Returns:
            (N, 4, 4), the identity first.
        """
        if len(self.axes) != 1:
            return self.discrete
        turns = self._about_axis(np.arange(steps) * (2 * np.pi / steps))
        return (turns[:, None] @ self.discrete[None]).reshape(-1, 4, 4)

    def _about_axis(self, angles: np.ndarray) -> np.ndarray:
        turns = Rotation.from_rotvec(self.axes[0] * angles[:, None]).as_matrix()
        return make_pose(turns, self.offsets[0] - turns @ self.offsets[0])

    def nearest(self, T_camera_object: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The equivalent of a pose whose rotation is nearest to that of ``reference``. (4, 4), (4, 4) -> (4, 4).

        About a free axis the best angle is known in closed form: tr(M exp(t [a])) = A cos t + B sin t + C.
        """
        if self.is_trivial:
            return T_camera_object
        if self.is_sphere:
            center = T_camera_object[:3, :3] @ self.offsets[0] + T_camera_object[:3, 3]
            return make_pose(reference[:3, :3], center - reference[:3, :3] @ self.offsets[0])
        poses = T_camera_object @ self.discrete
        if len(self.axes) == 1:
            axis, before = self.axes[0], T_camera_object[:3, :3]
            skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
            between = np.stack([d @ reference[:3, :3].T @ before for d in self.discrete[:, :3, :3]])
            cosine = np.trace(between @ (np.eye(3) - np.outer(axis, axis)), axis1=1, axis2=2)
            sine = np.trace(between @ skew, axis1=1, axis2=2)
            poses = T_camera_object @ self._about_axis(np.arctan2(sine, cosine)) @ self.discrete
        return poses[int(np.argmin(rotation_angle(poses[:, :3, :3], reference[None, :3, :3])))]


class _SymmetryFinder:
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        dense = surface_samples(mesh, 6000, seed=1).astype(np.float64)
        triangles = mesh.normalised_vertices().astype(np.float64)[mesh.faces]
        areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
        self.large_normals = self._normals_of_large_faces(triangles, areas)
        self.centroid = (triangles.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum()
        self.points = dense[:, :3] - self.centroid
        self.normals = dense[:, 3:]
        self.tree = cKDTree(self.points)
        self.probe = surface_samples(mesh, 700, seed=2).astype(np.float64)[:, :3] - self.centroid

    @staticmethod
    def _normals_of_large_faces(triangles: np.ndarray, areas: np.ndarray) -> np.ndarray:
        largest = np.argsort(-areas)[:12]
        edges = triangles[largest]
        normals = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
        return normals / np.maximum(areas[largest], 1e-12)[:, None]

    def mismatch(self, rotation: np.ndarray) -> float:
        """Distance of the rotated surface to the surface, at most 1 for a symmetry.

        Measured to the tangent plane of the nearest point, or to the point itself where that is far.
        """
        moved = self.probe @ rotation.T
        distance, index = self.tree.query(moved)
        plane = np.abs(((moved - self.points[index]) * self.normals[index]).sum(axis=1))
        error = np.maximum(plane, distance - 0.05)
        return float(max(error.mean() / _MEAN_TOLERANCE, np.quantile(error, 0.98) / _TAIL_TOLERANCE))

    def candidate_axes(self) -> np.ndarray:
        """Axes of the file, principal axes, normals of the largest faces, and what the inertia cannot tell apart."""
        values, vectors = np.linalg.eigh(self.points.T @ self.points / len(self.points))
        axes = [*np.eye(3), *vectors.T, *self.large_normals]
        close = [abs(values[i] - values[j]) < 0.05 * values[2] for i, j in ((0, 1), (1, 2))]
        if all(close):
            directions = fibonacci_directions(400)
            axes += list(directions[directions[:, 2] >= 0])
        for pair, is_close in zip(((0, 1), (1, 2)), close, strict=True):
            if is_close:
                a, b = vectors[:, pair[0]], vectors[:, pair[1]]
                axes += [np.cos(t) * a + np.sin(t) * b for t in np.deg2rad(np.arange(0, 180, 3))]
        unique: list[np.ndarray] = []
        for axis in axes:
            if not unique or np.abs(np.stack(unique) @ axis).max() < np.cos(np.deg2rad(1.0)):
                unique.append(axis)
        return np.stack(unique)

    def find(self) -> Symmetries:
        found: list[tuple[float, int, np.ndarray]] = []  # mismatch, order (0: continuous), axis
        for axis in self.candidate_axes():
            worst = 0.0
            for angle in _IRREGULAR_ANGLES:
                worst = max(worst, self.mismatch(Rotation.from_rotvec(axis * angle).as_matrix()))
                if worst > 1.0:
                    break
            if worst <= 1.0:
                found.append((worst, 0, axis))
                continue
            for order in _ORDERS:
                error = self.mismatch(Rotation.from_rotvec(axis * 2 * np.pi / order).as_matrix())
                if error <= 1.0:
                    found.append((error, order, axis))
        kept: list[tuple[int, np.ndarray]] = []
        for _, order, axis in sorted(found, key=lambda item: item[0]):  # of axes close to each other, the best
            if not any(order == o and abs(axis @ a) > _SAME_AXIS for o, a in kept):
                kept.append((order, axis))
        continuous = [axis for order, axis in kept if order == 0]
        generators = [Rotation.from_rotvec(a * 2 * np.pi / o).as_matrix() for o, a in kept if o > 0]
        if len(continuous) > 1:  # a sphere: three axes generate every rotation
            continuous, generators = list(np.eye(3)), []
        elif continuous:  # a turned part: at most a flip is left
            across = [g for g in generators if abs(continuous[0] @ g @ continuous[0]) > 0.98]
            flips = [g for g in across if continuous[0] @ g @ continuous[0] < 0]
            generators = flips[:1]
        group = _closure(generators)
        center = self.mesh.center + self.centroid * self.mesh.diameter
        discrete = make_pose(group, center - group @ center)
        return Symmetries(discrete, np.reshape(continuous, (-1, 3)), np.tile(center, (len(continuous), 1)))


def _closure(generators: list[np.ndarray]) -> np.ndarray:
    """The group that rotations generate, at most 60 of them. -> (N, 3, 3), the identity first."""
    group = [np.eye(3)]
    frontier = [np.eye(3)]
    while frontier and len(group) < _MAX_GROUP:
        fresh = []
        for rotation in frontier:
            for generator in generators:
                product = generator @ rotation
                if rotation_angle(np.stack(group), product[None]).min() > np.deg2rad(8.0) and len(group) < _MAX_GROUP:
                    group.append(product)
                    fresh.append(product)
        frontier = fresh
    return np.stack(group)
