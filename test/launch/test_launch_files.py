# SPDX-License-Identifier: Apache-2.0
"""Launch and configuration files: always their arguments and names; really launched where ROS 2's launch is."""

from __future__ import annotations

import functools

import pytest
import yaml

from .stand_in import ROOT, shown, unwrapped

LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
RVIZ_FILE = ROOT / "config" / "pose_tracker.rviz"
pytestmark = pytest.mark.skipif(not LAUNCH_FILES, reason="not run from a source checkout")


# A value of each argument that is not just a text; and what else is given where it would mean nothing alone.
VALUES = {"rviz": "true", "autostart": "false", "use_sim_time": "true", "planning_scene": "true", "remap": "a:=b"}
NUMBERS = ("mesh_scale", "rate", "standoff", "max_joint_step", "max_joint_speed")
BESIDE = {"rviz": "true", "mesh": "/m", "camera_xyz": "0 0 1", "camera_rotation": "0 0 0", "camera_frame": "eye"}


@pytest.mark.parametrize("file", [path.name.removesuffix(".launch.py") for path in LAUNCH_FILES])
def test_every_argument_is_described_and_changes_what_is_started(start, declared, arm_file, file):
    arguments = declared(file)
    assert all(text.endswith(".") for text in arguments.values())
    beside = {name: value for name, value in BESIDE.items() if name in arguments}
    plain = unwrapped(start(file, **beside))
    for name in arguments:
        more = {name: VALUES.get(name, "7" if name in NUMBERS else "other 1 2")}
        if name == "simulate":
            more = {name: "true", "urdf": arm_file, "tip": "tool0", "base": "base_link"}
        given = unwrapped(start(file, **{**beside, **more})) if name != "rviz" else unwrapped(start(file))
        assert given != plain, name


@pytest.fixture
def launched(start):
    """Options of the nodes that the launch file starts with given arguments."""
    return functools.partial(start, "pose_tracker")


def test_only_what_is_given_wins_over_the_parameters_file(launched):
    nodes = launched(params_file="my.yaml")
    assert set(nodes) == {"pose_tracker"}
    assert nodes["pose_tracker"]["parameters"] == ["my.yaml"]
    given = launched(params_file="my.yaml", autostart="false", use_sim_time="True", mesh_scale="0.001")
    overrides = {"autostart": False, "use_sim_time": True, "mesh_scale": 0.001}
    assert given["pose_tracker"]["parameters"] == ["my.yaml", overrides]


def test_topics_are_remapped(launched):
    topics = ("mask", "camera_info", "image", "label_info", "instance_masks", "initial_pose")
    given = launched(**{f"{name}_topic": f"/other/{name}" for name in topics}, output_frame="map")["pose_tracker"]
    assert given["remappings"] == [(f"~/{name}", f"/other/{name}") for name in topics]
    assert given["parameters"][1]["output_frame"].arguments == ("map",)
    assert launched()["pose_tracker"]["remappings"] == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mesh_scale", "abc", "mesh_scale:=abc: expected a number"),
        ("mesh_scale", "0,001", "mesh_scale:=0,001: expected a number"),
        ("autostart", "maybe", "autostart:=maybe: expected true or false"),
        ("use_sim_time", "1", "use_sim_time:=1: expected true or false"),
        ("rviz", "yes", "rviz:=yes: expected true or false"),
    ],
)
def test_a_bad_argument_is_told_by_name(launched, name, value, reason):
    with pytest.raises(RuntimeError, match=reason):
        launched(**{name: value})


@pytest.mark.parametrize("namespace", ["robot", "/robot/", "/robot"])
def test_rviz_follows_the_node_into_its_namespace(launched, namespace):
    nodes = launched(rviz="true", namespace=namespace)
    assert nodes["pose_tracker"]["namespace"] == namespace
    assert dict(nodes["rviz2"]["remappings"]) == {topic: f"/robot{topic}" for topic in shown("pose_tracker")}


def test_fixed_frame_of_rviz(launched):
    plain = launched(rviz="true")["rviz2"]
    assert plain["remappings"] == [] and "-f" not in plain["arguments"]
    framed = launched(rviz="true", fixed_frame="camera_optical_frame")["rviz2"]
    assert framed["arguments"][-2:] == ["-f", "camera_optical_frame"]
    assert framed["arguments"][:1] == ["-d"]


def test_rviz_shows_the_topics_of_the_node():
    pytest.importorskip("rclpy")
    endpoints = pytest.importorskip("dfips_ros.nodes.endpoints").ENDPOINTS
    displays = yaml.safe_load(RVIZ_FILE.read_text())["Visualization Manager"]["Displays"]
    topics = shown("pose_tracker")
    assert set(topics) == {f"/pose_tracker/{name}" for name in ("markers", "stages", "pose", "overlay")}
    for name, topic in topics.items():
        endpoint = endpoints[name.rsplit("/", 1)[1]]
        assert topic["Durability Policy"] == ("Transient Local" if endpoint.latched else "Volatile")
    kinds = {each["Class"].rsplit("/", 1)[1] for each in displays}
    assert {"TF", "MarkerArray", "PoseWithCovariance", "Image"} <= kinds


@pytest.mark.ros
def test_launch(launch_test):
    launch_test("launched_pose_tracker.py")
