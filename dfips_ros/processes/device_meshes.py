# SPDX-License-Identifier: Apache-2.0
"""Meshes on a device, and their inverse depth images: by Triton on a GPU, by numba on the CPU, else by torch."""

from __future__ import annotations

import functools
import logging

import numpy as np
import torch
from torch import Tensor

from .rasterizer import PackedMeshes, rasterize_numpy, rasterize_torch

logger = logging.getLogger(__name__)


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels run on a device; where they do not on a GPU, the log says why, once."""
    if device.type != "cuda":
        return False
    try:
        from .cuda_observation import signed_distances

        signed_distances(torch.zeros((1, 16, 16), device=device, dtype=torch.uint8))
    except Exception as cause:  # whatever a compiler that is missing or too old raises
        logger.warning(
            "Triton does not run on %s (%s: %s); torch operations take its place, many times slower and without a "
            "CUDA graph. Install PyTorch's CUDA build, which brings triton, and a C compiler.",
            device, type(cause).__name__, cause,
        )  # fmt: skip
        return False
    return True


class DeviceMeshes:
    """Normalised meshes as triangles on a device.

    Args:
        packed: the meshes.
        surface: (M, N, 6) float32 points and normals on each mesh.
        device: where the tensors live.
    """

    def __init__(self, packed: PackedMeshes, surface: np.ndarray, device: torch.device) -> None:
        self.packed, self.device = packed, device
        self.surface = torch.from_numpy(surface).to(device)
        starts = packed.vertex_start[:-1].repeat(np.diff(packed.face_start))
        corners = packed.vertices[packed.faces + starts[:, None]]
        self.triangles = torch.from_numpy(np.ascontiguousarray(corners.reshape(-1, 9))).to(device)
        self.face_start = torch.from_numpy(packed.face_start.astype(np.int32)).to(device)
        self.most_faces = int(np.diff(packed.face_start).max())

    def inverse_depth(
        self, mesh_index: Tensor, poses: Tensor, cameras: Tensor, size: int, active: Tensor | None = None,
        onto: Tensor | None = None, slots: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Draw a batch.

        Args:
            mesh_index: (B,) int64, which mesh each element shows.
            poses: (A * B, 4, 4): A poses for each of the B elements, the element last.
            cameras: (B, 3, 3) float32 pinhole matrices.
            size: side of the images, pixels.
            active: (B,) bool or int32; the other elements stay empty.
            onto, slots: with kernels alone, see ``cuda_kernels.rasterize``.

        Returns:
            (A * B, S, S) float32, 0 where nothing is seen.
        """
        if has_kernels(poses.device):
            from .cuda_kernels import rasterize

            return rasterize(
                self.triangles, self.face_start, self.most_faces, mesh_index, None if active is None else active.int(),
                poses.contiguous(), cameras.float().contiguous(), (size, size), onto, slots,
            )  # fmt: skip
        times = len(poses) // len(mesh_index)
        mesh_index, active = mesh_index.repeat(times), None if active is None else active.repeat(times)
        poses, cameras = poses.float().contiguous(), cameras.float().repeat(times, 1, 1)
        if poses.device.type == "cpu":
            depth = torch.from_numpy(
                rasterize_numpy(self.packed, mesh_index.numpy(), poses.numpy(), cameras.numpy(), (size, size))
            )
        else:
            depth = self._with_torch(mesh_index, poses, cameras, size)
        inverse = torch.where(depth > 0, 1.0 / depth.clamp_min(1e-12), torch.zeros_like(depth))
        return inverse if active is None else inverse * active[:, None, None]

    def _with_torch(self, mesh_index: Tensor, poses: Tensor, cameras: Tensor, size: int) -> Tensor:
        """Without Triton: any device, but the sizes in between depend on the data, which waits for the device."""
        out = torch.zeros((len(poses), size, size), device=poses.device)
        for m in mesh_index.unique().tolist():
            rows = (mesh_index == m).nonzero()[:, 0]
            first, last = self.packed.face_start[m], self.packed.face_start[m + 1]
            vertices = self.triangles[first:last].reshape(-1, 3)
            faces = torch.arange(len(vertices), device=poses.device).reshape(-1, 3)
            out[rows] = rasterize_torch(vertices, faces, poses[rows], cameras[rows], (size, size))
        return out
