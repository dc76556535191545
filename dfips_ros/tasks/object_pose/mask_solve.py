# SPDX-License-Identifier: Apache-2.0
"""From masks to poses, one for each object in a batch: crops, hypotheses, covariances.

Objects differ in mesh and in the size of their crops, so their stages and polish run side by side in compiled code, one
object on one thread; what is left, small matrices, is calculated for all of them at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checks import check_pose, check_pose_in_view
from ...errors import MaskError, PoseError
from ...geometry import make_pose, rotation_angle
from ...processes.contour import compare_contours
from ...processes.mesh import Mesh
from ...processes.observation import SilhouetteObservation, observe
from ...processes.threads import for_each_alone
from .compiled_stages import CompiledStages
from .covariance import metric_pose, normalised_pose, pose_covariance, update_covariance
from .crop import CROP_MARGIN, VirtualCamera, look_at_box, mask_bounds
from .hypotheses import EstimatorConfig, Hypotheses, HypothesisSolver
from .symmetry import Symmetries

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
        solve_time: seconds; of objects that were solved together, until all were.
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


@dataclass(frozen=True)
class ObjectSolver:
    """What solves the masks of one object: its mesh, symmetries, hypotheses, and the side of its crops in pixels."""

    mesh: Mesh
    symmetries: Symmetries
    hypotheses: HypothesisSolver
    crop_size: int

    @property
    def config(self) -> EstimatorConfig:
        """How a mask is solved."""
        return self.hypotheses.config

    @property
    def is_compiled(self) -> bool:
        """Whether the stages are compiled, so that several objects can be solved side by side."""
        return isinstance(self.hypotheses.solver, CompiledStages)


@dataclass(frozen=True)
class MaskRequest:
    """A mask to solve.

    Attributes:
        solver: of the object.
        mask: (H, W) bool.
        starts: (4, 4) or (K, 4, 4) poses to start from; None: nothing is known.
        retry_iou: see :class:`EstimatorConfig`, in place of the one there.
    """

    solver: ObjectSolver
    mask: np.ndarray
    starts: np.ndarray | None = None
    retry_iou: float | None = None


@dataclass(frozen=True)
class _View:
    """The bounding box of a mask, the virtual camera that looks at it, and poses (K, 4, 4) to start from."""

    bounds: tuple[int, int, int, int]
    camera: VirtualCamera
    starts: np.ndarray


@dataclass(frozen=True)
class _Solved:
    """The crops of a mask, coarse for the stages and fine for the polish (or the same), and the poses found there."""

    coarse: SilhouetteObservation
    fine: SilhouetteObservation
    found: Hypotheses

    @property
    def winner(self) -> int:
        """The hypothesis that explains the mask best."""
        return int(self.found.ious.argmax())


class _Frames:
    """Between metres in the camera's frame and diameters in the frames of the crops, for poses of several objects."""

    def __init__(self, solvers: Sequence[ObjectSolver], cameras: Sequence[VirtualCamera]) -> None:
        self._objects = list(zip(solvers, cameras, strict=True))
        self.center = np.stack([each.mesh.center for each in solvers])
        self.diameter = np.array([each.mesh.diameter for each in solvers])
        self.R_virtual_camera = np.stack([each.R_virtual_camera for each in cameras])

    def take(self, of: Sequence[int]) -> _Frames:
        """Those of some of the objects."""
        return self if len(of) == len(self._objects) else _Frames(*zip(*(self._objects[i] for i in of), strict=True))

    def to_crop(self, poses: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Poses (M, 4, 4) of the objects ``of`` (M,), float32."""
        virtual = make_pose(self.R_virtual_camera, np.zeros(3))[of] @ poses
        return normalised_pose(virtual, self.center[of], self.diameter[of]).astype(np.float32)

    def to_metres(self, poses: np.ndarray, of: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_crop`, float64."""
        back = make_pose(self.R_virtual_camera.swapaxes(-1, -2), np.zeros(3))
        return back[of] @ metric_pose(poses.astype(np.float64), self.center[of], self.diameter[of])


def solve_masks(requests: Sequence[MaskRequest], camera_matrix: np.ndarray) -> list[ObjectPoseSolution | Exception]:
    """Solve one mask of each object. Several objects share the threads that numba may use.

    Args:
        requests: of different objects whose stages are compiled, or of a single object of any kind.
        camera_matrix: (3, 3) pixels.

    Returns:
        For each request the solution, or the error that it met.
    """
    begin = time.perf_counter()
    outcomes: list[Any] = [_attempt(_look, each, camera_matrix) for each in requests]
    seen = [i for i, view in enumerate(outcomes) if isinstance(view, _View)]
    if seen:
        chosen, views = [requests[i] for i in seen], [outcomes[i] for i in seen]
        for i, found in zip(seen, _solve_views(chosen, views, camera_matrix, begin), strict=True):
            outcomes[i] = found
    return outcomes


def checked_starts(initial: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Initial poses as (K, 4, 4) float64.

    Args:
        initial: (4, 4) or (K, 4, 4).
        center: (3,) of the object, which is to lie in front of the camera.

    Raises:
        PoseError: another shape, not rigid, or behind the camera.
    """
    array = np.asarray(initial, dtype=np.float64)
    if array.ndim not in (2, 3) or array.shape[-2:] != (4, 4) or array.size == 0:
        raise PoseError(f"initial: expected shape (4, 4) or (K, 4, 4), got {array.shape}.")
    poses = array.reshape(-1, 4, 4)
    return np.stack([check_pose_in_view(check_pose(p, "initial"), "initial", center) for p in poses])


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` returns or raises: one object's error is none of the others'."""
    try:
        return work(*arguments)
    except Exception as error:
        return error


def _look(request: MaskRequest, camera_matrix: np.ndarray) -> _View:
    given, center = request.starts, request.solver.mesh.center
    starts = np.empty((0, 4, 4)) if given is None else checked_starts(given, center)
    bounds = mask_bounds(request.mask)
    left, top, right, bottom = bounds
    pixels = int(np.count_nonzero(request.mask[top : bottom + 1, left : right + 1]))
    needed = request.solver.config.min_mask_pixels
    if pixels < needed:
        raise MaskError(
            f"mask: {pixels} pixels are set, at least {needed} are needed. "
            "The object is too far away or nearly hidden."
        )
    return _View(bounds, look_at_box(bounds, camera_matrix, request.solver.crop_size), starts)


def _solve_views(
    requests: Sequence[MaskRequest], views: Sequence[_View], camera_matrix: np.ndarray, begin: float
) -> list[ObjectPoseSolution | Exception]:
    frames = _Frames([each.solver for each in requests], [each.camera for each in views])
    starts, of, split = _joined([each.starts for each in views])
    crop_starts = split(frames.to_crop(starts, of))
    found: list[Any] = [None] * len(requests)

    def solve(i: int) -> None:
        found[i] = _attempt(_hypotheses, requests[i], views[i], crop_starts[i], camera_matrix)

    for_each_alone(len(requests), solve)
    good = [i for i, each in enumerate(found) if isinstance(each, _Solved)]

    def finish(some: Sequence[int]) -> list[ObjectPoseSolution]:
        solvers, given = [requests[i].solver for i in some], [views[i].starts for i in some]
        return _finish(solvers, given, [found[i] for i in some], frames.take(some), begin)

    finished = _attempt(finish, good) if good else []
    if isinstance(finished, Exception):  # of one of them
        finished = [each[0] if isinstance(each := _attempt(finish, [i]), list) else each for i in good]
    for i, solution in zip(good, finished, strict=True):
        found[i] = solution
    return found


def _joined(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], list[np.ndarray]]]:
    """Parts in one array, the number of the part that each row is of, and what takes such an array apart again."""
    if len(parts) == 1:
        return parts[0], np.zeros(len(parts[0]), np.int64), lambda array: [array]
    sizes = [len(part) for part in parts]
    of = np.repeat(np.arange(len(parts)), sizes)
    return np.concatenate(parts), of, lambda array: np.split(array, np.cumsum(sizes)[:-1])


