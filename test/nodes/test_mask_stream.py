# SPDX-License-Identifier: Apache-2.0
"""What is learnt from the order of masks, and what /diagnostics makes of it."""

from __future__ import annotations

import pytest

pytest.importorskip("diagnostic_msgs.msg")

from dfips_ros.nodes.diagnostics import TrackerHealth  # noqa: E402
from dfips_ros.nodes.mask_stream import Arrival, MaskStream, ResetBarrier  # noqa: E402

TOPICS = {"mask": "/mask", "camera_info": "/info"}


def feed(stream, frames, first_sequence=None, period=1 / 30):
    for frame in frames:
        sequence = None if first_sequence is None else first_sequence + frame
        stream.receive(100 + frame * period, frame * period, sequence)


def test_rate_and_silence():
    stream = MaskStream()
    assert stream.rate(0.0) == 0.0 and stream.silence(0.0) is None
    feed(stream, range(31))
    assert stream.rate(1.0) == pytest.approx(30.0)
    assert stream.silence(1.5) == pytest.approx(0.5)
    assert stream.rate(9.0) == 0.0


@pytest.mark.parametrize("first_sequence", [None, 1])
def test_dropped_frames(first_sequence):
    stream = MaskStream()
    feed(stream, [*range(20), 22, 23, 27], first_sequence)
    assert stream.dropped == 2 + 3


def test_the_publishers_counter_sees_regular_drops_that_stamps_hide():
    stream = MaskStream()
    feed(stream, range(0, 40, 2), 1)
    assert stream.dropped == 19


def test_another_publisher_is_no_drop():
    stream = MaskStream()
    feed(stream, range(5), 100_000)
    stream.receive(200.0, 1.0, 1)
    stream.receive(200.1, 1.1, 500_000)
    assert stream.dropped == 0


def test_late_repeated_and_set_back():
    stream = MaskStream()
    assert stream.receive(10.0, 0.0) is Arrival.NEW
    assert stream.receive(10.0, 0.1) is Arrival.LATE
    assert stream.receive(9.8, 0.2) is Arrival.LATE
    assert stream.receive(10.1, 0.3) is Arrival.NEW
    assert stream.receive(2.0, 0.4) is Arrival.CLOCK_SET_BACK
    assert stream.receive(2.1, 0.5) is Arrival.NEW
    assert (stream.late, stream.set_back) == (2, 1)
    for arrival in (0.6, 0.7):  # without a stamp
        assert stream.receive(None, arrival) is Arrival.NEW
    assert stream.receive(2.1, 0.8) is Arrival.LATE
    assert (stream.received, stream.late, stream.set_back) == (9, 3, 1)


TRACKING = {"box": ("TRACKING", "", 0.9)}


def status(health, now=10.0):
    return health.status("node", "box", now, 2.0, TOPICS)


def test_levels_and_reasons():
    health = TrackerHealth()
    assert (status(health).level, status(health).message) == (b"\x00", "unconfigured: not tracking")
    health.problem = "cannot configure: no mesh"
    assert (status(health).level, status(health).message) == (b"\x02", "cannot configure: no mesh")
    health.problem, health.lifecycle, health.active_since = "", "active", 9.5
    assert status(health).level == b"\x01" and "/info for 0.5 s" in status(health).message
    assert status(health, 20.0).level == b"\x02"
    health.camera_time = 9.6
    assert status(health, 20.0).message == "no mask on /mask for 10.5 s"
    health.stream.receive(1.0, 9.9)
    health.objects["box"] = ("TRACKING", "", 0.9)
    assert (status(health).level, status(health).message) == (b"\x00", "TRACKING")
    health.objects["box"] = ("LOST", "the mask is empty", 0.0)
    assert (status(health).level, status(health).message) == (b"\x01", "LOST: the mask is empty")
    health.camera_problem = "NaN"
    assert status(health).level == b"\x01" and "the previous one is used: NaN" in status(health).message
    health.note_error("mask", "truncated", 9.95)
    assert (status(health).level, status(health).message) == (b"\x02", "mask: truncated")


def test_drops_are_told_once():
    health = TrackerHealth(lifecycle="active", active_since=0.0, camera_time=0.0, objects=TRACKING)
    feed(health.stream, [0, 1, 5], 1)
    assert "3 masks dropped since the last report" in status(health, 0.2).message
    assert status(health, 0.2).level == b"\x00"


