# SPDX-License-Identifier: Apache-2.0
"""6-DoF pose of a known mesh from one silhouette, numpy in and numpy out."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_camera_matrix, check_mask, check_pose, check_range
from ...errors import ShapeError
from ...processes.mesh import Mesh, load_mesh
from ...processes.rasterizer import PackedMeshes, rasterize_numpy
from ...solver import device_name, load_checkpoint
from .compiled_stages import CompiledStages, can_compile_config
from .config import ObjectPoseConfig
from .gauss_newton import ContourGaussNewton
from .hypotheses import EstimatorConfig, HypothesisSolver
from .mask_solve import MaskRequest, ObjectPoseSolution, ObjectSolver, checked_starts, solve_masks
from .mesh_set import MeshSet
from .symmetry import Symmetries

if TYPE_CHECKING:
    import torch

    from ...solver import FeedbackSolver
    from .device_solver import DevicePoseSolver

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights" / "object_pose.safetensors"


class ObjectPoseEstimator:
    """Learned feedback solver for the pose of one mesh.

    Not thread-safe: use one estimator per thread.

    Args:
        mesh: the object, metres.
        weights: safetensors file; the shipped one by default.
        device: where the networks run: ``auto``, ``cpu`` or ``cuda``.
        config: see :class:`EstimatorConfig`.
        symmetries: of the object; found on the mesh by default.
        num_stages: unroll so many stages instead of all that were trained.

    Raises:
        CheckpointError: the weights file is missing, corrupt or of another version.
        ConfigError: no such device.
    """

    def __init__(
        self,
        mesh: Mesh,
        weights: str | Path | None = None,
        device: str = "auto",
        config: EstimatorConfig | None = None,
        symmetries: Symmetries | None = None,
        num_stages: int | None = None,
    ) -> None:
        self.mesh = mesh
        if num_stages is not None:
            check_range("num_stages", num_stages, 1, 1000)
        self._num_stages = num_stages
        self.symmetries = Symmetries.from_mesh(mesh) if symmetries is None else symmetries
        self.config = config or EstimatorConfig()
        self._device = device_name(device)
        self._checkpoint = load_checkpoint(weights or DEFAULT_WEIGHTS, kind="object_pose", framework="numpy")
        self.provenance = self._checkpoint.provenance
        self._model = ObjectPoseConfig.from_dict(self._checkpoint.config)
        stages = self._make_stages()
        refiner = None
        if self.config.refine is not None:
            same = self._meshes.faces == self.config.refine_faces
            meshes = self._meshes if same else MeshSet([mesh], self.config.refine_faces)
            refiner = ContourGaussNewton(meshes, self.config.refine)
        self._hypotheses = HypothesisSolver(
            stages, self._meshes, refiner, self.config, self.num_stages, self._device
        )  # fmt: skip
        self.object_solver = ObjectSolver(mesh, self.symmetries, self._hypotheses, self._model.crop_size)
        self._packed = PackedMeshes([(mesh.vertices, mesh.faces)])
        self._batch: DevicePoseSolver | None = None

    def _make_stages(self) -> CompiledStages | FeedbackSolver:
        """The stages of the weights: compiled where that can be, which takes no torch; otherwise on tensors."""
        if self._device == "cpu" and can_compile_config(self._model):
            trained = self._model.solver
            used = replace(self.config.solver, num_stages=trained.num_stages, shared_weights=trained.shared_weights)
            faces = min(self._model.simulation_faces, self.config.simulation_faces)
            self._meshes = MeshSet([self.mesh], faces)
            arrays = {name: np.asarray(value) for name, value in self._checkpoint.weights.items()}
            return CompiledStages.from_weights(arrays, used, self._meshes)
        self._meshes = self._solver.feedback.meshes  # type: ignore[attr-defined]
        return self._solver

    @cached_property
    def _solver(self) -> FeedbackSolver:
        """The stages on tensors."""
        from .problem import load_solver

        solver, _, _ = load_solver(self._checkpoint, [self.mesh], self.config.solver)
        return solver.to(self._device)

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        import torch

        return torch.device(self._device)

    @classmethod
    def from_mesh(
        cls,
        path: str | Path | Mesh,
        scale: float = 1.0,
        device: str = "auto",
        weights: str | Path | None = None,
        config: EstimatorConfig | None = None,
        symmetries: Symmetries | None = None,
    ) -> ObjectPoseEstimator:
        """Build an estimator from a mesh file.

        Args:
            path: obj, stl, ply, dae, glb, off; or a loaded :class:`Mesh`.
            scale: factor from the file's unit to metres (0.001 for millimetres).
            device: ``auto``, ``cpu`` or ``cuda``.
            weights: safetensors file; the shipped one by default.
            config: see :class:`EstimatorConfig`.
            symmetries: of the object; found on the mesh by default.

        Raises:
            MeshError: the mesh cannot be used.
            CheckpointError: the weights cannot be used.
        """
        mesh = path if isinstance(path, Mesh) else load_mesh(path, scale)
        return cls(mesh, weights, device, config, symmetries)

    @property
    def num_stages(self) -> int:
        """How many stages are unrolled."""
        return self._num_stages or self._model.solver.num_stages

    def render_mask(self, T_camera_object: np.ndarray, camera_matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Silhouette of the mesh at a pose.

        Args:
            T_camera_object: (4, 4) metres.
            camera_matrix: (3, 3) pixels.
            size: (height, width).

        Returns:
            (H, W) bool.
        """
        pose, camera = check_pose(T_camera_object), check_camera_matrix(camera_matrix)
        return rasterize_numpy(self._packed, np.zeros(1, np.int64), pose[None], camera[None], size)[0] > 0

    def estimate(
        self,
        mask: np.ndarray,
        camera_matrix: np.ndarray,
        initial: np.ndarray | None = None,
        retry_iou: float | None = None,
    ) -> ObjectPoseSolution:
        """Estimate the pose from one mask.

        Args:
            mask: (H, W) bool or integer, non-zero on the object, at full image resolution, undistorted.
            camera_matrix: (3, 3) pinhole matrix in pixels.
            initial: (4, 4) pose to start from, or (K, 4, 4) several; None to start from nothing.
            retry_iou: in place of the one of the configuration, for this mask.

        Raises:
            MaskError: empty, tiny, or not a mask.
            CameraError: not a pinhole matrix.
            PoseError: an initial pose is not rigid or lies behind the camera.
        """
        seen = check_mask(mask)
        matrix = check_camera_matrix(camera_matrix)
        if initial is not None and self._device != "cpu" and self._model.feedback == "contour":
            recorded = self._estimate_at_once(seen, matrix, checked_starts(initial, self.mesh.center), retry_iou)
            if recorded is not None:
                return recorded
        (found,) = solve_masks([MaskRequest(self.object_solver, seen, initial, retry_iou)], matrix)
        if isinstance(found, Exception):
            raise found
        return found

    def on_device(self) -> DevicePoseSolver:
        """The solve of many masks at once, from one initial pose each, on the estimator's device; made on demand.

        Raises:
            ConfigError: the weights are not of the contour kind.
        """
        if self._batch is None:
            from .device_solver import DevicePoseSolver

            self._batch = DevicePoseSolver(
                self.mesh, self._solver, self.config, self.device, self.symmetries, self.num_stages,
                self._model.crop_size,
            )  # fmt: skip
        return self._batch

    def _estimate_at_once(
        self, mask: np.ndarray, matrix: np.ndarray, starts: np.ndarray, retry_iou: float | None
    ) -> ObjectPoseSolution | None:
        """The recorded solve on a GPU; None where its pose may be wrong or has equals, and there is more to try."""
        start, c = time.perf_counter(), self.config
        if len(starts) > 1 or not self.symmetries.is_trivial:
            return None
        found = self.on_device().solve(mask[None], matrix, starts).cpu()
        iou = float(found.iou[0])
        doubtful = iou < (c.retry_iou if retry_iou is None else retry_iou)
        doubtful |= c.retry_pixels > 0 and float(found.contour_pixels[0]) > c.retry_pixels
        if not found.solved[0] or (c.retry_angle_deg > 0 and doubtful):
            return None
        return ObjectPoseSolution(
            T_camera_object=found.T_camera_object[0].numpy(), covariance=found.covariance[0].numpy(), iou=iou,
            history=tuple(found.history[0].numpy()), residual_norms=found.residual_norms[0].numpy(),
            truncated=bool(found.truncated[0]), solve_time=time.perf_counter() - start,
        )  # fmt: skip

    def warm_up(self) -> float:
        """Compile and build what the first estimate would wait for. -> seconds it took."""
        start = time.perf_counter()
        camera = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1.0]])
        pose = np.eye(4)
        pose[:3, 3] = -self.mesh.center + [0, 0, 3.0 * self.mesh.diameter]
        mask = self.render_mask(pose, camera, (480, 640))
        if not mask.any():
            raise ShapeError(f"mesh '{self.mesh.name}': nothing of it is seen from 3 diameters away.")
        self.estimate(mask, camera)
        self.estimate(mask, camera, initial=np.stack([pose, pose]))
        return time.perf_counter() - start
