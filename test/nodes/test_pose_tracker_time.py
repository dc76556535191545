# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker and time: simulated time, masks from before a reset, prediction; and frames through tf2."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from dfips_ros.errors import PoseError  # noqa: E402
from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes import conversions, output_frame  # noqa: E402
from dfips_ros.nodes.pose_tracker import PoseTrackerNode  # noqa: E402

SCRIPT = str(Path(__file__).with_name("tracker_process.py"))


@pytest.fixture(scope="module")
def simulated(client, node_process, box_mesh):
    parameters = {"mesh": box_mesh, "use_sim_time": True, "diagnostics_period": 0.05}
    node = node_process(client, [SCRIPT], "/simulated", parameters)
    node.clock = client.node.create_publisher(Clock, "/clock", 10)
    yield node
    client.node.destroy_publisher(node.clock)
    assert node.stop() == 0, node.output()


def be(node, seconds):
    """Publish simulated time until the node has it."""
    wanted = conversions.stamp_from_seconds(seconds)

    def arrived():
        node.clock.publish(Clock(clock=wanted))
        arrays = list(node.client.received["diagnostics"])
        return any(a.header.stamp == wanted for a in arrays if any(s.name == node.name for s in a.status))

    node.client.received["diagnostics"].clear()
    node.client.wait(arrived, f"simulated time {seconds}", 60.0)


def test_simulated_time_and_masks_from_before_a_reset(simulated):
    simulated.handshake()
    simulated.stamp = 500.0
    be(simulated, 500.5)
    assert simulated.send().state == TrackedObject.TRACKING
    be(simulated, 501.0)
    response = simulated.client.call(Trigger, f"{simulated.name}/reset", Trigger.Request())
    assert response.success, response.message
    before, after = simulated.mask(stamp=500.9), simulated.mask(half=0, stamp=501.01)
    simulated.mask_publisher.publish(before)

    def left_out():
        statuses = [s for a in list(simulated.client.received["diagnostics"]) for s in a.status]
        return any(v.key == "masks from before a reset" and v.value == "1" for s in statuses for v in s.values)

    simulated.client.wait(left_out, "the mask from before the reset is counted")
    assert simulated.send(after).state == TrackedObject.INITIALISING
    answers = simulated.client.received["object"]
    assert before.header.stamp not in [each.header.stamp for each in list(answers)]
    count = len(answers)
    simulated.mask_publisher.publish(simulated.mask(stamp=0.0))
    simulated.client.wait(lambda: len(answers) > count, "answer to the mask without a stamp")
    assert conversions.seconds_from_stamp(answers[-1].header.stamp) == 501.0


def test_prediction_changes_pose_and_transform_alone(tracker):
    assert tracker.set_parameters(prediction=0.1) == []
    try:
        for x in (60, 66, 72):
            answer = tracker.send(tracker.mask(centre=(x, 60)))
        pose, transform = (
            tracker.client.wait(lambda k=kind: len(tracker.client.received[k]) >= 3, kind)
            and tracker.client.received[kind][-1]
            for kind in ("pose", "tf")
        )
        measured = answer.pose.pose.position.x
        step = 0.5 * 6 / 150
        assert pose.pose.pose.position.x == pytest.approx(measured + 3 * step, rel=1e-3)
        ahead = conversions.seconds_from_stamp(pose.header.stamp) - conversions.seconds_from_stamp(answer.header.stamp)
        assert ahead == pytest.approx(0.1)
        assert transform.transforms[0].transform.translation.x == pose.pose.pose.position.x
        assert transform.transforms[0].header.stamp == pose.header.stamp
        assert pose.pose.covariance[0] > answer.pose.covariance[0]
    finally:
        assert tracker.set_parameters(prediction=0.0) == []


def test_parameters_of_time_and_frames_are_checked(tracker):
    for name, value, reason in [
        ("prediction", -0.1, "prediction"),
        ("prediction", 2.0, "prediction"),
        ("output_frame", "map", "while the node is configured"),
        ("mask_source", "detections", "while the node is configured"),
        ("mask_mode", "class", "expected class_name"),
    ]:
        reasons = tracker.set_parameters(**{name: value})
        assert len(reasons) == 1 and reason in reasons[0], (name, reasons)


@pytest.fixture
def make_node(ros_domain, box_mesh):
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**parameters):
        given = [Parameter(name, value=value) for name, value in {"mesh": box_mesh, **parameters}.items()]
        nodes.append(PoseTrackerNode(lambda _: pytest.fail("not reached"), given, context))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize(
    ("module", "parameters", "reason"),
    [
        ("tf2_ros", {"output_frame": "map"}, "output_frame='map' needs the package tf2_ros"),
        ("yolo_msgs.msg", {"mask_source": "detections"}, "mask_source='detections' needs the package yolo_msgs"),
    ],
)
def test_without_the_package_configuration_is_refused_and_says_what_to_install(
    make_node, monkeypatch, module, parameters, reason
):
    monkeypatch.setitem(sys.modules, module, None)
    node = make_node(**parameters)
    assert not node.autostart()
    assert reason in node.problem and node.lifecycle == "unconfigured"


class Buffer:
    """Stand-in of tf2_ros.Buffer: knows one transform, from t = 10 s on."""

    def __init__(self):
        self.asked = []

    def lookup_transform(self, target, source, time, timeout):
        self.asked.append((target, source, time.nanoseconds, timeout.nanoseconds))
        if (target, source) != ("map", "camera") or time.nanoseconds < 10 * 10**9:
            raise LookupError("extrapolation into the past")
        found = TransformStamped()
        found.transform.translation.x = 2.0
        found.transform.rotation.z, found.transform.rotation.w = np.sqrt(0.5), np.sqrt(0.5)
        return found


@pytest.fixture
def stand_in_tf2(monkeypatch):
    module = types.ModuleType("tf2_ros")
    module.Buffer = Buffer
    module.TransformListener = lambda buffer, node, spin_thread: SimpleNamespace(node=node, spins=spin_thread)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


def test_the_camera_in_another_frame_at_the_masks_stamp(make_node, stand_in_tf2):
    node = make_node()
    frame = output_frame.OutputFrame(node, "map")
    try:
        header = Header(frame_id="camera", stamp=conversions.stamp_from_seconds(12.5))
        pose = frame.T_output_camera(header)
        np.testing.assert_allclose(pose[:3, 3], [2, 0, 0])
        np.testing.assert_allclose(pose[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
        target, source, stamp, timeout = frame._buffer.asked[-1]
        assert (target, source, stamp) == ("map", "camera", 12_500_000_000)
        assert 0 < timeout <= 10**8  # never long enough to pile up masks
        assert frame._listener.spins and frame._listener.node.get_name() == "pose_tracker_tf"
        early = Header(frame_id="camera", stamp=conversions.stamp_from_seconds(9.0))
        with pytest.raises(PoseError, match="no transform from 'camera' to 'map': extrapolation into the past"):
            frame.T_output_camera(early)
    finally:
        frame.close()