def _hypotheses(request: MaskRequest, view: _View, starts: np.ndarray, camera_matrix: np.ndarray) -> _Solved:
    """The part of one object alone; nearly all of it is compiled."""
    solver, config = request.solver, request.solver.config
    coarse = _observe(view.camera, request.mask, camera_matrix, view.bounds)
    fine = None
    if config.refine is not None:  # the image's resolution, up to the largest size
        side = max(view.bounds[2] - view.bounds[0], view.bounds[3] - view.bounds[1]) + 1
        size = int(np.clip(32 * np.ceil(REFINE_MARGIN * side / 32), 96, max(96, config.refine_size)))
        camera = view.camera.resized(size, CROP_MARGIN / REFINE_MARGIN)
        fine = _observe(camera, request.mask, camera_matrix, view.bounds)
    if request.starts is None:
        found = solver.hypotheses.search(coarse, fine)
    else:
        found = solver.hypotheses.solve_from(coarse, fine, starts, request.retry_iou)
    return _Solved(coarse, coarse if fine is None else fine, found)


def _observe(
    camera: VirtualCamera, mask: np.ndarray, matrix: np.ndarray, bounds: tuple[int, int, int, int]
) -> SilhouetteObservation:
    """The crop of a full mask, as an observation in arrays."""
    crop, valid = camera.warp(mask, matrix, bounds)
    if not crop.any():
        raise MaskError("mask: nothing of it is left after cropping; it is too thin to be an object.")
    return observe(crop[None], camera.camera_matrix[None], valid[None], tensors=False)


