# SPDX-License-Identifier: Apache-2.0
"""Launch and configuration files: always their arguments and names; really launched where ROS 2's launch is."""

from __future__ import annotations

import ast
import functools
import re

import pytest
import yaml

from .stand_in import ROOT, shown

LAUNCH_FILE = ROOT / "launch" / "pose_tracker.launch.py"
RVIZ_FILE = ROOT / "config" / "pose_tracker.rviz"
EXPECTED = {
    "mesh",
    "mesh_scale",
    "object_name",
    "mask_topic",
    "camera_info_topic",
    "image_topic",
    "label_info_topic",
    "instance_masks_topic",
    "initial_pose_topic",
    "output_frame",
    "params_file",
    "namespace",
    "rviz",
    "fixed_frame",
    "log_level",
    "autostart",
    "use_sim_time",
}

pytestmark = pytest.mark.skipif(not LAUNCH_FILE.is_file(), reason="not run from a source checkout")


def declared_arguments():
    tree = ast.parse(LAUNCH_FILE.read_text())
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS"
    ]
    return {entry.elts[0].value: ast.literal_eval(entry.elts[2]) for entry in tables[0].elts}


def test_arguments_are_declared_described_and_used():
    declared = declared_arguments()
    assert set(declared) == EXPECTED
    assert all(text.endswith(".") for text in declared.values())
    source = LAUNCH_FILE.read_text()
    body = source[source.index("def _node") :]
    used = set(re.findall(r"""(?:value|LaunchConfiguration)\("(\w+)"\)""", body))
    assert used <= set(declared)
    looped = {name for name in EXPECTED if name.endswith("_topic")} | {"mesh", "object_name", "output_frame"}
    assert used >= EXPECTED - looped - {"autostart", "use_sim_time"}
    for name in looped:
        assert f'"{name.removesuffix("_topic")}"' in body


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
