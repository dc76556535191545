# SPDX-License-Identifier: Apache-2.0
"""Run the demo of illumination: camera, pose tracker, light estimator and listener over real ROS 2 topics."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .children import Child, ChildError, Children
from .demo_light_scene import RATE, LightScene
from .demo_run import LAST_WORDS_SECONDS, POLL_SECONDS, START_SECONDS, private_environment

OBJECT = "demo_object"
MAX_MEDIAN_DEG = 15.0
MIN_RATE = 5.0  # answers per second
RELIABLE = "qos_overrides./demo/image.{}.reliability:=reliable"  # else many of the large images get lost on the way


@dataclass
class LightRecord:
    """What happened: one event per frame that was shown, per answer and per /diagnostics of the estimator."""

    frames: list[dict] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)
    health: list[dict] = field(default_factory=list)
    memory_mb: float | None = None


def run_scene(
    scene: LightScene, log_folder: Path, parameters: Mapping[str, object], progress: bool = True
) -> LightRecord:
    """Show the scene to the nodes.

    Args:
        scene: what is shown.
        log_folder: made if needed; the processes' logs go there.
        parameters: of the light estimator, beside mesh, name and kind.
        progress: show a bar on stderr.

    Raises:
        ChildError: a process ended early; the message holds the end of its log.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    record, phase = LightRecord(), {"started": False, "finished": False}

    def from_camera(event: dict) -> None:
        if event["event"] == "frame":
            record.frames.append(event)
        elif event["event"] in phase:
            phase[event["event"]] = True

    def from_listener(event: dict) -> None:
        (record.answers if event["event"] == "light" else record.health).append(event)

    environment = private_environment()
    light = {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    python = [sys.executable, "-m"]
    known: dict[str, object] = {"mesh": str(scene.mesh_path), "mesh_scale": float(scene.scale), "object_name": OBJECT}
    with tempfile.TemporaryDirectory(prefix="dfips_demo_") as scratch, Children() as children:
        file = Path(scratch) / "recording.npz"
        scene.recording.save(file)
        tracker = children.start(
            "pose_tracker",
            _command(python, "pose_tracker", known, {name: f"/demo/{name}" for name in ("mask", "camera_info")}),
            log_folder, environment,
        )  # fmt: skip
        topics = {"image": "/demo/image", "camera_info": "/demo/camera_info", "pose": "/pose_tracker/pose"}
        asked = {**known, "kind": scene.kind, "rate": 2.0 * RATE, **parameters}
        estimator = children.start(
            "light_estimator", _command(python, "light_estimator", asked, topics), log_folder, environment
        )
        children.start("listener", [*python, "dfips_ros.nodes.demo_light_listener"], log_folder, light, from_listener)
        camera = children.start(
            "camera",
            [*python, "dfips_ros.nodes.demo_camera", str(file), "--info-listeners", "3",
             "--timeout", str(START_SECONDS), "--ros-args", "-p", RELIABLE.format("publisher")],
            log_folder, light, from_camera,
        )  # fmt: skip
        with tqdm(total=len(scene.recording), desc="estimating", unit="frame", disable=not progress or None) as bar:
            while camera.exit_code is None:
                _check(children, tracker, estimator)
                bar.update(len(record.frames) - bar.n)
                if not phase["started"]:
                    bar.set_postfix_str(f"starting the nodes, {time.monotonic() - tracker.started:.0f} s")
                elif record.answers:
                    bar.set_postfix_str(record.answers[-1]["status"])
                time.sleep(POLL_SECONDS)
            time.sleep(LAST_WORDS_SECONDS)
            bar.update(len(record.frames) - bar.n)
        _check(children, tracker, estimator)
        record.memory_mb = estimator.memory_mb()
        if not phase["finished"]:
            raise ChildError(f"The camera stopped early. Its log ({camera.log}) ends with:\n{camera.log_tail()}")
    return record


def _command(python: list[str], node: str, parameters: Mapping[str, object], topics: Mapping[str, str]) -> list[str]:
    command = [*python, f"dfips_ros.nodes.{node}", "--ros-args", "-p", RELIABLE.format("subscription")]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    for name, topic in topics.items():
        command += ["-r", f"~/{name}:={topic}"]
    return command


def _check(children: Children, *nodes: Child) -> None:
    children.check()
    for node in nodes:
        if node.exit_code is not None:
            raise ChildError(f"{node.name} ended early. Its log ({node.log}) ends with:\n{node.log_tail()}")


@dataclass(frozen=True)
class LightResult:
    """An answer and the truth of its frame.

    Attributes:
        index: of the frame.
        answer: what arrived.
        angle_deg: between estimated and true direction, seen from the object; None when refused.
        position_error: of a point light, in object diameters; None otherwise.
    """

    index: int
    answer: dict
    angle_deg: float | None
    position_error: float | None


def compare(scene: LightScene, record: LightRecord) -> list[LightResult]:
    """Each answer with the truth of its frame, in the order of the frames."""
    indices = {event["stamp_ns"]: event["index"] for event in record.frames}
    results = []
    for answer in record.answers:
        index = indices.get(answer["stamp_ns"])
        if index is None:
            continue
        angle = distance = None
        if answer["status"] != "REFUSED":
            cosine = float(np.dot(answer["direction"], scene.lights[index]))
            angle = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
            if scene.kind == "point":
                off = np.asarray(answer["position"]) - scene.positions[index]
                distance = float(np.linalg.norm(off)) / scene.mesh.diameter
        results.append(LightResult(index, answer, angle, distance))
    return sorted(results, key=lambda each: each.index)


def summarise(scene: LightScene, record: LightRecord, results: Sequence[LightResult]) -> dict:
    """The figures of a run."""
    statuses = [each.answer["status"] for each in results]
    found = [each for each in results if each.angle_deg is not None]
    sure = [each for each in found if each.answer["status"] == "ESTIMATED"]
    times = [each.answer["received_ns"] for each in results]
    span = 1e-9 * (max(times) - min(times)) if len(times) > 1 else 0.0
    return {
        "kind": scene.kind,
        "frames": len(record.frames),
        "camera_hz": scene.recording.rate,
        "answers": len(results),
        "answers_per_second": (len(results) - 1) / span if span > 0.0 else 0.0,
        "statuses": {name: statuses.count(name) for name in ("ESTIMATED", "UNCERTAIN", "REFUSED")},
        "direction_error_deg": _spread([each.angle_deg for each in sure]),
        "direction_error_deg_uncertain": _spread([e.angle_deg for e in found if e.answer["status"] == "UNCERTAIN"]),
        "position_error_diameters": _spread([e.position_error for e in sure]) if scene.kind == "point" else None,
        "solve_ms": _spread([1e3 * each.answer["solve_time"] for each in found]),
        "latency_ms": _spread([1e-6 * (e.answer["received_ns"] - e.answer["stamp_ns"]) for e in found]),
        "rates_hz": {key: max((float(e["values"][f"{key} rate (Hz)"]) for e in record.health), default=0.0)
                     for key in ("image", "pose")},
        "first_reasons": sorted({each.answer["reason"] for each in results if each.answer["reason"]})[:5],
        "memory_mb": record.memory_mb,
    }  # fmt: skip


def failures(summary: Mapping) -> list[str]:
    """What went wrong, in words; empty when nothing did."""
    problems = []
    middle = summary["direction_error_deg"]["median"]
    if middle is None:
        problems.append(f"no light was estimated; reasons: {summary['first_reasons']}.")
    elif middle > MAX_MEDIAN_DEG:
        problems.append(
            f"the median error of the direction is {middle:.1f} degrees, expected {MAX_MEDIAN_DEG:g} at most."
        )
    if summary["answers_per_second"] < MIN_RATE:
        problems.append(f"{summary['answers_per_second']:.1f} answers per second, expected {MIN_RATE:g} or more.")
    return problems


def table(summary: Mapping) -> str:
    """The figures for people."""

    def spread(key: str, unit: str) -> str:
        numbers = summary[key]
        if numbers is None or numbers["median"] is None:
            return "none"
        return f"{numbers['median']:.3g} {unit} median, {numbers['p90']:.3g} p90, {numbers['max']:.3g} worst"

    rows = {
        "light": summary["kind"],
        "frames": f"{summary['frames']} at {summary['camera_hz']:g} Hz, 640x480",
        "answers": f"{summary['answers']}, {summary['answers_per_second']:.1f} per second: "
        + ", ".join(f"{count} {name}" for name, count in summary["statuses"].items()),
        "inputs of the node": "at best {image:.1f} images and {pose:.1f} poses per second".format(
            **summary["rates_hz"]
        ),
        "direction error, estimated": spread("direction_error_deg", "deg"),
        "direction error, uncertain": spread("direction_error_deg_uncertain", "deg"),
        **({"position error": spread("position_error_diameters", "diameters")} if summary["kind"] == "point" else {}),
        "solver": spread("solve_ms", "ms"),
        "image out to answer in": spread("latency_ms", "ms"),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items())


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    numbers = np.array([value for value in values if value is not None])
    if not len(numbers):
        return {"median": None, "p90": None, "max": None}
    return {"median": float(np.median(numbers)), "p90": float(np.percentile(numbers, 90)), "max": float(numbers.max())}
