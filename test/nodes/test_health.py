# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of images that come and have no answer."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from dfips_ros.msg import LightEstimate  # noqa: E402
from dfips_ros.nodes.light_health import LightHealth  # noqa: E402
from dfips_ros.nodes.mask_stream import Arrival  # noqa: E402
from dfips_ros.nodes.restorer_health import RestorerHealth  # noqa: E402

OK, WARN = b"\x00", b"\x01"
TOPICS = {"image": "/image", "camera_info": "/camera_info"}


def test_a_light_that_is_told_no_more_while_images_come_is_a_warning():
    health = LightHealth(lifecycle="active", active_since=0.0, camera_time=0.0, period=0.1)

    def told(now):
        return health.message("light", "", now, 2.0, TOPICS)

    for index in range(20):
        health.images.receive(float(index), 0.1 * index)
        health.note_answer(LightEstimate.ESTIMATED, "", 0.1 * index)
    assert (told(2.0).level, told(2.0).message.split(" at ")[0]) == (OK, "estimating")
    for index in range(40):
        health.images.receive(19.0, 2.0 + 0.1 * index)  # the driver's stamps stand still
    status = told(6.0)
    assert status.level == WARN and status.message.startswith("no answer for 4.1 s, though images come; 40 had stamps")
    health.images.receive(20.0, 6.0)
    health.note_answer(LightEstimate.ESTIMATED, "", 6.0)
    assert told(6.0).level == OK
    health.period = 20.0  # rate: 0.05
    health.images.receive(21.0, 20.0)
    assert told(20.0).level == OK


def test_images_that_are_left_out_are_told_once():
    health = RestorerHealth(lifecycle="active", active_since=0.0)
    health.stream.receive(1.0, 0.0)
    assert health.message("restorer", 0.1).level == OK
    for arrival in (0.11, 0.12, 0.13):
        assert health.stream.receive(1.0, arrival) is Arrival.LATE
    status = health.message("restorer", 0.2)
    assert status.level == WARN and status.message.startswith("3 images left out")
    assert health.message("restorer", 0.3).level == OK
