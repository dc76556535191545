# SPDX-License-Identifier: Apache-2.0
"""`dfips reproduce explicit-feedback` at toy size: rows, files, resuming, and what it says to wrong usage."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.cli.main import main
from dfips_ros.errors import ConfigError
from dfips_ros.evaluation import reproduce_explicit_feedback as module
from dfips_ros.evaluation.reproduce_explicit_feedback import (
    METHODS,
    ExplicitFeedbackConfig,
    generated_category,
    judge,
    make_method,
    quick_config,
    reproduce,
    split_instances,
    train_method,
)
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.problem import MeshSet

TINY = replace(quick_config(), widths=(8,), samples=16, batch_size=8, num_stages=2, generated=3, trials=6)


@pytest.fixture(scope="module")
def category():
    return generated_category(3)


def test_quick_run_writes_a_table_and_goes_on_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "quick_config", lambda seed: replace(TINY, seed=seed))
    words = ["reproduce", "explicit-feedback", "--quick", "--seed", "2", "--out", str(tmp_path), "--json", "-"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == ["initial pose", *METHODS.values()]
    assert all(row["seed"] == 2 and row["commit"] and row["machine"] for row in rows)
    assert {row["samples"] for row in rows[1:]} == {16}
    by_name = dict(zip(METHODS, rows[1:], strict=True))
    assert by_name["ours"]["parameters"] == 2 * by_name["direct"]["parameters"]
    for row in rows:
        assert 0 <= row["rotation_median_deg"] <= 180 and np.isfinite(row["translation_mean_d"])
    with (tmp_path / "explicit_feedback_quick.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == [row["method"] for row in rows]
    table = (tmp_path / "explicit_feedback_quick.md").read_text()
    assert "rotation_mean_deg" in table and "- seed: 2" in table and METHODS["ief"] in table
    monkeypatch.setattr(module, "train_method", None)  # a second training would fail
    assert main([*words[:-2], "--quiet"]) == 0
    assert METHODS["deepim"] in capsys.readouterr().out


def test_a_training_that_was_interrupted_goes_on(tmp_path, category, monkeypatch):
    trained, _ = split_instances(category, TINY.held_out, TINY.seed)
    meshes = MeshSet(trained, TINY.simulation_faces)
    state = tmp_path / "half.state"
    train_method("direct", TINY, 8, meshes, state)
    drawn = []

    def counted(*arguments):
        for batch in pose_batches(*arguments):
            drawn.append(len(batch[1]))
            yield batch

    monkeypatch.setattr(module, "pose_batches", counted)
    train_method("direct", replace(TINY, samples=32), 8, meshes, state)
    assert drawn == [8, 8]  # the other 16 examples were there before


def test_every_method_gets_the_same_examples(category, monkeypatch):
    meshes = MeshSet(split_instances(category, TINY.held_out, TINY.seed)[0], TINY.simulation_faces)
    drawn = {}
    for name in METHODS:
        own = drawn.setdefault(name, [])

        def noted(*arguments, own=own):
            for batch in pose_batches(*arguments):
                own.append(batch[1])
                yield batch

        monkeypatch.setattr(module, "pose_batches", noted)
        train_method(name, TINY, 8, meshes)
    for name in METHODS:
        assert len(drawn[name]) == 2 and all(torch.equal(a, b) for a, b in zip(drawn[name], drawn["ours"], strict=True))


def test_judged_instances_are_held_out(category):
    trained, held = split_instances(category, 0.2, 0)
    assert len(held) == 1 and not {m.name for m in trained} & {m.name for m in held}
    assert len({m.name for m in trained + held}) == 3 and all(m.diameter == pytest.approx(1.0) for m in held)
    meshes = MeshSet(held, TINY.simulation_faces)
    before = judge(make_method("direct", TINY, 8, meshes), TINY, meshes, num_stages=0)
    assert before == judge(make_method("ief", TINY, 8, meshes), TINY, meshes, num_stages=0)  # the same poses for all
    assert 0 < before["rotation_mean_deg"] <= 45


def test_generated_instances_are_of_one_category_and_the_same_everywhere(category):
    assert {m.name.split("_")[0] for m in category} == {module.CATEGORY}
    assert [m.name for m in generated_category(2)] == [m.name for m in category[:2]]


@pytest.mark.parametrize(
    "bad",
    [{"widths": ()}, {"widths": (8, 8)}, {"widths": (6,)}, {"samples": 0}, {"held_out": 0.0}, {"generated": 1},
     {"trials": 0}],
)  # fmt: skip
def test_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ExplicitFeedbackConfig(**bad)


def test_wrong_usage(tmp_path, category, capsys):
    with pytest.raises(ConfigError, match="at least two"):
        split_instances(category[:1], 0.2, 0)
    with pytest.raises(ConfigError, match=r"unknown 'magic'; known are ours, direct, deepim, ief"):
        make_method("magic", TINY, 8, MeshSet(category, 300))
    next(reproduce(category, TINY, tmp_path, quiet=True))
    with pytest.raises(ConfigError, match="belongs to another evaluation"):
        next(reproduce(category, replace(TINY, samples=24), tmp_path, quiet=True))
    start = ["reproduce", "explicit-feedback", "--quick", "--quiet", "--out", str(tmp_path / "new")]
    for words, message in [(["--mesh", "none.obj"], "none.obj"), (["--widths", "10"], "widths=(10,)")]:
        assert main([*start, *words]) == 2
        text = capsys.readouterr().err
        assert message in text and text.count("\n") == 1 and text.startswith("dfips reproduce: ")
