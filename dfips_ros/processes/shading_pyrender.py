# SPDX-License-Identifier: Apache-2.0
"""Shaded pictures through pyrender, as the black box that the paper's solver looks at."""

from __future__ import annotations

import numpy as np

from .offscreen import import_pyrender, offscreen_renderer
from .shading_geometry import ShadingMesh

_OPENGL_FROM_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])


class PyrenderShading:
    """Pictures of one mesh at one pose under one light, off-screen through OpenGL.

    Args:
        mesh: of diameter one.
        T_camera_object: (4, 4), translation in diameters, optical frame.
        camera_matrix: (3, 3) pixels.
        size: (height, width).

    Raises:
        MissingDependencyError: pyrender, or an OpenGL driver, is not installed.
    """

    def __init__(
        self, mesh: ShadingMesh, T_camera_object: np.ndarray, camera_matrix: np.ndarray, size: tuple[int, int]
    ) -> None:
        pyrender = import_pyrender("PyrenderShading")
        self.size = size
        pose = np.asarray(T_camera_object, np.float64)
        corners = mesh.vertices[mesh.faces].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
        normals = mesh.corner_normals.astype(np.float64) @ pose[:3, :3].T
        away = np.einsum("fi,fi->f", mesh.face_normals @ pose[:3, :3].T, corners[:, 0]) > 0
        normals[away] *= -1.0  # the side that is seen is the outside
        flip = np.array([1.0, -1.0, -1.0])
        self._material = pyrender.MetallicRoughnessMaterial(doubleSided=True)
        primitive = pyrender.Primitive(
            positions=(corners * flip).reshape(-1, 3).astype(np.float32),
            normals=(normals * flip).reshape(-1, 3).astype(np.float32), material=self._material,
        )  # fmt: skip
        self._scene = pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 1.0], ambient_light=[0.0, 0.0, 0.0])
        self._scene.add(pyrender.Mesh([primitive]))
        k = np.asarray(camera_matrix, np.float64)
        z = corners[..., 2]
        near = max(1e-3, 0.9 * float(z.min()))
        # OpenGL counts pixel edges, the pinhole model counts pixel centers: half a pixel apart.
        camera = pyrender.IntrinsicsCamera(
            k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5, znear=near, zfar=1.1 * float(z.max()) + near
        )
        self._scene.add(camera)
        self._center = pose[:3, 3]
        self._lights = {
            False: self._scene.add(pyrender.DirectionalLight(intensity=0.0)),
            True: self._scene.add(pyrender.PointLight(intensity=0.0)),
        }

    def render(
        self,
        light: np.ndarray,
        point: bool,
        intensity: float,
        albedo: np.ndarray | float,
        metallic: float,
        roughness: float,
        ambient: float,
    ) -> np.ndarray:
        """One picture.

        Args:
            light: (3,) unit direction towards the light, or position from the object's origin in diameters;
                camera axes.
            point: whether it is a point light.
            intensity: of the light.
            albedo: (3,) linear RGB, or grey, 0 to 1.
            metallic: 0 to 1.
            roughness: 0 to 1.
            ambient: intensity of the ambient light, which the albedo is multiplied by.

        Returns:
            (H, W, 3) uint8 RGB, gamma-encoded, black background.
        """
        where = np.asarray(light, np.float64)
        node, other = self._lights[point], self._lights[not point]
        node.light.intensity, other.light.intensity = float(intensity), 0.0
        pose = np.eye(4)
        if point:
            pose[:3, 3] = _OPENGL_FROM_OPTICAL[:3, :3] @ (where + self._center)
        else:
            pose[:3, :3] = _turned_to(_OPENGL_FROM_OPTICAL[:3, :3] @ where)
        self._scene.set_pose(node, pose)
        color = np.broadcast_to(np.asarray(albedo, np.float64), (3,))
        self._material.baseColorFactor = [*color, 1.0]
        self._material.metallicFactor, self._material.roughnessFactor = float(metallic), float(roughness)
        self._scene.ambient_light = np.full(3, ambient)
        picture, _ = offscreen_renderer(self.size, "PyrenderShading").render(self._scene)
        return picture


def _turned_to(direction: np.ndarray) -> np.ndarray:
    """A rotation whose z axis is ``direction``; a light of OpenGL shines along -z."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
