# SPDX-License-Identifier: Apache-2.0
"""From masks to poses without leaving the device: crop, stages, polish and covariance of a batch, as one CUDA graph.

On a GPU everything between the masks and the poses is recorded once for each size of the batch and of the image, and
then replayed: one launch, no allocation, and nothing that waits. On the CPU the same operations run one by one, which
is what the tests compare with the estimator's own path.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...checks import check_camera_matrix, check_range
from ...errors import CameraError, MaskError, PoseError
from ...processes.device_contour import compare
from ...processes.device_meshes import has_kernels
from ...processes.device_observation import observe
from ...processes.mesh import Mesh
from ...processes.observation import SilhouetteObservation
from ...solver import FeedbackSolver
from .crop import CROP_MARGIN, CROP_SIZE
from .device_covariance import DeviceCovariance, to_crop, to_metres
from .device_crop import area_table, look_at_boxes, mask_bounds, resized, warp
from .device_polish import DevicePolish
from .device_stages import DeviceStages, chosen
from .hypotheses import EstimatorConfig
from .problem import MeshSet
from .symmetry import Symmetries

logger = logging.getLogger(__name__)

POLISH_MARGIN = 1.3  # side of the crop for the polish over the longer side of the box, as in the estimator
_KEPT_GRAPHS = 4
_WARM_UPS = 3


@dataclass(frozen=True)
class DevicePoses:
    """What a batch of masks says about the poses; tensors on the device of the solver.

    Attributes:
        T_camera_object: (B, 4, 4) float64 metres, optical frame; the initial pose where ``solved`` is false.
        iou: (B,) silhouette IoU in the crop of the polish (of the stages where there is no polish).
        contour_pixels: (B,) mean distance of simulated and observed contours, pixels of that crop.
        covariance: (B, 6, 6) float64, order of ROS, as ``ObjectPoseSolution`` has it.
        history: (B, T+1, 4, 4) float64 metres, the initial pose first, before the polish.
        residual_norms: (B, T+1), 1 - IoU at each of them, at the resolution of the stages.
        mask_pixels: (B,) int32 pixels of each mask.
        solved: (B,) bool; false where a mask has too few pixels or an initial pose is of no use.
        truncated: (B,) bool; the crop reaches beyond the image.
        memory: one piece that holds all of them, from a GPU; one copy takes them along.
    """

    T_camera_object: Tensor
    iou: Tensor
    contour_pixels: Tensor
    covariance: Tensor
    history: Tensor
    residual_norms: Tensor
    mask_pixels: Tensor
    solved: Tensor
    truncated: Tensor
    memory: Tensor | None = None

    @staticmethod
    def within(memory: Tensor, count: int, steps: int) -> DevicePoses:
        """Of ``count`` masks with ``steps`` residual norms, in memory of :meth:`bytes_for` bytes."""
        kinds = _layout(steps)
        parts = memory.split([count * bytes_of for bytes_of, _, _ in kinds])
        tensors = [p.view(dtype).view(count, *shape) for p, (_, dtype, shape) in zip(parts, kinds, strict=True)]
        pose, covariance, history, iou, contour, norms, pixels, solved, truncated = tensors
        return DevicePoses(pose, iou, contour, covariance, history, norms, pixels, solved, truncated, memory)

    @staticmethod
    def bytes_for(count: int, steps: int) -> int:
        """How much memory :meth:`within` takes."""
        return count * sum(bytes_of for bytes_of, _, _ in _layout(steps))

    def clone(self) -> DevicePoses:
        """A copy that the next solve does not overwrite."""
        return self._mapped(Tensor.clone)

    def cpu(self) -> DevicePoses:
        """The same on the CPU; waits for the device, once if all is in one piece of memory."""
        return self._mapped(Tensor.cpu)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> DevicePoses:
        if self.memory is not None:
            return DevicePoses.within(change(self.memory), *self.residual_norms.shape)
        return DevicePoses(**{f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "memory"})


def _layout(steps: int) -> list[tuple[int, torch.dtype, tuple[int, ...]]]:
    """Bytes, types and shapes of what there is for each mask, from the longest type to the shortest."""
    kinds: list[tuple[torch.dtype, tuple[int, ...]]] = [
        (torch.float64, (4, 4)), (torch.float64, (6, 6)), (torch.float64, (steps, 4, 4)), (torch.float32, ()),
        (torch.float32, ()), (torch.float32, (steps,)), (torch.int32, ()), (torch.bool, ()), (torch.bool, ()),
    ]  # fmt: skip
    return [(math.prod(shape) * dtype.itemsize, dtype, shape) for dtype, shape in kinds]


class _Recording:
    """A function of tensors as a CUDA graph.

    Args:
        function: of tensors of fixed shapes.
        inputs: examples of them.
    """

    def __init__(self, function: Callable[..., DevicePoses], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(x.clone() for x in inputs)
        device = inputs[0].device
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):  # compile kernels, make the workspaces of libraries
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, inputs: tuple[Tensor, ...]) -> DevicePoses:
        """Outputs that the next call overwrites."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new, non_blocking=True)
        self._graph.replay()
        return self._outputs


