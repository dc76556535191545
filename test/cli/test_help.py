# SPDX-License-Identifier: Apache-2.0
"""The command line explains itself."""

import subprocess
import sys

import pytest

from dfips_ros.cli.main import COMMANDS, main


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([command, "--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"  dfips {command}" in text
    assert "--json" in text


def test_overview_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["solve", "object_pose"], ["demo", "juggling"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    assert "usage: dfips" in capsys.readouterr().err


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_scale_of_training_says_what_it_does(capsys):
    text = help_of("train", capsys)
    assert "factor from the files' numbers to metres" in text
    assert "meshes that are not in metres after it are refused" in text


def test_demo_writes_below_the_current_folder_in_its_example(capsys):
    assert "--out out/drill" in help_of("demo", capsys)


def test_help_does_not_import_what_is_slow(tmp_path):
    code = (
        "import sys, dfips_ros.cli.main as m; m.make_parser(); "
        "print([n for n in ('torch', 'numpy', 'cv2', 'rclpy', 'numba') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
