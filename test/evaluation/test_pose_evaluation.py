# SPDX-License-Identifier: Apache-2.0
"""The evaluation at toy size: equal inputs, honest scores, rows that become tables."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from dfips_ros.errors import ConfigError, MeshError
from dfips_ros.evaluation import pose_methods, runner
from dfips_ros.evaluation.pose_methods import METHODS
from dfips_ros.evaluation.pose_trials import PoseTrialConfig, load_evaluation_meshes, make_trials
from dfips_ros.evaluation.runner import evaluate_object_pose, score, write_rows
from dfips_ros.evaluation.tables import markdown_table
from dfips_ros.geometry import rotation_angle
from dfips_ros.tasks.object_pose import Symmetries
from dfips_ros.tasks.object_pose.metrics import mspd, mssd

CONFIG = PoseTrialConfig(columns_deg=(15.0, 45.0), per_mesh=3)


def test_columns_share_their_true_poses(bracket):
    trials = make_trials([bracket], CONFIG)
    assert len(trials) == 6
    for near, far in zip(trials[::2], trials[1::2], strict=True):
        assert np.array_equal(near.T_true, far.T_true) and np.array_equal(near.mask, far.mask)
        angles = [np.rad2deg(rotation_angle(t.T_initial[:3, :3], t.T_true[:3, :3])) for t in (near, far)]
        assert angles[0] <= 15.0 and angles[1] == pytest.approx(3.0 * angles[0], rel=1e-6)


def test_trials_are_seeded(bracket):
    first, second = (make_trials([bracket], CONFIG)[4].T_initial for _ in range(2))
    assert np.array_equal(first, second)


def test_score_of_a_known_error(bracket):
    trial = make_trials([bracket], CONFIG)[0]
    moved = trial.T_true.copy()
    moved[:3, 3] += (0.0, 0.0, 0.1 * bracket.diameter)
    outcome = score(moved, trial, bracket, Symmetries.none(), 0.5)
    assert outcome.rotation == pytest.approx(0.0, abs=1e-6)
    assert outcome.translation == pytest.approx(0.1) and outcome.mssd == pytest.approx(0.1)
    assert outcome.seconds == 0.5


def test_mssd_and_mspd_take_the_best_symmetry(bracket, camera_matrix):
    pose = np.eye(4)
    pose[2, 3] = 1.0
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    points = bracket.vertices.astype(np.float64)
    group = np.stack([np.eye(4), flip])
    assert mssd(pose @ flip, pose, points, group) == pytest.approx(0.0, abs=1e-9)
    assert mspd(pose @ flip, pose, points, group, camera_matrix) == pytest.approx(0.0, abs=1e-6)
    assert mssd(pose @ flip, pose, points, group[:1]) > 0.1


@pytest.mark.slow
def test_rows_and_table(bracket, tmp_path):
    rows = evaluate_object_pose(
        [bracket], CONFIG, ["initial", "gauss_newton", "ours", "ours_refined"], provenance={"commit": "abc"}, quiet=True
    )
    assert len(rows) == 8
    by_name = {(r["method"], r["initial_error_deg"]): r for r in rows}
    initial = by_name[("initial pose", 45.0)]
    ours = by_name[("ours + refinement (hypotheses, polish)", 45.0)]
    assert ours["rotation_mean"] < 0.3 * initial["rotation_mean"]
    assert ours["trials"] == initial["trials"] == 3
    write_rows(tmp_path / "deep" / "rows.csv", rows)
    with (tmp_path / "deep" / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    text = markdown_table(read)
    assert text.count("### ") == 2 and "commit: abc" in text
    assert f"{initial['rotation_mean']:.2f}" in text


@pytest.fixture
def toy_methods(monkeypatch):
    """Two methods that answer with the initial pose, one of them slow; what they were asked is counted."""
    calls = []

    def make(name):
        def method(mask, camera, initial):
            calls.append(name)
            return initial

        return lambda mesh, symmetries, weights, device: method

    monkeypatch.setattr(runner, "SLOW", frozenset({"slow"}))
    monkeypatch.setattr(pose_methods, "METHODS", {"quick": ("Quick", make("quick")), "slow": ("Slow", make("slow"))})
    monkeypatch.setattr(runner, "METHODS", pose_methods.METHODS)
    return calls


def test_slow_methods_are_compared_on_the_inputs_they_got(bracket, toy_methods):
    rows = evaluate_object_pose([bracket, bracket], CONFIG, ["quick", "slow"], slow_trials=2, quiet=True)
    found = {(r["method"], r["initial_error_deg"], r["subset"]): r["trials"] for r in rows}
    assert found == {
        ("Quick", 15.0, "all"): 6, ("Quick", 45.0, "all"): 6,
        ("Quick", 45.0, "first 2 of each mesh"): 4, ("Slow", 45.0, "first 2 of each mesh"): 4,
    }  # fmt: skip
    quick, slow = (next(r for r in rows if r["method"] == m and r["subset"] != "all") for m in ("Quick", "Slow"))
    assert quick["rotation_mean"] == slow["rotation_mean"]
    text = markdown_table(rows)
    assert "45°, perfect masks: first 2 of each mesh, slow methods too" in text and text.count("| Slow |") == 1
    together = evaluate_object_pose([bracket], CONFIG, ["quick", "slow"], slow_trials=3, quiet=True)
    assert [r["subset"] for r in together] == ["all"] * 3


def test_an_interrupted_evaluation_goes_on(bracket, toy_methods, tmp_path, monkeypatch):
    file = tmp_path / "new" / "journal"
    arguments = ([bracket], CONFIG, ["quick", "slow"])
    whole = evaluate_object_pose(*arguments, journal=file, quiet=True)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
    toy_methods.clear()
    resumed = evaluate_object_pose(*arguments, journal=file, quiet=True)
    assert set(toy_methods) == {"slow"}
    timed = ("ms_median", "ms_p99")
    assert [{k: v for k, v in r.items() if k not in timed} for r in resumed] == [
        {k: v for k, v in r.items() if k not in timed} for r in whole
    ]
    toy_methods.clear()
    assert evaluate_object_pose(*arguments, journal=file, quiet=True) == resumed and toy_methods == []
    with pytest.raises(ConfigError, match=r"belongs to another evaluation \(seed differ\)"):
        evaluate_object_pose([bracket], replace(CONFIG, seed=5), ["quick"], journal=file, quiet=True)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="is no journal"):
        evaluate_object_pose(*arguments, journal=tmp_path / "text", quiet=True)


def test_unknown_method(bracket):
    with pytest.raises(ConfigError, match=r"unknown magic; known are initial"):
        evaluate_object_pose([bracket], CONFIG, ["magic"], quiet=True)
    assert "ours_refined" in METHODS


def test_no_meshes_and_no_rows(tmp_path):
    with pytest.raises(MeshError, match="no mesh file"):
        load_evaluation_meshes([tmp_path])
    with pytest.raises(ConfigError, match="nothing to write"):
        write_rows(tmp_path / "x.csv", [])
