# SPDX-License-Identifier: Apache-2.0
"""`dfips reproduce table-1` and its neighbours, and `dfips table N`: options, files, what is said to wrong usage."""

import csv
import json
from dataclasses import replace

import pytest

from dfips_ros.cli.main import main, make_parser
from dfips_ros.cli.reproduce_paper import paper_config
from dfips_ros.cli.tasks import TASKS
from dfips_ros.errors import MissingDependencyError
from dfips_ros.evaluation import paper_runtime, reproduce_explicit_feedback, reproduce_paper
from dfips_ros.evaluation.paper_config import PaperConfig, quick_config


@pytest.fixture
def tiny(monkeypatch):
    """Figure 2 at one setting: the quickest of all."""
    monkeypatch.setattr(paper_runtime, "QUICK_FACES", (200,))
    monkeypatch.setattr(paper_runtime, "QUICK_SIZES", (32,))


def options_of(*words):
    return make_parser().parse_args(["reproduce", "table-1", *words])


def test_every_experiment_is_a_command():
    assert set(TASKS["reproduce"]) == {*reproduce_paper.EXPERIMENTS, "explicit-feedback", "all"}


def test_what_is_not_given_keeps_its_default():
    assert paper_config(options_of()) == PaperConfig()
    assert paper_config(options_of("--quick", "--seed", "3")) == quick_config(3)
    words = ["--minutes", "5", "--categories", "car", "bed", "--angle", "20", "--size", "64", "--feedback", "contour"]
    expected = replace(
        PaperConfig(), minutes=5.0, categories=("car", "bed"), angle_deg=20.0, crop_size=64, feedback="contour"
    )
    assert paper_config(options_of(*words)) == expected
    timed = paper_config(options_of("--quick", "--batches", "9"))
    assert timed.batches == 9 and timed.minutes is None
    assert paper_config(options_of("--quick", "--minutes", "1")).batches is None


def test_a_figure_is_written_and_said(tiny, tmp_path, capsys):
    words = ["reproduce", "figure-2", "--quick", "--out", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "our rasteriser" in said and "figure_2_quick.png" in said
    assert main([*words, "--json", "-"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file.rpartition(".")[2] for file in files] == ["csv", "md", "png"]
    with open(files[0]) as stream:
        assert all(row["commit"] and row["machine"] for row in csv.DictReader(stream))


def test_all_goes_on_after_one_that_cannot_be_made(tiny, tmp_path, monkeypatch, capsys):
    def without_opengl(space):
        raise MissingDependencyError("pyrender: no OpenGL.")

    known = reproduce_paper.EXPERIMENTS
    monkeypatch.setattr(
        reproduce_paper, "EXPERIMENTS", {"figure-4": without_opengl, "figure-2": known["figure-2"]}
    )  # fmt: skip
    smallest = replace(
        reproduce_explicit_feedback.quick_config(), widths=(8,), samples=8, batch_size=8, num_stages=1, generated=2,
        trials=4,
    )  # fmt: skip
    monkeypatch.setattr(reproduce_explicit_feedback, "quick_config", lambda seed: smallest)
    words = ["reproduce", "all", "--quick", "--quiet", "--out", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr().out
    assert "figure-4: pyrender: no OpenGL." in said and "figure_2_quick.png" in said and "explicit_feedback" in said
    assert (tmp_path / "explicit_feedback_quick.md").is_file()
    assert main([*words, "--json", "-"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == ["figure-4: pyrender: no OpenGL."]
    assert str(tmp_path / "explicit_feedback_quick.md") in found["files"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--categories", "lamp"], "categories='lamp'"), (["--meshes", "car"], "expected CATEGORY=PATH"),
     (["--meshes", "car=nowhere"], "nowhere"), (["--instances", "0"], "instances=0"), (["--minutes", "-1"], "minutes")],
)  # fmt: skip
def test_wrong_usage_is_one_line(words, message, tmp_path, capsys):
    assert main(["reproduce", "table-1", "--quick", "--quiet", "--out", str(tmp_path), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dfips reproduce: ") and message in said and said.count("\n") == 1


def test_table_of_the_paper(tmp_path, capsys):
    row = {"task": "illumination", "solver": "mine", "quantity": "point", "unit": "diameters", "steps": 3, "mean": 0.25,
           "median": "", "told_percent": 50.0, "told_mean": 0.125, "told_median": "", "seed": 0}  # fmt: skip
    (tmp_path / "table_2_quick.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    words = ["table", "2", "--quick", "--from", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "| illumination | mine | point | diameters | 3 | 0.25 | 0.089 | – | 50 | 0.125 | – |" in said
    assert main([*words, "--out", str(tmp_path / "table.md")]) == 0
    assert "0.089" in (tmp_path / "table.md").read_text()
    capsys.readouterr()
    for wrong, message in [
        (["7"], "1, 2, 3, 4"), (["2", "--from", str(tmp_path)], "dfips reproduce table-2"),
        ([str(tmp_path / "table_2_quick.csv"), "--quick"], "--quick and --from are for"),
    ]:  # fmt: skip
        assert main(["table", *wrong]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def test_table_of_another_kind_under_that_name(tmp_path, capsys):
    (tmp_path / "table_1.csv").write_text("figure,value\nsolve,1\n")
    assert main(["table", "1", "--from", str(tmp_path)]) == 2
    assert "lacks method" in capsys.readouterr().err
