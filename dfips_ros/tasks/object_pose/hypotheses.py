# SPDX-License-Identifier: Apache-2.0
"""From one or many initial poses to polished hypotheses of one mask, in the frame of its virtual camera."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_range
from ...processes.observation import SilhouetteObservation, TensorOrArray, as_array, boundary
from ...solver import Solution, SolverConfig
from .compiled_stages import CompiledStages
from .gauss_newton import ContourGaussNewton, GaussNewtonConfig, moved
from .initialization import ViewTable
from .mesh_set import MeshSet

if TYPE_CHECKING:
    from ...solver import FeedbackSolver
    from .device_stages import DeviceStages

CLEAN_PIXELS = 1.0  # a pose whose contour is on average nearer than this has found the whole object in the mask


@dataclass(frozen=True)
class EstimatorConfig:
    """How one mask is solved.

    Attributes:
        solver: adaptive update and its limits (the weights file fixes the number of stages).
        simulation_faces: the mesh is simplified to about this many faces for compiled stages, fewer than the weights
            were trained with; ``processes.simplification`` holds the silhouette.
        refine: polish the solved pose at up to full resolution with contour Gauss-Newton; None leaves it out.
        refine_size: largest side of the crop for the polish, pixels.
        refine_faces: the mesh is simplified to about this many faces for the polish.
        refine_iou: a polished pose that explains the mask worse than this is dropped, the pose of the stages kept.
        refine_survivors: how many of several hypotheses are polished.
        retry_iou: a solve from an initial pose that ends below this IoU...
        retry_pixels: ... or with contours that are further apart than this (mean over the contour, at the resolution of
            the polish; 0 leaves it to the IoU) is repeated from several poses around it...
        retry_angle_deg: ... which are turned by so much, about the eight diagonals; 0 switches that off.
        retry_survivors: how many of these are solved to the end.
        search_pixels: where the contours are still further apart after that, the pose is searched as if nothing were
            known; 0 never does.
        hypotheses: initial poses that are tried when nothing is known.
        survivors: how many of those are solved to the end.
        views: directions in the table of silhouettes.
        min_mask_pixels: smaller masks are refused.
        ambiguity_iou: poses whose IoU is within this of the best one are reported as alternatives...
        ambiguity_angle_deg: ... if they differ by more than this.
    """

    solver: SolverConfig = field(default_factory=lambda: SolverConfig(max_scalings=0))
    refine: GaussNewtonConfig | None = field(
        default_factory=lambda: GaussNewtonConfig(
            iterations=8, attempts=2, damping=1e-3, robust_pixels=1.0, least_gain=1e-4
        )
    )
    simulation_faces: int = 2000
    refine_size: int = 256
    refine_faces: int = 2000
    refine_iou: float = 0.9
    refine_survivors: int = 2
    retry_iou: float = 0.8
    retry_pixels: float = 0.3
    retry_angle_deg: float = 30.0
    retry_survivors: int = 3
    search_pixels: float = 1.0
    hypotheses: int = 24
    survivors: int = 6
    views: int = 300
    min_mask_pixels: int = 64
    ambiguity_iou: float = 0.01
    ambiguity_angle_deg: float = 15.0

    def __post_init__(self) -> None:
        check_range("refine_size", self.refine_size, 32, 1024)
        check_range("simulation_faces", self.simulation_faces, 100)
        check_range("refine_faces", self.refine_faces, 100)
        check_range("refine_iou", self.refine_iou, 0.0, 1.0)
        check_range("refine_survivors", self.refine_survivors, 1)
        check_range("retry_iou", self.retry_iou, 0.0, 1.0)
        check_range("retry_pixels", self.retry_pixels, 0.0)
        check_range("search_pixels", self.search_pixels, 0.0)
        check_range("retry_survivors", self.retry_survivors, 1)
        check_range("retry_angle_deg", self.retry_angle_deg, 0.0, 90.0)
        check_range("hypotheses", self.hypotheses, 1, 1000)
        check_range("survivors", self.survivors, 1, self.hypotheses)
        check_range("views", self.views, 12, 5000)
        check_range("min_mask_pixels", self.min_mask_pixels, 1)
        check_range("ambiguity_iou", self.ambiguity_iou, 0.0, 1.0)
        check_range("ambiguity_angle_deg", self.ambiguity_angle_deg, 0.0, 180.0)


@dataclass(frozen=True)
class Hypotheses:
    """Solved poses of one mask in the crop's frame: (K, 4, 4), their IoUs (K,), histories (K, T+1, 4, 4), norms."""

    poses: np.ndarray
    ious: np.ndarray
    history: np.ndarray
    residual_norms: np.ndarray

    @property
    def best_iou(self) -> float:
        """The largest IoU."""
        return float(self.ious.max())


