# SPDX-License-Identifier: Apache-2.0
"""``dfips demo inverse_kinematics``: its three processes at their shortest, and what is said of runs that fail."""

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from dfips_ros.cli.demo_ik_run import FollowRecord, failures, summarise, table  # noqa: E402
from dfips_ros.cli.main import main  # noqa: E402
from dfips_ros.evaluation.ik_path import moving_target  # noqa: E402
from dfips_ros.processes.kinematics import SerialChain  # noqa: E402


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_arm_follows_a_moving_target(arm_file, tmp_path, capsys):
    arm = ["--urdf", arm_file, "--tip", "tool0", "--base", "base_link"]
    status = main(["demo", "inverse_kinematics", *arm, "--seconds", "2", "--out", str(tmp_path), "--json", "-"])
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert status == 0, output.err
    summary = content["summary"]
    assert content == json.loads((tmp_path / "summary.json").read_text()) and content["problems"] == []
    assert summary["targets"] == 200 and summary["commands"] > 100
    assert summary["solved"] == summary["answers"] == 200 - summary["dropped"] > 100
    assert summary["position_error_mm"]["max"] < 0.1 and summary["worst_joint_step"] <= 1.5 / 100 + 1e-9
    assert (tmp_path / "arm.webp").stat().st_size > 1000


@pytest.fixture
def chain(arm_urdf):
    return SerialChain.from_urdf(arm_urdf, "tool0", "base_link")


@pytest.fixture
def record(chain):
    """A perfect run, made up."""
    path = moving_target(chain, 2.0, 50.0)
    joints = np.linspace(path.start, path.start + 0.1, len(path.poses))
    path = type(path)(chain.forward(joints), joints[0], 50.0)
    record = FollowRecord()
    for i, q in enumerate(joints):
        stamp = 20_000_000 * i
        record.targets.append({"index": i, "stamp_ns": stamp})
        record.solutions.append(
            {"stamp_ns": stamp, "received_ns": stamp + 2_000_000, "status": 1, "reason": "", "positions": q.tolist(),
             "jump": 0.01, "solve_time": 1e-4}
        )  # fmt: skip
        record.commands.append({"received_ns": stamp + 3_000_000, "positions": q.tolist()})
    return path, record


def test_summary_of_a_perfect_run(chain, record):
    path, run = record
    summary = summarise(path, chain, run)
    assert summary["success_percent"] == 100.0 and summary["latency_ms"]["max"] == pytest.approx(2.0)
    assert summary["tip_behind_target_mm"]["max"] < 1e-6
    assert summary["worst_joint_step"] == pytest.approx(0.1 / 99)
    assert failures(summary, 0.01) == []
    assert "100 of 100 answers" in table(summary, chain.names)


def test_what_went_wrong_is_told(chain, record):
    path, run = record
    run.solutions[3]["positions"][0] += 0.1  # says that it is solved, and is not
    run.solutions[4].update(status=3, reason="too old", positions=[])
    del run.solutions[5]
    run.commands[7]["positions"][2] += 0.05
    summary = summarise(path, chain, run)
    assert summary["solved"] == 97 and summary["dropped"] == 1 and summary["statuses"]["REFUSED"] == 1
    few, fast = failures(summary, 0.01)
    assert "97 of 99" in few and "too old" in few and "allowed are 0.0100" in fast


def test_a_run_without_any_answer(chain, record):
    path, run = record
    summary = summarise(path, chain, FollowRecord(targets=run.targets))
    assert failures(summary, 0.01)[0] == "no target was answered." and len(failures(summary, 0.01)) == 2
    assert "none" in table(summary, chain.names)


def test_the_target_is_within_reach_and_slow_enough(chain):
    for seed in range(3):
        path = moving_target(chain, 5.0, 100.0, seed)
        assert path.poses.shape == (500, 4, 4) and np.all((path.start > chain.lower) & (path.start < chain.upper))
        steps = np.linalg.norm(np.diff(path.poses[:, :3, 3], axis=0), axis=1)
        assert steps[0] < 1e-4 and steps.max() < 0.02
        assert np.allclose(chain.reference(path.start), path.poses[0], atol=1e-9)
