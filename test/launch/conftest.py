# SPDX-License-Identifier: Apache-2.0
"""Launch files without ROS 2's launch, which does not come with wheels: stand-ins keep what nodes are started with."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

from .stand_in import ROOT, Given

CLASSES = {
    "launch": ["LaunchDescription"],
    "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction"],
    "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
    "launch_ros": [],
    "launch_ros.actions": ["Node"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
    "launch_ros.substitutions": ["FindPackageShare"],
}


SHARED = "dfips_ros.nodes.launch_files"


def import_afresh(name):
    """A module that binds the stand-ins, not what was imported before."""
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def entities(monkeypatch):
    """What a launch file describes, in stand-ins: declared arguments, and functions that make the nodes."""
    if not (ROOT / "launch").is_dir():
        pytest.skip("not run from a source checkout")
    for name, members in CLASSES.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Given,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, SHARED, import_afresh(SHARED))

    def described(file):
        spec = importlib.util.spec_from_file_location(file, ROOT / "launch" / f"{file}.launch.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.generate_launch_description().arguments[0]
        kinds = [type(each).__name__ for each in found]
        assert set(kinds) == {"DeclareLaunchArgument", "OpaqueFunction"}
        return [[each for each in found if type(each).__name__ == kind] for kind in sorted({*kinds})]

    return described


@pytest.fixture
def declared(entities):
    """Arguments of a launch file: name -> description."""
    return lambda file: {each.arguments[0]: each.options["description"] for each in entities(file)[0]}


@pytest.fixture
def start(entities):
    """Options of the nodes that a launch file starts with given arguments, by executable."""

    def launched(file, **values):
        arguments, functions = entities(file)
        context = {each.arguments[0]: each.options["default_value"] for each in arguments}
        assert set(values) <= set(context)
        context.update(values)
        nodes = [node for each in functions for node in each.options["function"](context)]
        return {node.options["executable"]: node.options for node in nodes}

    return launched


@pytest.fixture
def launch_test():
    """Runs a script of launch_testing, where ROS 2's launch is installed."""
    for package in ("launch", "launch_ros", "launch_testing", "launch_testing_ros"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"ROS 2's package {package} is not installed: it comes with a full ROS 2, not with wheels")

    def run(script):
        safe = ["-P"] if sys.version_info >= (3, 11) else []
        command = [sys.executable, *safe, "-m", "launch_testing.launch_test", str(Path(__file__).with_name(script))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
