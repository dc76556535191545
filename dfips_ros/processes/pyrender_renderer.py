# SPDX-License-Identifier: Apache-2.0
"""Rendering through pyrender, the renderer of the paper; the only place that knows OpenGL's camera frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .mesh import Mesh
from .offscreen import import_pyrender, offscreen_renderer
from .rasterizer import check_render_arguments

# OpenGL cameras look along -z with y up; ROS optical frames look along +z with y down.
_OPENGL_FROM_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])


class PyrenderRenderer:
    """Depth images of one mesh through pyrender (off-screen OpenGL over EGL).

    Args:
        mesh: the object.

    Raises:
        MissingDependencyError: pyrender, or an OpenGL driver, is not installed.
    """

    def __init__(self, mesh: Mesh) -> None:
        pyrender = import_pyrender("PyrenderRenderer")
        import trimesh

        self._pyrender = pyrender
        self.mesh = mesh
        body = pyrender.Mesh.from_trimesh(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), smooth=False)
        for primitive in body.primitives:
            primitive.material.doubleSided = True
        self._scene = pyrender.Scene()
        self._node = self._scene.add(body)
        self._camera = self._scene.add(pyrender.IntrinsicsCamera(1.0, 1.0, 0.0, 0.0))

    def render(self, T_camera_object: Tensor, camera_matrix: Tensor, size: tuple[int, int]) -> Tensor:
        """Depth images, one OpenGL draw each.

        Args:
            T_camera_object: (B, 4, 4), metres, optical frame.
            camera_matrix: (3, 3) or (B, 3, 3), pixels.
            size: (height, width).

        Returns:
            (B, H, W) float32 depth in metres, 0 where nothing is seen.
        """
        poses, cameras = check_render_arguments(T_camera_object, camera_matrix)
        renderer = offscreen_renderer(size, "PyrenderRenderer")
        depths = np.empty((len(poses), *size), np.float32)
        # Segmentation is the one pass that pyrender draws without multisampling, whose depth is off-center.
        flags = self._pyrender.RenderFlags.SEG | self._pyrender.RenderFlags.SKIP_CULL_FACES
        segments = {self._node: (255, 255, 255)}
        camera = self._camera.camera
        for b, (pose, k) in enumerate(
            zip(poses.cpu().double().numpy(), cameras.cpu().double().numpy(), strict=True)
        ):
            distance = float(pose[2] @ np.append(self.mesh.center, 1.0))
            camera.fx, camera.fy = float(k[0, 0]), float(k[1, 1])
            # OpenGL counts pixel edges, the pinhole model counts pixel centers: half a pixel apart.
            camera.cx, camera.cy = float(k[0, 2]) + 0.5, float(k[1, 2]) + 0.5
            camera.znear = max(1e-3, distance - 2.0 * self.mesh.diameter)
            camera.zfar = max(distance, 0.0) + 2.0 * self.mesh.diameter + camera.znear
            self._scene.set_pose(self._node, _OPENGL_FROM_OPTICAL @ pose)
            _, depths[b] = renderer.render(self._scene, flags=flags, seg_node_map=segments)
        return torch.from_numpy(depths).to(poses.device)
