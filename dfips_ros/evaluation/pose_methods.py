# SPDX-License-Identifier: Apache-2.0
"""The rows of the object pose evaluation: every method solves one mask from one initial pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..baselines.neural_mesh_renderer import NeuralMeshDescent
from ..baselines.opencv_rapid import OpencvRapid, OpencvRapidConfig
from ..baselines.soft_silhouette import SoftSilhouetteDescent
from ..errors import ConfigError
from ..geometry import so3_exp
from ..processes.mesh import Mesh, simplified
from ..processes.observation import SilhouetteObservation, observe
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, Symmetries
from ..tasks.object_pose.covariance import metric_pose, normalised_pose
from ..tasks.object_pose.crop import VirtualCamera, look_at_box, mask_bounds
from ..tasks.object_pose.gauss_newton import ContourGaussNewton, GaussNewtonConfig
from ..tasks.object_pose.problem import MeshSet

Method = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # mask, camera, initial -> T_camera_object

SOFT_FACES = 1000
RAPID_FACES = 5000


def _initial(mesh: Mesh, symmetries: Symmetries, weights: str | None, device: str) -> Method:
    return lambda mask, camera, initial: initial


def _learned(config: EstimatorConfig, stages: int | None = None) -> Callable[..., Method]:
    def make(mesh: Mesh, symmetries: Symmetries, weights: str | None, device: str) -> Method:
        estimator = ObjectPoseEstimator(mesh, weights, device, config, symmetries, num_stages=stages)
        estimator.warm_up()
        return lambda mask, camera, initial: estimator.estimate(mask, camera, initial).T_camera_object

    return make


class _CropMethod:
    """What the classical methods share: the same virtual camera and crop as ours."""

    def __init__(self, mesh: Mesh, size: int = 128) -> None:
        self.mesh, self.size = mesh, size

    def crop(
        self, mask: np.ndarray, camera: np.ndarray, initial: np.ndarray
    ) -> tuple[VirtualCamera, SilhouetteObservation, torch.Tensor]:
        virtual = look_at_box(mask_bounds(mask), camera, self.size)
        crop, valid = virtual.warp(mask, camera)
        start = normalised_pose(virtual.to_virtual(initial), self.mesh.center, self.mesh.diameter)
        return virtual, observe(crop[None], virtual.camera_matrix[None], valid[None]), torch.from_numpy(start)[None]

    def metres(self, virtual: VirtualCamera, pose: torch.Tensor) -> np.ndarray:
        return virtual.to_real(metric_pose(pose.double().numpy(), self.mesh.center, self.mesh.diameter))


def starts_around(initial: torch.Tensor, count: int, angle_deg: float = 30.0) -> torch.Tensor:
    """The initial pose and ``count - 1`` that are turned about random axes. (1, 4, 4) -> (count, 4, 4)."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(count, 3))
    axes *= np.deg2rad(angle_deg) / np.linalg.norm(axes, axis=1, keepdims=True)
    axes[0] = 0.0
    out = initial.repeat(count, 1, 1)
    out[:, :3, :3] = so3_exp(torch.from_numpy(axes)) @ initial[:, :3, :3]
    return out


class _GaussNewton(_CropMethod):
    def __init__(self, mesh: Mesh, starts: int) -> None:
        super().__init__(mesh)
        meshes = MeshSet([mesh], 5000)
        self.starts = starts
        self.first = ContourGaussNewton(meshes)
        self.polish = ContourGaussNewton(
            meshes, GaussNewtonConfig(iterations=8, attempts=2, damping=1e-3, robust_pixels=3.0)
        )

    def __call__(self, mask: np.ndarray, camera: np.ndarray, initial: np.ndarray) -> np.ndarray:
        virtual, observation, start = self.crop(mask, camera, initial)
        found = self.first.estimate(observation, starts_around(start, self.starts))
        best = int(found.residual_norms[:, -1].argmin())
        fine = look_at_box(mask_bounds(mask), camera, 256, 1.3)
        crop, valid = fine.warp(mask, camera)
        sharp = observe(crop[None], fine.camera_matrix[None], valid[None])
        return self.metres(virtual, self.polish.estimate(sharp, found.estimate[best][None]).estimate[0])


