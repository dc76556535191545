# SPDX-License-Identifier: Apache-2.0
"""Pictures of cases: the right ones are chosen, and what is drawn lies where it belongs."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dfips_ros.errors import ConfigError
from dfips_ros.evaluation.pose_gallery import (
    FINAL_COLOUR,
    MASK_COLOUR,
    GalleryConfig,
    choose_failures,
    choose_successes,
    describe_case,
    draw_case,
    solve_cases,
    write_gallery,
)
from dfips_ros.evaluation.pose_trials import PoseTrialConfig
from dfips_ros.tasks.object_pose.demo_data import demo_mesh

CONFIG = PoseTrialConfig(columns_deg=(15.0, 45.0), per_mesh=2)


@pytest.fixture(scope="module")
def cases():
    return solve_cases([demo_mesh("drill")], CONFIG, device="cpu", quiet=True)


def test_every_trial_is_a_case_and_the_drill_is_solved(cases):
    assert len(cases) == 4 and not any(c.is_outlier for c in cases)
    assert all(c.outcome.mssd < c.initial.mssd for c in cases)


def test_the_worst_come_first_once_per_mask(cases):
    spoilt = replace(cases[3], outcome=replace(cases[3].outcome, mssd=0.9, rotation=80.0))
    worst = choose_failures([*cases[:3], spoilt], 5)
    assert len(worst) == 2 and worst[0] is spoilt and worst[1].trial.mask is cases[0].trial.mask
    assert spoilt.is_outlier and spoilt not in choose_successes([*cases[:3], spoilt], 5)


def test_successes_are_drawn_by_seed(cases):
    first, second = (choose_successes(cases, 2, seed=1) for _ in range(2))
    assert [id(c) for c in first] == [id(c) for c in second] and len(first) == 2


def test_the_contour_of_a_good_result_follows_the_mask(cases):
    picture = draw_case(cases[0], 400)
    assert picture.shape == (400, 400, 3)
    mask = (picture == MASK_COLOUR).all(axis=2)
    result = np.abs(picture.astype(int) - FINAL_COLOUR).max(axis=2) < 40  # the lines are smoothed
    assert mask.sum() > 1000 and result.sum() > 100
    rows, columns = np.nonzero(mask)
    lines, ends = np.nonzero(result)
    assert abs(rows.min() - lines.min()) < 8 and abs(rows.max() - lines.max()) < 8
    assert abs(columns.min() - ends.min()) < 8 and abs(columns.max() - ends.max()) < 8


def test_text_names_mesh_and_errors(cases):
    text = describe_case(cases[0])
    assert text.startswith("drill\nrotation") and f"→ {cases[0].outcome.rotation:.2f}°" in text
    assert f"rotation {cases[0].initial.rotation:.0f}° (up to 15°)" in text
    assert f"IoU {cases[0].solution.iou:.3f}" in text


def test_grids_are_written(cases, tmp_path):
    files = write_gallery(cases, tmp_path / "deep", "perfect", GalleryConfig(columns=2, rows=1, cell_pixels=100))
    assert [f.name for f in files] == ["failures_perfect.png", "successes_perfect.png"]
    assert all(cv2.imread(str(f)).std() > 10 for f in files)


def test_bad_input(cases, tmp_path):
    with pytest.raises(ConfigError, match="no cases"):
        write_gallery([], tmp_path, "perfect")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_gallery(cases, tmp_path / "file", "perfect", GalleryConfig(1, 1, 64))
    with pytest.raises(ConfigError, match="columns"):
        GalleryConfig(columns=0)
