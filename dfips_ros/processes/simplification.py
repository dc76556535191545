# SPDX-License-Identifier: Apache-2.0
"""Fewer faces for the simulation, as long as the silhouette stays what it is."""

from __future__ import annotations

import numpy as np

from ..geometry import make_pose, random_rotations
from .mesh import Mesh, simplified
from .rasterizer import PackedMeshes, rasterize_numpy

LEAST_IOU = 0.995  # mean over the views
MOST_GROWTH = 16
_VIEWS, _SIZE, _DISTANCE = 8, 128, 3.0


def silhouette_agreement(a: Mesh, b: Mesh) -> float:
    """Mean silhouette IoU of two versions of a mesh, seen from eight sides from three diameters away, 128x128."""
    rotations = random_rotations(_VIEWS, np.random.default_rng(0))
    middle = np.array([0.0, 0.0, _DISTANCE * a.diameter])
    poses = make_pose(rotations, middle - rotations @ a.center)
    focal = 0.95 * _SIZE * (_DISTANCE - 0.5)
    camera = np.array([[focal, 0, (_SIZE - 1) / 2], [0, focal, (_SIZE - 1) / 2], [0, 0, 1.0]])
    packed = PackedMeshes([(mesh.vertices, mesh.faces) for mesh in (a, b)])
    cameras = np.tile(camera, (_VIEWS, 1, 1))
    seen = [rasterize_numpy(packed, np.full(_VIEWS, m), poses, cameras, (_SIZE, _SIZE)) > 0 for m in (0, 1)]
    common, either = (seen[0] & seen[1]).sum((1, 2)), (seen[0] | seen[1]).sum((1, 2))
    return float((common / np.maximum(either, 1)).mean())


def simplified_for_silhouettes(mesh: Mesh, faces: int) -> Mesh:
    """A copy with about ``faces`` faces, or more where the silhouette would suffer (thin and loose parts vanish first).

    It keeps the center and the diameter of ``mesh``.
    The number is doubled until the silhouettes agree to an IoU of ``LEAST_IOU``, up to ``MOST_GROWTH`` times ``faces``.
    """
    for growth in range(MOST_GROWTH.bit_length()):
        coarse = simplified(mesh, faces << growth)
        if coarse is mesh or silhouette_agreement(mesh, coarse) >= LEAST_IOU:
            break
    # Lost corners must not move the frame in which poses are solved.
    object.__setattr__(coarse, "center", mesh.center)
    object.__setattr__(coarse, "diameter", mesh.diameter)
    return coarse
