# SPDX-License-Identifier: Apache-2.0
"""The node grasp_target in a process of its own: targets from poses that are fresh and certain, reasons otherwise."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from dfips_ros.geometry import invert_pose, make_pose  # noqa: E402
from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes.conversions import (  # noqa: E402
    matrix_from_pose,
    pose_with_covariance,
    stamp_from_seconds,
    unknown_pose_with_covariance,
)

NAME = "/cell/grasp_target"
WARN, ERROR = b"\x01", b"\x02"
GRASP_XYZ, GRASP_RPY = (0.02, -0.01, 0.05), (0.3, -0.2, 1.1)
CAMERA_XYZ, CAMERA_QUATERNION = (0.5, 0.1, 0.9), tuple(Rotation.from_euler("xyz", (2.8, 0.1, -0.7)).as_quat())
DEFAULTS = {
    "grasp_xyz": "0.02 -0.01 0.05", "grasp_rotation": "0.3 -0.2 1.1", "standoff": 0.1, "approach_axis": "z",
    "approach_speed": 10.0, "min_iou": 0.8, "max_position_deviation": 0.02, "max_rotation_deviation": 0.0,
    "max_age": 5.0, "object_name": "",
}  # fmt: skip
T_BASE_CAMERA = make_pose(Rotation.from_quat(CAMERA_QUATERNION).as_matrix(), np.array(CAMERA_XYZ))
T_CAMERA_OBJECT = make_pose(Rotation.from_rotvec((0.4, -1.2, 0.5)).as_matrix(), np.array((0.05, -0.03, 0.6)))


def numbers(values):
    return " ".join(f"{value:.12g}" for value in values)


@pytest.fixture(scope="module")
def process(client, lifecycle_process):
    publisher = client.node.create_publisher(TrackedObject, f"{NAME}/tracked_object", QoSProfile(depth=10))
    topics = {
        "target": (PoseStamped, f"{NAME}/target_pose"),
        "grasp": (PoseStamped, f"{NAME}/grasp_pose"),
        "diagnostics": (DiagnosticArray, "/diagnostics"),
    }
    given = {
        "base_frame": "base_link", "camera_xyz": numbers(CAMERA_XYZ), "camera_rotation": numbers(CAMERA_QUATERNION),
        "diagnostics_period": 0.1, "autostart": False,
    }  # fmt: skip
    node = lifecycle_process(client, ["-m", "dfips_ros.nodes.grasp_target"], NAME, given, topics)
    node.publisher = publisher
    yield node
    assert node.stop() == 0, node.output()
    assert "Traceback" not in node.output()


@pytest.fixture
def grasper(process):
    """Active, with DEFAULTS, and heard in both directions."""
    process.unconfigure()
    assert process.set_parameters(**DEFAULTS) == []
    assert process.change("configure") and process.change("activate"), process.output()
    process.discover(process.publisher)
    process.client.wait(lambda: send(process, tracked(), seconds=0.3), "the first target", 60.0)
    process.client.forget()
    yield process


def tracked(age=0.0, state=TrackedObject.TRACKING, iou=0.95, name="drill", deviation=1e-3, known=True, reason=""):
    message = TrackedObject(object_name=name, state=state, iou=iou, reason=reason)
    message.header.frame_id = "camera_optical_frame"
    message.header.stamp = stamp_from_seconds(time.time() - age)
    covariance = np.eye(6) * deviation**2
    message.pose = (
        pose_with_covariance(T_CAMERA_OBJECT, covariance) if known else unknown_pose_with_covariance(T_CAMERA_OBJECT)
    )
    return message


def send(node, message, seconds=10.0):
    """Publish, again if it gets lost; target and grasp of that stamp as matrices, None when they do not come."""
    received, stamp = node.client.received, message.header.stamp

    def both():
        found = [m for name in ("target", "grasp") for m in list(received[name]) if m.header.stamp == stamp]
        return found if len(found) == 2 else None

    try:
        found = node.client.ask(lambda: node.publisher.publish(message), both, "target and grasp", seconds, 1.5)
    except AssertionError:
        return None
    assert {m.header.frame_id for m in found} == {"base_link"}
    return [matrix_from_pose(m.pose) for m in found]


def test_target_is_the_grasp_moved_back_along_the_approach(grasper):
    expected = T_BASE_CAMERA @ T_CAMERA_OBJECT @ make_pose(
        Rotation.from_euler("xyz", GRASP_RPY).as_matrix(), np.array(GRASP_XYZ)
    )  # fmt: skip
    target, grasp = send(grasper, tracked())
    np.testing.assert_allclose(grasp, expected, atol=1e-9)
    back = invert_pose(grasp) @ target
    np.testing.assert_allclose(back[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(back[:3, 3], (0, 0, -0.1), atol=1e-9)
    assert (
        grasper.set_parameters(approach_axis="-x", grasp_rotation=numbers(Rotation.from_euler("x", 1.0).as_quat()))
        == []
    )
    target, grasp = send(grasper, tracked())
    np.testing.assert_allclose((invert_pose(grasp) @ target)[:3, 3], (0.1, 0, 0), atol=1e-9)
    np.testing.assert_allclose(
        invert_pose(T_BASE_CAMERA @ T_CAMERA_OBJECT) @ grasp,
        make_pose(Rotation.from_euler("x", 1.0).as_matrix(), np.array(GRASP_XYZ)), atol=1e-9,
    )  # fmt: skip


def test_approach_is_no_faster_than_allowed(grasper):
    assert grasper.set_parameters(standoff=0.0, approach_speed=0.2) == []
    started, distances = time.monotonic(), [0.1]
    while distances[-1] > 1e-9 and time.monotonic() < started + 30.0:
        both = send(grasper, tracked())
        if both is not None:
            distances.append(float(np.linalg.norm(both[0][:3, 3] - both[1][:3, 3])))
    assert distances[-1] < 1e-9 and distances == sorted(distances, reverse=True)
    assert time.monotonic() - started > 0.9 * 0.1 / 0.2
    assert len(distances) > 3


def test_standoff_is_set_while_poses_stream_as_a_whole_number_too(grasper):
    """As `ros2 param set` does, which makes an integer of 1 and of 0; each change moves the target all the way."""
    stop = threading.Event()

    def stream():
        while not stop.wait(0.02):
            grasper.publisher.publish(tracked())

    def distance():
        received = grasper.client.received
        grasps = {(m.header.stamp.sec, m.header.stamp.nanosec): m.pose.position for m in list(received["grasp"])}
        for m in reversed(list(received["target"])):
            at = grasps.get((m.header.stamp.sec, m.header.stamp.nanosec))
            if at is not None:
                to = m.pose.position
                return float(np.linalg.norm([to.x - at.x, to.y - at.y, to.z - at.z]))
        return None

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        for wanted in (0.0, 0.1, 0, 1, 0.25):
            assert grasper.set_parameters(standoff=wanted) == []
            grasper.client.wait(lambda wanted=wanted: (d := distance()) is not None and abs(d - wanted) < 1e-9,
                                f"a target {wanted} m back")  # fmt: skip
            grasper.client.forget()
        assert grasper.set_parameters(approach_speed=0.001, standoff=0.5) == []
        grasper.status(lambda s: "mm back, on the way to 500 mm" in s.message, "that the standoff changes")
        for wrong, reason in ((11, "standoff=11.0: allowed is 0 to 10"), ("far", "standoff='far': expected double"),
                              (True, "standoff=True: expected double")):  # fmt: skip
            (refused,) = grasper.set_parameters(standoff=wrong)
            assert reason in refused
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (lambda: tracked(state=TrackedObject.LOST, known=False, reason="mask is empty"), "LOST: mask is empty"),
        (lambda: tracked(state=TrackedObject.INITIALISING, known=False), "not found yet"),
        (lambda: tracked(known=False), "no pose for this image"),
        (lambda: tracked(age=6.0), "s old, max_age is 5 s"),
        (lambda: tracked(age=-60.0), "s in the future, max_age is 5 s"),
        (lambda: tracked(iou=0.7), "IoU 0.70 is below min_iou 0.8"),
        (lambda: tracked(iou=float("nan")), "IoU nan is below min_iou 0.8"),
        (lambda: tracked(deviation=0.05), "the grasp point is uncertain by"),
        (lambda: spoilt("covariance"), "covariance: expected finite numbers"),
        (lambda: spoilt("position"), "expected finite numbers, got position"),
        (lambda: spoilt("quaternion"), "expected a unit quaternion"),
    ],
)
def test_a_pose_that_is_not_fit_gives_no_target_but_a_reason(grasper, message, reason):
    assert send(grasper, message(), seconds=0.2) is None
    grasper.status(
        lambda s: s.level == WARN and s.message.startswith("no target") and reason in s.message, reason,
        lambda: grasper.publisher.publish(message()),
    )  # fmt: skip
    again = tracked(age=-61.0) if "future" in reason else tracked()  # newer than what has been
    assert "future" in reason or send(grasper, again) is not None


def spoilt(what):
    message = tracked()
    if what == "covariance":
        message.pose.covariance[7] = float("nan")
    elif what == "position":
        message.pose.pose.position.y = float("inf")
    else:
        message.pose.pose.orientation.w = 3.0
    return message


def test_one_object_of_several_must_be_named(grasper):
    assert send(grasper, tracked(name="brick"), seconds=0.3) is None
    several = "several objects (brick, drill): set the parameter object_name"
    grasper.status(lambda s: several in s.message, several, lambda: grasper.publisher.publish(tracked(name="brick")))
    grasper.unconfigure()
    assert grasper.set_parameters(object_name="drill") == []
    assert grasper.change("configure") and grasper.change("activate")
    grasper.client.wait(lambda: send(grasper, tracked(), seconds=0.3), "a target for the drill")
    assert send(grasper, tracked(name="brick"), seconds=0.3) is None
    grasper.status(
        lambda s: s.level == b"\x00" and "targets at" in s.message, "targets",
        lambda: grasper.publisher.publish(tracked()),
    )  # fmt: skip


def test_wrong_parameters_are_told(process):
    process.unconfigure()
    (refused,) = process.set_parameters(approach_axis="w")
    assert "allowed is 'x' | 'y'" in refused
    for name, value, reason in (
        ("grasp_xyz", "1 2", "grasp_xyz='1 2': expected 'x y z' in metres"),
        ("grasp_rotation", "0 0 0 2", "expected a unit quaternion"),
        ("grasp_rotation", "north", "expected 'roll pitch yaw' [rad]"),
        ("camera_xyz", "", "expected camera_xyz too"),
        ("base_frame", "/base", "does not begin with '/'"),
        ("mesh", "/no/such.stl", "/no/such.stl"),
    ):
        good = {**DEFAULTS, "camera_xyz": numbers(CAMERA_XYZ), "base_frame": "base_link", "mesh": ""}[name]
        assert process.set_parameters(**{name: value}) == []
        assert not process.change("configure")
        process.status(lambda s, reason=reason: s.level == ERROR and reason in s.message, reason)
        assert process.set_parameters(**{name: good}) == []
