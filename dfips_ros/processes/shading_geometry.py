# SPDX-License-Identifier: Apache-2.0
"""What a camera sees of a mesh, pixel by pixel: depth and normal (a geometry buffer)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np

from .mesh import Mesh

CREASE_DEG = 40.0  # edges between faces that differ by more stay sharp
NEAR = 1e-3


@nb.njit(cache=True, nogil=True)
def _smoothed(face_normals, areas, faces, start, incident, cosine):
    """(F, 3, 3) normals of the corners: faces around the vertex that differ little, whichever way they are wound."""
    out = np.empty((faces.shape[0], 3, 3), np.float32)
    for f in range(faces.shape[0]):
        own = face_normals[f]
        for c in range(3):
            x = y = z = 0.0
            for i in range(start[faces[f, c]], start[faces[f, c] + 1]):
                g = incident[i]
                other = face_normals[g]
                dot = own[0] * other[0] + own[1] * other[1] + own[2] * other[2]
                if abs(dot) >= cosine:
                    weight = areas[g] if dot > 0 else -areas[g]
                    x += weight * other[0]
                    y += weight * other[1]
                    z += weight * other[2]
            length = math.sqrt(x * x + y * y + z * z)
            if length > 0:
                out[f, c, 0], out[f, c, 1], out[f, c, 2] = x / length, y / length, z / length
            else:
                out[f, c] = own
    return out


@dataclass(frozen=True)
class ShadingMesh:
    """A mesh of diameter one around the origin, with a normal at every corner of every face.

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int32.
        face_normals: (F, 3) float32 unit, zero for faces without area; which side they point to is the file's affair.
        corner_normals: (F, 3, 3) float32 unit, smooth where neighbouring faces differ by less than the crease angle.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_normals: np.ndarray
    corner_normals: np.ndarray


def shading_mesh(mesh: Mesh, crease_deg: float = CREASE_DEG) -> ShadingMesh:
    """Make the normals of a mesh; those of its file, if it has any, are not needed.

    Args:
        mesh: the object.
        crease_deg: edges between faces that differ by more than this angle stay sharp.
    """
    vertices = mesh.normalised_vertices()
    corners = vertices[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1)
    normals = (cross / np.maximum(length, 1e-30)[:, None]).astype(np.float32)
    _, merged = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    joined = merged.reshape(-1)[mesh.faces].astype(np.int64)
    order = np.argsort(joined.reshape(-1), kind="stable")
    start = np.searchsorted(joined.reshape(-1)[order], np.arange(int(joined.max()) + 2))
    smooth = _smoothed(normals, length, joined, start, order // 3, math.cos(math.radians(crease_deg)))
    return ShadingMesh(vertices, mesh.faces, normals, smooth)


@nb.njit(cache=True, nogil=True)
def _draw(vertices, faces, face_normals, corner_normals, pose, fx, fy, cx, cy, depth, normal):
    height, width = depth.shape
    points = np.empty((vertices.shape[0], 3), np.float64)
    pixels = np.empty((vertices.shape[0], 2), np.float64)
    for i in range(vertices.shape[0]):
        for r in range(3):
            points[i, r] = (
                pose[r, 0] * vertices[i, 0] + pose[r, 1] * vertices[i, 1] + pose[r, 2] * vertices[i, 2] + pose[r, 3]
            )
        if points[i, 2] > NEAR:
            pixels[i, 0] = fx * points[i, 0] / points[i, 2] + cx
            pixels[i, 1] = fy * points[i, 1] / points[i, 2] + cy
    depth[:] = np.inf
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if min(points[a, 2], points[b, 2], points[c, 2]) <= NEAR:
            continue
        ax, ay, bx, by, qx, qy = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1], pixels[c, 0], pixels[c, 1]
        x_low, x_high = max(math.ceil(min(ax, bx, qx)), 0), min(math.floor(max(ax, bx, qx)), width - 1)
        y_low, y_high = max(math.ceil(min(ay, by, qy)), 0), min(math.floor(max(ay, by, qy)), height - 1)
        area = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
        if x_low > x_high or y_low > y_high or abs(area) < 1e-12:
            continue
        g = np.empty(3)
        for r in range(3):
            g[r] = pose[r, 0] * face_normals[f, 0] + pose[r, 1] * face_normals[f, 1] + pose[r, 2] * face_normals[f, 2]
        facing = g[0] * points[a, 0] + g[1] * points[a, 1] + g[2] * points[a, 2]
        sign = -1.0 if facing > 0 else 1.0  # the side that is seen is the outside
        for y in range(int(y_low), int(y_high) + 1):
            for x in range(int(x_low), int(x_high) + 1):
                w0 = ((bx - x) * (qy - y) - (by - y) * (qx - x)) / area
                w1 = ((qx - x) * (ay - y) - (qy - y) * (ax - x)) / area
                w2 = 1.0 - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                u0, u1, u2 = w0 / points[a, 2], w1 / points[b, 2], w2 / points[c, 2]
                z = 1.0 / (u0 + u1 + u2)
                if z >= depth[y, x]:
                    continue
                depth[y, x] = z
                nx = u0 * corner_normals[f, 0, 0] + u1 * corner_normals[f, 1, 0] + u2 * corner_normals[f, 2, 0]
                ny = u0 * corner_normals[f, 0, 1] + u1 * corner_normals[f, 1, 1] + u2 * corner_normals[f, 2, 1]
                nz = u0 * corner_normals[f, 0, 2] + u1 * corner_normals[f, 1, 2] + u2 * corner_normals[f, 2, 2]
                scale = sign / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
                for r in range(3):
                    normal[y, x, r] = scale * (pose[r, 0] * nx + pose[r, 1] * ny + pose[r, 2] * nz)
    for y in range(height):
        for x in range(width):
            if depth[y, x] == np.inf:
                depth[y, x] = 0.0


def draw_geometry(
    mesh: ShadingMesh, T_camera_object: np.ndarray, camera_matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and normals as the camera sees them.

    Args:
        mesh: of diameter one.
        T_camera_object: (4, 4), translation in diameters, optical frame.
        camera_matrix: (3, 3) pixels.
        size: (height, width).

    Returns:
        (H, W) float32 depth in diameters, 0 where nothing is seen; (H, W, 3) float32 unit normals in the camera's
        frame, on the side of the surface that is seen.
    """
    depth, normal = np.empty(size, np.float32), np.zeros((*size, 3), np.float32)
    k = np.asarray(camera_matrix, np.float64)
    pose = np.ascontiguousarray(T_camera_object, np.float64)
    _draw(
        mesh.vertices, mesh.faces, mesh.face_normals, mesh.corner_normals, pose, k[0, 0], k[1, 1], k[0, 2], k[1, 2],
        depth, normal,
    )  # fmt: skip
    return depth, normal


def pixel_rays(camera_matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 points at depth one that the pixels' centers look at."""
    k = np.asarray(camera_matrix, np.float64)
    v, u = np.mgrid[: size[0], : size[1]]
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(size)], axis=-1)
    return rays.astype(np.float32)
