# SPDX-License-Identifier: Apache-2.0
"""What ``dfips bench`` measures: one function per part, each returns figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numba
import numpy as np
import torch
from tqdm import tqdm

from ..processes.silhouette import RENDERERS, make_renderer
from ..tasks.object_pose import (
    EstimatorConfig,
    ObjectPoseEstimator,
    PoseTracker,
    TrackerConfig,
    tracking_estimator_config,
)
from ..tasks.object_pose.demo_data import demo_mesh, demo_mesh_path
from ..tasks.object_pose.sequences import SequenceConfig, SequenceGenerator

PAPER_MS = "21 ms (128 px)"  # Ma et al. 2020, supplement, table 4
PAPER_MB = "636 MB (128 px)"
OBJECT = "drill"
RATE = 30.0
CROP = 128
FROM_NOTHING = 20
RENDERS = 200
WARM_UP = 5


@dataclass(frozen=True)
class Figure:
    """One row: a median or a single value, the 99th percentile where there are many, the paper's figure if any."""

    figure: str
    value: float | int | None
    unit: str
    p99: float | None = None
    paper: str | None = None
    note: str | None = None

    def as_row(self) -> dict:
        """For tables and JSON."""
        return asdict(self)


def _milliseconds(
    figure: str, seconds: Sequence[float] | np.ndarray, paper: str | None = None, note: str | None = None
) -> Figure:
    values = 1e3 * np.asarray(seconds)
    return Figure(figure, float(np.median(values)), "ms", float(np.percentile(values, 99)), paper, note)


def _estimator(options: argparse.Namespace, config: EstimatorConfig | None = None) -> ObjectPoseEstimator:
    weights = str(options.weights) if options.weights else None
    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    return ObjectPoseEstimator.from_mesh(
        str(demo_mesh_path(OBJECT)), device=options.device, weights=weights, config=config
    )


def _sequence(options: argparse.Namespace) -> SequenceGenerator:
    config = SequenceConfig(
        seconds=options.frames / RATE, rate=RATE, seed=options.seed, occlusion=0.0, hidden_seconds=0.0
    )
    return SequenceGenerator(demo_mesh(OBJECT), config)


def measure_solve(options: argparse.Namespace) -> list[Figure]:
    """Solve each 640x480 mask of a sequence from the pose of the one before: the stages, the polish, the node's way.

    Only the stages alone are what the paper timed. Retries and the search from nothing are left out of the first two
    rows, so that each mask costs the same work; the node's own settings decide about them in the third.
    """
    whole = replace(EstimatorConfig(), retry_angle_deg=0.0, search_pixels=0.0)
    stages, alone = _track(options, replace(whole, refine=None))
    _, polished = _track(options, whole)
    settings = TrackerConfig()
    _, tracking = _track(options, tracking_estimator_config(settings), settings)
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    note = f"640x480 mask, {OBJECT}, {len(alone)} frames, {threads}"
    return [
        _milliseconds(f"solve, {stages} stages", alone, PAPER_MS, note),
        _milliseconds(f"solve, {stages} stages and polish", polished, note=note),
        _milliseconds("tracking, as the node does", tracking, note=note),
    ]


def _track(
    options: argparse.Namespace, config: EstimatorConfig, settings: TrackerConfig | None = None
) -> tuple[int, list[float]]:
    """Number of stages, and seconds per mask; with ``settings`` by a :class:`PoseTracker`."""
    estimator, sequence = _estimator(options, config), _sequence(options)
    estimator.warm_up()
    previous = sequence.poses[0]
    tracker = None if settings is None else PoseTracker(estimator, settings)
    if tracker is not None:
        tracker.set_pose(previous)
    seconds = []
    for index in tqdm(range(len(sequence)), desc="tracking", unit="frame", disable=options.quiet or None):
        mask = sequence.frame(index).mask
        begin = time.perf_counter()
        if tracker is None:
            previous = estimator.estimate(mask, sequence.camera_matrix, previous).T_camera_object
        else:
            tracker.update(mask, sequence.camera_matrix, index / RATE)
        seconds.append(time.perf_counter() - begin)
    return estimator.num_stages, seconds[WARM_UP:]


