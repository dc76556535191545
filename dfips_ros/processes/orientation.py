# SPDX-License-Identifier: Apache-2.0
"""Which way the faces of a mesh look: of a closed surface, only the faces towards the camera need to be drawn."""

from __future__ import annotations

import numba as nb
import numpy as np

MAX_FACES = 200_000  # of larger meshes it is not found out, which would take seconds


@nb.njit(cache=True, nogil=True)
def _parts(faces, label):
    """Number the connected parts: ``label`` (V,) receives one vertex of each vertex's part (union-find)."""
    for v in range(label.shape[0]):
        label[v] = v
    for f in range(faces.shape[0]):
        for k in range(1, 3):
            a, b = faces[f, 0], faces[f, k]
            while label[a] != a:
                label[a] = label[label[a]]
                a = label[a]
            while label[b] != b:
                label[b] = label[label[b]]
                b = label[b]
            label[max(a, b)] = min(a, b)
    for v in range(label.shape[0]):
        label[v] = label[label[v]]


def turned_outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray | None:
    """Faces with their corners in counter-clockwise order seen from outside; None if it is not closed, or too large.

    Closed means that every edge is passed as often in one direction as in the other. A ray that meets such a surface
    meets as many faces from outside as from inside, so either half of the faces has the same silhouette. A part whose
    faces look inwards (negative volume) is turned as a whole.

    Args:
        vertices: (V, 3); equal ones count as one.
        faces: (F, 3).
    """
    if len(faces) > MAX_FACES:
        return None
    _, same = np.unique(vertices, axis=0, return_inverse=True)
    merged = same.reshape(-1)[faces].astype(np.int64)
    count = int(merged.max()) + 1
    tail, head = merged.reshape(-1), np.roll(merged, -1, axis=1).reshape(-1)
    if not np.array_equal(np.sort(tail * count + head), np.sort(head * count + tail)):
        return None
    label = np.empty(count, np.int64)
    _parts(merged, label)
    corners = vertices[faces].astype(np.float64)
    corners -= corners.mean(axis=(0, 1))
    volumes = (corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum(axis=1)
    part = label[merged[:, 0]]
    inward = np.bincount(part, volumes, count)[part] < 0
    return np.where(inward[:, None], faces[:, ::-1], faces)
