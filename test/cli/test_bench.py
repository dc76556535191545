# SPDX-License-Identifier: Apache-2.0
"""``dfips bench`` at its smallest: the rows of the solver, and defaults that are the node's."""

import json

import pytest

from dfips_ros.cli import bench_sections
from dfips_ros.cli.main import main, make_parser
from dfips_ros.nodes.tracker_parameters import PoseTrackerParameters
from dfips_ros.tasks.object_pose import TrackerConfig, tracking_estimator_config


def test_solve_rows_say_what_was_timed(tmp_path, capsys):
    arguments = ["--skip", "initialise", "renderers", "node", "--frames", "30", "--device", "cpu"]
    assert main(["bench", *arguments, "--out", str(tmp_path), "--json", "-"]) == 0
    output = capsys.readouterr()
    assert "frame/s" not in output.err  # no bar where stderr is not a terminal
    rows = json.loads(output.out)["figures"]
    assert [r["figure"] for r in rows] == [
        "solve, 5 stages",
        "solve, 5 stages and polish",
        "tracking, as the node does",
    ]
    assert [r["paper"] for r in rows] == ["21 ms (128 px)", None, None]
    assert all("2 threads" in r["note"] and 0 < r["value"] <= r["p99"] for r in rows)


def test_solve_rows_are_timed_with_their_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(bench_sections, "_track", lambda options, *settings: seen.append(settings) or (5, [0.01]))
    bench_sections.measure_solve(make_parser().parse_args(["bench"]))
    (stages,), (polished,), (tracking, tracker) = seen
    assert stages.refine is None and polished.refine is not None
    assert {c.retry_angle_deg for c in (stages, polished)} == {0.0} and polished.search_pixels == 0.0
    assert tracker == TrackerConfig() and tracking == tracking_estimator_config(tracker)


@pytest.mark.parametrize("command", ["bench", "demo"])
def test_threads_are_as_many_as_the_node_uses(command):
    assert make_parser().parse_args([command]).threads == PoseTrackerParameters.max_solve_threads