def measure_initialise(options: argparse.Namespace) -> list[Figure]:
    """Solve masks with no prior pose."""
    estimator, sequence = _estimator(options), _sequence(options)
    estimator.warm_up()
    indices = np.linspace(0, len(sequence) - 1, FROM_NOTHING).astype(int)
    seconds = []
    for index in tqdm(indices, desc="finding from nothing", unit="mask", disable=options.quiet or None):
        mask = sequence.frame(int(index)).mask
        begin = time.perf_counter()
        estimator.estimate(mask, sequence.camera_matrix)
        seconds.append(time.perf_counter() - begin)
    return [_milliseconds("find the pose from nothing", seconds, note=f"{len(seconds)} masks")]


def measure_renderers(options: argparse.Namespace) -> list[Figure]:
    """Depth images of the same poses by each renderer, one at a time and in a batch."""
    sequence = _sequence(options)
    picks = np.linspace(0, len(sequence) - 1, RENDERS).astype(int)
    poses = torch.from_numpy(sequence.poses[picks].astype(np.float32))
    full = torch.from_numpy(sequence.camera_matrix.astype(np.float32))
    small = full.clone()
    small[:2] *= CROP / sequence.size[0]
    figures = []
    for name in RENDERERS:
        renderer = make_renderer(name, sequence.mesh)
        for size, camera in (((CROP, CROP), small), (sequence.size, full)):
            seconds = _timed(lambda i, r=renderer, c=camera, s=size: r.render(poses[i : i + 1], c, s))  # type: ignore[misc]
            note = f"{len(sequence.mesh.faces)} faces"
            figures.append(_milliseconds(f"render {size[1]}x{size[0]}, {name}", seconds, note=note))
        batch = _timed(lambda i, r=renderer: r.render(poses[i : i + 16], small, (CROP, CROP)), 16)  # type: ignore[misc]
        figures.append(_milliseconds(f"render {CROP}x{CROP} in a batch of 16, {name}, each", np.array(batch) / 16))
    return figures


def _timed(render: Callable[[int], object], step: int = 1) -> list[float]:
    seconds = []
    for index in range(0, RENDERS - step + 1, step):
        begin = time.perf_counter()
        render(index)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def measure_node(options: argparse.Namespace) -> list[Figure]:
    """The node through real topics at 30 Hz, camera and listener in processes of their own."""
    from .demo_parts import generated_part
    from .demo_report import compare, summarise
    from .demo_run import run_part

    part = generated_part(options.frames / RATE, options.seed, progress=not options.quiet, events=False)
    parameters: dict[str, object] = {"device": options.device, "max_solve_threads": options.threads}
    if options.weights:
        parameters["weights"] = str(options.weights.resolve())
    record = run_part(part, options.out / "logs", parameters, not options.quiet)
    summary = summarise(part, record, compare(part, record))
    frames = f"{summary['frames']} frames"
    latency, peak = summary["latency_ms"], f"peak {summary['memory_peak_mb']} MB"
    share = summary["processor_share"]
    return [
        Figure("node: rate of the camera", summary["rate_hz"], "Hz", note=frames),
        Figure("node: frames dropped while tracking", summary["dropped_while_tracking"], "", note=frames),
        Figure("node: frames dropped while searching", summary["dropped"] - summary["dropped_while_tracking"], "",
               note=frames),
        Figure("node: mask in to pose out", latency["median"], "ms", latency["p99"], PAPER_MS,
               "conversion and transport included"),
        Figure("node: of it in the solver", summary["solve_ms"]["median"], "ms", summary["solve_ms"]["p99"]),
        Figure("node: first pose, from nothing", summary["first_pose_ms"], "ms"),
        Figure("node: resident memory", summary["memory_mb"], "MB", None, PAPER_MB, peak),
        Figure("node: processor", None if share is None else round(100 * share, 1), "% of a core"),
        Figure("node: start-up", summary["startup_seconds"], "s", note="process start to first subscription"),
    ]  # fmt: skip
