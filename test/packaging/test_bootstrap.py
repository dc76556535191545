# SPDX-License-Identifier: Apache-2.0
"""What `./run` does before it calls dfips: refusals that say what to do, and nothing on the second call."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap(monkeypatch, tmp_path):
    """The module of the checkout, as in a shell without ROS, with an environment folder of its own."""
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.delenv("DFIPS_NO_APT", raising=False)
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "dfips_ros" / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "LOGS", tmp_path / ".venv" / "log")
    return module


def test_missing_debian_packages_are_named_in_the_exact_command(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "missing_debian_packages", lambda: ["g++", "libegl1"])
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    found = {"apt-get": "/usr/bin/apt-get"}
    monkeypatch.setattr(bootstrap.shutil, "which", found.get)
    with pytest.raises(bootstrap.SetupError, match=r"\n  sudo apt-get install -y g\+\+ libegl1\n"):
        bootstrap.install_debian_packages()


def test_missing_compiler_is_noticed(bootstrap, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "g++" in bootstrap.missing_debian_packages()


def test_python_without_ros_wheels_is_refused(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "WHEEL_PYTHONS", ((3, 8), (3, 9)))
    with pytest.raises(bootstrap.SetupError, match=r"only for 3\.8 to 3\.9.*DFIPS_PYTHON="):
        bootstrap.check_platform()


def test_sourced_ros_of_another_python_is_refused(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROS_DISTRO", "jazzy")
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="cannot import its rclpy.*DFIPS_PYTHON="):
        bootstrap.check_platform()


def test_failing_command_shows_the_end_of_its_log(bootstrap):
    command = (sys.executable, "-c", "print('disk is full'); raise SystemExit(3)")
    with pytest.raises(bootstrap.SetupError, match=r"status 3(?s:.*)disk is full(?s:.*)call \./run again"):
        bootstrap.call("step", *command)


def test_long_step_shows_signs_of_life(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "HEARTBEAT", 0.1)
    bootstrap.call("step", sys.executable, "-c", "import time; print('half', flush=True); time.sleep(1)")
    assert "half" in capsys.readouterr().err


def test_finished_steps_are_not_repeated(bootstrap, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(bootstrap, "STATE", tmp_path / ".venv" / "setup.json")
    steps = [
        "install_debian_packages",
        "make_venv",
        "install_torch",
        "install_packages",
        "prepare_ros_wheels",
    ]
    last = ["install_package", "compile_code"]
    for name in [*steps, *last]:
        monkeypatch.setattr(bootstrap, name, lambda name=name: calls.append(name))
    bootstrap.set_up()
    assert calls == [*steps, *last]
    bootstrap.set_up()
    assert len(calls) == len(steps) + 2
    monkeypatch.setattr(bootstrap, "package_digest", lambda: "a module was edited")
    bootstrap.set_up()
    assert calls[len(steps) + 2 :] == last
    monkeypatch.setattr(bootstrap, "pins", lambda: "a version was changed")
    bootstrap.set_up()
    assert calls[len(steps) + 4 :] == ["install_packages", "prepare_ros_wheels", *last]


def test_environment_script_quotes_its_paths(bootstrap, monkeypatch, tmp_path):
    venv = tmp_path / "with space" / ".venv"
    monkeypatch.setattr(bootstrap, "VENV", venv)
    script = f'{bootstrap.environment_script()}\necho "$AMENT_PREFIX_PATH|$PYOPENGL_PLATFORM|${{PATH%%:*}}"'
    environment = {"PATH": os.environ["PATH"]}
    result = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{venv}|egl|{venv / 'bin'}"


STARTED_BY_RUN = Path(os.environ.get("VIRTUAL_ENV", "/")).parent == ROOT


@pytest.mark.skipif(not STARTED_BY_RUN, reason="not started by ./run test")
def test_second_run_is_silent_and_passes_its_words():
    result = subprocess.run([ROOT / "run", "demo", "--help"], capture_output=True, text=True, cwd="/", timeout=60)
    assert result.returncode == 0, result.stderr
    assert "dfips setup" not in result.stderr
    assert "demo" in result.stdout
