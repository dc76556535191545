# SPDX-License-Identifier: Apache-2.0
"""Triton kernel: the rasteriser.

Triton comes with PyTorch's CUDA builds. Import this module only where it is there (``device_meshes.has_kernels``).
With ``TRITON_INTERPRET=1`` in the environment the kernels run on CPU tensors, slowly, which is how they are tested
without a GPU.

One launch draws a whole batch: no vertex buffer, no lists of pixels, nothing whose size depends on the data, and
nothing that waits. The depth buffer keeps inverse depths; positive floats are ordered as their bits are, so that the
nearest surface is an integer ``atomic_max``, and the order of the triangles does not matter.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuda_silhouette import slot_of

_TRIANGLES, _PIXELS = 32, 16  # of one step of one program: a small triangle is done in one step
_MOST_SPLITS, _SPLIT_WORK = 64, 4096  # a mesh of few, large triangles is split among more programs
NEAR = tl.constexpr(1e-3)


@triton.jit
def _number(place):
    return tl.load(place).to(tl.float32)


@triton.jit
def _corner(triangles, f, there, k: tl.constexpr, pose, fx, fy, cx, cy):
    """Corner k of some triangles in the image: u, v, inverse depth (negative where it is too near)."""
    a = tl.load(triangles + f * 9 + 3 * k, mask=there, other=0.0)
    b = tl.load(triangles + f * 9 + 3 * k + 1, mask=there, other=0.0)
    c = tl.load(triangles + f * 9 + 3 * k + 2, mask=there, other=0.0)
    x = _number(pose) * a + _number(pose + 1) * b + _number(pose + 2) * c + _number(pose + 3)
    y = _number(pose + 4) * a + _number(pose + 5) * b + _number(pose + 6) * c + _number(pose + 7)
    z = _number(pose + 8) * a + _number(pose + 9) * b + _number(pose + 10) * c + _number(pose + 11)
    inverse = 1.0 / tl.maximum(z, NEAR)
    return fx * x * inverse + cx, fy * y * inverse + cy, tl.where(z < NEAR, -1.0, inverse)


@triton.jit(do_not_specialize_on_alignment=["mesh_index", "active", "slots", "poses", "cameras"])
def _raster(
    triangles, face_start, mesh_index, active, slots, poses, cameras, buffer, height, width, observations, splits,
    EVERY: tl.constexpr, SLOTS: tl.constexpr, TRIANGLES: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    n = b % observations
    drawn = True
    if not EVERY:
        drawn = tl.load(active + n) != 0
    if drawn:
        mesh = tl.load(mesh_index + n)
        f = tl.load(face_start + mesh) + tl.program_id(1) * TRIANGLES + tl.arange(0, TRIANGLES)
        there = f < tl.load(face_start + mesh + 1)
        pose, camera = poses + b * 16, cameras + n * 9
        fx, fy, cx, cy = tl.load(camera), tl.load(camera + 4), tl.load(camera + 2), tl.load(camera + 5)
        ax, ay, az = _corner(triangles, f, there, 0, pose, fx, fy, cx, cy)
        bx, by, bz = _corner(triangles, f, there, 1, pose, fx, fy, cx, cy)
        qx, qy, qz = _corner(triangles, f, there, 2, pose, fx, fy, cx, cy)
        area = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
        there = there & (az > 0) & (bz > 0) & (qz > 0) & (tl.abs(area) >= 1e-12)
        left = tl.maximum(tl.ceil(tl.minimum(ax, tl.minimum(bx, qx))), 0.0)
        top = tl.maximum(tl.ceil(tl.minimum(ay, tl.minimum(by, qy))), 0.0)
        right = tl.minimum(tl.floor(tl.maximum(ax, tl.maximum(bx, qx))), width - 1.0)
        bottom = tl.minimum(tl.floor(tl.maximum(ay, tl.maximum(by, qy))), height - 1.0)
        there = there & (left <= right) & (top <= bottom)
        columns = tl.where(there, right - left + 1.0, 1.0).to(tl.int32)
        pixels = tl.where(there, columns * (bottom - top + 1.0).to(tl.int32), 0)
        # Barycentric weights are affine in the pixel; so is the inverse depth.
        scale = 1.0 / tl.where(there, area, 1.0)
        du0, dv0 = ((by - qy) * scale)[:, None], ((qx - bx) * scale)[:, None]
        du1, dv1 = ((qy - ay) * scale)[:, None], ((ax - qx) * scale)[:, None]
        left, top, columns, pixels_of = left[:, None], top[:, None], columns[:, None], pixels[:, None]
        image = buffer + slot_of(b, observations, slots, SLOTS) * height * width
        for start in range(tl.program_id(2) * PIXELS, tl.max(pixels, axis=0), splits * PIXELS):
            k = start + tl.arange(0, PIXELS)[None, :]
            row = k // columns
            x, y = left + (k - row * columns), top + row
            w0 = (x - qx[:, None]) * du0 + (y - qy[:, None]) * dv0
            w1 = (x - qx[:, None]) * du1 + (y - qy[:, None]) * dv1
            # A hair too wide, so that triangles that share an edge leave no crack.
            hit = (k < pixels_of) & (w0 >= -1e-6) & (w1 >= -1e-6) & (1.0 - w0 - w1 >= -1e-6)
            value = qz[:, None] + w0 * (az - qz)[:, None] + w1 * (bz - qz)[:, None]
            hit = hit & (value > 0)
            place = y.to(tl.int32) * width + x.to(tl.int32)
            tl.atomic_max(image + tl.where(hit, place, 0), value.to(tl.int32, bitcast=True), mask=hit, sem="relaxed")


def rasterize(
    triangles: Tensor,
    face_start: Tensor,
    most_faces: int,
    mesh_index: Tensor,
    active: Tensor | None,
    poses: Tensor,
    cameras: Tensor,
    size: tuple[int, int],
    onto: Tensor | None = None,
    slots: Tensor | None = None,
) -> Tensor:
    """Inverse depth images of a batch.

    Args:
        triangles: (F, 9) float32 corners of all meshes.
        face_start: (M + 1,) int32, where each mesh begins.
        most_faces: of any mesh.
        mesh_index: (B,) whole numbers.
        active: (B,) int32; elements with 0 stay empty and cost next to nothing. None draws all.
        poses: (A * B, 4, 4) contiguous: A poses for each of the B elements, the element last.
        cameras: (B, 3, 3) float32, contiguous.
        size: (height, width).
        onto: (A * B, H, W) or more, float32 zeros that are drawn on; made by default.
        slots: (B,) int32, where ``onto`` holds A + 1 images of each element: which one is kept, the others are drawn.

    Returns:
        (A * B, H, W) float32, 0 where nothing is seen; or ``onto``.
    """
    if onto is None:
        onto = torch.zeros((len(poses), *size), device=poses.device)
    splits = max(1, min(_MOST_SPLITS, _SPLIT_WORK // most_faces))
    grid = (len(poses), triton.cdiv(most_faces, _TRIANGLES), splits)
    _raster[grid](
        triangles, face_start, mesh_index, mesh_index if active is None else active,
        mesh_index if slots is None else slots, poses, cameras, onto.view(torch.int32), size[0], size[1],
        len(mesh_index), splits, EVERY=active is None,
        SLOTS=0 if slots is None else 1 + len(poses) // len(mesh_index), TRIANGLES=_TRIANGLES, PIXELS=_PIXELS,
    )  # fmt: skip
    return onto
