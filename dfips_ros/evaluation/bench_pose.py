# SPDX-License-Identifier: Apache-2.0
"""The parts of a pose solve, and other methods on the same masks in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..errors import MissingDependencyError
from ..geometry import quaternion_xyzw_from_matrix
from ..messages.image import image_fields, mask_from_image
from ..processes.contour import compare
from ..processes.mesh import Mesh
from ..processes.observation import SilhouetteObservation
from ..processes.rasterizer import rasterize_numpy
from ..processes.threads import one_compiled_thread
from ..solver import FeedbackSolver, Solution
from ..tasks.object_pose import ObjectPoseEstimator, Symmetries, mask_solve, rotation_error_deg
from ..tasks.object_pose.compiled_stages import CompiledStages
from ..tasks.object_pose.crop import VirtualCamera
from ..tasks.object_pose.gauss_newton import ContourGaussNewton, moved
from ..tasks.object_pose.hypotheses import repeated
from .bench_figures import (
    REST,
    WHOLE,
    Figure,
    Seams,
    Stopwatch,
    figures_of_parts,
    measure,
    milliseconds,
    not_measured,
)  # fmt: skip
from .pose_methods import METHODS, SLOW, make_method
from .pose_trials import CAMERA, PoseTrialConfig, make_trials

STAGES = "stages"  # taken apart below
CONVERSION = "ROS conversion"
SEAMS: Seams = {
    "crop": [(mask_solve, "mask_bounds"), (mask_solve, "look_at_box"), (VirtualCamera, "warp")],
    "observe": [(mask_solve, "observe")],
    STAGES: [(CompiledStages, "estimate"), (FeedbackSolver, "estimate")],
    "polish": [(ContourGaussNewton, "estimate")],
    "covariance": [(mask_solve, "_covariances")],
}
PARTS = (WHOLE, CONVERSION, "crop", "observe", "simulate", "compare", "network", "update", "polish", "covariance", REST)
PEERS = ("one_stage", "gauss_newton", "gauss_newton_8", "rapid_ols", "softras", "nmr", "ours", "ours_polish",
         "ours_refined")  # fmt: skip
COLUMN_DEG = 15.0  # largest initial rotation error of the peers' inputs
SLOW_TRIALS = 2


def measure_parts(
    solver: ObjectPoseEstimator, masks: Sequence[np.ndarray], camera_matrix: np.ndarray, initial: np.ndarray,
    device: str, warm_up: int, **more: Any,
) -> list[Figure]:  # fmt: skip
    """Solve each mask from the pose before, from the message that brings it to the pose that leaves.

    Inside the compiled stages nothing can be timed. So the forward process and the comparison run once more at the
    poses of the history, and what they take is taken off the stages; the rest of these is the network.

    Args:
        solver: of the object.
        masks: (H, W) uint8 of a sequence.
        camera_matrix: (3, 3).
        initial: (4, 4) pose to begin with.
        device: that the solver runs on.
        warm_up: so many masks are not counted.
        more: fields of :class:`Figure`.
    """
    laps, pose = [], initial
    watch = Stopwatch(SEAMS, device, keep=STAGES)
    read, write = watch.timed(CONVERSION, mask_from_image), watch.timed(CONVERSION, quaternion_xyzw_from_matrix)
    with watch.open():
        for mask in masks:
            message, before = SimpleNamespace(**image_fields(mask, "mono8")), pose

            def work(message: Any = message, before: np.ndarray = before) -> None:
                nonlocal pose
                pose = solver.estimate(read(message), camera_matrix, before).T_camera_object
                write(pose[:3, :3])

            lap = watch.lap(work)
            laps.append(split_stages(lap, watch.kept) if device == "cpu" else lap)
    return figures_of_parts("solve: parts", laps[warm_up:], device=device, **more)


def split_stages(lap: dict[str, float], call: Any) -> dict[str, float]:
    """A lap whose stages are taken apart into simulate, compare, update and network.

    Args:
        lap: seconds of the parts.
        call: arguments and result of the call that unrolled the stages; None where there was none.
    """
    if call is None:
        return lap
    (stages, observation, *_), solution = call
    meshes = stages.meshes if isinstance(stages, CompiledStages) else stages.feedback.meshes
    pieces = stage_pieces(meshes, observation, solution)
    whole = lap.pop(STAGES)
    known = sum(pieces.values())
    if known > whole:  # the second run was disturbed, or what it needs was in no cache
        pieces = {name: seconds * whole / known for name, seconds in pieces.items()}
    found = {**lap, **pieces, "network": max(whole - known, 0.0)}
    return {name: found[name] for name in PARTS if name in found}


def stage_pieces(meshes: Any, observation: SilhouetteObservation, solution: Solution) -> dict[str, float]:
    """Seconds of the forward process, the comparison and the updates at the poses of a history."""
    poses = np.stack([np.asarray(h[0], np.float32) for h in solution.history])
    many, tensors = repeated(observation, len(poses)), torch.from_numpy(poses)
    size = (observation.mask.shape[-2], observation.mask.shape[-1])
    index = np.zeros(len(poses), np.int64)
    update, out = np.full(6, 1e-3), np.empty((4, 4))
    double = poses.astype(np.float64)

    def move() -> None:
        for pose in double[:-1]:
            moved(pose, update, out)

    with one_compiled_thread():
        simulate = _seconds(lambda: rasterize_numpy(meshes.packed, index, poses, many.camera.numpy(), size))
        both = _seconds(lambda: compare(meshes.packed, meshes.surface, many, tensors))
        updates = _seconds(move)
    return {"simulate": simulate, "compare": max(both - simulate, 0.0), "update": updates}


def _seconds(work: Callable[[], object]) -> float:
    """The fastest of three runs: what is measured aside is warm, as it was within the stages."""
    return min(measure(lambda _: work(), 3, warm_up=0))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """What our solver runs its networks on: with images this small, several threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_peers(
    mesh: Mesh, symmetries: Symmetries, weights: str | None, device: str, trials: int, quick: bool, **more: Any
) -> Iterator[Figure]:
    """Every method on the same masks from the same initial poses, one at a time; the note says how right it was.

    Args:
        mesh: the object.
        symmetries: of the object.
        weights: of ours; those that ship by default.
        device: of ours; peers run on the CPU.
        trials: how many masks; slow methods get the first two.
        quick: leave the slow methods out.
        more: fields of :class:`Figure`.
    """
    inputs = make_trials([mesh], PoseTrialConfig(columns_deg=(COLUMN_DEG,), per_mesh=trials))
    for name in PEERS:
        title = METHODS[name][0]
        ours = name.startswith(("ours", "one_stage"))
        if device != "cpu" and not ours:
            continue  # a row of the CPU, which is there
        if name in SLOW and quick:
            yield not_measured(title, "ms", "--quick", device=device, **more)
            continue
        try:
            method = make_method(name, mesh, symmetries, weights, device)
        except MissingDependencyError as reason:
            yield not_measured(title, "ms", str(reason), device=device, **more)
            continue
        used = inputs[:SLOW_TRIALS] if name in SLOW else inputs
        errors: list[float] = []

        def work(i: int, method: Any = method, used: Any = used, errors: list = errors) -> None:
            found = method(used[i].mask, CAMERA, used[i].T_initial)
            errors.append(rotation_error_deg(found, symmetries.nearest(used[i].T_true, found)))

        with one_torch_thread():
            seconds = measure(work, len(used), device, warm_up=0 if name in SLOW else 1)
        note = f"from up to {COLUMN_DEG:g}°; median rotation error {np.median(errors[-len(used) :]):.2f}°"
        yield milliseconds(title, seconds, note=note, device=device, **more)
