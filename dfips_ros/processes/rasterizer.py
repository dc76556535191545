# SPDX-License-Identifier: Apache-2.0
"""A batched depth rasteriser for triangle soups: numba on the CPU, plain torch on any device.

A pixel is covered when its center lies in a triangle, as in OpenGL; a shared depth buffer keeps the nearest
surface. Triangles with a vertex nearer than ``NEAR`` are left out, so the object must be in front of the camera.

Convention:
    Pixel (row v, column u) has its center at (u, v) in the pinhole model ``u = fx X/Z + cx``, as in OpenCV and
    CameraInfo.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from ..errors import ShapeError
from .orientation import turned_outwards

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 1e-3
_LANES = 8  # pixels of a row that are drawn at once
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
parallel_lock = threading.Lock()  # numba's default threading layer must not be entered by two threads at once


class PackedMeshes:
    """Several meshes in one set of arrays, so that one batch may mix them.

    Closed meshes have their faces turned outwards, so that the half that looks away from the camera need not be drawn.

    Args:
        meshes: pairs of vertices (V, 3) and faces (F, 3).
    """

    def __init__(self, meshes: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        outward = [turned_outwards(v, f) for v, f in meshes]
        vertex_start = np.cumsum([0] + [len(v) for v, _ in meshes])
        face_start = np.cumsum([0] + [len(f) for _, f in meshes])
        self.vertices = np.concatenate([v for v, _ in meshes]).astype(np.float32)
        faces = [f if turned is None else turned for (_, f), turned in zip(meshes, outward, strict=True)]
        self.faces = np.concatenate(faces).astype(np.int32)
        # Seen from outside, corners of an outward face go round clockwise in an image whose y axis points down.
        self.front = np.array([0.0 if turned is None else -1.0 for turned in outward], np.float32)
        self.vertex_start = vertex_start.astype(np.int64)
        self.face_start = face_start.astype(np.int64)

    def __len__(self) -> int:
        return len(self.face_start) - 1

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What compiled code reads: vertices, faces, where each mesh begins in both, and which side is drawn."""
        return self.vertices, self.faces, self.vertex_start, self.face_start, self.front


@nb.njit(cache=True, nogil=True, inline="always")
def _crossing(slope):
    """-1 / slope: how far a weight of one is from zero; 0 for a weight that does not change along the row."""
    return np.float32(-1.0) / slope if abs(slope) > np.float32(1e-12) else np.float32(0.0)


@nb.njit(cache=True, nogil=True, inline="always")
def _clip_span(low, high, weight, slope, crossing):
    """Narrow [low, high] to where ``weight + k * slope >= 0``, by a hair too wide so that neighbours leave no crack."""
    if crossing == np.float32(0.0):
        if weight < np.float32(-1e-6):
            high = low - np.float32(1.0)
    elif slope > 0:
        low = max(low, weight * crossing - np.float32(1e-4))
    else:
        high = min(high, weight * crossing + np.float32(1e-4))
    return low, high


@nb.njit(cache=True, nogil=True, fastmath=_FAST)
def _project(vertices, pose, fx, fy, cx, cy, projected):
    """Image points and inverse depths of all vertices -> ``projected`` (V, 3); -1 for those that are too near."""
    r00, r01, r02, t0 = pose[0, 0], pose[0, 1], pose[0, 2], pose[0, 3]
    r10, r11, r12, t1 = pose[1, 0], pose[1, 1], pose[1, 2], pose[1, 3]
    r20, r21, r22, t2 = pose[2, 0], pose[2, 1], pose[2, 2], pose[2, 3]
    for i in range(vertices.shape[0]):
        vx, vy, vz = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        z = r20 * vx + r21 * vy + r22 * vz + t2
        seen = z >= np.float32(NEAR)
        inverse = np.float32(1.0) / (z if seen else np.float32(1.0))
        projected[i, 0] = fx * (r00 * vx + r01 * vy + r02 * vz + t0) * inverse + cx
        projected[i, 1] = fy * (r10 * vx + r11 * vy + r12 * vz + t1) * inverse + cy
        projected[i, 2] = inverse if seen else np.float32(-1.0)


@nb.njit(cache=True, nogil=True, fastmath=_FAST)
def _drawn_faces(projected, faces, front, width, height, chosen):
    """Faces that may cover a pixel's center, and are not turned away -> how many; without a branch on any of them."""
    zero = np.float32(0.0)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    count = 0
    for f in range(faces.shape[0]):
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, bx, qx = projected[i0, 0], projected[i1, 0], projected[i2, 0]
        ay, by, qy = projected[i0, 1], projected[i1, 1], projected[i2, 1]
        nearest = min(min(projected[i0, 2], projected[i1, 2]), projected[i2, 2])
        x_low, x_high = math.ceil(max(min(min(ax, bx), qx), zero)), min(max(max(ax, bx), qx), right)
        y_low, y_high = math.ceil(max(min(min(ay, by), qy), zero)), min(max(max(ay, by), qy), bottom)
        area = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
        chosen[count] = f
        count += np.int64(
            (x_low <= x_high) & (y_low <= y_high) & (nearest > zero) & (abs(area) >= np.float32(1e-12))
            & (area * front >= zero)
        )  # fmt: skip
    return count


