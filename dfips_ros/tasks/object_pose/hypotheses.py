# SPDX-License-Identifier: Apache-2.0
"""From one or many initial poses to polished hypotheses of one mask, in the frame of its virtual camera."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...checks import check_range
from ...geometry import so3_exp
from ...processes.observation import SilhouetteObservation
from ...solver import FeedbackSolver, Solution, SolverConfig
from .compiled_stages import CompiledStages, can_compile
from .gauss_newton import ContourGaussNewton, GaussNewtonConfig
from .initialization import ViewTable
from .problem import MeshSet


@dataclass(frozen=True)
class EstimatorConfig:
    """How one mask is solved.

    Attributes:
        solver: adaptive update and its limits (the weights file fixes the number of stages).
        refine: polish the solved pose at up to full resolution with contour Gauss-Newton; None leaves it out.
        refine_size: largest side of the crop for the polish, pixels.
        refine_faces: the mesh is simplified to about this many faces for the polish.
        refine_iou: a polished pose that explains the mask worse than this is dropped, the pose of the stages kept.
        refine_survivors: how many of several hypotheses are polished.
        retry_iou: a solve from an initial pose that ends below this IoU is repeated from several poses around it...
        retry_angle_deg: ... which are turned by so much, about the eight diagonals; 0 switches that off.
        search_iou: where the retry ends below this IoU too, the pose is searched as if nothing were known; 0 never.
        hypotheses: initial poses that are tried when nothing is known.
        survivors: how many of several initial poses are solved to the end.
        views: directions in the table of silhouettes.
        min_mask_pixels: smaller masks are refused.
        ambiguity_iou: poses whose IoU is within this of the best one are reported as alternatives...
        ambiguity_angle_deg: ... if they differ by more than this.
    """

    solver: SolverConfig = field(default_factory=lambda: SolverConfig(max_scalings=0))
    refine: GaussNewtonConfig | None = field(
        default_factory=lambda: GaussNewtonConfig(
            iterations=8, attempts=2, damping=1e-3, robust_pixels=3.0, least_gain=1e-4
        )
    )
    refine_size: int = 256
    refine_faces: int = 5000
    refine_iou: float = 0.9
    refine_survivors: int = 2
    retry_iou: float = 0.98
    retry_angle_deg: float = 30.0
    search_iou: float = 0.97
    hypotheses: int = 24
    survivors: int = 6
    views: int = 300
    min_mask_pixels: int = 64
    ambiguity_iou: float = 0.01
    ambiguity_angle_deg: float = 15.0

    def __post_init__(self) -> None:
        check_range("refine_size", self.refine_size, 32, 1024)
        check_range("refine_faces", self.refine_faces, 100)
        check_range("refine_iou", self.refine_iou, 0.0, 1.0)
        check_range("refine_survivors", self.refine_survivors, 1)
        check_range("retry_iou", self.retry_iou, 0.0, 1.0)
        check_range("search_iou", self.search_iou, 0.0, 1.0)
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

    poses: Tensor
    ious: Tensor
    history: Tensor
    residual_norms: Tensor


class HypothesisSolver:
    """Learned stages, then the polish; more initial poses where one is not enough.

    Args:
        solver: the learned stages.
        meshes: what the stages simulate.
        refiner: the polish; None leaves it out.
        config: see :class:`EstimatorConfig`.
        num_stages: how many stages are unrolled.
        device: where the networks run.
    """

    def __init__(
        self,
        solver: FeedbackSolver,
        meshes: MeshSet,
        refiner: ContourGaussNewton | None,
        config: EstimatorConfig,
        num_stages: int,
        device: torch.device,
    ) -> None:
        self.solver, self.meshes, self.refiner = solver, meshes, refiner
        self.config, self.num_stages, self.device = config, num_stages, device
        self._compiled = CompiledStages(solver) if device.type == "cpu" and can_compile(solver) else None
        self._views: ViewTable | None = None

    def solve_from(
        self, observation: SilhouetteObservation, fine: SilhouetteObservation | None, starts: Tensor
    ) -> Hypotheses:
        """Solve from the initial pose whose silhouette fits best; where that fails, from several poses around it."""
        start = starts
        if len(starts) > 1:
            start = starts[self._unroll(observation, starts, 0).residual_norms[:, 0].argmin()[None]]
        found = self._polished(self._unroll(observation, start, self.num_stages), fine)
        c = self.config
        if c.retry_angle_deg == 0 or float(found.ious[0]) >= c.retry_iou:
            return found
        axes = np.deg2rad(c.retry_angle_deg / 3**0.5) * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        around = start.repeat(len(axes), 1, 1)
        around[:, :3, :3] = so3_exp(torch.from_numpy(axes).to(start)) @ start[:, :3, :3]
        found = self._better(found, self._solve_several(observation, fine, around), c.retry_iou, 0.1)
        if float(found.ious.max()) < c.search_iou:
            found = self._better(found, self.search(observation, fine), c.search_iou, 1.0)
        return found

    def _unroll(self, observation: SilhouetteObservation, starts: Tensor, num_stages: int) -> Solution:
        """The stages from several initial poses for one observation."""
        if self._compiled is not None:
            return self._compiled.estimate(observation, starts, num_stages)
        return self.solver.estimate(repeated(observation, len(starts)), starts, num_stages)

    @staticmethod
    def _better(near: Hypotheses, far: Hypotheses, enough: float, margin: float) -> Hypotheses:
        """``far`` if it explains the mask fully, or better by a margin: an occluded object fits many a wrong pose."""
        a, b = float(near.ious.max()), float(far.ious.max())
        return far if b > a and (b >= enough or b > a + margin) else near

    def search(self, observation: SilhouetteObservation, fine: SilhouetteObservation | None) -> Hypotheses:
        """Solve from a shortlist of views."""
        if self._views is None:
            self._views = ViewTable.build(self.meshes.packed, 0, self.config.views)
        mask, camera = observation.mask[0].numpy(), observation.camera[0].numpy().astype(np.float64)
        poses, _ = self._views.shortlist(mask, camera, self.config.hypotheses)
        return self._solve_several(observation, fine, torch.from_numpy(poses).float().to(self.device))

    def _solve_several(
        self, observation: SilhouetteObservation, fine: SilhouetteObservation | None, starts: Tensor
    ) -> Hypotheses:
        """All initial poses for two stages in one batch, then the best of them from there to the end."""
        early = self._unroll(observation, starts, 2)
        order = self._final_norms(early).argsort()[: self.config.survivors]
        late = self._unroll(observation, early.estimate[order], self.num_stages)
        history = tuple(h[order] for h in early.history) + late.history[1:]
        norms = torch.cat([early.residual_norms[order], late.residual_norms[:, 1:]], dim=1)
        return self._polished(Solution(late.estimate, history, norms), fine)

    def _final_norms(self, solution: Solution) -> Tensor:
        """Residual norms (B,) of the estimates that a solution returns."""
        norms = solution.residual_norms
        return norms.min(dim=1).values if self.solver.config.keep_best else norms[:, -1]

    def _polished(self, solution: Solution, fine: SilhouetteObservation | None) -> Hypotheses:
        """Hypotheses by IoU, the best of them polished; both crops share a virtual camera's frame, so poses do too."""
        norms = self._final_norms(solution)
        order = norms.argsort(stable=True)
        poses = solution.estimate[order].clone()
        ious = 1.0 - norms[order].cpu()
        if fine is not None and self.refiner is not None:
            count = min(len(order), self.config.refine_survivors)
            polished = self.refiner.estimate(fine, poses[:count])
            before, after = (1.0 - polished.residual_norms[:, k].cpu() for k in (0, -1))
            # The stages have learned to see past occluders and ragged edges; a polish that stays poor has not.
            kept = after >= self.config.refine_iou
            poses[:count] = torch.where(kept.to(poses.device)[:, None, None], polished.estimate, poses[:count])
            ious[:count] = torch.where(kept, after, before)
            ious[count:] = torch.minimum(ious[count:], ious[:count].max() - 1e-6)  # measured on another grid
        history = torch.stack(solution.history, dim=1)[order]
        return Hypotheses(poses, ious, history, solution.residual_norms[order])


def repeated(observation: SilhouetteObservation, count: int) -> SilhouetteObservation:
    """One observation, ``count`` times."""
    return observation if count == 1 else observation[torch.zeros(count, dtype=torch.long)]
