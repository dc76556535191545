# SPDX-License-Identifier: Apache-2.0
"""The search from nothing: every case is counted once, and a case that is known to be solvable is solved."""

import math

import numpy as np
import pytest

from dfips_ros.errors import ConfigError
from dfips_ros.evaluation.pose_search import SearchOutcome, evaluate_search, search_once, summarise_search
from dfips_ros.evaluation.pose_trials import PoseTrial, PoseTrialConfig
from dfips_ros.evaluation.runner import TrialOutcome
from dfips_ros.evaluation.tables import markdown_table
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, Symmetries
from dfips_ros.tasks.object_pose.demo_data import demo_mesh


def outcome(rotation, ambiguous=False, best=None):
    errors = TrialOutcome(rotation, 0.01, 0.02, 2.0, 0.1)
    return SearchOutcome(errors, rotation if best is None else best, ambiguous, 0.9)


def test_percentages_of_known_outcomes():
    figures = summarise_search([outcome(1.0), outcome(40.0), outcome(90.0, True, 2.0), outcome(3.0, True), None])
    assert figures["trials"] == 5 and figures["refused"] == 1 and figures["unambiguous"] == 3
    assert figures["ambiguous_percent"] == pytest.approx(40.0)
    assert figures["within_5deg_percent"] == pytest.approx(40.0)
    assert figures["within_5deg_unambiguous_percent"] == pytest.approx(100 / 3)
    assert figures["best_listed_within_5deg_percent"] == pytest.approx(60.0)
    assert figures["rotation_mean"] == pytest.approx(33.5) and figures["rotation_median"] == pytest.approx(21.5)
    assert figures["translation_mean"] == pytest.approx(0.01) and figures["iou_mean"] == pytest.approx(0.9)
    assert figures["ms_median"] == pytest.approx(100.0)


def test_nothing_but_refused_masks():
    figures = summarise_search([None, None])
    assert figures["within_5deg_percent"] == 0.0 and math.isnan(figures["rotation_mean"])
    row = {"protocol": "nothing", "masks": "perfect", **figures}
    assert "| perfect | 2 | 2 | 0.0 | 0.0 | 0.0 | 0.0 | – |" in markdown_table([row])


def test_the_drill_is_found_and_the_run_repeats():
    config = PoseTrialConfig(per_mesh=2, seed=0)
    first, second = (
        evaluate_search([demo_mesh("drill")], config, ["perfect"], provenance={"commit": "abc"}, quiet=True)
        for _ in range(2)
    )
    assert len(first) == 1 and first[0]["trials"] == 2 and first[0]["commit"] == "abc"
    assert first[0]["within_5deg_percent"] == 100.0 and first[0]["iou_mean"] > 0.95
    assert first[0]["rotation_mean"] < 2.0 and first[0]["translation_mean"] < 0.02
    timed = ("ms_median", "ms_p99")
    assert {k: v for k, v in first[0].items() if k not in timed} == {
        k: v for k, v in second[0].items() if k not in timed
    }
    text = markdown_table(first)
    assert text.startswith("### From nothing") and "within 5°, unambiguous %" in text and "- commit: abc" in text


def test_an_empty_mask_is_refused():
    estimator = ObjectPoseEstimator(demo_mesh("drill"), device="cpu")
    pose = np.eye(4)
    trial = PoseTrial(0, 0.0, np.zeros((480, 640), bool), pose, pose)
    assert search_once(estimator, trial, Symmetries.none()) is None


def test_unknown_masks(bracket):
    with pytest.raises(ConfigError, match="expected one of perfect, degraded"):
        evaluate_search([bracket], PoseTrialConfig(per_mesh=1), ["blurred"], quiet=True)


def test_no_bar_where_stderr_is_no_terminal(capsys):
    assert len(evaluate_search([demo_mesh("drill")], PoseTrialConfig(per_mesh=1), ["perfect"], device="cpu")) == 1
    assert capsys.readouterr().err == ""
