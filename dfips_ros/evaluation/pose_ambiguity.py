# SPDX-License-Identifier: Apache-2.0
"""Whether a silhouette has one explanation only: decided from the true pose, without the solver that is evaluated.

A silhouette is ambiguous if some pose, further from the true one than ``CLOSE_DEG`` after symmetries, has a silhouette
that overlaps with it by ``SAME_IOU`` or more at the resolution of the image. Such poses are looked for with the
classical optimiser, from the views whose outline is alike, from half turns of the true pose, and from poses around it.
What is found proves ambiguity; what is not found may exist.
"""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import so3_exp
from ..processes.mesh import Mesh
from ..processes.observation import observe
from ..processes.silhouette import RasterRenderer
from ..tasks.object_pose import Symmetries, mask_iou, rotation_error_deg
from ..tasks.object_pose.covariance import metric_pose, normalised_pose
from ..tasks.object_pose.crop import look_at_box, mask_bounds
from ..tasks.object_pose.gauss_newton import ContourGaussNewton, GaussNewtonConfig
from ..tasks.object_pose.initialization import ViewTable
from ..tasks.object_pose.problem import MeshSet
from .pose_trials import CAMERA, IMAGE_SIZE

CLOSE_DEG = 5.0
SAME_IOU = 0.99
_VIEWS, _AROUND, _AROUND_DEG, _POLISHED = 40, 8, 25.0, 10


class AmbiguityCheck:
    """Looks for other explanations of the silhouettes of one mesh.

    Args:
        mesh: the object.
        symmetries: turns that are no ambiguity.
    """

    def __init__(self, mesh: Mesh, symmetries: Symmetries) -> None:
        self.mesh, self.symmetries = mesh, symmetries
        meshes = MeshSet([mesh], 5000)
        self._views = ViewTable.build(meshes.packed)
        self._coarse = ContourGaussNewton(meshes)
        self._fine = ContourGaussNewton(meshes, GaussNewtonConfig(iterations=8, damping=1e-3, robust_pixels=3.0))
        self._renderer = RasterRenderer(mesh)

    def silhouette(self, T_camera_object: np.ndarray) -> np.ndarray:
        """Clean mask at a pose. (4, 4) -> (480, 640) bool."""
        pose = torch.from_numpy(T_camera_object).float()[None]
        return (self._renderer.render(pose, torch.from_numpy(CAMERA).float(), IMAGE_SIZE)[0] > 0).numpy()

    def other_explanation(self, T_true: np.ndarray) -> np.ndarray | None:
        """A pose (4, 4) that shows the same silhouette as the true one; None if none was found."""
        mask = self.silhouette(T_true)
        bounds = mask_bounds(mask)
        poses = T_true[None]
        for optimiser, size, margin in ((self._coarse, 128, 1.5), (self._fine, 256, 1.3)):
            camera = look_at_box(bounds, CAMERA, size, margin)
            crop, valid = camera.warp(mask, CAMERA)
            start = normalised_pose(camera.to_virtual(poses), self.mesh.center, self.mesh.diameter)
            if optimiser is self._coarse:
                listed, _ = self._views.shortlist(crop, camera.camera_matrix, _VIEWS)
                start = np.concatenate([listed, _turned(start[0])])
            observation = observe(crop[None], camera.camera_matrix[None], valid[None])
            repeated = observation[torch.zeros(len(start), dtype=torch.long)]
            found = optimiser.estimate(repeated, torch.from_numpy(start).float())
            order = found.residual_norms[:, -1].argsort()
            normalised = found.estimate[order].double().numpy()
            poses = camera.to_real(metric_pose(normalised, self.mesh.center, self.mesh.diameter))
            poses = np.stack([T for T in poses if self._is_other(T, T_true)][:_POLISHED] or [T_true])
        same = [T for T in poses if self._is_other(T, T_true) and mask_iou(self.silhouette(T), mask) >= SAME_IOU]
        return same[0] if same else None

    def _is_other(self, T_camera_object: np.ndarray, T_true: np.ndarray) -> bool:
        return rotation_error_deg(T_camera_object, self.symmetries.nearest(T_true, T_camera_object)) > CLOSE_DEG


def _turned(pose: np.ndarray) -> np.ndarray:
    """Half turns of a normalised pose about the axes of the object, and smaller ones about all. (4, 4) -> (N, 4, 4)."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(_AROUND, 3))
    axes *= np.deg2rad(_AROUND_DEG) / np.linalg.norm(axes, axis=1, keepdims=True)
    turns = so3_exp(torch.from_numpy(np.concatenate([np.pi * np.eye(3), axes]))).numpy()
    out = np.repeat(pose[None], len(turns), axis=0)
    out[:, :3, :3] = pose[:3, :3] @ turns
    return out
