# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker and its camera_info: kept, missing, distorted, scaled."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from dfips_ros.msg import TrackedObject  # noqa: E402

FRAME = "camera_optical_frame"
OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"k": [math.nan] * 9}, "finite"),
        ({"k": [0.0] * 9}, "focal"),
        ({"width": 0, "height": 0}, "size"),
        ({"d": [0.1], "distortion_model": "plumb_bob"}, "coefficients"),
        ({"d": [0.1, 0.2], "distortion_model": "unheard_of"}, "distortion_model='unheard_of'"),
    ],
)
def test_keeps_the_last_usable_camera_info(tracker, fields, reason):
    tracker.send()
    bad = tracker.camera_info(**fields)
    assert tracker.send(info=bad).state == TrackedObject.TRACKING
    tracker.status(lambda s: s.level == WARN and "camera_info refused" in s.message and reason in s.message, reason)
    tracker.send()
    tracker.status(lambda s: s.level == OK, "well again")


def test_says_that_camera_info_is_missing(tracker):
    stand_in = tracker
    stand_in.change("deactivate")
    stand_in.change("cleanup")
    assert stand_in.change("configure") and stand_in.change("activate")
    stand_in.handshake(info=False)
    answer = stand_in.send(info=False)
    assert answer.state == TrackedObject.INITIALISING
    assert f"no camera_info yet: waiting for {stand_in.name}/camera_info" in answer.reason
    stand_in.status(lambda s: s.level == ERROR and f"{stand_in.name}/camera_info" in s.message, "camera_info missing")
    assert stand_in.send().state == TrackedObject.TRACKING


def test_refuses_distortion_where_told_to(tracker):
    distorted = tracker.camera_info(d=[0.1, 0.0, 0.0, 0.0, 0.0])
    assert tracker.send(info=distorted).state == TrackedObject.TRACKING
    assert tracker.set_parameters(distortion="refuse") == []
    assert "distortion is 'refuse'" in tracker.send(info=distorted).reason
    assert tracker.set_parameters(distortion="ignore") == []
    assert tracker.send(info=distorted).state == TrackedObject.TRACKING


def test_scales_camera_info_to_the_mask(tracker):
    answer = tracker.send(tracker.mask(size=(240, 320), centre=(160, 120)))
    assert answer.state == TrackedObject.TRACKING
    assert answer.pose.pose.position.x == pytest.approx(0.5 * (159.5 - 160.5) / 300, abs=1e-6)


def test_takes_the_frame_of_camera_info_when_the_mask_has_none(tracker):
    tracker.send()
    assert tracker.send(tracker.mask(frame="")).header.frame_id == FRAME


def test_no_usable_calibration_any_more_is_lost_in_the_end(tracker):
    distorted = tracker.camera_info(d=[0.1, 0.0, 0.0, 0.0, 0.0])
    tracker.send(info=distorted)
    assert tracker.set_parameters(distortion="refuse") == []
    states = [tracker.send(info=distorted).state for _ in range(3)]
    assert states == [TrackedObject.TRACKING, TrackedObject.TRACKING, TrackedObject.LOST]
