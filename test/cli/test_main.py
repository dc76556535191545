# SPDX-License-Identifier: Apache-2.0
"""What every command does: a reader that leaves early, and progress bars in logs."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dfips_ros.cli import main as cli
from dfips_ros.errors import DfipsError

DFIPS = [sys.executable, "-m", "dfips_ros.cli.main"]


def run_into_closed_pipe(arguments):
    """Run with a stdout that nobody reads; -> exit status and stderr."""
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    pipe = subprocess.PIPE
    with subprocess.Popen([*DFIPS, *arguments], stdout=pipe, stderr=pipe, text=True, env=buffered) as child:
        child.stdout.close()
        words = child.stderr.read()
    return child.returncode, words


# less and more than a buffer holds
@pytest.mark.parametrize(("rows", "more"), [(1, []), (5000, []), (5000, ["--json", "-"])])
def test_a_reader_that_leaves_early_is_no_error(tmp_path, rows, more):
    table = tmp_path / "rows.csv"
    table.write_text("figure,value\n" + "solve,1.0\n" * rows)
    assert run_into_closed_pipe(["table", str(table), *more]) == (cli.READER_GONE, "")


def test_help_into_a_closed_pipe():
    assert run_into_closed_pipe(["--help"]) == (cli.READER_GONE, "")


@pytest.mark.parametrize(
    ("terminal", "arguments", "quiet"), [(False, [], True), (True, [], False), (True, ["--quiet"], True)]
)
@pytest.mark.parametrize(
    ("command", "module"),
    [("demo", "demo_pose"), ("bench", "bench_pose"), ("evaluate object_pose", "evaluate_pose"),
     ("train object_pose", "train_pose")],
)  # fmt: skip
def test_bars_are_for_terminals(monkeypatch, command, module, terminal, arguments, quiet):
    seen = []
    monkeypatch.setattr(f"dfips_ros.cli.{module}.run", lambda options: seen.append(options.quiet) or 0)
    written = []
    monkeypatch.setattr(cli.sys, "stderr", SimpleNamespace(isatty=lambda: terminal, write=written.append))
    assert cli.main([*command.split(), *arguments]) == 0
    assert seen == [quiet]


def test_errors_and_interruptions_are_one_line(monkeypatch, capsys):
    for error, status in ((DfipsError("no such thing."), 2), (KeyboardInterrupt(), 130)):

        def run(options, error=error):
            raise error

        monkeypatch.setattr("dfips_ros.cli.bench_pose.run", run)
        assert cli.main(["bench"]) == status
        assert capsys.readouterr().err.count("\n") == 1