class _Descent(_CropMethod):
    def __init__(self, mesh: Mesh, starts: int, kind: type[SoftSilhouetteDescent] | type[NeuralMeshDescent]) -> None:
        super().__init__(mesh)
        self.starts = starts
        coarse = simplified(mesh, SOFT_FACES)
        vertices = (coarse.vertices - mesh.center) / mesh.diameter
        self.descent = kind(torch.from_numpy(vertices).float(), torch.from_numpy(coarse.faces).long())

    def __call__(self, mask: np.ndarray, camera: np.ndarray, initial: np.ndarray) -> np.ndarray:
        virtual, observation, start = self.crop(mask, camera, initial)
        starts = starts_around(start, self.starts).float()
        observed = (observation.mask.float().repeat(len(starts), 1, 1), observation.camera.repeat(len(starts), 1, 1))
        found = self.descent.estimate(observed, starts)
        return self.metres(virtual, found.estimate[int(found.residual_norms[:, -1].argmin())])


def _rapid(tracker: str) -> Callable[..., Method]:
    """One of OpenCV's contour trackers, on the full image, as its users have it."""

    def make(mesh: Mesh, symmetries: Symmetries, weights: str | None, device: str) -> Method:
        coarse = simplified(mesh, RAPID_FACES)
        estimator = OpencvRapid(coarse.vertices, coarse.faces, OpencvRapidConfig(tracker))

        def solve(mask: np.ndarray, camera: np.ndarray, initial: np.ndarray) -> np.ndarray:
            observation = (torch.from_numpy(mask)[None], torch.from_numpy(camera)[None])
            return estimator.estimate(observation, torch.from_numpy(initial)[None]).estimate[0].numpy()

        return solve

    return make


_PLAIN = EstimatorConfig(refine=None, retry_angle_deg=0.0)
_NO_RETRY = EstimatorConfig(retry_angle_deg=0.0)

METHODS: dict[str, tuple[str, Callable[..., Method]]] = {
    "initial": ("initial pose", _initial),
    # Every stage has a loss and an optimiser of its own, so the first one is what training a single stage gives.
    "one_stage": ("direct regression (stage 1 alone)", _learned(_PLAIN, stages=1)),
    "gauss_newton": ("contour Gauss-Newton, 1 start", lambda m, s, w, d: _GaussNewton(m, 1)),
    "gauss_newton_8": ("contour Gauss-Newton, 8 starts", lambda m, s, w, d: _GaussNewton(m, 8)),
    "rapid_ols": ("OpenCV rapid, OLS tracker", _rapid("ols")),
    "rapid_gos": ("OpenCV rapid, GOS tracker", _rapid("gos")),
    "softras": ("SoftRas-style descent, 1 start", lambda m, s, w, d: _Descent(m, 1, SoftSilhouetteDescent)),
    "softras_8": ("SoftRas-style descent, 8 starts", lambda m, s, w, d: _Descent(m, 8, SoftSilhouetteDescent)),
    "nmr": ("NMR-style descent, 1 start", lambda m, s, w, d: _Descent(m, 1, NeuralMeshDescent)),
    "nmr_8": ("NMR-style descent, 8 starts", lambda m, s, w, d: _Descent(m, 8, NeuralMeshDescent)),
    "ours_plain": ("ours, no adaptive update", _learned(
        replace(_PLAIN, solver=replace(_PLAIN.solver, adaptive=False, keep_best=False)))),
    "ours": ("ours (5 stages)", _learned(_PLAIN)),
    "ours_hypotheses": ("ours (5 stages, hypotheses)", _learned(EstimatorConfig(refine=None))),
    "ours_polish": ("ours + polish", _learned(_NO_RETRY)),
    "ours_refined": ("ours + refinement (hypotheses, polish)", _learned(EstimatorConfig())),
}  # fmt: skip
SLOW = frozenset(
    {"softras", "softras_8", "nmr", "nmr_8"}
)  # seconds per input: these get the first inputs of each mesh only


def make_method(name: str, mesh: Mesh, symmetries: Symmetries, weights: str | None, device: str) -> Method:
    """Build a method for one mesh.

    Raises:
        ConfigError: unknown name; the known ones are listed.
    """
    if name not in METHODS:
        raise ConfigError(f"methods: unknown '{name}'; known are {', '.join(METHODS)}.")
    return METHODS[name][1](mesh, symmetries, weights, device)
