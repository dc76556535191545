# SPDX-License-Identifier: Apache-2.0
"""The command line explains itself."""

import subprocess
import sys

import pytest

from dfips_ros.cli.main import main, make_parser
from dfips_ros.cli.tasks import DEFAULT_TASKS, PLAIN, SUMMARIES, TASKS

PAIRS = [(command, task) for command, tasks in TASKS.items() for task in tasks]


def help_of(words, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--help"])
    assert leaving.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [*PAIRS, *((command,) for command in PLAIN)], ids=" ".join)
def test_each_task_of_each_command_has_help_with_examples(words, capsys):
    text = help_of(words, capsys)
    assert "examples:" in text
    assert f"  dfips {words[0]}" in text
    assert "--json" in text
    if words[0] not in DEFAULT_TASKS:
        assert f"  dfips {' '.join(words)} " in text


@pytest.mark.parametrize("command", sorted(set(TASKS) - set(DEFAULT_TASKS)))
def test_a_command_lists_its_tasks(command, capsys):
    text = help_of([command], capsys)
    assert "examples:" in text and all(f"  dfips {command} {task} --help" in text for task in TASKS[command])


@pytest.mark.parametrize(("command", "task"), DEFAULT_TASKS.items())
def test_a_task_may_be_left_out_where_there_is_a_default(command, task, capsys):
    parser = make_parser()
    assert parser.parse_args([command]) == parser.parse_args([command, task])
    assert parser.parse_args([command, "--seed", "3"]) == parser.parse_args([command, task, "--seed", "3"])
    text = help_of([command], capsys)
    assert text == help_of([command, task], capsys)
    assert all(f"  dfips {command} {other} --help" in text for other in TASKS[command] if other != task)


def test_every_module_of_a_task_is_registered_once():
    modules = [module for tasks in TASKS.values() for module in tasks.values()]
    assert len(set(modules)) == len(modules)
    assert set(SUMMARIES) == set(TASKS) | set(PLAIN)


def test_overview_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in SUMMARIES)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["solve"], ["solve", "object_pose"], ["demo", "juggling"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    assert "usage: dfips" in capsys.readouterr().err


def test_scale_of_training_says_what_it_does(capsys):
    text = " ".join(help_of(["train", "object_pose"], capsys).split())
    assert "factor from the files' numbers to metres" in text
    assert "meshes that are not in metres after it are refused" in text


def test_demo_writes_below_the_current_folder_in_its_example(capsys):
    assert "--out out/drill" in help_of(["demo"], capsys)


def test_help_does_not_import_what_is_slow(tmp_path):
    code = (
        "import sys, dfips_ros.cli.main as m; m.make_parser(); "
        "print([n for n in ('torch', 'numpy', 'cv2', 'rclpy', 'numba') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
