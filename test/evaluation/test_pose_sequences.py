# SPDX-License-Identifier: Apache-2.0
"""Tracking without reset: what counts as a miss, as lost, as recovered; and short sequences that are tracked."""

import csv
import math

import numpy as np
import pytest

from dfips_ros.errors import ConfigError
from dfips_ros.evaluation.pose_sequences import (
    FrameOutcome,
    PoseSequenceConfig,
    evaluate_sequences,
    generated_sequence,
    make_sequences,
    real_sequences,
    summarise_sequence,
    teabox_sequence,
    track,
)
from dfips_ros.evaluation.runner import TrialOutcome, write_rows
from dfips_ros.evaluation.tables import markdown_table
from dfips_ros.tasks.object_pose import PoseTracker, TrackState
from dfips_ros.tasks.object_pose.demo_data import demo_mesh, demo_symmetries, ycb_object_names

CONFIG = PoseSequenceConfig(seconds=0.4, real_seconds=0.5, seed=3)
GOOD = TrialOutcome(1.0, 0.01, 0.001, 1.0, 0.01)
WRONG = TrialOutcome(90.0, 0.01, 1.0, 100.0, 0.01)
TRACKING, LOST, INITIALISING = TrackState.TRACKING, TrackState.LOST, TrackState.INITIALISING


def frame(state=TRACKING, errors=GOOD, hidden=False, seconds=0.01):
    return FrameOutcome(hidden, state, errors, seconds)


def test_misses_losses_and_returns_are_counted():
    outcomes = [
        frame(INITIALISING, None, seconds=0.3), frame(seconds=0.2), frame(), frame(TRACKING, None),
        frame(LOST, None), frame(), frame(LOST, None, hidden=True), frame(LOST, None, hidden=True), frame(),
    ]  # fmt: skip
    figures = summarise_sequence(outcomes, rate=10.0)
    assert figures["frames"] == 9 and figures["judged"] == 7
    assert figures["tracked_percent"] == pytest.approx(100 * 4 / 7)
    assert figures["mssd_recall"] == pytest.approx(4 / 7) and figures["mspd_recall"] == pytest.approx(4 / 7)
    assert (figures["lost"], figures["lost_visible"], figures["recovered"]) == (2, 1, 2)
    assert figures["first_pose_frame"] == 2 and figures["first_pose_ms"] == pytest.approx(300.0)
    assert figures["ms_median"] == pytest.approx(10.0) and figures["to_the_end"] == "yes"


def test_wrong_poses_lower_the_recall_and_do_not_reach_the_end():
    figures = summarise_sequence([frame(), frame(errors=WRONG)], rate=30.0)
    assert figures["mssd_recall"] == pytest.approx(0.5) and figures["tracked_percent"] == 100.0
    assert figures["outliers_percent"] == pytest.approx(50.0) and figures["to_the_end"] == "no"
    assert summarise_sequence([frame(), frame(LOST, None)], 30.0)["to_the_end"] == "no"
    assert summarise_sequence([frame(), frame(LOST, None, hidden=True)], 30.0)["to_the_end"] == "yes"


def test_never_found():
    figures = summarise_sequence([frame(INITIALISING, None)] * 3, rate=30.0)
    assert figures["mssd_recall"] == 0.0 and figures["first_pose_frame"] == "" and figures["lost"] == 0
    assert math.isnan(figures["rotation_median"]) and figures["to_the_end"] == "no"
    text = markdown_table([{"sequence": "s", "source": "real", **figures}])
    assert "| s | real | 3 | 3 | 0.0 | no | 0.000 | 0.000 | – |" in text and "nan" not in text


def test_real_frames_are_played_forth_and_back():
    sequences = real_sequences(PoseSequenceConfig(real_seconds=1.0, rate=20.0))
    assert [s.name for s in sequences] == ycb_object_names()
    frames = list(sequences[0].frames())
    assert len(frames) == sequences[0].length == 20
    assert np.array_equal(frames[8].mask, frames[10].mask) and np.array_equal(frames[0].T_true, frames[18].T_true)
    assert [f.stamp for f in frames[:2]] == [0.0, 0.05]
    assert len(sequences[0].symmetries.discrete) == len(demo_symmetries(sequences[0].name))


def test_generated_frames_are_seeded(bracket):
    first, second, other = (
        next(generated_sequence(bracket, PoseSequenceConfig(seconds=0.4, seed=seed)).frames()) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.mask, second.mask) and np.array_equal(first.T_true, second.T_true)
    assert not np.array_equal(first.T_true, other.T_true)


def test_sequences_of_one_run(bracket, teabox_folder):
    names = [(s.name, s.source) for s in make_sequences([], CONFIG)]
    assert names == [*((n, "real") for n in ycb_object_names()), ("drill", "generated")]
    names = [(s.name, s.source) for s in make_sequences([bracket], CONFIG, teabox_folder)][-2:]
    assert names == [("bracket", "generated"), ("teabox", "rendered")]


def test_shipped_sequences_are_tracked_to_the_end(tmp_path):
    sequences = [real_sequences(CONFIG)[1], generated_sequence(demo_mesh("drill"), PoseSequenceConfig(seconds=0.4))]
    rows = evaluate_sequences(sequences, CONFIG, provenance={"commit": "abc"}, quiet=True)
    assert [r["frames"] for r in rows] == [15, 12]
    for row in rows:
        assert row["to_the_end"] == "yes" and row["first_pose_frame"] == 1 and row["commit"] == "abc"
        assert row["mssd_recall"] > 0.9 and row["mspd_recall"] > 0.9 and row["rotation_median"] < 3.0
    write_rows(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open(newline="") as file:
        text = markdown_table(list(csv.DictReader(file)))
    assert text.startswith("### Tracking without reset") and "| drill | generated | 12 |" in text
    assert text.count("- config:") == 1 and "- commit: abc" in text


def test_the_tea_box_is_tracked_from_a_given_pose(teabox_folder):
    from dfips_ros.tasks.object_pose import ObjectPoseEstimator, TrackerConfig, tracking_estimator_config

    sequence = teabox_sequence(teabox_folder, CONFIG)
    settings = tracking_estimator_config(TrackerConfig())
    tracker = PoseTracker(ObjectPoseEstimator(sequence.mesh, None, "cpu", settings, sequence.symmetries))
    tracker.set_pose(next(sequence.frames()).T_true)
    outcomes = list(track(sequence, tracker))
    assert len(outcomes) == 6 and all(o.state == TRACKING and o.errors.rotation < 5.0 for o in outcomes)
    assert all(o.errors.mspd < 15.0 and o.errors.mssd < 0.15 for o in outcomes)


def test_bad_settings(tmp_path):
    with pytest.raises(ConfigError, match="seconds"):
        PoseSequenceConfig(seconds=0.0)
    with pytest.raises(ConfigError, match="no such folder"):
        make_sequences([], CONFIG, tmp_path / "nowhere")


def test_no_bar_where_stderr_is_no_terminal(capsys):
    assert len(evaluate_sequences(real_sequences(CONFIG)[:1], CONFIG, device="cpu")) == 1
    assert capsys.readouterr().err == ""
