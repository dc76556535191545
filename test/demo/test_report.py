# SPDX-License-Identifier: Apache-2.0
"""The demo's figures, from answers whose errors are known."""

import numpy as np
import pytest

from dfips_ros.cli.demo_parts import generated_part, part_names, real_part
from dfips_ros.cli.demo_pictures import draw_pictures
from dfips_ros.cli.demo_report import compare, failures, nearest_truth, summarise, table
from dfips_ros.cli.demo_run import PartRecord
from dfips_ros.geometry import quaternion_xyzw_from_matrix

PERIOD_NS = 33_333_333


@pytest.fixture(scope="module")
def part():
    return real_part("gelatin_box", 1.0)


def answer(part, index, state="TRACKING", shift=(0.0, 0.0, 0.0), symmetry=0, latency_ms=12.0, has_pose=True):
    pose = part.truth[index] @ part.symmetries[symmetry]
    stamp = 1_000_000_000 + index * PERIOD_NS
    return {
        "stamp_ns": stamp,
        "received_ns": stamp + int(latency_ms * 1e6),
        "state": state,
        "has_pose": has_pose,
        "reason": "",
        "position": (pose[:3, 3] + shift).tolist(),
        "quaternion_xyzw": quaternion_xyzw_from_matrix(pose[:3, :3]).tolist(),
        "iou": 0.9,
        "solve_time": 0.008,
    }


def record(part, answers):
    published = [
        {"index": i, "stamp_ns": 1_000_000_000 + i * PERIOD_NS, "late_ms": 0.1} for i in range(len(part.recording))
    ]
    return PartRecord(
        published=published, received=answers, startup_seconds=2.0, memory_mb=300.0, memory_peak_mb=310.0,
        processor_seconds=0.5, wall_seconds=1.0,
    )  # fmt: skip


def figures(part, answers):
    run = record(part, answers)
    return summarise(part, run, compare(part, run))


def test_perfect_answers_with_symmetry_flips_have_no_error(part):
    count = len(part.recording)
    summary = figures(part, [answer(part, i, symmetry=i % 4) for i in range(count)])
    assert summary["frames"] == summary["answers"] == count == 30
    assert summary["dropped"] == 0
    assert summary["rate_hz"] == pytest.approx(30.0, abs=0.01)
    assert summary["latency_ms"]["median"] == pytest.approx(12.0, abs=0.01)
    assert summary["first_pose_ms"] == pytest.approx(12.0)
    assert summary["rotation_error_deg"]["p95"] < 1e-3
    assert summary["translation_error_mm"]["p95"] < 1e-3
    assert summary["mask_iou"]["median"] > 0.98
    assert summary["tracked_share"] == 1.0
    assert summary["lost"] == summary["recovered"] == summary["outliers"] == 0
    assert summary["processor_share"] == 0.5
    assert failures(summary) == []


def test_a_known_shift_is_measured(part):
    ray = part.truth[0][:3, 3] / np.linalg.norm(part.truth[0][:3, 3])
    summary = figures(part, [answer(part, i, shift=0.02 * ray) for i in range(30)])
    assert summary["translation_error_mm"]["median"] == pytest.approx(20.0, abs=0.1)
    assert summary["depth_error_mm"]["median"] == pytest.approx(20.0, abs=0.3)
    assert summary["outliers"] == 30
    assert summary["mask_iou"]["median"] < 0.95


def test_drops_losses_and_recoveries_are_counted(part):
    answers = []
    for i in range(30):
        if i in (0, 1, 20):
            continue  # dropped
        state = "INITIALISING" if i < 4 else "LOST" if 10 <= i < 16 else "TRACKING"
        answers.append(answer(part, i, state, has_pose=i != 25))
    summary = figures(part, answers)
    assert summary["dropped"] == 3
    assert summary["dropped_after_first_pose"] == summary["dropped_while_tracking"] == 1
    assert summary["first_pose_ms"] == pytest.approx(4 * 33.333 + 12, abs=0.1)
    assert (summary["lost"], summary["recovered"], summary["lost_while_visible"]) == (1, 1, 1)
    assert summary["recovery_seconds"] == pytest.approx(0.2, abs=0.001)
    assert summary["tracked_share"] == pytest.approx((30 - 4 - 6 - 2) / 30, abs=1e-4)
    assert failures(summary) == []


@pytest.mark.parametrize(
    ("states", "words"),
    [([], "never answered"), (["INITIALISING"] * 30, "never found"), (["TRACKING"] * 15 + ["LOST"] * 15, "again")],
)
def test_failures_are_told(part, states, words):
    summary = figures(part, [answer(part, i, state) for i, state in enumerate(states)])
    assert words in failures(summary)[0]
    assert "-" in table([summary])


def test_table_has_one_column_per_part(part):
    summary = figures(part, [answer(part, i) for i in range(30)])
    lines = table([summary, {**summary, "title": "another"}]).splitlines()
    assert "gelatin box (real)" in lines[0]
    assert lines[0].rstrip().endswith("another")
    assert any(line.startswith("latency [ms] median / p99") and "12.0 / 12.0" in line for line in lines)


def test_nearest_truth_picks_the_symmetric_member(part):
    flipped = part.truth[0] @ part.symmetries[2]
    assert np.allclose(nearest_truth(flipped, part.truth[0], part.symmetries), flipped)


def test_parts(part):
    assert part_names() == ["foam_brick", "gelatin_box", "drill"]
    assert np.array_equal(part.recording.order[:20], [*range(10), *range(8, 0, -1), 0, 1])
    generated = generated_part(1.0, seed=3, progress=False)
    assert len(generated.truth) == len(generated.tags) == len(generated.recording) == 30
    assert "hidden" in generated.tags
    clean = generated_part(1.0, seed=3, progress=False, events=False)
    assert set(clean.tags) == {"clean"}


def test_pictures_are_drawn(part, tmp_path):
    answers = [answer(part, i, "LOST" if i < 3 else "TRACKING") for i in range(30)]
    run = record(part, answers)
    written = draw_pictures(part, compare(part, run)[:8], tmp_path, progress=False)
    names = {p.name for p in written}
    assert {"gelatin_box_overlay.webp", "gelatin_box_overlay.png", "gelatin_box_errors.png"} <= names
    assert all(p.stat().st_size > 5_000 for p in written)
    assert draw_pictures(part, [], tmp_path, progress=False) == []
