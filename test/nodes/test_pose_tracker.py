# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker over the real middleware, in a process of its own, with a stand-in for the solver."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from std_srvs.srv import Trigger  # noqa: E402

from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.srv import SetPose  # noqa: E402

FRAME = "camera_optical_frame"
OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


def received(tracker, name):
    return list(tracker.client.received[name])


def values(status):
    return {pair.key: pair.value for pair in status.values}


def test_answers_with_pose_transform_and_state(tracker):
    mask = tracker.mask(centre=(110, 60))
    answer = tracker.send(mask)
    assert answer.state == TrackedObject.TRACKING
    assert answer.header == mask.header
    assert answer.object_name == "box"
    assert answer.iou == pytest.approx(0.95)
    assert list(answer.residual_norms) == [0.5, 0.25]
    pose = tracker.client.wait(lambda: received(tracker, "pose"), "pose")[-1]
    assert pose.header == mask.header
    assert pose.pose.pose.position.x == pytest.approx(0.5 * (109.5 - 80) / 150, abs=1e-6)
    assert pose.pose.pose.position.z == pytest.approx(0.5)
    assert pose.pose.covariance[0] == pytest.approx(1e-6)
    transform = tracker.client.wait(lambda: received(tracker, "tf"), "transform")[-1].transforms[0]
    assert (transform.header, transform.child_frame_id) == (mask.header, "box")
    assert transform.transform.translation.z == pytest.approx(0.5)
    status = tracker.status(lambda s: s.level == OK and s.message == "TRACKING", "TRACKING")
    assert values(status)["silhouette IoU"] == "0.950"
    assert status.hardware_id == "box"


@pytest.mark.parametrize(
    ("encoding", "value"), [("mono8", 7), ("8UC1", 7), ("mono16", 700), ("16UC1", 700), ("32SC1", -7)]
)
def test_reads_labels(tracker, encoding, value):
    assert tracker.set_parameters(mask_mode="label", label_value=value) == []
    assert tracker.send(tracker.mask(encoding=encoding, value=value)).state == TrackedObject.TRACKING
    other = tracker.send(tracker.mask(encoding=encoding, value=3))
    assert other.reason == "mask is empty"


def test_reports_a_mask_at_the_border(tracker):
    answer = tracker.send(tracker.mask(centre=(20, 60)))
    assert answer.state == TrackedObject.TRACKING
    assert answer.reason == "the mask touches the image border: part of the object may be unseen"
    tracker.status(lambda s: "touches the image border" in s.message, "border")
    assert tracker.send().reason == ""


def test_loses_the_object_and_finds_it_again(tracker):
    tracker.send()
    misses = [tracker.send(tracker.mask(half=0)) for _ in range(3)]
    states = [each.state for each in misses]
    assert states == [TrackedObject.TRACKING, TrackedObject.TRACKING, TrackedObject.LOST]
    # covariance[0] < 0 marks a pose that is not to be used, also while the state is still TRACKING
    assert [each.pose.covariance[0] for each in misses] == [-1.0] * 3
    assert [each.pose.pose.position.z for each in misses] == pytest.approx([0.5] * 3)
    assert [len(each.residual_norms) for each in misses] == [0] * 3
    lost = received(tracker, "object")[-1]
    assert lost.reason == "mask is empty"
    assert lost.pose.covariance[0] == -1.0
    assert lost.pose.pose.position.z == pytest.approx(0.5)  # the last known pose
    tracker.status(lambda s: s.level == WARN and "LOST: mask is empty" in s.message, "LOST")
    poses, transforms = len(received(tracker, "pose")), len(received(tracker, "tf"))
    assert (poses, transforms) == (1, 1)
    found = tracker.send()
    assert found.state == TrackedObject.TRACKING and found.pose.covariance[0] >= 0.0
    tracker.client.wait(lambda: len(received(tracker, "pose")) == 2, "pose after recovery")


def test_reset_forgets_the_pose(tracker):
    tracker.send()
    response = tracker.client.call(Trigger, f"{tracker.name}/reset", Trigger.Request())
    assert response.success, response.message
    answer = tracker.send(tracker.mask(half=0))
    assert answer.state == TrackedObject.INITIALISING
    assert answer.pose.pose.position.z == 0.0


def set_pose(tracker, frame=FRAME, z=0.5, quaternion=(0.0, 0.0, 0.0, 1.0)):
    request = SetPose.Request()
    request.pose.header.frame_id = frame
    request.pose.pose.position.z = z
    orientation = request.pose.pose.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion
    return tracker.client.call(SetPose, f"{tracker.name}/set_pose", request)


def test_set_pose_is_taken_over(tracker):
    tracker.send()
    half = math.sqrt(0.5)
    for frame in (FRAME, ""):
        response = set_pose(tracker, frame, quaternion=(0.0, 0.0, half, half))
        assert response.success, response.message
    assert tracker.send().pose.pose.orientation.z == pytest.approx(half)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"frame": "map"}, "optical frame, which is 'camera_optical_frame'"),
        ({"z": -0.5}, "in front of the camera"),
        ({"z": math.nan}, "finite"),
        ({"quaternion": (0.0, 0.0, 0.0, 0.0)}, "unit quaternion"),
        ({"quaternion": (1.0, 1.0, 0.0, 0.0)}, "unit quaternion"),
    ],
)
def test_set_pose_refuses_with_a_reason(tracker, arguments, reason):
    tracker.send()
    response = set_pose(tracker, **arguments)
    assert not response.success
    assert reason in response.message


