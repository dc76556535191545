# SPDX-License-Identifier: Apache-2.0
"""6-DoF pose of a known mesh from one silhouette, numpy in and numpy out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_camera_matrix, check_mask, check_pose, check_pose_in_view, check_range
from ...errors import MaskError, PoseError, ShapeError
from ...geometry import rotation_angle
from ...processes.contour import compare_contours
from ...processes.mesh import Mesh, load_mesh
from ...processes.observation import SilhouetteObservation, observe
from ...processes.rasterizer import PackedMeshes, rasterize_numpy
from ...solver import device_name, load_checkpoint
from .compiled_stages import CompiledStages, can_compile_config
from .config import ObjectPoseConfig
from .covariance import metric_pose, normalised_pose, pose_covariance, update_covariance
from .crop import VirtualCamera, look_at_box, mask_bounds
from .gauss_newton import ContourGaussNewton
from .hypotheses import EstimatorConfig, HypothesisSolver
from .mesh_set import MeshSet
from .symmetry import Symmetries

if TYPE_CHECKING:
    import torch

    from ...solver import FeedbackSolver
    from .device_solver import DevicePoseSolver

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights" / "object_pose.safetensors"
ROBUST_SCALE = 0.02  # diameters
FREE_VARIANCE = np.pi**2 / 3.0  # of an angle that may be anything
SYMMETRY_SLACK = 0.01  # IoU that an equal pose may lose: a mesh is symmetric up to its facets
REFINE_MARGIN = 1.3  # side of the crop for the polish over the longer side of the mask's bounding box


@dataclass(frozen=True)
class ObjectPoseSolution:
    """What one mask says about the pose.

    Attributes:
        T_camera_object: (4, 4) float64, metres, ROS optical frame, the mesh file's own frame (times scale). Of the
            poses that a symmetry makes equal it is the one nearest to the initial pose.
        covariance: (6, 6) float64 in the order of ROS: position of the object's origin (m^2), then rotation about the
            axes of the camera frame (rad^2).
        iou: silhouette IoU of simulated and observed mask in the crop, in [0, 1]: the confidence.
        history: poses (4, 4) of the winning hypothesis, the initial one first, then one per stage that ran (two more
            than the weights have where several initial poses were tried); before the polish.
        residual_norms: 1 - IoU at each of them, at the resolution of the stages.
        solve_time: seconds.
        alternatives: other poses (4, 4) that explain the mask as well, best first, apart from those that a symmetry of
            the object makes equal; empty when the pose is unambiguous.
        truncated: the crop reaches beyond the image, so part of the object may be unseen.
    """

    T_camera_object: np.ndarray
    covariance: np.ndarray
    iou: float
    history: tuple[np.ndarray, ...]
    residual_norms: np.ndarray
    solve_time: float
    alternatives: tuple[np.ndarray, ...] = ()
    truncated: bool = False


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
        self._weights = weights or DEFAULT_WEIGHTS
        stages = self._load_stages()
        refiner = None
        if self.config.refine is not None:
            same = self._meshes.faces == self.config.refine_faces
            meshes = self._meshes if same else MeshSet([mesh], self.config.refine_faces)
            refiner = ContourGaussNewton(meshes, self.config.refine)
        self._hypotheses = HypothesisSolver(
            stages, self._meshes, refiner, self.config, self.num_stages, self._device
        )  # fmt: skip
        self._packed = PackedMeshes([(mesh.vertices, mesh.faces)])
        self._batch: DevicePoseSolver | None = None

    def _load_stages(self) -> CompiledStages | FeedbackSolver:
        """The stages of a weights file: compiled where that can be, which takes no torch; otherwise on tensors."""
        checkpoint = load_checkpoint(self._weights, kind="object_pose", framework="numpy")
        self.provenance = checkpoint.provenance
        self._model = ObjectPoseConfig.from_dict(checkpoint.config)
        if self._device == "cpu" and can_compile_config(self._model):
            trained = self._model.solver
            used = replace(self.config.solver, num_stages=trained.num_stages, shared_weights=trained.shared_weights)
            faces = min(self._model.simulation_faces, self.config.simulation_faces)
            self._meshes = MeshSet([self.mesh], faces)
            arrays = {name: np.asarray(value) for name, value in checkpoint.weights.items()}
            return CompiledStages.from_weights(arrays, used, self._meshes)
        self._meshes = self._solver.feedback.meshes  # type: ignore[attr-defined]
        return self._solver

    @cached_property
    def _solver(self) -> FeedbackSolver:
        """The stages on tensors."""
        from .problem import load_solver

        solver, _, _ = load_solver(self._weights, [self.mesh], self.config.solver)
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
        start = time.perf_counter()
        seen = check_mask(mask)
        matrix = check_camera_matrix(camera_matrix)
        starts = None if initial is None else self._check_initial(initial)
        if starts is not None and self._device != "cpu" and self._model.feedback == "contour":
            recorded = self._estimate_at_once(seen, matrix, starts, retry_iou)
            if recorded is not None:
                return recorded
        bounds = self._bounds(seen)
        camera = look_at_box(bounds, matrix, self._model.crop_size)
        observation = _observe(camera, seen, matrix, bounds)
        fine = None if self.config.refine is None else self._observe_finely(bounds, seen, matrix)
        if starts is None:
            found = self._hypotheses.search(observation, fine)
        else:
            found = self._hypotheses.solve_from(observation, fine, self._to_crop(starts, camera), retry_iou)
        winner = int(found.ious.argmax())
        metric = self._to_metres(np.concatenate([found.poses, found.history[winner]]), camera)
        poses, history = metric[: len(found.poses)], metric[len(found.poses) :]
        sharp = observation if fine is None else fine
        chosen = poses[winner]
        covariance, norm = self._covariance(sharp, camera, chosen)
        if starts is not None and not self.symmetries.is_trivial:
            equal = self.symmetries.nearest(chosen, starts[0])
            covariance_equal, norm_equal = self._covariance(sharp, camera, equal)
            if norm_equal < norm + SYMMETRY_SLACK:
                chosen, covariance = equal, covariance_equal
        return ObjectPoseSolution(
            T_camera_object=chosen, covariance=covariance, iou=float(found.ious[winner]), history=tuple(history),
            residual_norms=found.residual_norms[winner], alternatives=self._alternatives(poses, found.ious, winner),
            truncated=bool((observation.valid == 0).any()), solve_time=time.perf_counter() - start,
        )  # fmt: skip

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

    def _check_initial(self, initial: np.ndarray) -> np.ndarray:
        array = np.asarray(initial, dtype=np.float64)
        if array.ndim not in (2, 3) or array.shape[-2:] != (4, 4) or array.size == 0:
            raise PoseError(f"initial: expected shape (4, 4) or (K, 4, 4), got {array.shape}.")
        poses = array.reshape(-1, 4, 4)
        center = self.mesh.center
        return np.stack([check_pose_in_view(check_pose(p, "initial"), "initial", center) for p in poses])

    def _bounds(self, mask: np.ndarray) -> tuple[int, int, int, int]:
        bounds = mask_bounds(mask)
        left, top, right, bottom = bounds
        pixels = int(np.count_nonzero(mask[top : bottom + 1, left : right + 1]))
        if pixels < self.config.min_mask_pixels:
            raise MaskError(
                f"mask: {pixels} pixels are set, at least {self.config.min_mask_pixels} are needed. "
                "The object is too far away or nearly hidden."
            )
        return bounds

    def _to_crop(self, poses: np.ndarray, camera: VirtualCamera) -> np.ndarray:
        normalised = normalised_pose(camera.to_virtual(poses), self.mesh.center, self.mesh.diameter)
        return normalised.astype(np.float32)

    def _to_metres(self, poses: np.ndarray, camera: VirtualCamera) -> np.ndarray:
        return camera.to_real(metric_pose(poses.astype(np.float64), self.mesh.center, self.mesh.diameter))

    def _observe_finely(
        self, bounds: tuple[int, int, int, int], mask: np.ndarray, matrix: np.ndarray
    ) -> SilhouetteObservation:
        """The crop for the polish: the image's resolution, up to ``refine_size``."""
        side = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) + 1
        size = int(np.clip(32 * np.ceil(REFINE_MARGIN * side / 32), 96, max(96, self.config.refine_size)))
        return _observe(look_at_box(bounds, matrix, size, REFINE_MARGIN), mask, matrix, bounds)

    def _alternatives(self, poses: np.ndarray, ious: np.ndarray, winner: int) -> tuple[np.ndarray, ...]:
        if len(poses) == 1:
            return ()
        found: list[np.ndarray] = [poses[winner]]
        for i in np.argsort(-ious, kind="stable"):
            if i == winner:
                continue
            if ious[i] < ious[winner] - self.config.ambiguity_iou:
                break
            equal = np.stack([self.symmetries.nearest(poses[i], pose) for pose in found])  # symmetry is no ambiguity
            angles = rotation_angle(np.stack(found)[:, :3, :3], equal[:, :3, :3])
            if np.rad2deg(angles.min()) > self.config.ambiguity_angle_deg:
                found.append(poses[i])
        return tuple(found[1:])

    def _covariance(
        self, observation: SilhouetteObservation, camera: VirtualCamera, T_camera_object: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Covariance (6, 6) at a pose, and 1 - IoU there."""
        pose = self._to_crop(T_camera_object[None], camera)[0]
        jacobian, residual, weight, norm = compare_contours(self._meshes.packed, observation, pose)
        residual, jacobian = residual.astype(np.float64), jacobian.astype(np.float64)
        weight = weight / (1.0 + (residual / ROBUST_SCALE) ** 2)
        numbers = pose.astype(np.float64)
        pixel = numbers[2, 3] / float(observation.camera[0, 0, 0])
        local = update_covariance(jacobian, residual, weight, pixel)
        for axis, offset in zip(self.symmetries.axes, self.symmetries.offsets, strict=True):
            # About this axis nothing is known; the center moves if the axis does not pass through it.
            turn = numbers[:3, :3] @ axis
            arm = numbers[:3, :3] @ (self.mesh.center - offset) / self.mesh.diameter
            free = np.concatenate([turn, np.cross(turn, arm)[:2], [0.0]])
            local += FREE_VARIANCE * np.outer(free, free)
        covariance = pose_covariance(local, numbers, self.mesh.diameter, self.mesh.center, camera.R_virtual_camera)
        return covariance, norm

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


def _observe(
    camera: VirtualCamera, mask: np.ndarray, matrix: np.ndarray, bounds: tuple[int, int, int, int]
) -> SilhouetteObservation:
    """The crop of a full mask, as an observation in arrays."""
    crop, valid = camera.warp(mask, matrix, bounds)
    if not crop.any():
        raise MaskError("mask: nothing of it is left after cropping; it is too thin to be an object.")
    return observe(crop[None], camera.camera_matrix[None], valid[None], tensors=False)
