# SPDX-License-Identifier: Apache-2.0
"""``dfips bench`` at its smallest: each section writes every part, and defaults are the node's."""

import csv
import json

import cv2
import numpy as np
import pytest

from dfips_ros.cli import bench_sections
from dfips_ros.cli.bench_tables import COLUMNS, KEYS, replaced
from dfips_ros.cli.main import main, make_parser
from dfips_ros.cli.tasks import SHORT_NAMES, TASKS
from dfips_ros.errors import MissingDependencyError
from dfips_ros.evaluation import bench_ik_parts, bench_jpeg, bench_pose
from dfips_ros.nodes.tracker_parameters import PoseTrackerParameters
from dfips_ros.processes.example_robots import example_robot
from dfips_ros.tasks.object_pose import TrackerConfig, tracking_estimator_config

TOLERANCE = 1.3  # medians of parts add up to a little more than the median of the whole
FRAMES = ["--frames", "30", "--device", "cpu", "--threads", "2"]


def _arms():
    try:
        return example_robot("panda").urdf.is_file()
    except MissingDependencyError:
        return False


needs_arms = pytest.mark.skipif(not _arms(), reason="the package example-robot-data is not installed")


def skipping(*left):
    return ["--skip", *({"solve", "parts", "methods", "initialise", "renderers", "training", "node"} - set(left))]


def bench(folder, *words):
    """Run a section. -> the rows of its CSV, after what is true of all of them."""
    assert main(["bench", *words, "--csv", str(folder / "bench.csv"), "--markdown", str(folder / "bench.md")]) == 0
    with (folder / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    page = (folder / "bench.md").read_text()
    for row in rows:
        assert row["processor"] and row["commit"] and row["date"] and row["section"] in page
        assert (float(row["value"]) >= 0) if row["value"] else row["note"].startswith("not measured: ")
        assert not row["p99"] or float(row["p99"]) >= float(row["value"]) > 0
    return rows


def check_parts(rows, parts):
    """Each figure that is taken apart has all parts, and they add up to no more than the whole."""
    for figure in {row["figure"] for row in rows}:
        found = {row["part"]: float(row["value"]) for row in rows if row["figure"] == figure}
        assert set(found) == set(parts), figure
        assert sum(found.values()) - found["whole"] <= TOLERANCE * found["whole"], found
        assert all(value > 0 for value in found.values())


def test_solve_rows_say_what_was_timed(tmp_path, capsys):
    assert main(["bench", *FRAMES, *skipping("solve"), "--out", str(tmp_path), "--json", "-"]) == 0
    output = capsys.readouterr()
    assert "frame/s" not in output.err  # no bar where stderr is not a terminal
    rows = json.loads(output.out)["figures"]
    names = ["solve, 5 stages", "solve, 5 stages and polish", "tracking, as the node does"]
    assert [r["figure"] for r in rows] == names
    assert [r["paper"] for r in rows] == ["21 ms (128 px)", None, None]
    assert all("2 threads" in r["note"] and 0 < r["value"] <= r["p99"] for r in rows)


def test_solve_rows_are_timed_with_their_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(bench_sections, "_track", lambda options, device, *s: seen.append(s) or (5, [0.01]))
    list(bench_sections.measure_solve(make_parser().parse_args(["bench"]), "cpu"))
    (stages,), (polished,), (tracking, tracker) = seen
    assert stages.refine is None and polished.refine is not None
    assert {c.retry_angle_deg for c in (stages, polished)} == {0.0} and polished.search_pixels == 0.0
    assert tracker == TrackerConfig() and tracking == tracking_estimator_config(tracker)


@pytest.mark.parametrize("command", ["bench", "demo"])
def test_threads_are_as_many_as_the_node_uses(command):
    assert make_parser().parse_args([command]).threads == PoseTrackerParameters.max_solve_threads


def test_pose_is_taken_apart(tmp_path):
    rows = bench(tmp_path, "pose", *FRAMES, *skipping("parts"))
    check_parts(rows, bench_pose.PARTS)
    assert {row["device"] for row in rows} == {"cpu"} and {row["repeats"] for row in rows} == {"25"}


def test_renderers_and_from_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_sections, "RENDERS", 16)
    monkeypatch.setattr(bench_sections, "FROM_NOTHING", 2)
    rows = bench(tmp_path, "pose", *FRAMES, *skipping("renderers", "initialise"))
    assert {row["section"] for row in rows} == {"pose: renderers", "pose: from nothing"} and len(rows) == 7


