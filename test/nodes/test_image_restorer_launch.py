# SPDX-License-Identifier: Apache-2.0
"""The launch and the parameters file of image_restorer, without ROS 2's launch."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "launch" / "image_restorer.launch.py"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="not run from a source checkout")


class Given:
    """Stand-in of a launch class: keeps what it was made with."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options

    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def launched(monkeypatch):
    classes = {
        "launch": ["LaunchDescription"], "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"], "launch_ros": [],
        "launch_ros.actions": ["Node"], "launch_ros.parameter_descriptions": ["ParameterValue"],
        "launch_ros.substitutions": ["FindPackageShare"],
    }  # fmt: skip
    for name, members in classes.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Given,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("image_restorer_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def start(**values):
        *declared, opaque, _ = module.generate_launch_description().arguments[0]
        context = {each.arguments[0]: each.options["default_value"] for each in declared}
        assert set(values) <= set(context) and all(each.options["description"].endswith(".") for each in declared)
        (node,) = opaque.options["function"]({**context, **values})
        return node.options

    return start


def test_only_what_is_given_wins_over_the_parameters_file(launched):
    plain = launched(params_file="my.yaml")
    assert (plain["executable"], plain["parameters"], plain["remappings"]) == ("image_restorer", ["my.yaml"], [])
    given = launched(params_file="my.yaml", autostart="false", consistency="exact", input_topic="/camera/compressed")
    overrides = given["parameters"][1]
    assert overrides["autostart"] is False and overrides["consistency"].arguments == ("exact",)
    assert given["remappings"] == [("~/image/compressed", "/camera/compressed")]
    with pytest.raises(RuntimeError, match="autostart:=maybe: expected true or false"):
        launched(autostart="maybe")


def test_the_executable_is_installed():
    assert "dfips_executable(image_restorer dfips_ros.nodes.image_restorer" in (ROOT / "CMakeLists.txt").read_text()
