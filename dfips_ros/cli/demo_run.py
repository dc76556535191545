# SPDX-License-Identifier: Apache-2.0
"""Run one part of the demo: tracker, camera and listener as three processes over real ROS 2 topics."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .children import Child, ChildError, Children
from .demo_parts import DemoPart

START_SECONDS = 300.0  # the first run compiles the rasteriser
LAST_WORDS_SECONDS = 1.0
POLL_SECONDS = 0.1
PRIVATE_DOMAINS = range(60, 100)  # below the range that Linux uses for ephemeral ports


@dataclass
class PartRecord:
    """What happened while a part ran.

    Attributes:
        published: one event per frame of the camera: index, stamp_ns, late_ms.
        received: one event per answer of the tracker: stamp_ns, received_ns, state, position, ...
        startup_seconds: from the tracker's start until it listened to masks.
        memory_mb, memory_peak_mb: resident memory of the tracker at the end, and its peak.
        processor_seconds: processor time that the tracker used while the camera ran.
        wall_seconds: from the first frame to the end.
    """

    published: list[dict] = field(default_factory=list)
    received: list[dict] = field(default_factory=list)
    startup_seconds: float = float("nan")
    memory_mb: float | None = None
    memory_peak_mb: float | None = None
    processor_seconds: float | None = None
    wall_seconds: float = float("nan")


def private_environment() -> dict[str, str]:
    """Variables that keep the demo's topics on this machine and away from other ROS 2 systems."""
    domain = os.environ.get("DFIPS_DEMO_DOMAIN_ID", str(PRIVATE_DOMAINS[os.getpid() % len(PRIVATE_DOMAINS)]))
    return {
        "ROS_DOMAIN_ID": domain,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }


def tracker_command(part: DemoPart, parameters: Mapping[str, object]) -> list[str]:
    """Command line of the pose tracker for a part; it is given no prior pose."""
    values: dict[str, object] = {
        "mesh": str(part.mesh_path),
        "mesh_scale": float(part.mesh_scale),
        "object_name": part.name,
        **parameters,
    }
    command = [sys.executable, "-m", "dfips_ros.nodes.pose_tracker", "--ros-args"]
    for name, value in values.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    for topic in ("mask", "image", "camera_info"):
        command += ["-r", f"~/{topic}:=/demo/{topic}"]
    return command


def run_part(part: DemoPart, log_folder: Path, parameters: Mapping[str, object], progress: bool = True) -> PartRecord:
    """Play a part to the tracker and note what it answers.

    Args:
        part: what is shown.
        log_folder: made if needed; the processes' logs go there.
        parameters: of the tracker node, beside mesh and name.
        progress: show a bar on stderr.

    Raises:
        ChildError: a process ended early; the message holds the end of its log.
    """
    log_folder = log_folder.resolve()
    log_folder.mkdir(parents=True, exist_ok=True)
    record = PartRecord()
    phase = {"started": False, "finished": False}

    def from_camera(event: dict) -> None:
        if event["event"] == "frame":
            record.published.append(event)
        elif event["event"] in phase:
            phase[event["event"]] = True

    def from_listener(event: dict) -> None:
        if event["event"] == "tracked_object":
            record.received.append(event)

    with tempfile.TemporaryDirectory(prefix="dfips_demo_") as scratch, Children() as children:
        file = Path(scratch) / "recording.npz"
        part.recording.save(file)
        environment = private_environment()
        light = {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        python = [sys.executable, "-m"]
        tracker = children.start("pose_tracker", tracker_command(part, parameters), log_folder, environment)
        children.start("listener", [*python, "dfips_ros.nodes.demo_listener"], log_folder, light, from_listener)
        camera = children.start(
            "camera",
            [*python, "dfips_ros.nodes.demo_camera", str(file), "--info-listeners", "2",
             "--timeout", str(START_SECONDS)],
            log_folder, light, from_camera,
        )  # fmt: skip
        bar = tqdm(
            total=len(part.recording), desc=part.title, unit="frame", disable=not progress or None, mininterval=0.3
        )
        with bar:
            _wait_for_start(children, tracker, camera, phase, bar)
            record.startup_seconds = time.monotonic() - tracker.started
            _watch(children, tracker, camera, record, phase, bar)
    return record


def _wait_for_start(children: Children, tracker: Child, camera: Child, phase: dict, bar: tqdm) -> None:
    """Until the camera has found its listeners."""
    while not phase["started"]:
        if camera.exit_code not in (None, 0) and tracker.exit_code is None:
            raise ChildError(
                f"The pose tracker did not begin to listen within {START_SECONDS:g} s. "
                f"Its log ({tracker.log}) ends with:\n{tracker.log_tail()}"
            )
        _check(children, tracker)
        bar.set_postfix_str(f"starting the nodes, {time.monotonic() - tracker.started:.0f} s")
        time.sleep(POLL_SECONDS)


def _watch(children: Children, tracker: Child, camera: Child, record: PartRecord, phase: dict, bar: tqdm) -> None:
    """Until the camera has shown everything and the last answers are in."""
    begin, used = time.monotonic(), _processor_seconds(tracker.pid)
    while camera.exit_code is None:
        _check(children, tracker)
        bar.update(len(record.published) - bar.n)
        if record.received:
            last = record.received[-1]
            bar.set_postfix_str(f"{last['state']}, IoU {last['iou']:.2f}")
        time.sleep(POLL_SECONDS)
    time.sleep(LAST_WORDS_SECONDS)
    _check(children, tracker)
    bar.update(len(record.published) - bar.n)
    record.wall_seconds = time.monotonic() - begin
    record.memory_mb, record.memory_peak_mb = tracker.memory_mb(), tracker.memory_mb("VmHWM")
    now = _processor_seconds(tracker.pid)
    record.processor_seconds = None if now is None or used is None else now - used
    if not phase["finished"]:
        raise ChildError(f"The camera stopped early. Its log ({camera.log}) ends with:\n{camera.log_tail()}")


def _check(children: Children, tracker: Child) -> None:
    children.check()
    if tracker.exit_code is not None:
        raise ChildError(f"The pose tracker ended early. Its log ({tracker.log}) ends with:\n{tracker.log_tail()}")


def _processor_seconds(pid: int) -> float | None:
    """User and system time of a process; None where it is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
