# SPDX-License-Identifier: Apache-2.0
"""What the node pose_tracker shows to people: the overlay and the marker."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from sensor_msgs.msg import Image  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from dfips_ros.msg import TrackedObject  # noqa: E402

FRAME = "camera_optical_frame"
OK, WARN = b"\x00", b"\x01"


def received(tracker, name):
    return list(tracker.client.received[name])


def test_overlay_only_while_somebody_listens(tracker):
    tracker.send()
    assert tracker.image_publisher.get_subscription_count() == 0
    subscription = tracker.client.listen("overlay", Image, f"{tracker.name}/overlay", 1)
    try:
        tracker.client.wait(lambda: tracker.send() and received(tracker, "overlay"), "overlay over the mask")
        over_mask = received(tracker, "overlay")[-1]
        assert (over_mask.encoding, over_mask.height, over_mask.width) == ("bgr8", 120, 160)
        tracker.discover(tracker.image_publisher)
        for _ in range(20):
            mask = tracker.mask()
            picture = Image(header=mask.header, height=120, width=160, encoding="rgb8", step=480)
            picture.data = np.full((120, 160, 3), (200, 100, 50), np.uint8).tobytes()
            tracker.image_publisher.publish(picture)
            time.sleep(0.02)
            tracker.client.received["overlay"].clear()
            tracker.send(mask)
            shown = tracker.client.wait(lambda: received(tracker, "overlay"), "overlay")[-1]
            pixels = np.frombuffer(shown.data, np.uint8).reshape(120, 160, 3)
            if (pixels[-1, -1] == (50, 100, 200)).all():
                break
        else:
            pytest.fail("the colour image never showed up in the overlay")
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3  # contour, axes, text
    finally:
        tracker.client.node.destroy_subscription(subscription)
    tracker.client.wait(
        lambda: tracker.send() and tracker.image_publisher.get_subscription_count() == 0,
        "end of the image subscription",
    )


def test_an_overlay_that_fails_leaves_the_tracking_alone(tracker):
    subscription = tracker.client.listen("overlay", Image, f"{tracker.name}/overlay", 1)
    try:
        tracker.client.wait(lambda: tracker.send() and received(tracker, "overlay"), "overlay over the mask")
        masks = [tracker.mask(centre=(80, 22)) for _ in range(4)]  # more than lost_frames
        for mask in masks:
            answer = tracker.send(mask)
            assert (answer.state, answer.reason) == (TrackedObject.TRACKING, "")
        status = tracker.status(lambda s: "a defect in the renderer" in s.message, "defect of the overlay")
        assert status.level == WARN
        assert status.message.startswith("TRACKING; no overlay: RuntimeError: ")
        stamps = [(each.header.stamp.sec, each.header.stamp.nanosec) for each in received(tracker, "object")]
        assert len(stamps) == len(set(stamps))
        tracker.client.forget()
        tracker.client.wait(lambda: tracker.send() and received(tracker, "overlay"), "overlay again")
        tracker.status(lambda s: s.level == OK, "well again")
    finally:
        tracker.client.node.destroy_subscription(subscription)


def test_marker_shows_the_mesh_and_goes_with_the_object(tracker):
    subscription = tracker.client.listen("markers", MarkerArray, f"{tracker.name}/markers")
    try:
        tracker.client.wait(lambda: tracker.send() and received(tracker, "markers"), "marker")
        marker = received(tracker, "markers")[-1].markers[0]
        assert (marker.action, marker.type, marker.ns) == (Marker.ADD, Marker.MESH_RESOURCE, "box")
        assert marker.mesh_resource.startswith("file:///") and marker.mesh_resource.endswith("box.stl")
        assert (marker.scale.x, marker.header.frame_id) == (1.0, FRAME)
        for _ in range(3):
            tracker.send(tracker.mask(half=0))
        tracker.client.wait(
            lambda: received(tracker, "markers")[-1].markers[0].action == Marker.DELETE,
            "deletion of the marker",
        )
    finally:
        tracker.client.node.destroy_subscription(subscription)


def test_marker_goes_on_deactivate_and_comes_back(tracker):
    subscription = tracker.client.listen("markers", MarkerArray, f"{tracker.name}/markers")
    try:
        for _ in range(2):
            tracker.client.wait(lambda: tracker.send() and received(tracker, "markers"), "marker")
            assert received(tracker, "markers")[-1].markers[0].action == Marker.ADD
            assert tracker.change("deactivate")
            tracker.client.wait(
                lambda: received(tracker, "markers")[-1].markers[0].action == Marker.DELETE,
                "deletion of the marker",
            )
            assert received(tracker, "markers")[-1].markers[0].ns == "box"
            assert tracker.change("activate")
            tracker.handshake()
        time.sleep(0.2)
        assert received(tracker, "markers") == []  # deleted once only
    finally:
        tracker.client.node.destroy_subscription(subscription)
