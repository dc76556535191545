# SPDX-License-Identifier: Apache-2.0
"""The search from nothing: every case is counted once, and a case that is known to be solvable is solved."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dfips_ros.errors import ConfigError
from dfips_ros.evaluation.pose_ambiguity import CLOSE_DEG, SAME_IOU, AmbiguityCheck
from dfips_ros.evaluation.pose_search import SearchOutcome, evaluate_search, search_once, summarise_search
from dfips_ros.evaluation.pose_trials import PoseTrial, PoseTrialConfig
from dfips_ros.evaluation.runner import TrialOutcome
from dfips_ros.evaluation.tables import markdown_table
from dfips_ros.geometry import make_pose
from dfips_ros.processes.mesh import Mesh
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, Symmetries, mask_iou, rotation_error_deg
from dfips_ros.tasks.object_pose.demo_data import demo_mesh


def outcome(rotation, ambiguous=False, best=None, listed=False):
    errors = TrialOutcome(rotation, 0.01, 0.02, 2.0, 0.1)
    return SearchOutcome(errors, rotation if best is None else best, ambiguous, listed, 0.9)


def test_percentages_of_known_outcomes():
    figures = summarise_search(
        [outcome(1.0, listed=True), outcome(40.0), outcome(90.0, True, 2.0, listed=True), outcome(3.0, True), None]
    )
    assert figures["trials"] == 5 and figures["refused"] == 1 and figures["unambiguous"] == 3
    assert figures["ambiguous_percent"] == pytest.approx(40.0)
    assert figures["within_5deg_percent"] == pytest.approx(40.0)
    assert figures["within_5deg_unambiguous_percent"] == pytest.approx(100 / 3)
    assert figures["ambiguous_listed_percent"] == pytest.approx(50.0)
    assert figures["listed_percent"] == pytest.approx(40.0)
    assert figures["best_listed_within_5deg_percent"] == pytest.approx(60.0)
    assert figures["rotation_mean"] == pytest.approx(33.5) and figures["rotation_median"] == pytest.approx(21.5)
    assert figures["translation_mean"] == pytest.approx(0.01) and figures["iou_mean"] == pytest.approx(0.9)
    assert figures["ms_median"] == pytest.approx(100.0)


def test_nothing_but_refused_masks():
    figures = summarise_search([None, None])
    assert figures["within_5deg_percent"] == 0.0 and math.isnan(figures["rotation_mean"])
    row = {"protocol": "nothing", "masks": "perfect", **figures}
    assert "| perfect | 2 | 2 | 0.0 | 0.0 | 0.0 | – | 0.0 | – |" in markdown_table([row])


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
    assert {k: str(v) for k, v in first[0].items() if k not in timed} == {
        k: str(v) for k, v in second[0].items() if k not in timed
    }  # as text: some figures are NaN
    text = markdown_table(first)
    assert text.startswith("### From nothing") and "within 5°, unambiguous %" in text and "- commit: abc" in text


def test_ambiguity_is_found_and_symmetry_is_none():
    """A plate with one corner cut off, seen on edge, could be turned round; seen from above it could not."""
    corners = np.array([[0, 0], [0.2, 0], [0.2, 0.07], [0.17, 0.1], [0, 0.1]]) - [0.1, 0.05]
    plate = Mesh("plate", *extruded(corners, 0.02))
    check = AmbiguityCheck(plate, Symmetries.none())
    turn = Rotation.from_euler("x", [[180], [180 - 60], [90]], degrees=True).as_matrix()
    above, tilted, on_edge = (make_pose(r, np.array([0.0, 0.0, 0.8])) for r in turn)
    assert check.other_explanation(above) is not None  # its mirror image through the plane of the plate
    assert check.other_explanation(tilted) is None
    found = check.other_explanation(on_edge)
    assert found is not None and rotation_error_deg(found, on_edge) > CLOSE_DEG
    assert mask_iou(check.silhouette(found), check.silhouette(on_edge)) >= SAME_IOU
    box = Mesh("box", *extruded(np.array([[-0.1, -0.05], [0.1, -0.05], [0.1, 0.05], [-0.1, 0.05]]), 0.06))
    symmetries = Symmetries.from_mesh(box)
    assert len(symmetries.discrete) == 4
    assert AmbiguityCheck(box, symmetries).other_explanation(tilted) is None
    assert AmbiguityCheck(box, Symmetries.none()).other_explanation(tilted) is not None


def extruded(corners, height):
    """A prism over a convex polygon: vertices (2N, 3) and faces."""
    count = len(corners)
    vertices = np.concatenate([np.c_[corners, np.full(count, z)] for z in (-height / 2, height / 2)])
    faces = [[k, 0, k + 1] for k in range(1, count - 1)]
    faces += [[count, count + k, count + k + 1] for k in range(1, count - 1)]
    for k in range(count):
        j = (k + 1) % count
        faces += [[k, j, count + j], [k, count + j, count + k]]
    return vertices.astype(np.float32), np.array(faces)


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
