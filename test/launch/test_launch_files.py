# SPDX-License-Identifier: Apache-2.0
"""Launch and configuration files: always their arguments and names; really launched where ROS 2's launch is."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "pose_tracker.launch.py"
RVIZ_FILE = ROOT / "config" / "pose_tracker.rviz"
EXPECTED = {
    "mesh",
    "mesh_scale",
    "object_name",
    "mask_topic",
    "camera_info_topic",
    "image_topic",
    "params_file",
    "namespace",
    "rviz",
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
    assert used >= EXPECTED - {"mesh", "object_name", "mask_topic", "camera_info_topic", "image_topic"}


def test_launch_file_compiles():
    compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec")


def test_rviz_shows_the_topics_of_the_node():
    pytest.importorskip("rclpy")
    endpoints = pytest.importorskip("dfips_ros.nodes.endpoints").ENDPOINTS
    displays = yaml.safe_load(RVIZ_FILE.read_text())["Visualization Manager"]["Displays"]
    topics = {each["Topic"]["Value"]: each["Topic"] for each in displays if "Topic" in each}
    assert set(topics) == {"/pose_tracker/markers", "/pose_tracker/pose", "/pose_tracker/overlay"}
    for name, topic in topics.items():
        endpoint = endpoints[name.rsplit("/", 1)[1]]
        assert topic["Durability Policy"] == ("Transient Local" if endpoint.latched else "Volatile")
    kinds = {each["Class"].rsplit("/", 1)[1] for each in displays}
    assert {"TF", "MarkerArray", "PoseWithCovariance", "Image"} <= kinds


@pytest.mark.ros
def test_launch():
    for package in ("launch", "launch_ros", "launch_testing", "launch_testing_ros"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"ROS 2's package {package} is not installed: it comes with a full ROS 2, not with wheels")
    script = str(Path(__file__).with_name("launched_pose_tracker.py"))
    command = [
        sys.executable,
        *(["-P"] if sys.version_info >= (3, 11) else []),
        "-m",
        "launch_testing.launch_test",
        script,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