def _finish(
    solvers: Sequence[ObjectSolver], starts: Sequence[np.ndarray], solved: Sequence[_Solved], frames: _Frames,
    begin: float,
) -> list[ObjectPoseSolution]:  # fmt: skip
    """Poses in metres, the equal one that is nearest to the start, and covariances."""
    everyone = np.arange(len(solved))
    parts, of, split = _joined([np.concatenate([s.found.poses, s.found.history[s.winner]]) for s in solved])
    metric = split(frames.to_metres(parts, of))
    poses = [part[: len(each.found.poses)] for part, each in zip(metric, solved, strict=True)]
    chosen = np.stack([part[each.winner] for part, each in zip(poses, solved, strict=True)])
    covariances, norms = _covariances(solvers, solved, frames, everyone, chosen)
    symmetric = [len(starts[i]) > 0 and not solvers[i].symmetries.is_trivial for i in range(len(solved))]
    other = np.flatnonzero(symmetric)
    if len(other):
        equal = np.stack([solvers[i].symmetries.nearest(chosen[i], starts[i][0]) for i in other.tolist()])
        equal_covariances, equal_norms = _covariances(solvers, solved, frames, other, equal)
        taken = equal_norms < norms[other] + SYMMETRY_SLACK
        chosen[other[taken]], covariances[other[taken]] = equal[taken], equal_covariances[taken]
    return [
        ObjectPoseSolution(
            T_camera_object=chosen[i], covariance=covariances[i], iou=float(each.found.ious[each.winner]),
            history=tuple(metric[i][len(poses[i]) :]), residual_norms=each.found.residual_norms[each.winner],
            alternatives=_alternatives(solvers[i], poses[i], each.found.ious, each.winner),
            truncated=bool((each.coarse.valid == 0).any()), solve_time=time.perf_counter() - begin,
        )
        for i, each in enumerate(solved)
    ]  # fmt: skip


def _alternatives(solver: ObjectSolver, poses: np.ndarray, ious: np.ndarray, winner: int) -> tuple[np.ndarray, ...]:
    if len(poses) == 1:
        return ()
    found: list[np.ndarray] = [poses[winner]]
    for i in np.argsort(-ious, kind="stable"):
        if i == winner:
            continue
        if ious[i] < ious[winner] - solver.config.ambiguity_iou:
            break
        equal = np.stack([solver.symmetries.nearest(poses[i], pose) for pose in found])  # symmetry is no ambiguity
        angles = rotation_angle(np.stack(found)[:, :3, :3], equal[:, :3, :3])
        if np.rad2deg(angles.min()) > solver.config.ambiguity_angle_deg:
            found.append(poses[i])
    return tuple(found[1:])


def _covariances(
    solvers: Sequence[ObjectSolver], solved: Sequence[_Solved], frames: _Frames, of: np.ndarray, poses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances (M, 6, 6) of the objects ``of`` (M,) at poses (M, 4, 4), and 1 - IoU (M,) there."""
    crop = frames.to_crop(poses, of)
    rows: list[Any] = [None] * len(of)

    def compare(k: int) -> None:
        packed = solvers[of[k]].hypotheses.meshes.packed
        rows[k] = compare_contours(packed, solved[of[k]].fine, crop[k])

    for_each_alone(len(of), compare)
    jacobian, residual, weight = (np.array([row[part] for row in rows], np.float64) for part in range(3))
    weight = weight / (1.0 + (residual / ROBUST_SCALE) ** 2)
    numbers = crop.astype(np.float64)
    pixel = numbers[:, 2, 3] / np.array([solved[i].fine.camera[0, 0, 0] for i in of], np.float64)
    local = update_covariance(jacobian, residual, weight, pixel)
    for k, i in enumerate(of):
        symmetries, mesh = solvers[i].symmetries, solvers[i].mesh
        for axis, offset in zip(symmetries.axes, symmetries.offsets, strict=True):
            # About this axis nothing is known; the center moves if the axis does not pass through it.
            turn = numbers[k, :3, :3] @ axis
            arm = numbers[k, :3, :3] @ (mesh.center - offset) / mesh.diameter
            free = np.concatenate([turn, np.cross(turn, arm)[:2], [0.0]])
            local[k] += FREE_VARIANCE * np.outer(free, free)
    moved = pose_covariance(local, numbers, frames.diameter[of], frames.center[of], frames.R_virtual_camera[of])
    return moved, np.array([row[3] for row in rows])
