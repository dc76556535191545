# SPDX-License-Identifier: Apache-2.0
"""Several nodes in one process: each under its name and with its parameters, and none brings the others down."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402

from dfips_ros.errors import ConfigError  # noqa: E402
from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes import container  # noqa: E402
from dfips_ros.nodes.container import ContainerParameters, Entry, HostedNode  # noqa: E402
from dfips_ros.nodes.conversions import pose_with_covariance, stamp_from_seconds  # noqa: E402

NODES = ("/cell/grasp_target", "/cell/left/second")
PARAMETERS = """
/**:
  ros__parameters: {camera_xyz: "0 0 1", camera_rotation: "3.141592653589793 0 0", diagnostics_period: 0.1}
/**/grasp_target:
  ros__parameters: {base_frame: table, standoff: 0.2}
/**/second:
  ros__parameters: {base_frame: shelf, standoff: 0.3}
"""


def tracked(seconds):
    message = TrackedObject(object_name="drill", state=TrackedObject.TRACKING, iou=0.9)
    message.header.stamp, message.header.frame_id = stamp_from_seconds(seconds), "camera"
    pose = np.eye(4)
    pose[2, 3] = 0.6
    message.pose = pose_with_covariance(pose, np.eye(6) * 1e-8)
    return message


def test_two_nodes_answer_in_one_process_beside_one_that_cannot_start(client, lifecycle_process, tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(PARAMETERS)
    topics = {f"target {name}": (PoseStamped, f"{name}/target_pose") for name in NODES}
    topics["diagnostics"] = (DiagnosticArray, "/diagnostics")
    asked = "[grasp_target, left/second=grasp_target, broken=pose_tracker]"
    publishers = [
        client.node.create_publisher(TrackedObject, f"{name}/tracked_object", QoSProfile(depth=5)) for name in NODES
    ]
    process = lifecycle_process(
        client, ["-m", "dfips_ros.nodes.container"], "/cell/container", {"nodes": asked}, topics,
        ["--params-file", str(file)],
    )  # fmt: skip
    try:
        for publisher in publishers:
            process.discover(publisher)

        def answered():
            now = time.time()
            for publisher in publishers:
                publisher.publish(tracked(now))
            time.sleep(0.05)
            return all(client.received[f"target {name}"] for name in NODES)

        client.wait(answered, f"targets of both nodes: {process.output()}", 60.0)
        heights = [
            (m.header.frame_id, m.pose.position.z) for name in NODES for m in client.received[f"target {name}"][-1:]
        ]
        # The camera looks down from 1 m, the object is 0.6 m below it with its z down, the tip stays above it.
        assert heights == [("table", pytest.approx(0.4 + 0.2)), ("shelf", pytest.approx(0.4 + 0.3))]
        answer = client.call(GetState, "/cell/broken/get_state", GetState.Request())
        assert answer.current_state.label == "unconfigured"

        def told(status):
            states = {pair.key: pair.value for pair in status.values}
            return states.get("/cell/broken", "").startswith("unconfigured: cannot configure: parameter mesh=''")

        status = process.status(told, "the state of each node")
        states = {pair.key: pair.value for pair in status.values}
        assert [states[name] for name in NODES] == ["active", "active"]
    finally:
        code = process.stop(signal.SIGINT)
    assert code == 0 and "Traceback" not in process.output(), process.output()


def test_it_stops_while_its_nodes_start(client, lifecycle_process):
    process = lifecycle_process(
        client, ["-m", "dfips_ros.nodes.container"], "/cell/container", {"nodes": "[image_restorer, grasp_target]"}, {}
    )
    client.wait(lambda: "runs /cell/image_restorer" in process.output(), "the container's first words", 60.0)
    assert process.stop(signal.SIGTERM) == 0, process.output()


def test_a_node_that_cannot_be_made_is_told_and_leaves_the_others(ros_domain, monkeypatch, capsys):
    monkeypatch.setitem(container.KINDS, "grasp_target", ("grasp_target", "NoSuchNode"))
    hosted = HostedNode(Entry.read("grasp_target"), "/", [])
    hosted.join()
    assert hosted.state.startswith("ended: AttributeError") and "NoSuchNode" in capsys.readouterr().err
    assert threading.current_thread().is_alive()


def test_names_and_namespaces():
    for text, outer, name in (
        ("ik_solver", "/", "/ik_solver"),
        ("ik_solver", "/cell", "/cell/ik_solver"),
        ("arm=ik_solver", "/cell", "/cell/arm"),
        ("left/arm=ik_solver", "/cell", "/cell/left/arm"),
        ("/left/arm=ik_solver", "/cell", "/left/arm"),
        ("/arm=ik_solver", "/cell", "/arm"),
    ):
        assert Entry.read(text).full_name(outer) == name
    for nodes, reason in (
        ((), "nodes=.*expected some of pose_tracker"),
        (("tracker",), "'tracker': expected one of"),
        (("a b=ik_solver",), "expected name=kind"),
        (("a//b=ik_solver",), "expected name=kind"),
        (("ik_solver", "/ik_solver=ik_solver"), "two nodes are called /ik_solver"),
    ):
        with pytest.raises(ConfigError, match=reason):
            ContainerParameters(nodes=nodes)


def test_the_containers_own_parameters_are_not_handed_on():
    args = [
        "x",
        "--ros-args",
        "-p",
        "nodes:=[ik_solver]",
        "-r",
        "a:=b",
        "--param",
        "rate:=3.0",
        "-p",
        "diagnostics_period:=2.0",
    ]
    assert container._without_own(args) == ["x", "--ros-args", "-r", "a:=b", "--param", "rate:=3.0"]
