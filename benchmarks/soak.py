# SPDX-License-Identifier: Apache-2.0
"""Two objects at 60 Hz for ten minutes, then everything that goes wrong on a robot: does the pose_tracker last?

    python -P benchmarks/soak.py                      # ten minutes of load, then the faults
    python -P benchmarks/soak.py --minutes 1 --csv soak.csv --markdown soak.md

The camera, the node and this listener are processes of their own. Exit status 1 when a demand is not met:
no growth in memory, no outdated result, and after every fault both objects tracked again and a diagnostic that says
what happened.

A result is outdated when the work on its mask began although the next mask had been sent more than one period ago.
It began when the result before was published or later, so one that is outdated has a stamp that is more than two
periods older than the publication of the result before. (The first period is that in which the mask is the newest.)
Beside this, judged from outside, stands what the node says of itself in /diagnostics.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from tqdm import tqdm

from dfips_ros.cli.children import Child, Children
from dfips_ros.cli.demo_run import private_environment
from dfips_ros.cli.machine import describe_machine, load_warning, machine_line
from dfips_ros.geometry import make_pose
from dfips_ros.msg import TrackedObject, TrackedObjectArray
from dfips_ros.nodes.stop_signals import RosUntilSignal
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose.demo_data import demo_mesh, demo_mesh_path

OBJECTS = {"drill": 1, "gelatin_box": 2}  # name -> value in the label image
SIZE = (480, 640)
CAMERA_MATRIX = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
FRAME = "soak_camera_optical_frame"
NODE = "/pose_tracker"
SCENE_SECONDS = 5.0
FAULT_SECONDS = 5.0
RECOVERY_SECONDS = 10.0
MUTATED = 10_000
GROWTH_MB = 10.0
SENSOR = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
KILLED = "killed"
# Mode of the camera, name of the row, and a word that a diagnostic must say (None: such a camera is all right).
FAULTS = (
    (KILLED, "camera killed, another started", "no mask on"),
    ("small", "masks and camera_info of half the size", None),
    ("wrong_size", "masks of half the size, camera_info not", None),
    ("zoomed", "another calibration", None),
    ("clock_back", "clock set back by an hour", "clock"),
    ("nan", "camera_info of NaN", "camera_info refused"),
    ("mutated", f"{MUTATED} mutated messages", "expected"),
)
# What the node says of its last 300 masks; the count is of all.
OF_ITSELF = ("mask wait p99 (ms)", "mask to pose p99 (ms)", "masks outdated")
RESULTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


def render_scene(rate: float) -> np.ndarray:
    """Label images (N, H, W) uint8: both objects turn and sway, and end where they began."""
    count = round(SCENE_SECONDS * rate)
    camera = torch.from_numpy(CAMERA_MATRIX).float()
    labels = np.zeros((count, *SIZE), np.uint8)
    for place, (name, value) in enumerate(OBJECTS.items()):
        mesh = demo_mesh(name)
        renderer = RasterRenderer(mesh)
        for i, phase in enumerate(2 * np.pi * np.arange(count) / count):
            turn = Rotation.from_euler("xyz", [0.5 + 0.6 * np.sin(phase), 0.7 * np.cos(phase), 0.4 * np.sin(2 * phase)])
            distance = mesh.diameter * (3.2 + 0.4 * np.sin(phase + place))
            side = (place - 0.5) * (0.55 + 0.05 * np.cos(phase)) * distance
            rotation = turn.as_matrix()
            pose = make_pose(rotation, np.array([side, 0.04 * np.sin(phase), distance]) - rotation @ mesh.center)
            labels[i][renderer.render(torch.from_numpy(pose).float()[None], camera, SIZE)[0].numpy() > 0] = value
    return labels


# --- the camera, a process of its own


def camera_info(scale: float = 1.0, size: tuple[int, int] = SIZE) -> CameraInfo:
    """The camera of the scene, its image scaled."""
    matrix = CAMERA_MATRIX * scale
    info = CameraInfo(height=size[0], width=size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [matrix[0, 0], 0.0, matrix[0, 2], 0.0, matrix[1, 1], matrix[1, 2], 0.0, 0.0, 1.0]
    info.p = [*info.k[:3], 0.0, *info.k[3:6], 0.0, 0.0, 0.0, 1.0, 0.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.header.frame_id = FRAME
    return info


def play(file: Path, mode: str, rate: float, seconds: float) -> int:
    """Publish the scene over and over; ``mode`` says what is wrong with it."""
    with RosUntilSignal([]):
        status = _play(file, mode, rate, seconds)
    rclpy.try_shutdown()
    return status


def _play(file: Path, mode: str, rate: float, seconds: float) -> int:
    node = rclpy.create_node("soak_camera")
    masks = node.create_publisher(Image, "/soak/mask", SENSOR)
    infos = node.create_publisher(CameraInfo, "/soak/camera_info", SENSOR)
    end = time.monotonic() + 180.0  # where nothing is compiled yet, the node takes its time
    while masks.get_subscription_count() == 0 or infos.get_subscription_count() == 0:
        if time.monotonic() > end or not rclpy.ok():
            print("nobody listens", file=sys.stderr)
            return 3
        time.sleep(0.01)
    labels = np.load(file, mmap_mode="r")
    rng = np.random.default_rng(0)
    start, number, period = time.monotonic(), 0, 1.0 / rate
    print(json.dumps({"started": time.time()}), flush=True)
    while rclpy.ok() and time.monotonic() < start + seconds and not (mode == "mutated" and number >= MUTATED):
        if mode != "mutated":  # these come as fast as they can be made
            time.sleep(max(start + number * period - time.monotonic(), 0.0))
        image = labels[number % len(labels)]
        info = camera_info()
        if mode == "small":
            image, info = image[::2, ::2], camera_info(0.5, (SIZE[0] // 2, SIZE[1] // 2))
        elif mode == "wrong_size":
            image = image[::2, ::2]
        elif mode == "zoomed":
            info.k[0], info.k[4], info.p[0], info.p[5] = (1.25 * info.k[0],) * 4
        elif mode == "nan":
            info.k, info.p, info.d = [float("nan")] * 9, [float("nan")] * 12, [float("nan")] * 5
        stamp = time.time_ns() - (3_600_000_000_000 if mode == "clock_back" else 0)
        message = Image(height=image.shape[0], width=image.shape[1], encoding="mono8", step=image.shape[1])
        message.header.frame_id = info.header.frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        info.header.stamp = message.header.stamp
        message.data = image.tobytes()
        if mode == "mutated":
            _publish_mutated(rng, masks, infos, message, info)
        else:
            infos.publish(info)
            masks.publish(message)
        number += 1
    print(json.dumps({"sent": number}), flush=True)
    node.destroy_node()
    return 0


def _publish_mutated(rng: np.random.Generator, masks: object, infos: object, mask: Image, info: CameraInfo) -> None:
    """One message with wrong fields, or with wrong bytes on the wire."""
    publisher, message = (masks, mask) if rng.random() < 0.6 else (infos, info)
    kind = rng.integers(4)
    if kind == 0:  # a few flipped bytes, most of them in the header and the lengths
        raw = bytearray(serialize_message(message))
        for at in rng.integers(0, min(len(raw), 200), rng.integers(1, 8)):
            raw[at] = rng.integers(256)
        publisher.publish(bytes(raw))  # type: ignore[attr-defined]
        return
    if kind == 1:  # cut short
        whole = serialize_message(message)
        publisher.publish(bytes(whole[: rng.integers(4, len(whole))]))  # type: ignore[attr-defined]
        return
    if publisher is masks:
        mask.encoding = str(rng.choice(["mono8", "rgb8", "16UC1", "32FC1", "", "bayer_rggb8", "mono17"]))
        mask.height, mask.width = int(rng.integers(0, 5000)), int(rng.choice([0, 1, 640, 2**31]))
        mask.step = int(rng.integers(0, 2**32))
        mask.is_bigendian = int(rng.integers(256))
        mask.header.frame_id = str(rng.choice(["", FRAME, "map", "x" * 300]))
        mask.header.stamp.sec = int(rng.integers(-(2**31), 2**31))
        if kind == 2:
            mask.data = rng.integers(0, 256, rng.integers(0, 5000), dtype=np.uint8).tobytes()
    else:
        values = rng.choice([0.0, 1.0, -1.0, np.nan, np.inf, 1e300, 320.0], 9)
        info.k = values.tolist()
        info.height, info.width = int(rng.integers(0, 5000)), int(rng.choice([0, 1, 640, 2**31]))
        info.distortion_model = str(rng.choice(["", "plumb_bob", "fisheye", "what"]))
        info.d = rng.choice([0.0, np.nan, 1e9, -0.3], rng.integers(0, 16)).tolist()
    publisher.publish(message)  # type: ignore[attr-defined]


# --- the listener


@dataclass
class Heard:
    """What the node said in one phase.

    Attributes:
        ages: of each mask when its result arrived, seconds.
        published: the results, by the middleware's clock on the node's side.
        behind: how much older each mask is than the publication of the result before, seconds.
        tracked: all objects were, in each result.
        arrivals: of the results.
        said: texts of its diagnostics.
        figures: the newest values of its diagnostics.
    """

    ages: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    tracked: list[bool] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)


class Listener:
    """Collects what the node publishes, from a thread of its own; rclpy is initialised."""

    def __init__(self) -> None:
        self.heard = Heard()
        self._node = rclpy.create_node("soak_listener")
        on_objects: Any = self._on_objects  # rclpy's types know callbacks without message info alone
        self._node.create_subscription(TrackedObjectArray, f"{NODE}/tracked_objects", on_objects, RESULTS)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def close(self) -> None:
        """Stop listening."""
        rclpy.try_shutdown()
        self._thread.join(5.0)

    def begin(self) -> Heard:
        """A new phase."""
        self.heard = Heard()
        return self.heard

    def _on_objects(self, message: TrackedObjectArray, info: dict[str, Any]) -> None:
        now = time.time()
        heard, stamp = self.heard, message.header.stamp
        sent = stamp.sec + 1e-9 * stamp.nanosec
        heard.ages.append(now - sent)
        if heard.published:
            heard.behind.append(heard.published[-1] - sent)
        heard.published.append(1e-9 * info["source_timestamp"])
        heard.arrivals.append(now)
        states = {each.object_name: each.state for each in message.objects}
        heard.tracked.append(all(states.get(name) == TrackedObject.TRACKING for name in OBJECTS))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(NODE):
                text = f"{status.name.removeprefix(NODE).strip(': /')} {status.message}".strip()
                if text not in self.heard.said:
                    self.heard.said.append(text)
                self.heard.figures = {pair.key: pair.value for pair in status.values}


# --- the phases


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    phase: str
    sent: int
    answered: int
    tracked_percent: float
    age_median_ms: float
    age_p99_ms: float
    outdated: int
    recovered_s: float | None
    memory_mb: float
    said: str
    problem: str


class Soak:
    """The node and the phases it has to live through."""

    def __init__(self, children: Children, folder: Path, rate: float, environment: dict[str, str]) -> None:
        self.children, self.folder, self.rate, self.environment = children, folder, rate, environment
        self.scene = folder / "scene.npy"
        np.save(self.scene, render_scene(rate))
        self.listener = Listener()
        self.camera_said: dict[str, float] = {}
        self.rows: list[Row] = []
        command = [sys.executable, "-P", "-m", "dfips_ros.nodes.pose_tracker", "--ros-args"]
        parameters: dict[str, object] = {"objects": list(OBJECTS), "diagnostics_period": 0.2, "mask_mode": "label"}
        for name, value in OBJECTS.items():
            parameters[f"objects.{name}.mesh"] = str(demo_mesh_path(name))
            parameters[f"objects.{name}.label_value"] = value
        for key, given in parameters.items():
            command += ["-p", f"{key}:={json.dumps(given)}"]
        for topic in ("mask", "camera_info"):
            command += ["-r", f"~/{topic}:=/soak/{topic}"]
        self.tracker = children.start("pose_tracker", command, folder, self.environment)

    def camera(self, mode: str, seconds: float) -> Child:
        """Start a camera."""
        self.camera_said.clear()
        command = [
            sys.executable, "-P", __file__, "--play", str(self.scene), "--mode", mode,
            "--rate", str(self.rate), "--seconds", str(seconds),
        ]  # fmt: skip
        light = {**self.environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        return self.children.start(f"camera_{mode}", command, self.folder, light, self._on_camera)

    def _on_camera(self, event: dict) -> None:
        self.camera_said.update(event)

    def check(self) -> None:
        """The node must not end before it is told to."""
        if not rclpy.ok():
            raise KeyboardInterrupt
        if self.tracker.exit_code is not None:
            raise SystemExit(f"the node ended with {self.tracker.exit_code}:\n{self.tracker.log_tail()}")

    def load(self, minutes: float, progress: bool) -> None:
        """Sixty masks a second, memory looked at every second; the first quarter of the time is for warming up."""
        seconds = 60.0 * minutes
        warm = self.camera("normal", 8.0)
        self._until_gone(warm)
        heard = self.listener.begin()
        camera = self.camera("normal", seconds)
        memory = []
        bar = tqdm(total=round(seconds), desc="load", unit="s", disable=not progress or None)
        with bar:
            while camera.exit_code is None:
                time.sleep(1.0)
                self.check()
                memory.append(self.tracker.memory_mb() or float("nan"))
                bar.update(min(1, bar.total - bar.n))
        time.sleep(1.0)  # the last diagnostics
        half = len(memory) // 2
        growth = float(np.median(memory[-max(half // 2, 1) :]) - np.median(memory[half // 2 : half + 1]))
        outdated = sum(behind > 2.0 / self.rate for behind in heard.behind)
        problems = []
        if growth > GROWTH_MB:
            problems.append(f"memory grew by {growth:.0f} MB")
        if outdated > 0:
            problems.append(f"{outdated} outdated results")
        if np.mean(heard.tracked or [False]) < 0.99:
            problems.append("not tracked all the time")
        name = f"load, {minutes:g} min at {self.rate:g} Hz, memory {growth:+.1f} MB"
        figures = [f"{key} {heard.figures.get(key, '?')}" for key in OF_ITSELF]
        self._note(name, heard, int(self.camera_said["sent"]), outdated, None, "; ".join(problems), figures)

    def fault(self, mode: str, name: str, word: str | None) -> None:
        """A camera with one of the FAULTS, then one without: both objects must be tracked again."""
        kill = mode == KILLED
        heard = self.listener.begin()
        camera = self.camera(mode, FAULT_SECONDS if mode != "mutated" else 600.0)
        if kill:
            time.sleep(FAULT_SECONDS / 2)
            os.killpg(camera.pid, signal.SIGKILL)
        self._until_gone(camera, killed=kill)
        time.sleep(1.0)
        self.check()
        sent, said = (
            int(self.camera_said.get("sent", 0)),
            [text for text in heard.said if word is not None and word in text],
        )
        back = self.listener.begin()
        normal = self.camera("normal", RECOVERY_SECONDS)
        self._until_gone(normal)
        first = next((t for t, fine in zip(back.arrivals, back.tracked, strict=True) if fine), None)
        steady = np.mean(back.tracked[-round(3 * self.rate) :] or [False])
        problems = []
        if first is None or steady < 0.95:
            problems.append("not tracked again")
        if word is not None and not said:
            problems.append(f"no diagnostic says '{word}', but: {'; '.join(heard.said[:5])}")
        recovered = None if first is None else first - self.camera_said["started"]
        self._note(name, heard, sent, 0, recovered, "; ".join(problems), said[:1])

    def _until_gone(self, camera: Child, killed: bool = False) -> None:
        while camera.exit_code is None:
            time.sleep(0.05)
            self.check()
        if not killed:
            camera.check()
        time.sleep(0.3)

    def _note(
        self, phase: str, heard: Heard, sent: int, outdated: int, recovered: float | None, problem: str,
        said: list[str] | None = None,
    ) -> None:  # fmt: skip
        ages = [each for each in heard.ages if abs(each) < 60.0]  # else the camera's clock is wrong on purpose
        milliseconds = 1e3 * np.array(ages or [np.nan])
        memory = self.tracker.memory_mb() or float("nan")
        share = 100.0 * float(np.mean(heard.tracked)) if heard.tracked else 0.0
        self.rows.append(
            Row(phase, sent, len(heard.ages), share, float(np.median(milliseconds)),
                float(np.percentile(milliseconds, 99)), outdated,
                recovered, memory, "; ".join(said or []), problem)
        )  # fmt: skip
        print(f"{phase}: {problem or 'fine'}", flush=True)


HEADINGS = (
    "phase", "masks sent", "answered", "both tracked %", "age of the mask when its pose comes, median ms", "p99 ms",
    "outdated", "tracked again after s", "memory MB", "the node said", "problem",
)  # fmt: skip


def _cells(row: Row) -> list[str]:
    values = (
        row.phase, row.sent or "", row.answered, f"{row.tracked_percent:.1f}",
        *("" if np.isnan(age) else f"{age:.1f}" for age in (row.age_median_ms, row.age_p99_ms)),
        row.outdated, "" if row.recovered_s is None else f"{row.recovered_s:.1f}", f"{row.memory_mb:.0f}",
        row.said, row.problem,
    )  # fmt: skip
    return [str(value).replace("|", "/") for value in values]


def write(rows: list[Row], options: argparse.Namespace, machine: dict) -> None:
    """Print the table; CSV and Markdown where asked for."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    head = f"Measured by `benchmarks/soak.py --minutes {options.minutes:g}` on {machine_line(machine)}, commit "
    head += f"{machine['commit'] or 'unknown'}. {load_warning(machine) or ''}"
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join([head.strip(), "", *lines]) + "\n")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*HEADINGS, "machine", "commit"])
            writer.writerows([*_cells(row), machine_line(machine), machine["commit"]] for row in rows)


def main() -> int:
    """Run the phases, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load before the faults (10)")
    parser.add_argument("--no-faults", action="store_true", help="the load alone")
    parser.add_argument("--rate", type=float, default=60.0, help="masks a second (60)")
    parser.add_argument("--csv", type=Path, help="write the table as CSV")
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--mode", default="normal", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=10.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        return play(options.play, options.mode, options.rate, options.seconds)
    machine = describe_machine()
    environment = private_environment()
    os.environ.update(environment)  # before ROS reads it
    with tempfile.TemporaryDirectory(prefix="dfips_soak_") as scratch, Children() as children, RosUntilSignal([]):
        soak = Soak(children, Path(scratch), options.rate, environment)
        soak.load(options.minutes, not options.quiet)
        for mode, name, word in () if options.no_faults else FAULTS:
            soak.fault(mode, name, word)
        soak.listener.close()
    write(soak.rows, options, machine)
    return int(any(row.problem for row in soak.rows))


if __name__ == "__main__":
    sys.exit(main())
