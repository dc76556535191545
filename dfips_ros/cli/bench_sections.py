# SPDX-License-Identifier: Apache-2.0
"""What ``dfips bench`` measures: one function per part, each returns figures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import torch
from tqdm import tqdm

from ..evaluation.bench_figures import Figure, measure, milliseconds, not_measured
from ..evaluation.bench_pose import measure_parts as parts_of_solve
from ..evaluation.bench_pose import measure_peers
from ..processes.silhouette import RENDERERS, make_renderer
from ..solver import pick_device
from ..tasks.object_pose import (
    EstimatorConfig,
    ObjectPoseEstimator,
    PoseTracker,
    Symmetries,
    TrackerConfig,
    tracking_estimator_config,
)
from ..tasks.object_pose.demo_data import demo_mesh, demo_mesh_path, demo_symmetries
from ..tasks.object_pose.recording import make_recording
from ..tasks.object_pose.sequences import SequenceConfig, SequenceGenerator
from .demo_parts import DemoPart

PAPER_MS = "21 ms (128 px)"  # Ma et al. 2020, supplement, table 4
PAPER_MB = "636 MB (128 px)"
OBJECT = "drill"
RATE = 30.0
CROP = 128
FROM_NOTHING = 20
RENDERS = 200
WARM_UP = 5
TRIALS = 20  # of each method
# Retries and the search from nothing are left out, so that each mask costs the same work.
NO_RETRY = replace(EstimatorConfig(), retry_angle_deg=0.0, search_pixels=0.0)


def _estimator(options: argparse.Namespace, device: str, config: EstimatorConfig | None = None) -> ObjectPoseEstimator:
    weights = str(options.weights) if options.weights else None
    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    return ObjectPoseEstimator.from_mesh(str(demo_mesh_path(OBJECT)), device=device, weights=weights, config=config)


def _sequence(options: argparse.Namespace) -> SequenceGenerator:
    config = SequenceConfig(
        seconds=options.frames / RATE, rate=RATE, seed=options.seed, occlusion=0.0, hidden_seconds=0.0
    )
    return SequenceGenerator(demo_mesh(OBJECT), config)


def measure_solve(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """Solve each 640x480 mask of a sequence from the pose of the one before: the stages, the polish, the node's way.

    Only the stages alone are what the paper timed. The node's own settings decide about retries in the third row.
    """
    stages, alone = _track(options, device, replace(NO_RETRY, refine=None))
    _, polished = _track(options, device, NO_RETRY)
    settings = TrackerConfig()
    _, tracking = _track(options, device, tracking_estimator_config(settings), settings)
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    more = {"note": f"640x480 mask, {OBJECT}, {threads}", "section": "pose: solve", "device": device}
    yield milliseconds(f"solve, {stages} stages", alone, paper=PAPER_MS, **more)
    yield milliseconds(f"solve, {stages} stages and polish", polished, **more)
    yield milliseconds("tracking, as the node does", tracking, **more)


def _track(
    options: argparse.Namespace, device: str, config: EstimatorConfig, settings: TrackerConfig | None = None
) -> tuple[int, list[float]]:
    """Number of stages, and seconds per mask; with ``settings`` by a :class:`PoseTracker`."""
    estimator, sequence = _estimator(options, device, config), _sequence(options)
    estimator.warm_up()
    pose = sequence.poses[0]
    tracker = None if settings is None else PoseTracker(estimator, settings)
    if tracker is not None:
        tracker.set_pose(pose)
    masks = [sequence.frame(index).mask for index in range(len(sequence))]

    def work(index: int) -> None:
        nonlocal pose
        if tracker is None:
            pose = estimator.estimate(masks[index], sequence.camera_matrix, pose).T_camera_object
        else:
            tracker.update(masks[index], sequence.camera_matrix, index / RATE)

    frames = tqdm(range(len(masks)), desc="tracking", unit="frame", disable=options.quiet or None)
    seconds = [measure(lambda _, i=index: work(i), 1, device, warm_up=0)[0] for index in frames]  # type: ignore[misc]
    return estimator.num_stages, seconds[WARM_UP:]


def measure_parts(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """The solve with polish, from message to pose, taken apart."""
    estimator, sequence = _estimator(options, device, NO_RETRY), _sequence(options)
    estimator.warm_up()
    masks = [sequence.frame(index).mask for index in range(len(sequence))]
    aside = "the stages' parts run once more between two solves, so caches are colder than in the rows above"
    yield from parts_of_solve(
        estimator, masks, sequence.camera_matrix, sequence.poses[0], device, WARM_UP, section="pose: parts",
        note=aside if device == "cpu" else None,
    )  # fmt: skip
    if device == "cpu":
        return
    from ..evaluation.bench_device import DeviceBatch

    on_device = DeviceBatch(sequence.mesh, device, NO_RETRY, str(options.weights) if options.weights else None)
    on_device.put(masks[0][None] > 0, sequence.camera_matrix, sequence.poses[:1])
    recorded = measure(lambda _: on_device.solve(), len(masks), device, warm_up=WARM_UP)
    more: dict[str, Any] = {"section": "pose: on the device", "note": "640x480 mask and pose on the device"}
    yield milliseconds("solve on the device, recorded", recorded, device=device, **more)
    yield from on_device.parts(len(masks), WARM_UP, **more)


def measure_training(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """Sample-stages per second of ``dfips train object_pose``."""
    from ..evaluation.bench_device import measure_training as rates

    yield from rates(device, options.quick, section="pose: training")


def measure_methods(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """Other methods on the same masks from the same initial poses."""
    mesh = demo_mesh(OBJECT)
    weights = str(options.weights) if options.weights else None
    trials = TRIALS // 2 if options.quick else TRIALS
    symmetries = Symmetries.from_mesh(mesh)
    yield from measure_peers(mesh, symmetries, weights, device, trials, options.quick, section="pose: methods")


def measure_initialise(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """Solve masks with no prior pose."""
    estimator, sequence = _estimator(options, device), _sequence(options)
    estimator.warm_up()
    indices = np.linspace(0, len(sequence) - 1, FROM_NOTHING).astype(int)
    masks = [sequence.frame(int(index)).mask for index in indices]
    seconds = measure(lambda i: estimator.estimate(masks[i], sequence.camera_matrix), len(masks), device)
    yield milliseconds("find the pose from nothing", seconds, section="pose: from nothing", device=device)


def measure_renderers(options: argparse.Namespace, device: str) -> Iterator[Figure]:
    """Depth images of the same poses by each renderer, one at a time and in a batch."""
    sequence = _sequence(options)
    picks = np.linspace(0, len(sequence) - 1, RENDERS).astype(int)
    poses = torch.from_numpy(sequence.poses[picks].astype(np.float32)).to(device)
    full = torch.from_numpy(sequence.camera_matrix.astype(np.float32)).to(device)
    small = full.clone()
    small[:2] *= CROP / sequence.size[0]
    more: dict[str, Any] = {
        "section": "pose: renderers", "device": device, "note": f"{len(sequence.mesh.faces)} faces",
    }  # fmt: skip
    for name in RENDERERS:
        if name == "pyrender" and device != "cpu":
            continue  # OpenGL finds its device by itself: a row of the CPU, which is there
        renderer = make_renderer(name, sequence.mesh)

        def draw(index: int, step: int, camera: Any, size: tuple[int, int], renderer: Any = renderer) -> None:
            renderer.render(poses[index * step : (index + 1) * step], camera, size)

        for size, camera in (((CROP, CROP), small), (sequence.size, full)):
            seconds = measure(lambda i, c=camera, s=size: draw(i, 1, c, s), RENDERS, device)  # type: ignore[misc]
            yield milliseconds(f"render {size[1]}x{size[0]}, {name}", seconds, **more)
        batch = measure(lambda i: draw(i, 16, small, (CROP, CROP)), RENDERS // 16, device)
        yield milliseconds(f"render {CROP}x{CROP} in a batch of 16, {name}, each", np.array(batch) / 16, **more)


def measure_node(
    options: argparse.Namespace, rate: float = RATE, seconds: float | None = None, section: str = "pose: node"
) -> Iterator[Figure]:
    """The node through real topics, camera and listener in processes of their own.

    Args:
        options: of the command; ``frames`` at camera rate where no ``seconds`` are given.
        rate: of the camera, Hz.
        seconds: that the camera runs.
        section: heading of the rows.
    """
    from .demo_report import compare, summarise
    from .demo_run import run_part

    part = _moving_part(options.frames / rate if seconds is None else seconds, rate, options)
    parameters: dict[str, object] = {"device": options.device, "max_solve_threads": options.threads}
    if options.weights:
        parameters["weights"] = str(options.weights.resolve())
    record = run_part(part, options.out / "logs", parameters, not options.quiet)
    results = compare(part, record)
    summary = summarise(part, record, results)
    solved = {answer["stamp_ns"]: answer["solve_time"] for answer in record.received}
    tracked = [
        (1e-3 * result.latency_ms, solved[event["stamp_ns"]])
        for event, result in zip(record.published, results, strict=True)
        if result.T_camera_object is not None
    ]
    peak, share = f"peak {summary['memory_peak_mb']} MB", summary["processor_share"]
    more: dict[str, Any] = {"section": section, "device": pick_device(options.device).type}
    frames = f"{summary['frames']} frames"
    yield Figure("node: rate of the camera", summary["rate_hz"], "Hz", note=frames, **more)
    yield Figure("node: frames dropped while tracking", summary["dropped_while_tracking"], "", note=frames, **more)
    dropped = summary["dropped"] - summary["dropped_while_tracking"]
    yield Figure("node: frames dropped while searching", dropped, "", note=frames, **more)
    if tracked:
        whole, solver = (np.array(times) for times in zip(*tracked, strict=True))
        name = "node: mask in to pose out"
        yield milliseconds(name, whole, paper=PAPER_MS, part="whole", **more)
        yield milliseconds(name, solver, part="solver", **more)
        yield milliseconds(name, whole - solver, part="ROS conversion and transport", **more)
    else:
        yield not_measured("node: mask in to pose out", "ms", "no mask was tracked", **more)
    yield Figure("node: first pose, from nothing", summary["first_pose_ms"], "ms", **more)
    yield Figure("node: resident memory", summary["memory_mb"], "MB", None, PAPER_MB, peak, **more)
    yield Figure("node: processor", None if share is None else round(100 * share, 1), "% of a core", **more)
    note = "process start to first subscription"
    yield Figure("node: start-up", summary["startup_seconds"], "s", note=note, **more)


def _moving_part(seconds: float, rate: float, options: argparse.Namespace) -> DemoPart:
    """The object on a moving trajectory, with noisy masks, and nothing in front of it."""
    config = SequenceConfig(seconds=seconds, rate=rate, seed=options.seed, occlusion=0.0, hidden_seconds=0.0)
    sequence = SequenceGenerator(demo_mesh(OBJECT), config)
    tags: list[str] = []

    def shown() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in tqdm(range(len(sequence)), desc="rendering", unit="frame", disable=options.quiet or None):
            frame = sequence.frame(index)
            tags.append(frame.tag)
            yield frame.mask, frame.image

    recording = make_recording(sequence.camera_matrix, rate, shown())
    return DemoPart(
        name=OBJECT, title=f"{OBJECT} at {rate:g} Hz", source="generated", mesh=sequence.mesh,
        mesh_path=demo_mesh_path(OBJECT).resolve(), mesh_scale=1.0, symmetries=demo_symmetries(OBJECT),
        recording=recording, truth=list(sequence.poses), tags=tags,
    )  # fmt: skip
