# SPDX-License-Identifier: Apache-2.0
"""`dfips evaluate` with its protocols, at toy size, and what it says to wrong usage."""

import csv
import json

import pytest

from dfips_ros.cli.main import main
from dfips_ros.tasks.object_pose.demo_data import demo_mesh_path

START = ["evaluate", "object_pose", "--quiet", "--device", "cpu"]


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_initial_is_the_default_and_draws_pictures(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    arguments = ["--mesh", str(demo_mesh_path("drill")), "--methods", "initial", "--trials", "1", "--columns", "15"]
    assert main([*START, *arguments, "--out", str(out), "--pictures", str(tmp_path / "pictures")]) == 0
    rows = read(out)
    assert len(rows) == 1 and rows[0]["method"] == "initial pose" and rows[0]["masks"] == "perfect"
    assert {f.name for f in (tmp_path / "pictures").iterdir()} >= {"failures_perfect.png"}
    assert "failures_perfect.png" in capsys.readouterr().out


def test_nothing_becomes_a_table(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    mesh = str(demo_mesh_path("drill"))
    assert main([*START, "--protocol", "nothing", "--mesh", mesh, "--trials", "1", "--out", str(out)]) == 0
    rows = read(out)
    assert [r["masks"] for r in rows] == ["perfect", "degraded"] and {r["trials"] for r in rows} == {"1"}
    assert all(r["commit"] and r["machine"] for r in rows)
    assert json.loads(rows[0]["config"])["seed"] == 0
    capsys.readouterr()
    assert main(["table", str(out)]) == 0
    assert capsys.readouterr().out.startswith("### From nothing\n\n| masks | n |")


def test_sequences_as_json(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    arguments = ["--protocol", "sequences", "--seconds", "0.3", "--out", str(out), "--json", "-"]
    assert main([*START, *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["protocol"] == "sequences" and len(report["rows"]) == 3
    assert [r["frames"] for r in read(out)] == ["9", "9", "9"]


@pytest.mark.slow
def test_all_writes_every_table_and_goes_on_after_an_interruption(tmp_path, capsys):
    out, journal = tmp_path / "results", tmp_path / "journal"
    mesh = str(demo_mesh_path("drill"))
    arguments = [*START, "--protocol", "all", "--mesh", mesh, "--trials", "2", "--seconds", "0.3"]
    arguments += ["--methods", "initial", "ours", "--columns", "15", "--out", str(out), "--journal", str(journal)]
    assert main(arguments) == 0
    written = {f.name for f in out.iterdir()}
    tables = {f"object_pose{s}.{kind}" for s in ("", "_nothing", "_sequences") for kind in ("csv", "md")}
    assert written == {*tables, "object_pose"}
    assert {f.name for f in (out / "object_pose").iterdir()} >= {"failures_perfect.png", "failures_degraded.png"}
    assert [r["masks"] for r in read(out / "object_pose.csv")] == ["perfect"] * 2 + ["degraded"] * 2
    assert len(journal.read_text().splitlines()) == 5
    noted = journal.read_bytes()
    first = read(out / "object_pose.csv")
    assert main(arguments) == 0
    assert journal.read_bytes() == noted and read(out / "object_pose.csv") == first
    assert "Written: " in capsys.readouterr().out


def test_unknown_protocol(capsys):
    with pytest.raises(SystemExit) as leaving:
        main([*START, "--protocol", "magic"])
    assert leaving.value.code == 2
    assert "invalid choice: 'magic'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "sequences", "--visp", "nowhere"], "visp 'nowhere': there is no such folder."),
        (["--protocol", "sequences", "--mesh", "nowhere.obj"], "nowhere.obj"),
        (["--protocol", "nothing", "--mesh", "nowhere.obj"], "nowhere.obj"),
        (["--protocol", "nothing", "--trials", "0"], "per_mesh=0"),
        (["--protocol", "nothing", "--methods", "ours"], "--methods belongs to --protocol initial or all"),
        (["--protocol", "sequences", "--seconds", "0"], "seconds=0.0"),
        (["--visp", "nowhere"], "--visp belongs to --protocol sequences or all, not to initial."),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*START, *arguments]) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1 and text.startswith("dfips evaluate: ")
    assert not (tmp_path / "out").exists()