class HypothesisSolver:
    """Learned stages, then the polish; more initial poses where one is not enough.

    Everything is in arrays; tensors come in only where the stages are not compiled (another device or network).

    Args:
        solver: the learned stages, compiled or on tensors.
        meshes: what the stages simulate.
        refiner: the polish; None leaves it out.
        config: see :class:`EstimatorConfig`.
        num_stages: how many stages are unrolled.
        device: where stages on tensors run.
    """

    def __init__(
        self,
        solver: CompiledStages | FeedbackSolver,
        meshes: MeshSet,
        refiner: ContourGaussNewton | None,
        config: EstimatorConfig,
        num_stages: int,
        device: str = "cpu",
    ) -> None:
        self.solver, self.meshes, self.refiner = solver, meshes, refiner
        self.config, self.num_stages, self.device = config, num_stages, device
        self._on_device = self._on_gpu(solver)
        self._views: ViewTable | None = None

    def _on_gpu(self, solver: CompiledStages | FeedbackSolver) -> DeviceStages | None:
        """Contour stages that run on a GPU as a whole; None on a processor and for other networks."""
        if self.device == "cpu" or isinstance(solver, CompiledStages):
            return None
        import torch

        from .device_stages import DeviceStages
        from .problem import ContourFeedback

        return DeviceStages(solver, torch.device(self.device)) if isinstance(solver.feedback, ContourFeedback) else None

    def solve_from(
        self,
        observation: SilhouetteObservation,
        fine: SilhouetteObservation | None,
        starts: np.ndarray,
        retry_iou: float | None = None,
    ) -> Hypotheses:
        """Solve from the initial pose whose silhouette fits best; where that fails, from several poses around it."""
        start = starts
        if len(starts) > 1:
            best = self._best_start(observation, starts)
            start = starts[best : best + 1]
        found = self._polished(self._unroll(observation, start, self.num_stages), fine)
        c = self.config
        sharp = observation if fine is None else fine
        if c.retry_angle_deg == 0 or self._explains(found, sharp, retry_iou):
            return found
        axes = np.deg2rad(c.retry_angle_deg / 3**0.5) * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        around = np.empty((len(axes), 4, 4))
        for pose, axis in zip(around, axes, strict=True):
            moved(start[0].astype(np.float64), np.concatenate([axis, np.zeros(3)]), pose)
        around = around.astype(np.float32)
        found = self._better(found, self._solve_several(observation, fine, around, c.retry_survivors), sharp)
        if c.search_pixels > 0 and contour_distance(found.best_iou, sharp) > c.search_pixels:
            far = self._search_once(observation, fine, 0)
            found = far if far.best_iou > found.best_iou and self._explains(far, sharp) else found
        return found

    def _explains(self, found: Hypotheses, observation: SilhouetteObservation, retry_iou: float | None = None) -> bool:
        """Whether a mask is explained so well that a wrong pose is unlikely."""
        c = self.config
        if found.best_iou < (c.retry_iou if retry_iou is None else retry_iou):
            return False
        return c.retry_pixels == 0 or contour_distance(found.best_iou, observation) <= c.retry_pixels

    def _best_start(self, observation: SilhouetteObservation, starts: np.ndarray) -> int:
        """Which of several initial poses fits one observation best."""
        if isinstance(self.solver, CompiledStages):
            return self.solver.best_start(observation, starts)
        return int(self._unroll(observation, starts, 0).residual_norms[:, 0].argmin())

    def _unroll(self, observation: SilhouetteObservation, starts: np.ndarray, num_stages: int) -> Solution:
        """The stages from several initial poses for one observation; a solution in arrays."""
        if isinstance(self.solver, CompiledStages):
            return self.solver.estimate(observation, starts, num_stages)
        import torch

        with single_threaded_torch(self.device):
            initial = torch.from_numpy(np.ascontiguousarray(starts)).to(self.device)
            if self._on_device is not None:
                found = self._on_device.estimate(observation, initial, num_stages)
            else:
                found = self.solver.estimate(repeated(observation, len(starts)), initial, num_stages)
        parts: list[TensorOrArray] = [as_array(p) for p in (found.estimate, found.residual_norms, *found.history)]
        return Solution(parts[0], tuple(parts[2:]), parts[1])

    def _better(self, near: Hypotheses, far: Hypotheses, observation: SilhouetteObservation) -> Hypotheses:
        """``far`` if it is better beyond doubt: an occluded object fits many a wrong pose a little better."""
        if far.best_iou <= near.best_iou:
            return near
        clean = contour_distance(far.best_iou, observation) < CLEAN_PIXELS
        return far if clean or self._explains(far, observation) or far.best_iou > near.best_iou + 0.1 else near

    def search(self, observation: SilhouetteObservation, fine: SilhouetteObservation | None) -> Hypotheses:
        """Solve from a shortlist of views; from the next views of the list where the mask is not explained by then."""
        found = self._search_once(observation, fine, 0)
        if not self._explains(found, observation if fine is None else fine):
            more = self._search_once(observation, fine, 1)
            found = more if more.best_iou > found.best_iou else found
        return found

    def _search_once(
        self, observation: SilhouetteObservation, fine: SilhouetteObservation | None, page: int
    ) -> Hypotheses:
        if self._views is None:
            self._views = ViewTable.build(self.meshes.packed, 0, self.config.views)
        mask, camera = observation.mask[0], observation.camera[0].astype(np.float64)
        count = self.config.hypotheses
        poses, _ = self._views.shortlist(mask, camera, count * (page + 1))
        page_poses = poses[count * page :] if len(poses) > count * page else poses
        return self._solve_several(observation, fine, page_poses.astype(np.float32), self.config.survivors)

    def _solve_several(
        self, observation: SilhouetteObservation, fine: SilhouetteObservation | None, starts: np.ndarray, survivors: int
    ) -> Hypotheses:
        """All initial poses for two stages in one batch, then the best of them from there to the end."""
        early = self._unroll(observation, starts, 2)
        order = self._final_norms(early).argsort()[:survivors]
        late = self._unroll(observation, as_array(early.estimate)[order], self.num_stages)
        history = tuple(h[order] for h in early.history) + late.history[1:]
        norms: TensorOrArray = np.concatenate([early.residual_norms[order], late.residual_norms[:, 1:]], axis=1)
        return self._polished(Solution(late.estimate, history, norms), fine)

    def _final_norms(self, solution: Solution) -> np.ndarray:
        """Residual norms (B,) of the estimates that a solution returns."""
        norms = as_array(solution.residual_norms)
        return norms.min(axis=1) if self.solver.config.keep_best else norms[:, -1]

    def _polished(self, solution: Solution, fine: SilhouetteObservation | None) -> Hypotheses:
        """Hypotheses by IoU, the best of them polished; both crops share a virtual camera's frame, so poses do too."""
        norms = self._final_norms(solution)
        order = norms.argsort(kind="stable")
        poses, ious = as_array(solution.estimate)[order], 1.0 - norms[order]
        if fine is not None and self.refiner is not None:
            count = min(len(order), self.config.refine_survivors)
            polished = self.refiner.estimate(fine, poses[:count])
            before, after = (1.0 - as_array(polished.residual_norms)[:, k] for k in (0, -1))
            # The stages have learned to see past occluders and ragged edges; a polish that stays poor has not.
            kept = after >= self.config.refine_iou
            poses[:count][kept] = as_array(polished.estimate)[kept]
            ious[:count] = np.where(kept, after, before)
            ious[count:] = np.minimum(ious[count:], ious[:count].max() - 1e-6)  # measured on another grid
        history = np.stack([as_array(each) for each in solution.history], axis=1)[order]
        return Hypotheses(poses, ious, history, as_array(solution.residual_norms)[order])


def contour_distance(iou: float, observation: SilhouetteObservation) -> float:
    """Mean distance of two contours in pixels, from the IoU of their silhouettes: difference in area over length.

    Unlike the IoU it does not depend on how large the object is in the image, or how thin.
    """
    mask = as_array(observation.mask)[0]
    points = np.empty((mask.size, 2), np.int32)
    return (1.0 - iou) * int(mask.sum()) / max(boundary(mask, points), 1)


def repeated(observation: SilhouetteObservation, count: int) -> SilhouetteObservation:
    """One observation, ``count`` times, in tensors."""
    import torch

    tensors = observation.tensors()
    return tensors if count == 1 else tensors[torch.zeros(count, dtype=torch.long)]


@contextlib.contextmanager
def single_threaded_torch(device: str) -> Iterator[None]:
    """Keep small CPU networks on one thread: several only wait for each other, the more so on a busy robot."""
    import torch

    threads = torch.get_num_threads()
    if device != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