def test_services_refuse_while_not_active(stand_in, box_mesh):
    stand_in.unconfigure()
    for state in ("unconfigured", "inactive"):
        reset = stand_in.client.call(Trigger, f"{stand_in.name}/reset", Trigger.Request())
        for response in (reset, set_pose(stand_in)):
            assert not response.success
            assert f"the node is {state}" in response.message and "activate it first" in response.message
        if state == "unconfigured":
            assert stand_in.set_parameters(mesh=box_mesh) == []
            assert stand_in.change("configure")
    stand_in.unconfigure()


def test_bad_parameters_refuse_configuration_and_say_why(stand_in, box_mesh, tmp_path):
    stand_in.unconfigure()
    empty = tmp_path / "empty.stl"
    empty.touch()
    cases = [
        ({"mesh": ""}, "mesh=''"),
        ({"mesh": "/nowhere/part.stl"}, "/nowhere/part.stl"),
        ({"mesh": str(empty)}, "empty"),
        ({"mesh": "http://example.com/part.stl"}, "file://"),
        ({"mesh": "package://no_such_package_at_all/part.stl"}, "no_such_package_at_all"),
        ({"mesh": box_mesh, "mesh_scale": 1000.0}, "mesh_scale=1000"),
        ({"mesh": box_mesh, "mesh_scale": 1.0, "init_iou": 0.3}, "init_iou=0.3"),
    ]
    for values, reason in cases:
        assert stand_in.set_parameters(**values) == []
        assert not stand_in.change("configure")
        assert stand_in.state() == "unconfigured"
        status = stand_in.status(lambda s, reason=reason: s.level == ERROR and reason in s.message, reason)
        assert "cannot configure" in status.message
    assert stand_in.set_parameters(init_iou=0.8) == []
    assert stand_in.change("configure")
    stand_in.unconfigure()


def test_parameters_out_of_range_are_refused_at_once(stand_in):
    stand_in.unconfigure()
    for name, value, allowed in [
        ("lost_iou", 1.5, "1"),
        ("lost_iou", math.nan, ""),
        ("lost_iou", "high", "double"),
        ("mask_mode", "colour", "'binary' | 'label'"),
        ("distortion", "maybe", "'rectify'"),
        ("device", "tpu", "'cuda'"),
        ("lost_frames", 0, "1"),
        ("max_solve_threads", 0, "1"),
    ]:
        reasons = stand_in.set_parameters(**{name: value})
        assert len(reasons) == 1 and name in reasons[0] and allowed in reasons[0], reasons
    assert stand_in.set_parameters(mesh_scale=1) == []  # a whole number is taken for a double


def test_parameters_at_run_time(tracker):
    tracker.send()
    reasons = tracker.set_parameters(mesh="/other.stl")
    assert len(reasons) == 1 and "while the node is configured" in reasons[0]
    reasons = tracker.set_parameters(lost_iou=0.9)
    assert len(reasons) == 1 and "init_iou" in reasons[0]
    assert tracker.set_parameters(lost_frames=1) == []
    tracker.send()
    assert tracker.send(tracker.mask(half=0)).state == TrackedObject.LOST


def test_transform_can_be_switched_off_and_on(tracker):
    assert tracker.set_parameters(publish_tf=False) == []
    tracker.send()
    tracker.client.wait(lambda: received(tracker, "pose"), "pose")
    time.sleep(0.1)
    assert received(tracker, "tf") == []
    assert tracker.set_parameters(publish_tf=True) == []
    tracker.send()
    tracker.client.wait(lambda: received(tracker, "tf"), "transform")


def broken_masks(tracker):
    truncated = tracker.mask()
    truncated.data = truncated.data[:100]
    colour = tracker.mask()
    colour.encoding, colour.step = "rgb8", 480
    colour.data = bytes(480 * 120)
    nothing = tracker.mask()
    nothing.width = nothing.height = nothing.step = 0
    nothing.data = b""
    narrow = tracker.mask()
    narrow.step = 10
    frameless = tracker.mask(size=(100, 160), centre=(80, 50))
    return [
        (truncated, "truncated"),
        (colour, "Coloured masks are not label images"),
        (nothing, "size above zero"),
        (narrow, "step"),
        (frameless, "aspect ratios differ"),
    ]


def test_outlives_broken_masks(tracker):
    tracker.send()
    for mask, reason in broken_masks(tracker):
        answer = tracker.send(mask)
        assert reason in answer.reason
        assert answer.pose.covariance[0] == -1.0
        tracker.status(lambda s, reason=reason: s.level == ERROR and reason in s.message, reason)
    assert answer.state == TrackedObject.LOST
    assert tracker.send().state == TrackedObject.TRACKING


