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

import numba as nb
import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError

NEAR = 1e-3
parallel_lock = threading.Lock()  # numba's default threading layer must not be entered by two threads at once


class PackedMeshes:
    """Several meshes in one set of padded arrays, so that one batch may mix them.

    Args:
        meshes: pairs of vertices (V, 3) and faces (F, 3).
    """

    def __init__(self, meshes: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        vertex_start = np.cumsum([0] + [len(v) for v, _ in meshes])
        face_start = np.cumsum([0] + [len(f) for _, f in meshes])
        self.vertices = np.concatenate([v for v, _ in meshes]).astype(np.float32)
        self.faces = np.concatenate([f for _, f in meshes]).astype(np.int32)
        self.vertex_start = vertex_start.astype(np.int64)
        self.face_start = face_start.astype(np.int64)

    def __len__(self) -> int:
        return len(self.face_start) - 1


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


@nb.njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def raster_one(vertices, faces, pose, fx, fy, cx, cy, projected, buffer):
    """Draw one mesh: ``buffer`` (H, W) receives the inverse depth, 0 where nothing is seen."""
    height, width = buffer.shape
    for i in range(vertices.shape[0]):
        vx, vy, vz = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        x = pose[0, 0] * vx + pose[0, 1] * vy + pose[0, 2] * vz + pose[0, 3]
        y = pose[1, 0] * vx + pose[1, 1] * vy + pose[1, 2] * vz + pose[1, 3]
        z = pose[2, 0] * vx + pose[2, 1] * vy + pose[2, 2] * vz + pose[2, 3]
        if z < np.float32(1e-3):
            projected[i, 2] = np.float32(-1.0)
            continue
        inverse = np.float32(1.0) / z
        projected[i, 0] = fx * x * inverse + cx
        projected[i, 1] = fy * y * inverse + cy
        projected[i, 2] = inverse
    buffer[:] = np.float32(0.0)
    for f in range(faces.shape[0]):
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        z0, z1, z2 = projected[i0, 2], projected[i1, 2], projected[i2, 2]
        if z0 <= 0.0 or z1 <= 0.0 or z2 <= 0.0:
            continue
        ax, ay = projected[i0, 0], projected[i0, 1]
        bx, by = projected[i1, 0], projected[i1, 1]
        qx, qy = projected[i2, 0], projected[i2, 1]
        y_low = max(int(math.ceil(min(ay, by, qy))), 0)
        y_high = min(int(math.floor(max(ay, by, qy))), height - 1)
        if y_low > y_high:
            continue
        x_low = max(int(math.ceil(min(ax, bx, qx))), 0)
        x_high = min(int(math.floor(max(ax, bx, qx))), width - 1)
        if x_low > x_high:
            continue
        area = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
        if abs(area) < np.float32(1e-12):
            continue
        scale = np.float32(1.0) / area
        # Barycentric weights are affine in the pixel: w_k = base_k + u * du_k + v * dv_k; so is the inverse depth.
        du0, dv0 = (by - qy) * scale, (qx - bx) * scale
        du1, dv1 = (qy - ay) * scale, (ax - qx) * scale
        du2 = -du0 - du1
        dz = du0 * (z0 - z2) + du1 * (z1 - z2)
        if x_high - x_low < 6:
            for y in range(y_low, y_high + 1):
                w0 = (np.float32(x_low) - qx) * du0 + (np.float32(y) - qy) * dv0
                w1 = (np.float32(x_low) - qx) * du1 + (np.float32(y) - qy) * dv1
                for x in range(x_low, x_high + 1):
                    if w0 >= 0.0 and w1 >= 0.0 and np.float32(1.0) - w0 - w1 >= 0.0:
                        buffer[y, x] = max(buffer[y, x], z2 + w0 * (z0 - z2) + w1 * (z1 - z2))
                    w0 += du0
                    w1 += du1
            continue
        cross0, cross1, cross2 = _crossing(du0), _crossing(du1), _crossing(du2)
        for y in range(y_low, y_high + 1):
            w0 = (np.float32(x_low) - qx) * du0 + (np.float32(y) - qy) * dv0
            w1 = (np.float32(x_low) - qx) * du1 + (np.float32(y) - qy) * dv1
            w2 = np.float32(1.0) - w0 - w1
            low, high = np.float32(0.0), np.float32(x_high - x_low)
            low, high = _clip_span(low, high, w0, du0, cross0)
            low, high = _clip_span(low, high, w1, du1, cross1)
            low, high = _clip_span(low, high, w2, du2, cross2)
            if low <= high:
                start = z2 + w0 * (z0 - z2) + w1 * (z1 - z2)
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
def _raster_item(b, vertices, faces, vertex_start, face_start, index, poses, cameras, out):
    m = index[b]
    v0, v1 = vertex_start[m], vertex_start[m + 1]
    part = vertices[v0:v1]
    projected = np.empty((v1 - v0, 3), np.float32)
    camera = cameras[b]
    raster_one(
        part, faces[face_start[m] : face_start[m + 1]], poses[b],
        camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2], projected, out[b],
    )  # fmt: skip
    to_depth(out[b])


@nb.njit(cache=True, nogil=True)
def _raster_serial(vertices, faces, vertex_start, face_start, index, poses, cameras, out):
    for b in range(out.shape[0]):
        _raster_item(b, vertices, faces, vertex_start, face_start, index, poses, cameras, out)


@nb.njit(cache=True, nogil=True, parallel=True)
def _raster_parallel(vertices, faces, vertex_start, face_start, index, poses, cameras, out):
    for b in nb.prange(out.shape[0]):
        _raster_item(b, vertices, faces, vertex_start, face_start, index, poses, cameras, out)


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
        meshes.vertices, meshes.faces, meshes.vertex_start, meshes.face_start,
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
