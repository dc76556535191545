# SPDX-License-Identifier: Apache-2.0
"""What needs a node process of its own: start, signals, command line, a solver that is too slow."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from rclpy.parameter import Parameter  # noqa: E402

from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes.pose_tracker import PoseTrackerNode  # noqa: E402

SCRIPT = str(Path(__file__).with_name("tracker_process.py"))


def test_newest_mask_wins_with_a_slow_solver(client, node_process, box_mesh):
    """25 masks in 0.5 s, 0.1 s to solve one: few answers, none of them late, the last mask among them."""
    node = node_process(client, [SCRIPT, "--solve-time", "0.1"], "/slow", {"mesh": box_mesh, "diagnostics_period": 0.1})
    try:
        node.handshake()
        sent = {}
        for _ in range(25):
            mask = node.mask()
            sent[mask.header.stamp.nanosec + mask.header.stamp.sec * 10**9] = time.monotonic()
            node.mask_publisher.publish(mask)
            time.sleep(0.02)
        last = max(sent)
        ages = {}

        def answered():
            for answer in list(client.received["object"]):
                stamp = answer.header.stamp.nanosec + answer.header.stamp.sec * 10**9
                if stamp in sent:
                    ages.setdefault(stamp, time.monotonic() - sent[stamp])
            return last in ages

        client.wait(answered, "answer to the last mask")
        assert len(ages) < 20
        assert list(ages) == sorted(ages)
        # With a backlog the last answer would come 2 s late.
        assert ages[last] < 1.5
        status = node.status(lambda s: "dropped" in s.message, "dropped masks")
        assert int({v.key: v.value for v in status.values}["masks dropped"]) >= 3
    finally:
        assert node.stop() == 0, node.output()


def test_without_tf2_msgs_configuration_is_refused_with_one_clear_error(ros_domain, box_mesh, monkeypatch):
    context = rclpy.Context()
    rclpy.init(context=context)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    overrides = [Parameter("mesh", value=box_mesh)]
    node = PoseTrackerNode(lambda parameters: pytest.fail("not reached"), overrides, context)
    try:
        assert not node.autostart()
        assert "publish_tf=true needs the package tf2_msgs" in node.problem
        assert node.lifecycle == "unconfigured"
    finally:
        node.destroy_node()
        context.try_shutdown()


@pytest.mark.parametrize(
    ("with_signal", "line"),
    [(signal.SIGTERM, ": active"), (signal.SIGTERM, "loaded from")],
)
def test_stops_cleanly(client, node_process, box_mesh, with_signal, line):
    """Also while it starts. Other tests stop their node with SIGINT."""
    node = node_process(client, [SCRIPT], "/stopped", {"mesh": box_mesh})
    client.wait(lambda: line in node.output(), line, 60.0)
    assert node.stop(with_signal) == 0
    assert "Traceback" not in node.output()


def test_bad_command_line_and_quality_of_service(client, node_process, box_mesh):
    """A wrong initial value keeps the node unconfigured until it is put right; qos_overrides are obeyed."""
    override = "qos_overrides./odd/pose_tracker/mask.subscription.reliability"
    parameters = {
        "mesh": box_mesh,
        "lost_iou": 7.0,
        "mesh_scal": 1.0,
        override: "reliable",
        "diagnostics_period": 0.1,
    }
    node = node_process(client, [SCRIPT], "/odd", parameters)
    try:
        reason = "lost_iou=7.0: allowed is 0 to 1"
        node.status(lambda s: s.level == b"\x02" and reason in s.message, reason)
        assert node.state() == "unconfigured"
        assert "unknown parameter 'mesh_scal' is ignored. Did you mean 'mesh_scale'?" in node.output()
        assert not node.change("configure")
        assert node.set_parameters(lost_iou=0.5) == []
        assert node.change("configure") and node.change("activate")
        node.handshake()
        assert node.send().state == TrackedObject.TRACKING
        infos = client.node.get_subscriptions_info_by_topic(f"{node.name}/mask")
        assert [info.qos_profile.reliability.name for info in infos] == ["RELIABLE"]
    finally:
        assert node.stop() == 0, node.output()
    assert "Traceback" not in node.output()
