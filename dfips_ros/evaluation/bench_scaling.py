# SPDX-License-Identifier: Apache-2.0
"""How the time of a pose solve grows with faces, image size, batch, stages and objects."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..geometry import make_pose, random_rotations, so3_exp
from ..processes.mesh import Mesh, simplified
from ..processes.observation import observe
from ..processes.silhouette import RasterRenderer
from ..solver import Solution
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, PoseTracker, Symmetries
from ..tasks.object_pose.compiled_stages import CompiledStages, can_compile
from ..tasks.object_pose.estimator import DEFAULT_WEIGHTS
from ..tasks.object_pose.multi_tracker import MultiTracker
from ..tasks.object_pose.problem import load_solver
from .bench_figures import Figure, measure, milliseconds, not_measured

SWEEPS = ("faces", "size", "batch", "stages", "objects")
LOADED_FACES = 10_000  # that `load_mesh` leaves of a finer file
SIZE = (480, 640)
CAMERA = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
CROP, CROP_FILL = 128, 0.66  # side of the crop in pixels; the part of it that an object fills
DISTANCE = 3.0  # of the objects, diameters
TURN_DEG = 8.0  # initial rotation error: what tracking leaves
NO_RETRY = replace(EstimatorConfig(), retry_angle_deg=0.0, search_pixels=0.0)  # each mask costs the same work
SLOW_FACES = 50_000  # making ready what has more takes seconds
WORTHWHILE = 3  # repeats that a median needs
RATE = 30.0


@dataclass(frozen=True)
class ScalingConfig:
    """What is measured.

    Attributes:
        sweeps: which of :data:`SWEEPS`.
        faces: of the mesh, about.
        sizes: sides of square images and crops, pixels.
        batches: poses solved at once.
        stages: unrolled.
        objects: tracked side by side.
        repeats: solves in each row.
        budget: seconds; a row that would take longer gets fewer repeats, or none and says so.
        quick: leave out what takes long to make ready.
        weights: file of the object pose task; the shipped one by default.
    """

    sweeps: tuple[str, ...] = SWEEPS
    faces: tuple[int, ...] = (300, 1_000, 5_000, 20_000, 100_000, 1_000_000)
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    batches: tuple[int, ...] = (1, 8, 64, 512, 4096)
    stages: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    objects: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 100
    budget: float = 20.0
    quick: bool = False
    weights: str | None = None


def lumpy_mesh(faces: int) -> Mesh:
    """A lopsided lump of about ``faces`` triangles, the same shape for every number: a grid in two angles."""
    rows = max(3, round((faces / 4) ** 0.5))
    columns = 2 * rows
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rows + 1)[1:-1], np.arange(columns) * (np.pi / rows), indexing="ij"
    )
    side = np.sin(polar)
    radius = 1.0 + 0.25 * np.sin(2 * around + 0.4) * side**2
    radius += 0.2 * np.cos(3 * polar + 0.5) + 0.15 * side * np.cos(around)
    ring = np.stack([side * np.cos(around), 0.7 * side * np.sin(around), 1.2 * np.cos(polar)], axis=-1)
    points = 0.1 * radius[..., None] * ring
    ends = np.array([[0, 0, points[0, :, 2].mean()], [0, 0, points[-1, :, 2].mean()]])
    here = np.arange((rows - 1) * columns).reshape(rows - 1, columns)
    there = np.roll(here, -1, axis=1)
    top, bottom = here.size, here.size + 1
    triangles = [
        np.stack([here[:-1], here[1:], there[:-1]], axis=-1), np.stack([there[:-1], here[1:], there[1:]], axis=-1),
        np.stack([np.full(columns, top), here[0], there[0]], axis=-1),
        np.stack([np.full(columns, bottom), there[-1], here[-1]], axis=-1),
    ]  # fmt: skip
    corners = np.concatenate([t.reshape(-1, 3) for t in triangles])
    return Mesh(f"lump_{faces}", np.concatenate([points.reshape(-1, 3), ends]), corners)


@dataclass(frozen=True)
class View:
    """A mask (H, W) bool, the true pose (4, 4) and one that is a little off."""

    mask: np.ndarray
    T_true: np.ndarray
    T_initial: np.ndarray


def make_views(mesh: Mesh, count: int, camera_matrix: np.ndarray, size: tuple[int, int], seed: int = 0) -> list[View]:
    """The mesh at random orientations, in the middle of the image."""
    rng = np.random.default_rng(seed)
    rotations = random_rotations(count, rng)
    axes = rng.normal(size=(count, 3))
    axes *= np.deg2rad(TURN_DEG) / np.linalg.norm(axes, axis=1, keepdims=True)
    turned = so3_exp(torch.from_numpy(axes)).numpy() @ rotations
    middle = np.array([0.0, 0.0, DISTANCE * mesh.diameter])
    true, off = (make_pose(r, middle - r @ mesh.center) for r in (rotations, turned))
    renderer, camera = RasterRenderer(mesh), torch.from_numpy(camera_matrix).float()
    masks = [(renderer.render(torch.from_numpy(pose[None]).float(), camera, size)[0] > 0).numpy() for pose in true]
    return [View(*parts) for parts in zip(masks, true, off, strict=True)]


def measure_scaling(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """All rows of one device."""
    measures = {"faces": _faces, "size": _sizes, "batch": _batches, "stages": _stages, "objects": _objects}
    for sweep in config.sweeps:
        for figure in measures[sweep](config, device):
            yield replace(figure, section=f"scaling: {sweep}", sweep=sweep, device=device)


def _within_budget(config: ScalingConfig, work: Any, device: str) -> tuple[list[float], str | None]:
    """Seconds of as many repeats as the budget allows, at most those of the configuration, and a note on fewer."""
    first = measure(work, 1, device)[0]
    repeats = int(min(config.repeats, max(config.budget / first, 0)))
    if repeats < min(WORTHWHILE, config.repeats):
        return [first], f"once: {WORTHWHILE} times would take longer than {config.budget:g} s"
    seconds = measure(work, repeats, device, warm_up=0)
    return seconds, f"{repeats} repeats in {config.budget:g} s" if repeats < config.repeats else None


def _solve(config: ScalingConfig, estimator: ObjectPoseEstimator, views: list[View], camera: np.ndarray) -> Any:
    estimator.warm_up()
    return lambda i: estimator.estimate(views[i % len(views)].mask, camera, views[i % len(views)].T_initial)


def _estimator(
    mesh: Mesh, config: ScalingConfig, device: str, settings: EstimatorConfig = NO_RETRY, stages: int | None = None
) -> ObjectPoseEstimator:
    return ObjectPoseEstimator(mesh, config.weights, device, settings, Symmetries.none(), stages)


def _faces(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """The whole solve of a mesh file with so many faces, and one silhouette with all of them."""
    for faces in config.faces:
        if config.quick and faces > SLOW_FACES:
            for name in ("solve", "silhouette, all faces", "set-up"):
                yield not_measured(name, "ms" if name != "set-up" else "s", "--quick", at=faces)
            continue
        mesh = lumpy_mesh(faces)
        begin = time.perf_counter()
        estimator = _estimator(simplified(mesh, LOADED_FACES), config, device)
        ready = time.perf_counter() - begin
        views = make_views(mesh, 20, CAMERA, SIZE)
        seconds, note = _within_budget(config, _solve(config, estimator, views, CAMERA), device)
        simulated = f"{len(estimator._meshes.meshes[0].faces)} faces simulated"
        yield milliseconds("solve", seconds, at=faces, note="; ".join(filter(None, (simulated, note))))
        yield _silhouette(config, mesh, device, CROP, "silhouette, all faces", faces)
        yield Figure("set-up", ready, "s", at=faces, repeats=1, note="simplify, find a view, load weights")


def _crop_camera(size: int) -> np.ndarray:
    focal = CROP_FILL * size * DISTANCE
    return np.array([[focal, 0.0, (size - 1) / 2], [0.0, focal, (size - 1) / 2], [0.0, 0.0, 1.0]])


def _silhouette(config: ScalingConfig, mesh: Mesh, device: str, size: int, name: str, at: int) -> Figure:
    """One depth image of the mesh in a crop."""
    rotations = random_rotations(20, np.random.default_rng(0))
    poses = make_pose(rotations, np.array([0.0, 0.0, DISTANCE * mesh.diameter]) - rotations @ mesh.center)
    renderer, camera = RasterRenderer(mesh), torch.from_numpy(_crop_camera(size)).float().to(device)
    many = torch.from_numpy(poses).float().to(device)
    seconds, note = _within_budget(
        config, lambda i: renderer.render(many[i % 20][None], camera, (size, size)), device
    )  # fmt: skip
    return milliseconds(name, seconds, at=at, note=note or f"{size}x{size}")


def _sizes(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """The whole solve of a square image, and stages and silhouette in a square crop of that size."""
    mesh = lumpy_mesh(5_000)
    estimator = _estimator(mesh, config, device)
    for size in config.sizes:
        camera = _crop_camera(size)
        views = make_views(mesh, 20, camera, (size, size))
        seconds, note = _within_budget(config, _solve(config, estimator, views, camera), device)
        yield milliseconds("solve, image", seconds, at=size, note=note)
        batch = BatchStages(mesh, 1, device, config.weights, size)
        seconds, note = _within_budget(config, lambda i, b=batch: b.solve(), device)
        yield milliseconds("stages alone, crop", seconds, at=size, note=note)
        yield _silhouette(config, mesh, device, size, "silhouette, crop", size)


class BatchStages:
    """The trained stages alone on a batch of crops: observations are ready, poses stay in the crop's frame.

    Args:
        mesh: the object.
        count: poses in the batch.
        device: ``cpu`` or ``cuda``.
        weights: of the object pose task; the shipped ones by default.
        size: side of the crops, pixels.
    """

    def __init__(self, mesh: Mesh, count: int, device: str, weights: str | None = None, size: int = CROP) -> None:
        views = make_views(mesh, min(count, 64), _crop_camera(size), (size, size))
        picks = np.arange(count) % len(views)
        seen = np.stack([views[i].mask for i in picks]).astype(np.uint8)
        self.observation = observe(seen, np.repeat(_crop_camera(size)[None], count, axis=0))
        starts = np.stack([views[i].T_initial for i in picks])
        starts[:, :3, 3] = (starts[:, :3, 3] + starts[:, :3, :3] @ mesh.center) / mesh.diameter
        self.initial = torch.from_numpy(starts).float().to(device)
        solver, _, _ = load_solver(weights or DEFAULT_WEIGHTS, [mesh], NO_RETRY.solver)
        self._solver: Any = solver.to(device)
        if can_compile(solver) and device == "cpu":
            self._solver = CompiledStages(solver)
        elif can_compile(solver):
            from ..tasks.object_pose.device_stages import DeviceStages, on_device

            self._solver = DeviceStages(solver, torch.device(device))
            self.observation = on_device(self.observation, torch.device(device))

    def solve(self) -> Solution:
        """All stages for all poses."""
        return self._solver.estimate(self.observation, self.initial)


def _batches(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """Many poses at once: the stages alone, and from masks to poses; poses per second beside."""
    mesh = lumpy_mesh(5_000)
    views = make_views(mesh, 64, _crop_camera(CROP), (CROP, CROP))
    estimator = _estimator(mesh, config, device)
    estimator.warm_up()
    makers = {
        "stages alone": lambda count: BatchStages(mesh, count, device, config.weights).solve,
        "masks to poses": lambda count: _mask_batch(estimator, views, count, config, device),
    }
    for name, make in makers.items():
        each = 0.0
        for count in config.batches:
            if each * count > config.budget:
                reason = f"would take {each * count:.0f} s, more than {config.budget:g} s"
                yield not_measured(name, "ms", reason, at=count)
                yield not_measured(f"{name}, throughput", "poses/s", reason, at=count)
                continue
            solve = make(count)
            seconds, note = _within_budget(config, lambda i, s=solve: s(), device)
            each = float(np.median(seconds)) / count
            yield milliseconds(name, seconds, at=count, note=note)
            yield Figure(f"{name}, throughput", 1.0 / each, "poses/s", at=count, repeats=len(seconds))


def _mask_batch(
    estimator: ObjectPoseEstimator, views: list[View], count: int, config: ScalingConfig, device: str
) -> Callable[[], object]:
    """Solves so many masks with polish: at once on a device, one after the other on the CPU."""
    picks, camera = [views[i % len(views)] for i in range(count)], _crop_camera(CROP)
    if device == "cpu":
        return lambda: [estimator.estimate(view.mask, camera, view.T_initial) for view in picks]
    from .bench_device import DeviceBatch

    batch = DeviceBatch(estimator.mesh, device, NO_RETRY, config.weights)
    batch.put(np.stack([v.mask for v in picks]), camera, np.stack([v.T_initial for v in picks]))
    return batch.solve


def _stages(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """The solve without polish; past the stages that were trained the last one is used again."""
    mesh = lumpy_mesh(5_000)
    views = make_views(mesh, 20, CAMERA, SIZE)
    for count in config.stages:
        estimator = _estimator(mesh, config, device, replace(NO_RETRY, refine=None), count)
        seconds, note = _within_budget(config, _solve(config, estimator, views, CAMERA), device)
        yield milliseconds("solve without polish", seconds, at=count, note=note)


def _objects(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """Several objects in one image, tracked side by side; each turns by itself."""
    mesh = lumpy_mesh(5_000)
    for count in config.objects:
        trackers: MultiTracker[PoseTracker] = MultiTracker()
        sequences = []
        for number in range(count):
            estimator = _estimator(mesh, config, device)
            estimator.warm_up()
            tracker = PoseTracker(estimator)
            sequences.append(_turning(mesh, 40, seed=number))
            tracker.set_pose(sequences[-1][0].T_true)
            trackers.add(f"object_{number}", tracker)

        numbers = itertools.count()

        def work(_: int, trackers: Any = trackers, sequences: Any = sequences, numbers: Any = numbers) -> None:
            i = next(numbers)
            masks = {f"object_{n}": views[i % len(views)].mask for n, views in enumerate(sequences)}
            for result in trackers.update(masks, CAMERA, i / RATE).values():
                if isinstance(result, Exception):
                    raise result

        seconds, note = _within_budget(config, work, device)
        yield milliseconds("track, all objects", seconds, at=count, note=note)


def _turning(mesh: Mesh, count: int, seed: int) -> list[View]:
    """Forth and back about a random axis, two degrees from view to view."""
    rng = np.random.default_rng(seed)
    start, axis = random_rotations(1, rng)[0], rng.normal(size=3)
    steps = np.concatenate([np.arange(count // 2), np.arange(count // 2, 0, -1)])
    turns = so3_exp(torch.from_numpy(np.deg2rad(2.0) * steps[:, None] * axis / np.linalg.norm(axis))).numpy() @ start
    poses = make_pose(turns, np.array([0.0, 0.0, DISTANCE * mesh.diameter]) - turns @ mesh.center)
    renderer, camera = RasterRenderer(mesh), torch.from_numpy(CAMERA).float()
    depth = renderer.render(torch.from_numpy(poses).float(), camera, SIZE)
    return [View((d > 0).numpy(), pose, pose) for d, pose in zip(depth, poses, strict=True)]
