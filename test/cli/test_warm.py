# SPDX-License-Identifier: Apache-2.0
"""``dfips warm``: what a node compiles when it is configured is compiled before."""

import json

import pytest

from dfips_ros.cli import warm
from dfips_ros.cli.main import main
from dfips_ros.errors import MissingDependencyError
from dfips_ros.evaluation import bench_memory


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_is_compiled(tmp_path, capfd):
    assert main(["warm", "--tasks", "illumination", "--json", str(tmp_path / "warm.json")]) == 0
    assert ": illumination." in capfd.readouterr().out
    told = json.loads((tmp_path / "warm.json").read_text())
    assert told["compiled"] == ["illumination"] and told["failed"] == [] and told["seconds"] > 0


def test_what_a_node_does_first_is_done(monkeypatch):
    done = []
    steps = (lambda: done.append("make"), lambda: done.append("solve"))
    monkeypatch.setitem(bench_memory.TASKS, "illumination", lambda: steps)
    assert warm.main("illumination") == 0 and done == ["make", "solve"]


def test_what_cannot_be_compiled_is_said(monkeypatch, capsys):
    def missing():
        raise MissingDependencyError("example-robot-data is not installed")

    monkeypatch.setitem(bench_memory.TASKS, "inverse_kinematics", missing)
    assert warm.main("inverse_kinematics") == 1
    assert "inverse_kinematics: example-robot-data" in capsys.readouterr().err


def test_unknown_tasks_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["warm", "--tasks", "cooking"])
    assert "cooking" in capsys.readouterr().err
