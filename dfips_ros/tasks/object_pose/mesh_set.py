# SPDX-License-Identifier: Apache-2.0
"""Meshes prepared for simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...processes.contour import NUM_SURFACE
from ...processes.mesh import Mesh
from ...processes.rasterizer import PackedMeshes
from ...processes.simplification import simplified_for_silhouettes


def surface_samples(mesh: Mesh, count: int, seed: int = 0) -> np.ndarray:
    """Points and normals on a normalised mesh, uniform by area. -> (count, 6) float32."""
    vertices = mesh.normalised_vertices().astype(np.float64)
    triangles = vertices[mesh.faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    rng = np.random.default_rng(seed)
    # Stratified: evenly spaced along the cumulative area, so that every large part gets its share.
    cumulative = np.cumsum(areas)
    pick = np.searchsorted(cumulative, (np.arange(count) + rng.uniform(size=count)) / count * cumulative[-1])
    pick = np.minimum(pick, len(areas) - 1)
    a, b = rng.uniform(size=(2, count))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    chosen = triangles[pick]
    points = chosen[:, 0] + a[:, None] * (chosen[:, 1] - chosen[:, 0]) + b[:, None] * (chosen[:, 2] - chosen[:, 0])
    unit = normals[pick] / np.maximum(areas[pick], 1e-12)[:, None]
    order = rng.permutation(count)
    return np.concatenate([points, unit], axis=1)[order].astype(np.float32)


class MeshSet:
    """Meshes prepared for simulation: simplified, centered, of diameter one.

    Args:
        meshes: the objects.
        simulation_faces: see :class:`ObjectPoseConfig`.
    """

    def __init__(self, meshes: Sequence[Mesh], simulation_faces: int) -> None:
        self.faces = simulation_faces
        self.meshes = [simplified_for_silhouettes(mesh, simulation_faces) for mesh in meshes]
        self.packed = PackedMeshes([(m.normalised_vertices(), m.faces) for m in self.meshes])
        self.surface = np.stack([surface_samples(m, NUM_SURFACE) for m in self.meshes])

    def __len__(self) -> int:
        return len(self.meshes)