def test_deblocking_is_taken_apart(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "in.jpg"), cv2.GaussianBlur(noise, (0, 0), 3), [cv2.IMWRITE_JPEG_QUALITY, 30])
    rows = bench(tmp_path, "jpeg", "--quick", "--device", "cpu", "--threads", "1", "--jpeg", str(tmp_path / "in.jpg"))
    check_parts([row for row in rows if row["section"] == "deblocking: parts"], bench_jpeg.PARTS)
    assert {row["figure"] for row in rows if row["section"] == "deblocking: methods"} == {
        "libjpeg, nothing restored", "DnCNN",
    }  # fmt: skip


@needs_arms
def test_inverse_kinematics_is_taken_apart(tmp_path):
    file = tmp_path / "ik.csv"
    words = ["--targets", "20", "--methods", "ours", "--quick", "--quiet", "--markdown", str(tmp_path / "ik.md")]
    assert main(["bench", "ik", "--out", str(file), *words]) == 0
    with file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["part"] == "path"]
    found = {row["method"]: float(row["ms_median"]) for row in rows}
    assert set(found) == set(bench_ik_parts.PARTS) and "## Parts of our solve" in (tmp_path / "ik.md").read_text()
    assert sum(found.values()) - found["whole"] <= TOLERANCE * found["whole"]
    assert all(found[part] > 0 for part in ("whole", "polish of the seed", "simulate", "network and update"))


def test_scaling_that_was_measured_again_replaces_what_was_there(tmp_path):
    words = ["scaling", "--quick", "--repeats", "1", "--device", "cpu"]
    first = bench(tmp_path, *words, "--sweeps", "size")
    assert sorted({int(row["at"]) for row in first}) == [64, 128, 256, 512] and {r["sweep"] for r in first} == {"size"}
    again = bench(tmp_path, *words, "--sweeps", "size", "--append")
    assert [[row[key] for key in KEYS] for row in again] == [[row[key] for key in KEYS] for row in first]
    assert "no CUDA device" in (tmp_path / "bench.md").read_text()


def test_rows_of_another_device_are_kept():
    cpu, cuda = ({**dict.fromkeys(KEYS, ""), "figure": "solve", "device": device} for device in ("cpu", "cuda"))
    assert replaced([cpu], [cuda]) == [cpu] and replaced([cpu, cuda], [cuda]) == [cpu]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scaling", "--append"], "--append: needs --csv"),
        (["scaling", "--budget", "0"], "budget=0.0"),
        (["light", "--weights", "x", "--device", "cpu"], "expected one kind"),
        (["ros", "--rate", "1000"], "rate=1000.0"),
        (["pose", "--frames", "3"], "--frames 3"),
        (["jpeg", "--jpeg", "missing.jpg"], "missing.jpg"),
        (["memory", "--threads", "0"], "threads=0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_options_are_one_line(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_another_csv_is_not_added_to(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert main(["bench", "scaling", "--csv", str(tmp_path / "other.csv"), "--append"]) == 2
    assert "is no CSV of this `dfips bench`" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(TASKS))
def test_short_names_are_the_long_ones(command):
    for task in TASKS[command]:
        if task in SHORT_NAMES:
            subparsers = make_parser()._subparsers._group_actions[0].choices[command]._subparsers._group_actions[0]
            assert subparsers.choices[SHORT_NAMES[task]] is subparsers.choices[task]


def test_memory_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--tasks", "deblocking", "--skip", "nodes", "--out", str(tmp_path)]
    rows = bench(tmp_path, "memory", *words)
    memory = [float(row["value"]) for row in rows if row["unit"] == "MB"]
    assert len(memory) == 5 and len(rows) == 11 and memory[0] < 50 < memory[-1]
    steps = {row["part"]: float(row["value"]) for row in rows if row["unit"] == "s"}
    assert steps[""] == pytest.approx(steps["make the estimator"] + steps["first solve"], abs=1e-3)


@pytest.mark.ros
def test_memory_of_a_node(tmp_path):
    pytest.importorskip("rclpy")
    rows = bench(tmp_path, "memory", "--nodes", "image_restorer", "--skip", "library", "--out", str(tmp_path))
    assert [row["unit"] for row in rows] == ["s", "MB"] and float(rows[1]["value"]) > 50


@pytest.mark.ros
@pytest.mark.timeout(400)  # where nothing is compiled yet, the node takes its time
def test_from_mask_to_pose_over_topics(tmp_path):
    pytest.importorskip("rclpy")
    rows = bench(tmp_path, "ros", "--rate", "20", "--seconds", "2", "--device", "cpu", "--out", str(tmp_path))
    found = {row["part"]: float(row["value"]) for row in rows if row["part"]}
    assert set(found) == {"whole", "solver", "ROS conversion and transport"} and min(found.values()) > 0
    assert found["solver"] < found["whole"]
