# SPDX-License-Identifier: Apache-2.0
"""``dfips solve``, ``train``, ``bench`` and ``demo`` of inverse kinematics, at their smallest, and on bad input."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from dfips_ros.cli.main import main
from dfips_ros.geometry import quaternion_xyzw_from_matrix
from dfips_ros.processes.example_robots import EXAMPLE_ROBOTS as ROBOTS
from dfips_ros.processes.kinematics import SerialChain

TRUTH = np.array([0.4, -0.7, 1.0, 0.3, -0.8, 0.6])


@pytest.fixture
def arm(arm_file):
    return ["--urdf", arm_file, "--tip", "tool0", "--base", "base_link"]


@pytest.fixture
def target(arm_file):
    pose = SerialChain.from_urdf(arm_file, "tool0", "base_link").reference(TRUTH)
    return ["--target", *(f"{v:.9f}" for v in [*pose[:3, 3], *quaternion_xyzw_from_matrix(pose[:3, :3])])]


def test_solve_prints_positions_as_yaml(arm, arm_file, target, capsys):
    seed = ["--seed", *(f"{q + 0.1:.6f}" for q in TRUTH)]
    assert main(["solve", "inverse_kinematics", *arm, *target, *seed, "--timeout", "1"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    chain = SerialChain.from_urdf(arm_file, "tool0", "base_link")
    assert tuple(found) == chain.names
    assert np.allclose(chain.reference(list(found.values())), chain.reference(TRUTH), atol=1e-3)


def test_solve_as_json(arm, target, tmp_path, capsys):
    file = tmp_path / "solution.json"
    assert main(["solve", "inverse_kinematics", *arm, *target, "--timeout", "1", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    solution = content["solution"]
    assert solution["success"] and solution["status"] == "solved" and not content["weights"]
    assert solution["position_error"] < 1e-4 and len(solution["positions"]) == len(solution["names"]) == 6
    assert solution["jump_from_seed"] is None  # there was no seed
    assert content["limits"]["upper"] == [3.1] * 6
    capsys.readouterr()
    assert main(["solve", "inverse_kinematics", *arm, *target, "--timeout", "1", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["tip"] == "tool0"


def test_out_of_reach_is_exit_status_1(arm, capsys):
    target = ["--target", "9", "0", "0", "0", "0", "0", "1"]
    assert main(["solve", "inverse_kinematics", *arm, *target]) == 1
    assert "reach" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--tip", "nose"], "nose"),
        (["--urdf", "nowhere.urdf"], "nowhere.urdf"),
        (["--base", "finger"], "finger"),
        (["--seed", "1", "2"], "expected 6 positions"),
        (["--seed", *["nan"] * 6], "finite"),
        (["--max-step", "0.1"], "--seed"),
        (["--target", "0", "0", "0", "0", "0", "0", "0"], "quaternion"),
        (["--target", "nan", "0", "0", "0", "0", "0", "1"], "finite"),
        (["--timeout", "-1"], "timeout"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--srdf", "nowhere.srdf"], "nowhere.srdf"),
    ],
)
def test_bad_input_is_one_line(arm, target, changes, words, capsys):
    assert main(["solve", "inverse_kinematics", *arm, *target, *changes]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dfips solve: ")]
    assert len(lines) == 1 and words in lines[0]


def test_train_writes_weights_that_solve_reads(arm, target, tmp_path, capsys):
    file = tmp_path / "arm.safetensors"
    options = ["--batches", "2", "--batch-size", "32", "--width", "16", "--stages", "2", "--out", str(file), "--quiet"]
    assert main(["train", "inverse_kinematics", *arm, *options, "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["command"] == "dfips train inverse_kinematics" and content["samples"] == 64
    assert [len(values) for values in content["validation"].values()] == [2] * 4
    assert main(["train", "inverse_kinematics", *arm, *options, "--batches", "3", "--resume"]) == 0
    assert "after stage 1, 2" in capsys.readouterr().out
    assert (
        main(["solve", "inverse_kinematics", *arm, *target, "--weights", str(file), "--timeout", "1", "--json", "-"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["weights"]


def robots_are_installed():
    try:
        return all(robot.urdf for robot in ROBOTS.values())
    except ImportError:
        return False


needs_robots = pytest.mark.skipif(not robots_are_installed(), reason="example-robot-data is not installed")


@needs_robots
@pytest.mark.parametrize("name", ROBOTS)
def test_robots_have_their_links(name):
    robot = ROBOTS[name]
    chain = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
    assert len(chain.names) == {"panda": 7, "xarm7": 7, "so101": 5}.get(name, 6)


@needs_robots
def test_bench_writes_rows_and_tables(tmp_path, capsys):
    out, page = tmp_path / "rows.csv", tmp_path / "page.md"
    few = ["--robots", "panda", "kinova", "--targets", "10", "--batch", "5", "--methods", "ours", "lm_first", "clik"]
    command = ["bench", "inverse_kinematics", *few, "--timeout", "1", "--out", str(out), "--markdown", str(page)]
    assert main([*command, "--quiet"]) == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    singles = [row for row in rows if row["part"] == "single"]
    assert {(row["robot"], row["regime"], row["method"]) for row in singles} == {
        (robot, regime, method) for robot in ("panda", "kinova") for regime in ("cold", "warm")
        for method in ("ours", "LM alone, no restarts", "Pinocchio CLIK of its documentation")
    }  # fmt: skip
    ours = [row for row in singles if row["method"] == "ours"]
    assert all(float(row["solved_percent"]) == 100.0 for row in ours)
    assert all(float(row["worst_jump"]) < 0.5 for row in ours if row["regime"] == "warm")
    batches = [row for row in rows if row["part"] == "batch"]
    assert all(float(row["poses_per_second"]) > 0 and row["solved_percent"] == "100.0" for row in batches)
    assert all(row["commit"] and row["machine"] for row in rows)
    text = page.read_text()
    assert text in capsys.readouterr().out and "## kinova" in text and "| ours | 100.00 |" in text


@needs_robots
def test_bench_compares_ways_of_training(tmp_path, capsys):
    robot, files = ROBOTS["so101"], []
    for more in ([], ["--shared-weights"], ["--supervision", "nearest"]):
        files.append(str(tmp_path / f"{len(files)}.safetensors"))
        command = ["train", "inverse_kinematics", "--urdf", str(robot.urdf), "--tip", robot.tip, "--batches", "2"]
        assert main([*command, "--batch-size", "32", "--width", "16", "--quiet", "--out", files[-1], *more]) == 0
    out, page = tmp_path / "rows.csv", tmp_path / "page.md"
    command = ["bench", "inverse_kinematics", "--robots", "so101", "--targets", "10", "--timeout", "1", "--compare"]
    assert main([*command, *files, "--out", str(out), "--markdown", str(page), "--quiet"]) == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    ways = [("task_space", "own"), ("task_space", "shared"), ("nearest", "own")]
    assert [(row["supervision"], row["weights"]) for row in rows if row["stage"] == "3"] == ways
    assert all(row["samples"] == "64" and float(row["solved_percent"]) > 0 for row in rows)
    assert "| task space | shared | 64 | 3 |" in page.read_text() and page.read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "inverse_kinematics", "--compare", "w"], "--compare"),
        (["bench", "inverse_kinematics", "--robots", "r2d2"], "panda, ur5"),
        (["bench", "inverse_kinematics", "--methods", "magic"], "magic"),
        (["bench", "inverse_kinematics", "--targets", "1"], "targets=1"),
        (["bench", "inverse_kinematics", "--weights", "w"], "--weights"),
        (["demo", "inverse_kinematics", "--robot", "r2d2"], "panda, ur5"),
        (["demo", "inverse_kinematics", "--tip", "tool0"], "--urdf"),
        (["demo", "inverse_kinematics", "--urdf", "arm.urdf"], "--tip"),
        (["demo", "inverse_kinematics", "--seconds", "0"], "--seconds 0"),
        (["demo", "inverse_kinematics", "--rate", "0"], "--rate 0"),
    ],
)
def test_wrong_usage_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert words in text and text.count("\n") == 1


@needs_robots
def test_the_example_in_the_documentation_runs(capsys):
    page = Path(__file__).parents[2] / "docs" / "inverse_kinematics.md"
    if not page.is_file():
        pytest.skip("not run from a source checkout")
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1)
    exec(compile(code, str(page), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert "panda_joint1" in lines[0] and "True" in lines[1] and lines[-1] == "100"