def test_outlives_a_defect_in_the_solver(tracker):
    crash = tracker.mask(half=0)
    pixels = np.zeros(120 * 160, np.uint8)
    pixels[:777] = 255
    crash.data = pixels.tobytes()
    answer = tracker.send(crash)
    assert "RuntimeError: a defect that nobody expected" in answer.reason
    assert tracker.send().state == TrackedObject.TRACKING
    assert "Traceback" in tracker.output()


def test_outlives_mutated_messages(tracker):
    rng = np.random.default_rng(7)
    tracker.discover(tracker.mask_publisher)
    encodings = ["mono8", "8UC1", "mono16", "32SC1", "rgb8", "bayer_rggb8", "", "nonsense"]
    for _ in range(150):
        mask = tracker.mask()
        mask.encoding = str(rng.choice(encodings))
        mask.height, mask.width, mask.step = (int(v) for v in rng.choice([0, 1, 120, 160, 2**31, 2**32 - 1], 3))
        mask.is_bigendian = int(rng.integers(0, 256))
        mask.data = rng.integers(0, 256, int(rng.integers(0, 2000)), dtype=np.uint8).tobytes()
        tracker.mask_publisher.publish(mask)
        info = tracker.camera_info(
            width=int(rng.choice([0, 160, 2**32 - 1])),
            height=int(rng.choice([0, 120])),
            distortion_model=str(rng.choice(["", "plumb_bob", "equidistant", "odd"])),
            d=[float(v) for v in rng.choice([0.0, 0.1, math.nan, math.inf], int(rng.integers(0, 9)))],
            k=[float(v) for v in rng.choice([0.0, 1.0, -1.0, math.nan, 150.0], 9)],
            binning_x=int(rng.choice([0, 1, 4, 2**32 - 1])),
        )
        tracker.info_publisher.publish(info)
    assert tracker.state() == "active"
    assert tracker.send().state == TrackedObject.TRACKING


def test_says_that_masks_are_missing(tracker):
    tracker.send()
    tracker.status(lambda s: s.level == WARN and f"no mask on {tracker.name}/mask" in s.message, "mask missing")


def test_masks_without_a_stamp_get_the_time_of_arrival(tracker):
    tracker.send()
    mask = tracker.mask(stamp=0.0)
    before = tracker.client.node.get_clock().now().nanoseconds
    count = len(received(tracker, "object"))
    tracker.mask_publisher.publish(mask)
    tracker.client.wait(lambda: len(received(tracker, "object")) > count, "answer")
    stamp = received(tracker, "object")[-1].header.stamp
    assert 0 <= stamp.sec * 10**9 + stamp.nanosec - before < 5 * 10**9


def test_clock_set_back_starts_anew_and_late_masks_are_left_out(tracker):
    tracker.send()
    tracker.stamp -= 50.0
    answer = tracker.send(tracker.mask(half=0))
    assert answer.state == TrackedObject.INITIALISING
    newest = tracker.mask()
    tracker.send(newest)
    count = len(received(tracker, "object"))
    tracker.mask_publisher.publish(tracker.mask(stamp=tracker.stamp - 0.1))
    status = tracker.status(lambda s: "1 masks left out" in s.message, "late mask")
    assert status.level == WARN and values(status)["masks late"] == "1"
    assert "is not newer than the one before" in tracker.output()
    assert len(received(tracker, "object")) == count


def test_lifecycle(stand_in, box_mesh):
    stand_in.unconfigure()
    assert stand_in.set_parameters(mesh=box_mesh) == []
    assert not stand_in.change("activate")  # not possible from unconfigured; the node must live on
    assert stand_in.state() == "unconfigured"
    masks = stand_in.mask_publisher
    for _ in range(2):
        assert stand_in.change("configure")
        assert stand_in.state() == "inactive"
        assert masks.get_subscription_count() == 0
        assert stand_in.change("activate")
        assert stand_in.state() == "active"
        stand_in.handshake()
        assert stand_in.send().state == TrackedObject.TRACKING
        assert stand_in.change("deactivate")
        stand_in.client.wait(lambda: masks.get_subscription_count() == 0, "end of the subscription")
        assert stand_in.change("activate")
        stand_in.handshake()
        assert stand_in.send().state == TrackedObject.TRACKING
        assert stand_in.change("deactivate")
        assert stand_in.change("cleanup")
        assert stand_in.state() == "unconfigured"


def test_masks_that_came_while_inactive_are_no_drops(tracker):
    tracker.send()
    assert tracker.change("deactivate")
    tracker.client.wait(lambda: tracker.mask_publisher.get_subscription_count() == 0, "end of the subscription")
    for _ in range(20):
        tracker.mask_publisher.publish(tracker.mask())
    assert tracker.change("activate")
    tracker.discover(tracker.mask_publisher)
    tracker.client.forget()
    tracker.send()
    status = tracker.status(lambda s: values(s)["masks received"] == "1", "the first mask")
    assert values(status)["masks dropped"] == "0"
    assert "dropped" not in status.message