def test_late_masks_are_told_once():
    health = TrackerHealth(lifecycle="active", active_since=0.0, camera_time=0.0, objects=TRACKING)
    for arrival in (0.1, 0.2, 0.3):
        health.stream.receive(7.0, arrival)
    first = status(health, 0.4)
    assert first.level == b"\x01"
    assert first.message == "TRACKING; 2 masks left out since the last report, as their stamps are repeated or older"
    assert (status(health, 0.4).level, status(health, 0.4).message) == (b"\x00", "TRACKING")


def test_a_clock_that_was_set_back_is_told_once():
    health = TrackerHealth(lifecycle="active", active_since=0.0, camera_time=0.0, objects=TRACKING)
    health.stream.receive(70.0, 0.1)
    health.stream.receive(7.0, 0.2)
    told = "TRACKING; the masks' clock was set back, so the tracker began anew"
    first = status(health, 0.3)
    assert (first.level, first.message) == (b"\x01", told)
    assert (status(health, 0.3).level, status(health, 0.3).message) == (b"\x00", "TRACKING")


def test_an_overlay_that_fails_is_a_warning_and_no_error():
    health = TrackerHealth(lifecycle="active", active_since=0.0, camera_time=0.0, objects=TRACKING)
    health.stream.receive(1.0, 0.1)
    health.note_error("overlay", "no font", 0.1)
    health.overlay_problem = "no font"
    assert (status(health, 0.2).level, status(health, 0.2).message) == (b"\x01", "TRACKING; no overlay: no font")
    health.overlay_problem = ""
    assert status(health, 0.2).level == b"\x00"


def test_figures():
    health = TrackerHealth()
    health.solve_times.extend([0.010, 0.012, 0.030])
    values = {pair.key: pair.value for pair in status(health).values}
    assert values["solve time median (ms)"] == "12.00"
    assert values["mask callback median (ms)"] == "none"
    assert values["camera_info age (s)"] == "none"


def test_a_mask_that_waited_for_more_than_two_periods_is_counted():
    health = TrackerHealth()
    health.note_wait(9.0)  # no period is known yet
    feed(health.stream, [0, 1, 2, 5, 6, 7, 8], 1)
    assert health.stream.period == pytest.approx(1 / 30)
    for seconds in (None, 0.03, 0.06, 0.07):
        health.note_wait(seconds)
    assert health.outdated == 1 and list(health.waits) == [9.0, 0.03, 0.06, 0.07]


def test_latency_is_told_where_stamps_are_of_the_nodes_clock():
    health = TrackerHealth()
    for latency in (None, 0.02, 0.03, 0.04, -5.0, 3600.0):
        health.note_answered(0.01, latency)
    values = {pair.key: pair.value for pair in status(health).values}
    assert (values["mask to pose median (ms)"], values["mask callback median (ms)"]) == ("30.00", "10.00")
    assert values["mask wait p99 (ms)"] == "none"


def test_several_objects():
    health = TrackerHealth(lifecycle="active", active_since=0.0, camera_time=0.0, objects={**TRACKING})
    health.stream.receive(1.0, 0.1)
    health.objects["cup"] = ("TRACKING", "", 0.7)
    assert (status(health, 0.2).level, status(health, 0.2).message) == (b"\x00", "TRACKING")
    health.objects["cup"] = ("LOST", "the mask is empty", 0.0)
    told = status(health, 0.2)
    assert told.level == b"\x01"
    assert told.message == "1 of 2 objects TRACKING: cup LOST (the mask is empty)"
    values = {pair.key: pair.value for pair in told.values}
    assert (values["box silhouette IoU"], values["cup state"], values["silhouette IoU"]) == ("0.900", "LOST", "0.000")
    health.objects.clear()
    assert status(health, 0.2).message == "no objects: add one with ~/add_object"


@pytest.mark.parametrize(
    ("stamp", "clock", "received", "stale"),
    [
        (99.9, 100.1, None, True),  # taken before the reset at 100
        (100.05, 100.1, None, False),
        (7.0, 100.1, None, False),  # stamps of another clock
        (7.0, 100.1, 5.1, False),
        (7.0, 100.1, 4.9, True),  # received before the reset, at 5 on the computer's clock
        (None, 100.1, 4.9, True),
        (100.3, 100.1, None, False),
        (None, 100.1, -3600.0, False),  # the computer's clock was set back by an hour since
        (20.0, 20.1, None, False),  # the node's clock was
    ],
)
def test_masks_from_before_a_reset(stamp, clock, received, stale):
    barrier = ResetBarrier()
    assert not barrier.is_before(stamp, clock, received)
    barrier.set(100.0, 5.0)
    assert barrier.is_before(stamp, clock, received) is stale
    barrier.lift()
    assert not barrier.is_before(stamp, clock, received)
