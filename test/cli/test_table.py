# SPDX-License-Identifier: Apache-2.0
"""``dfips table``: where it writes to, and what it says when it cannot."""

import json

import pytest

from dfips_ros.cli.main import main


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("figure,value\nsolve,1.5\n")
    return file


def test_json_on_stdout_is_nothing_but_json(table, tmp_path, capsys):
    for more in ([], ["--out", str(tmp_path / "new" / "table.md")]):
        assert main(["table", str(table), "--json", "-", *more]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == [{"figure": "solve", "value": "1.5"}]
    assert "solve" in (tmp_path / "new" / "table.md").read_text()


def test_file_is_named(table, tmp_path, capsys):
    assert main(["table", str(table), "--out", str(tmp_path / "table.md")]) == 0
    assert capsys.readouterr().out == f"Written: {tmp_path / 'table.md'}\n"


def test_out_that_cannot_be_written_is_one_line(table, tmp_path, capsys):
    for out in (tmp_path, table / "below" / "a_file.md"):
        assert main(["table", str(table), "--out", str(out)]) == 2
        words = capsys.readouterr().err
        assert words.startswith(f"dfips table: --out {out}: cannot be written (") and words.count("\n") == 1


def test_csv_that_cannot_be_read(tmp_path, capsys):
    assert main(["table", str(tmp_path / "nowhere.csv")]) == 2
    assert "nowhere.csv" in capsys.readouterr().err
