# SPDX-License-Identifier: Apache-2.0
"""The silhouette forward process: a mesh at a pose under a pinhole camera gives a binary image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import ConfigError
from .mesh import Mesh
from .rasterizer import PackedMeshes, check_render_arguments, rasterize_numpy, rasterize_torch

if TYPE_CHECKING:
    from torch import Tensor

RENDERERS = ("raster", "pyrender")


class Renderer(Protocol):
    """Draws one mesh: the interface that every renderer shares."""

    def render(self, T_camera_object: Tensor, camera_matrix: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 4, 4), (3, 3) or (B, 3, 3), (height, width) -> depth (B, H, W) in metres, 0 where empty."""
        ...


class RasterRenderer:
    """Depth images of one or several meshes by our rasteriser.

    On CPU tensors it runs compiled by numba, on any other device as torch operations.

    Args:
        meshes: one mesh, or several (then :meth:`render` takes the index of each batch element).
    """

    def __init__(self, meshes: Mesh | Sequence[Mesh]) -> None:
        self.meshes = [meshes] if isinstance(meshes, Mesh) else list(meshes)
        if not self.meshes:
            raise ConfigError("RasterRenderer: expected at least one mesh, got none.")
        self._packed = PackedMeshes([(m.vertices, m.faces) for m in self.meshes])

    def render(
        self,
        T_camera_object: Tensor,
        camera_matrix: Tensor,
        size: tuple[int, int],
        mesh_index: Tensor | None = None,
    ) -> Tensor:
        """Depth images.

        Args:
            T_camera_object: (B, 4, 4), in the unit of the meshes, optical frame.
            camera_matrix: (3, 3) or (B, 3, 3), pixels, no skew.
            size: (height, width).
            mesh_index: (B,) int64, which mesh each element shows; by default the first.

        Returns:
            (B, H, W) float32 depth, 0 where nothing is seen.
        """
        import torch

        poses, cameras = check_render_arguments(T_camera_object, camera_matrix)
        if poses.device.type == "cpu":
            index = np.zeros(len(poses), np.int64) if mesh_index is None else mesh_index.numpy()
            depth = rasterize_numpy(self._packed, index, poses.detach().numpy(), cameras.detach().numpy(), size)
            return torch.from_numpy(depth)
        out = torch.zeros((len(poses), *size), device=poses.device)
        shown = torch.zeros(len(poses), dtype=torch.long) if mesh_index is None else mesh_index.cpu()
        for m in shown.unique().tolist():
            rows = (shown == m).nonzero()[:, 0].to(poses.device)
            mesh = self.meshes[m]
            out[rows] = rasterize_torch(
                torch.from_numpy(mesh.vertices).to(poses.device), torch.from_numpy(mesh.faces).long().to(poses.device),
                poses[rows].float(), cameras[rows].float(), size,
            )  # fmt: skip
        return out


def make_renderer(name: str, mesh: Mesh) -> Renderer:
    """Return the renderer called ``name`` ("raster" or "pyrender") for one mesh."""
    if name == "raster":
        return RasterRenderer(mesh)
    if name == "pyrender":
        from .pyrender_renderer import PyrenderRenderer

        return PyrenderRenderer(mesh)
    raise ConfigError(f"renderer={name!r}: expected one of {', '.join(RENDERERS)}.")


class SilhouetteProcess:
    """Forward process: pose -> silhouette, ``f(T) = [depth(T) > 0]``.

    Args:
        renderer: draws the mesh.
        camera_matrix: (3, 3) or (B, 3, 3), pixels.
        size: (height, width).
    """

    def __init__(self, renderer: Renderer, camera_matrix: Tensor, size: tuple[int, int]) -> None:
        self.renderer = renderer
        self.camera_matrix = camera_matrix
        self.size = size

    def __call__(self, estimate: Tensor) -> Tensor:
        """T_camera_object (B, 4, 4) -> silhouettes (B, H, W) float32 in {0, 1}."""
        return (self.renderer.render(estimate, self.camera_matrix, self.size) > 0).to(estimate.dtype)