@nb.njit(cache=True, nogil=True, fastmath=_FAST)
def raster_one(vertices, faces, front, pose, fx, fy, cx, cy, projected, buffer):
    """Draw one mesh: ``buffer`` (H, W) receives the inverse depth, 0 where nothing is seen.

    ``front`` is the sign of the projected area of the faces to draw, 0 for both; ``projected`` (V, 3) is scratch.
    """
    height, width = buffer.shape
    zero, one = np.float32(0.0), np.float32(1.0)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    _project(vertices, pose, fx, fy, cx, cy, projected)
    chosen = np.empty(faces.shape[0] + 1, np.int32)
    count = _drawn_faces(projected, faces, front, width, height, chosen)
    buffer[:] = zero
    for n in range(count):
        f = chosen[n]
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, bx, qx = projected[i0, 0], projected[i1, 0], projected[i2, 0]
        ay, by, qy = projected[i0, 1], projected[i1, 1], projected[i2, 1]
        z0, z1, z2 = projected[i0, 2], projected[i1, 2], projected[i2, 2]
        x_low = int(math.ceil(max(min(min(ax, bx), qx), zero)))
        x_high = int(min(max(max(ax, bx), qx), right))
        y_low = int(math.ceil(max(min(min(ay, by), qy), zero)))
        y_high = int(min(max(max(ay, by), qy), bottom))
        # Barycentric weights are affine in the pixel: w_k = base_k + u * du_k + v * dv_k; so is the inverse depth.
        scale = one / ((bx - ax) * (qy - ay) - (by - ay) * (qx - ax))
        du0, dv0 = (by - qy) * scale, (qx - bx) * scale
        du1, dv1 = (qy - ay) * scale, (ax - qx) * scale
        dz0, dz1 = z0 - z2, z1 - z2
        if x_high - x_low < _LANES and width >= _LANES:
            # Nearly all faces: rows of a fixed length take one vector instruction a step, and no guess where they end.
            x_low = min(x_low, width - _LANES)
            w0 = (np.float32(x_low) - qx) * du0 + (np.float32(y_low) - qy) * dv0
            w1 = (np.float32(x_low) - qx) * du1 + (np.float32(y_low) - qy) * dv1
            for y in range(y_low, y_high + 1):
                row = buffer[y, x_low : x_low + _LANES]
                for k in range(_LANES):
                    a, b = w0 + np.float32(k) * du0, w1 + np.float32(k) * du1
                    value = z2 + a * dz0 + b * dz1
                    value = value if min(min(a, b), one - a - b) >= zero else zero
                    row[k] = value if value > row[k] else row[k]
                w0 += dv0
                w1 += dv1
            continue
        du2 = -du0 - du1
        dz = du0 * dz0 + du1 * dz1
        cross0, cross1, cross2 = _crossing(du0), _crossing(du1), _crossing(du2)
        for y in range(y_low, y_high + 1):
            w0 = (np.float32(x_low) - qx) * du0 + (np.float32(y) - qy) * dv0
            w1 = (np.float32(x_low) - qx) * du1 + (np.float32(y) - qy) * dv1
            w2 = one - w0 - w1
            low, high = zero, np.float32(x_high - x_low)
            low, high = _clip_span(low, high, w0, du0, cross0)
            low, high = _clip_span(low, high, w1, du1, cross1)
            low, high = _clip_span(low, high, w2, du2, cross2)
            if low <= high:
                start = z2 + w0 * dz0 + w1 * dz1
                for k in range(int(math.ceil(low)), int(math.floor(high)) + 1):
                    buffer[y, x_low + k] = max(buffer[y, x_low + k], start + np.float32(k) * dz)


@nb.njit(cache=True, nogil=True)
def to_depth(buffer):
    """Turn inverse depths into depths, in place; 0 stays 0."""
    for y in range(buffer.shape[0]):
        for x in range(buffer.shape[1]):
            if buffer[y, x] > 0.0:
                buffer[y, x] = np.float32(1.0) / buffer[y, x]


@nb.njit(cache=True, nogil=True)
def _raster_item(b, mesh, index, poses, cameras, out):
    vertices, faces, vertex_start, face_start, front = mesh
    m = index[b]
    v0, v1 = vertex_start[m], vertex_start[m + 1]
    part = vertices[v0:v1]
    projected = np.empty((v1 - v0, 3), np.float32)
    camera = cameras[b]
    raster_one(
        part, faces[face_start[m] : face_start[m + 1]], front[m], poses[b],
        camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2], projected, out[b],
    )  # fmt: skip
    to_depth(out[b])


@nb.njit(cache=True, nogil=True)
def _raster_serial(mesh, index, poses, cameras, out):
    for b in range(out.shape[0]):
        _raster_item(b, mesh, index, poses, cameras, out)


@nb.njit(cache=True, nogil=True, parallel=True)
def _raster_parallel(mesh, index, poses, cameras, out):
    for b in nb.prange(out.shape[0]):
        _raster_item(b, mesh, index, poses, cameras, out)