class DevicePoseSolver:
    """Poses of one mesh from a batch of masks, one initial pose each.

    Args:
        mesh: the object, metres.
        solver: the learned stages, with the mesh as its first one.
        config: of the estimator; what it says about hypotheses and retries is not used here.
        device: where everything runs.
        symmetries: of the object.
        num_stages: unroll so many stages instead of all that were trained.
        crop_size: side of the crop of the stages, pixels.
        polish_size: side of the crop of the polish, pixels; the configuration's ``refine_size`` by default.

    Raises:
        ConfigError: the solver's feedback or stages are not of the contour kind.
    """

    def __init__(
        self,
        mesh: Mesh,
        solver: FeedbackSolver,
        config: EstimatorConfig,
        device: torch.device,
        symmetries: Symmetries | None = None,
        num_stages: int | None = None,
        crop_size: int = CROP_SIZE,
        polish_size: int | None = None,
    ) -> None:
        self.mesh, self.config, self.device = mesh, config, device
        self.num_stages = solver.config.num_stages if num_stages is None else num_stages
        self.crop_size = crop_size
        self.polish_size = int(check_range("polish_size", polish_size or config.refine_size, 32, 1024))
        self.stages = DeviceStages(solver, device)
        self.polish = None
        if config.refine is not None:
            self.polish = DevicePolish(MeshSet([mesh], config.refine_faces), config.refine, device)
        self._covariance = DeviceCovariance(mesh, symmetries or Symmetries.none(), device)
        self._anywhere = torch.eye(4, dtype=torch.float64, device=device)  # where elements of no use are put
        self._anywhere[2, 3] = 3.0
        self._recordings: OrderedDict[tuple[int, ...], _Recording] = OrderedDict()

    @property
    def records(self) -> bool:
        """Whether batches are replayed as a CUDA graph (on a GPU on which Triton runs)."""
        return has_kernels(self.device)

    def solve(
        self, masks: np.ndarray | Tensor, camera_matrix: np.ndarray | Tensor, initial: np.ndarray | Tensor
    ) -> DevicePoses:
        """Solve a batch. Tensors on the device are used as they are, and not looked at: nothing waits.

        Args:
            masks: (B, H, W) bool or uint8, non-zero on the object.
            camera_matrix: (3, 3) or (B, 3, 3) pinhole matrices, pixels, without skew.
            initial: (B, 4, 4) poses to start from, metres.

        Raises:
            MaskError, CameraError, PoseError: of another shape or type, or (arrays only) not finite.
        """
        inputs = self._inputs(masks, camera_matrix, initial)
        if not self.records:
            return self.forward(*inputs)
        key = tuple(inputs[0].shape)
        if key not in self._recordings:
            if len(self._recordings) == _KEPT_GRAPHS:
                self._recordings.popitem(last=False)
            with torch.cuda.device(self.device):
                self._recordings[key] = _Recording(self.forward, inputs)
        self._recordings.move_to_end(key)
        with torch.cuda.device(self.device):
            return self._recordings[key](inputs).clone()

    @torch.no_grad()
    def forward(self, masks: Tensor, camera_matrix: Tensor, initial: Tensor) -> DevicePoses:
        """The whole solve, as operations of fixed shape on one device: what the CUDA graph records.

        Args:
            masks: (B, H, W) uint8.
            camera_matrix: (B, 3, 3) float64.
            initial: (B, 4, 4) float64.
        """
        run = self._with_kernels if has_kernels(self.device) else self._with_torch
        return run(masks, camera_matrix, initial)

    def _with_torch(self, masks: Tensor, camera_matrix: Tensor, initial: Tensor) -> DevicePoses:
        covariance = self._covariance
        center, diameter = covariance.center, covariance.diameter
        seen = masks > 0
        bounds, pixels = mask_bounds(seen)
        table = area_table(seen)
        index = torch.zeros_like(pixels, dtype=torch.long)
        rotation, matrix = look_at_boxes(bounds, camera_matrix, self.crop_size)
        crop = warp(table, camera_matrix, rotation, matrix, self.crop_size)
        observation, lines = self._observed(crop, matrix.float(), index)
        truncated = lines[:, 2].sum(1) > 0
        start = to_crop(initial, rotation, center, diameter)
        useful = (pixels >= self.config.min_mask_pixels) & (start[:, 2, 3] > 0)
        useful = useful & torch.isfinite(start.float()).all(2).all(1)
        start = chosen(useful, start, self._anywhere.expand_as(start))
        solution = self.stages.estimate(observation, start.float(), self.num_stages)
        pose, norms = solution.estimate.double(), solution.residual_norms
        iou = 1.0 - (norms.amin(1) if self.stages.config.keep_best else norms[:, -1])
        if self.polish is not None:
            matrix = resized(matrix, self.crop_size, CROP_MARGIN, self.polish_size, POLISH_MARGIN)
            crop = warp(table, camera_matrix, rotation, matrix, self.polish_size)
            observation, lines = self._observed(crop, matrix.float(), index)
            polished = self.polish.estimate(observation, pose)
            before, after = 1.0 - polished.residual_norms[:, 0], 1.0 - polished.residual_norms[:, -1]
            kept = after >= self.config.refine_iou
            pose, iou = chosen(kept, polished.estimate, pose), torch.where(kept, after, before)
        rows = compare(self.stages.meshes, observation, pose)
        contour, area, _ = lines.sum(2, dtype=torch.int32).unbind(1)
        steps = len(solution.history)
        history = to_metres(
            torch.stack(solution.history, dim=1).double().flatten(0, 1), rotation.repeat_interleave(steps, 0),
            center, diameter,
        ).unflatten(0, (-1, steps))  # fmt: skip
        return DevicePoses(
            T_camera_object=chosen(useful, to_metres(pose, rotation, center, diameter), initial),
            iou=torch.where(useful, iou, 0.0), contour_pixels=(1.0 - iou) * area / contour.clamp_min(1),
            covariance=covariance(rows, pose, matrix[:, 0, 0], rotation), history=history, residual_norms=norms,
            mask_pixels=pixels, solved=useful, truncated=truncated,
        )  # fmt: skip

    def _with_kernels(self, masks: Tensor, camera_matrix: Tensor, initial: Tensor) -> DevicePoses:
        from ...processes.cuda_outcome import finish, kept
        from ...processes.cuda_views import views

        c, covariance = self.config, self._covariance
        camera_matrix = camera_matrix.contiguous()
        seen = views(
            masks.contiguous(), camera_matrix, initial, covariance.frame, c.min_mask_pixels, self.crop_size,
            CROP_MARGIN, self.polish_size, POLISH_MARGIN,
        )  # fmt: skip
        matrix = seen.matrices[0]
        crop = warp(seen.table, camera_matrix, seen.rotation, matrix, self.crop_size)
        observation, first = self._observed(crop, seen.cameras[0], seen.mesh_index)
        best, history, norms = self.stages.unroll(observation, seen.start, self.num_stages)
        if self.polish is None:
            pose, narrow, last = best.double(), best, first
            iou = 1.0 - (norms.amin(1) if self.stages.config.keep_best else norms[:, -1])
        else:
            matrix = seen.matrices[1]
            crop = warp(seen.table, camera_matrix, seen.rotation, matrix, self.polish_size)
            observation, last = self._observed(crop, seen.cameras[1], seen.mesh_index)
            polished, ends = self.polish.unroll(observation, best)
            pose, narrow, iou = kept(best, polished[-1], ends, c.refine_iou)
        rows = compare(self.stages.meshes, observation, narrow)
        shape = (len(masks), len(history))
        memory = torch.empty(DevicePoses.bytes_for(*shape), dtype=torch.uint8, device=self.device)
        out = DevicePoses.within(memory, *shape)
        finish(
            rows, (pose, iou), (matrix, seen.rotation), covariance.frame, covariance.beliefs, (history, norms),
            (initial, seen.useful, seen.pixels), (first, last),
            (
                out.T_camera_object, out.covariance, out.history, out.iou, out.contour_pixels, out.residual_norms,
                out.mask_pixels, out.solved, out.truncated,
            ), covariance.numbers,
        )  # fmt: skip
        return out

    def _observed(
        self, crop: tuple[Tensor, Tensor], camera: Tensor, mesh_index: Tensor
    ) -> tuple[SilhouetteObservation, Tensor]:
        """What is seen in a crop, and counts of its rows (B, 3, S), see :func:`observe`."""
        mask, valid = crop
        lines = torch.empty((len(mask), 3, mask.shape[-1]), dtype=torch.int32, device=self.device)
        return observe(mask, valid, camera, mesh_index, lines=lines), lines

    def _inputs(
        self, masks: np.ndarray | Tensor, camera_matrix: np.ndarray | Tensor, initial: np.ndarray | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three inputs, checked, on the device, in the types that :meth:`forward` takes."""
        seen = torch.as_tensor(masks)
        if seen.ndim != 3 or seen.dtype not in (torch.bool, torch.uint8) or 0 in seen.shape:
            raise MaskError(
                f"masks: expected a bool or uint8 array (B, H, W) without an empty side, got {tuple(seen.shape)} of "
                f"{seen.dtype}. Compare labels with the wanted one first."
            )
        count = len(seen)
        if not isinstance(camera_matrix, Tensor):
            array = np.asarray(camera_matrix, dtype=np.float64)
            camera_matrix = torch.from_numpy(
                check_camera_matrix(array) if array.ndim < 3 else np.stack([check_camera_matrix(k) for k in array])
            )
        if tuple(camera_matrix.shape) not in ((3, 3), (count, 3, 3)):
            raise CameraError(
                f"camera_matrix: expected shape (3, 3) or ({count}, 3, 3), got {tuple(camera_matrix.shape)}."
            )
        finite = isinstance(initial, Tensor) or bool(np.isfinite(np.asarray(initial, dtype=np.float64)).all())
        poses = torch.as_tensor(initial)
        if tuple(poses.shape) != (count, 4, 4) or not finite:
            raise PoseError(
                f"initial: expected finite poses ({count}, 4, 4), one for each mask, got {tuple(poses.shape)}"
                f"{'' if finite else ' with NaN or infinity'}."
            )
        cameras = camera_matrix.to(self.device, torch.float64).expand(count, 3, 3)
        return seen.to(self.device).view(torch.uint8), cameras, poses.to(self.device, torch.float64)
