# SPDX-License-Identifier: Apache-2.0
"""What every command does: a reader that leaves early, and progress bars in logs."""

import errno
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
    denied = PermissionError(errno.EACCES, "Permission denied", "/out.png")
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, status in ((DfipsError("no such thing."), 2), (KeyboardInterrupt(), 130), (denied, 2), (full, 2)):

        def run(options, error=error):
            raise error

        monkeypatch.setattr("dfips_ros.cli.bench_pose.run", run)
        assert cli.main(["bench"]) == status
        assert capsys.readouterr().err.count("\n") == 1

    def interrupted():  # while it is still being imported
        raise KeyboardInterrupt

    monkeypatch.setattr("dfips_ros.cli.main.make_parser", interrupted)
    assert cli.main(["bench"]) == 130 and capsys.readouterr().err == "dfips: interrupted.\n"


@pytest.mark.parametrize("command", ["bench", "train ik --urdf a --tip b", "solve deblocking a.jpg b.png"])
def test_files_to_write_and_seeds_are_looked_at_before_the_work(tmp_path, monkeypatch, command, capsys):
    for module in ("bench_pose", "train_ik", "solve_deblocking"):
        monkeypatch.setattr(f"dfips_ros.cli.{module}.run", lambda options: 0)
    words, file = command.split(), tmp_path / "file"
    file.write_text("")
    assert cli.main([*words, "--json", str(tmp_path / "new" / "x.json")]) == 0 and not (tmp_path / "new").exists()
    wrong = [("--json", tmp_path, "this is a folder"), ("--json", file / "x", "is not a folder")]
    if words[0] != "solve":
        wrong += [("--seed", -1, "--seed -1: expected a whole"), ("--out", file / "x", "is not a folder")]
    if words[0] == "train":
        wrong += [("--out", tmp_path, "this is a folder")]
    for option, value, reason in wrong:
        assert cli.main([*words, option, str(value)]) == 2
        assert reason in capsys.readouterr().err