def rasterize_numpy(
    meshes: PackedMeshes, index: np.ndarray, poses: np.ndarray, cameras: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Depth images on the CPU.

    Args:
        meshes: the packed meshes.
        index: (B,) which mesh each element shows.
        poses: (B, 4, 4) T_camera_object.
        cameras: (B, 3, 3) pinhole matrices, pixels, without skew.
        size: (height, width).

    Returns:
        (B, H, W) float32 depth in the unit of the meshes, 0 where nothing is seen.
    """
    count = len(poses)
    out = np.empty((count, *size), np.float32)
    arguments = (
        meshes.arrays,
        np.ascontiguousarray(index, np.int64), np.ascontiguousarray(poses, np.float32),
        np.ascontiguousarray(cameras, np.float32), out,
    )  # fmt: skip
    if count < 2 or nb.get_num_threads() < 2:
        _raster_serial(*arguments)
    else:
        with parallel_lock:
            _raster_parallel(*arguments)
    return out


def rasterize_torch(
    vertices: Tensor, faces: Tensor, poses: Tensor, cameras: Tensor, size: tuple[int, int]
) -> Tensor:
    """Depth images of one mesh on any torch device: every triangle's box is expanded into candidate pixels.

    Args:
        vertices: (V, 3) float32.
        faces: (F, 3) int64.
        poses: (B, 4, 4) T_camera_object, float32.
        cameras: (B, 3, 3) pinhole matrices.
        size: (height, width).

    Returns:
        (B, H, W) float32 depth, 0 where nothing is seen.
    """
    import torch

    height, width = size
    count = len(poses)
    points = vertices @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]
    z = points[..., 2]
    inverse = 1.0 / z.clamp_min(NEAR)
    u = cameras[:, 0, 0, None] * points[..., 0] * inverse + cameras[:, 0, 2, None]
    v = cameras[:, 1, 1, None] * points[..., 1] * inverse + cameras[:, 1, 2, None]
    corner = torch.stack([u, v, inverse], dim=-1)[:, faces].reshape(-1, 3, 3)  # (B F, corner, u v 1/z)
    keep = (z[:, faces] >= NEAR).all(-1).reshape(-1)
    owner = torch.arange(count, device=poses.device).repeat_interleave(len(faces))
    low, high = corner[..., :2].amin(1).ceil(), corner[..., :2].amax(1).floor()
    limit = torch.tensor([width - 1, height - 1], device=poses.device, dtype=low.dtype)
    low, high = low.clamp_min(0), torch.minimum(high, limit)
    edge1, edge2 = corner[:, 1, :2] - corner[:, 0, :2], corner[:, 2, :2] - corner[:, 0, :2]
    area = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    keep &= (high >= low).all(-1) & (area.abs() >= 1e-12)
    corner, owner, low, high, area = corner[keep], owner[keep], low[keep], high[keep], area[keep]
    extent = (high - low + 1).long()
    pixels = extent[:, 0] * extent[:, 1]
    triangle = torch.arange(len(pixels), device=poses.device).repeat_interleave(pixels)
    offset = torch.arange(len(triangle), device=poses.device) - (pixels.cumsum(0) - pixels)[triangle]
    x = low[triangle, 0] + (offset % extent[triangle, 0])
    y = low[triangle, 1] + torch.div(offset, extent[triangle, 0], rounding_mode="floor")
    a, b, c = corner[triangle].unbind(1)
    scale = 1.0 / area[triangle]
    w0 = ((x - c[:, 0]) * (b[:, 1] - c[:, 1]) + (y - c[:, 1]) * (c[:, 0] - b[:, 0])) * scale
    w1 = ((x - c[:, 0]) * (c[:, 1] - a[:, 1]) + (y - c[:, 1]) * (a[:, 0] - c[:, 0])) * scale
    w2 = 1.0 - w0 - w1
    hit = (w0 >= 0) & (w1 >= 0) & (w2 >= 0)
    value = w0 * a[:, 2] + w1 * b[:, 2] + w2 * c[:, 2]
    target = (owner[triangle] * height + y.long()) * width + x.long()
    buffer = torch.zeros(count * height * width, device=poses.device)
    buffer = buffer.scatter_reduce(0, target[hit], value[hit], reduce="amax")
    depth = torch.where(buffer > 0, 1.0 / buffer.clamp_min(1e-12), torch.zeros_like(buffer))
    return depth.reshape(count, height, width)


def check_render_arguments(poses: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Return poses (B, 4, 4) and cameras (B, 3, 3), a single camera expanded over the batch."""
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise ShapeError(f"T_camera_object: expected shape (B, 4, 4), got {tuple(poses.shape)}.")
    if cameras.shape[-2:] != (3, 3) or cameras.ndim not in (2, 3):
        raise ShapeError(f"camera_matrix: expected shape (3, 3) or (B, 3, 3), got {tuple(cameras.shape)}.")
    return poses, cameras.to(poses).expand(len(poses), 3, 3)
