# SPDX-License-Identifier: Apache-2.0
"""How the time of a pose solve grows with faces, image size, batch, stages and objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..geometry import make_pose, random_rotations, so3_exp
from ..processes.mesh import Mesh, simplified
from ..processes.observation import observe
from ..processes.silhouette import RasterRenderer
from ..processes.threads import for_each_alone
from ..solver import Solution
from ..tasks.object_pose import (
    EstimatorConfig,
    ObjectPoseEstimator,
    PoseTracker,
    Symmetries,
    TrackerConfig,
    TrackResult,
    tracking_estimator_config,
)
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
        objects: tracked in one image.
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


Update = Callable[[MultiTracker[PoseTracker], dict[str, np.ndarray], float], Mapping[str, TrackResult | Exception]]


def _in_threads(
    trackers: MultiTracker[PoseTracker], masks: dict[str, np.ndarray], stamp: float
) -> dict[str, TrackResult | Exception]:
    """Each object from mask to pose by itself, several at a time."""
    found: dict[str, TrackResult | Exception] = {}

    def solve(i: int) -> None:
        name = trackers.names[i]
        found[name] = trackers[name].update(masks[name], CAMERA, stamp)

    for_each_alone(len(trackers), solve)
    return found


WAYS: dict[str, Update] = {
    "track, all objects": lambda trackers, masks, stamp: trackers.update(masks, CAMERA, stamp),
    "track, all objects, each in a thread": _in_threads,
    "track, all objects, one after the other": lambda trackers, masks, stamp: {
        name: trackers[name].update(mask, CAMERA, stamp) for name, mask in masks.items()
    },
}


class _Followed:
    """Objects that are followed through sequences in one way; keeps how long each image took."""

    def __init__(self, update: Update, estimators: list[ObjectPoseEstimator], sequences: list[list[View]]) -> None:
        self._update, self._sequences, self._image = update, sequences, 0
        self._trackers: MultiTracker[PoseTracker] = MultiTracker()
        self.seconds: list[float] = []
        for number, (estimator, views) in enumerate(zip(estimators, sequences, strict=True)):
            tracker = PoseTracker(estimator)
            tracker.set_pose(views[0].T_true)
            self._trackers.add(f"object_{number}", tracker)

    def take(self, device: str) -> None:
        """The next image."""
        masks = {f"object_{n}": views[self._image % len(views)].mask for n, views in enumerate(self._sequences)}
        self.seconds += measure(lambda _: self._work(masks), 1, device, warm_up=0)
        self._image += 1

    def _work(self, masks: dict[str, np.ndarray]) -> None:
        for result in self._update(self._trackers, masks, self._image / RATE).values():
            if isinstance(result, Exception):
                raise result


def _in_turns(ways: list[_Followed], device: str, first: int) -> None:
    """The next image in all ways, each time another one first: what else the machine does meets all of them."""
    for k in range(len(ways)):
        ways[(first + k) % len(ways)].take(device)


def _objects(config: ScalingConfig, device: str) -> Iterator[Figure]:
    """Several objects in one image, each of which turns by itself: in one batch, and in other ways on these masks."""
    settings = tracking_estimator_config(TrackerConfig())
    meshes = [lumpy_mesh(3_000 + 500 * number) for number in range(max(config.objects))]
    estimators = [_estimator(mesh, config, device, settings) for mesh in meshes]
    for each in estimators:
        each.warm_up()
    sequences = [_turning(mesh, 40, seed=number) for number, mesh in enumerate(meshes)]
    for count in config.objects:
        ways = {name: _Followed(update, estimators[:count], sequences[:count]) for name, update in WAYS.items()}

        _, note = _within_budget(config, partial(_in_turns, list(ways.values()), device), device)
        for name, way in ways.items():
            yield milliseconds(name, way.seconds[2:] or way.seconds[1:], at=count, note=note)


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
