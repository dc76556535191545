# SPDX-License-Identifier: Apache-2.0
"""Which pose belongs to which image."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from dfips_ros.nodes.light_pairing import MAX_IMAGES, PosePairing  # noqa: E402


def test_every_image_gets_the_nearest_pose_whatever_comes_first():
    rng = np.random.default_rng(1)
    for _ in range(50):
        pairing, shift = PosePairing(), rng.uniform(-0.004, 0.004)
        latency = rng.uniform(0.0, 0.1)  # of the tracker
        events = [(t / 30.0, "image", t / 30.0) for t in range(30)]
        events += [(t / 30.0 + latency, "pose", t / 30.0 + shift) for t in range(30) if rng.random() < 0.7]
        found = []
        for now, kind, stamp in sorted(events):
            pairing.add_image(stamp, stamp, now) if kind == "image" else pairing.add_pose(stamp, stamp)
            pair = pairing.take(now, 1.0, 10.0)
            if pair is not None:
                found.append(pair)
        assert found and [p.image for p in found] == sorted({p.image for p in found})
        poses = np.array([stamp for _, kind, stamp in events if kind == "pose"])
        for pair in found:
            assert pair.gap == pytest.approx(pair.pose - pair.image)
            assert abs(pair.gap) <= np.abs(poses - pair.image).min() + 1e-12


def test_an_image_without_a_pose_waits_and_is_then_given_up():
    pairing = PosePairing()
    pairing.add_image(1.0, "a", 10.0)
    pairing.add_image(1.1, "b", 10.1)
    assert pairing.take(10.3, 0.02, 0.5) is None
    pair = pairing.take(10.55, 0.02, 0.5)
    assert (pair.image, pair.pose) == ("a", None)
    pairing.add_pose(1.05, "old")
    assert pairing.take(10.56, 0.1, 0.5) is None  # a later pose may be nearer
    pair = pairing.take(10.7, 0.1, 0.5)
    assert (pair.image, pair.pose) == ("b", "old") and pair.gap == pytest.approx(-0.05)
    assert pairing.take(99.0, 0.1, 0.5) is None


def test_the_newest_image_that_has_its_pose_goes_before_newer_ones_without():
    pairing = PosePairing()
    for index in range(5):
        pairing.add_image(float(index), index, 0.0)
    for stamp in (0.0, 1.01, 4.5):  # the tracker left out what came between
        pairing.add_pose(stamp, stamp)
    pair = pairing.take(0.1, 0.05, 10.0)
    assert (pair.image, pair.pose) == (1, 1.01)
    assert pairing.take(0.2, 0.05, 10.0) is None
    pair = pairing.take(10.0, 0.05, 10.0)
    assert (pair.image, pair.pose, pair.gap) == (4, 4.5, 0.5)


def test_old_images_are_given_up_and_a_clock_set_back_begins_anew():
    pairing = PosePairing()
    for index in range(3 * MAX_IMAGES):
        pairing.add_image(float(index), index, float(index))
    pairing.add_pose(3.0 * MAX_IMAGES, "pose")
    assert pairing.take(0.0, 1.0, 99.0).image == 3 * MAX_IMAGES - 1
    assert pairing.take(0.0, 1.0, 99.0) is None
    pairing.add_image(50.0, "late", 0.0)
    pairing.add_image(2.0, "again", 0.0)
    assert pairing.take(0.0, 1.0, 99.0) is None
    pairing.add_pose(2.01, "new")
    pair = pairing.take(0.0, 1.0, 99.0)
    assert (pair.image, pair.pose) == ("again", "new")
    pairing.add_image(1.0, "third", 0.0)  # the clock of the images is set back before that of the poses
    assert pairing.take(0.0, 1.0, 99.0) is None
    pairing.add_pose(1.01, "third")
    assert pairing.take(0.0, 1.0, 99.0).pose == "third"


@pytest.mark.parametrize("hertz", [10.0, 30.0, 60.0, 200.0])
@pytest.mark.parametrize("latency", [0.0, 0.3, 0.4, None])
def test_an_image_waits_for_its_pose_however_many_come_meanwhile(hertz, latency):
    """Within a patience of half a second a pose finds its image; without poses, images are given up all the time."""
    pairing, patience, answers = PosePairing(), 0.5, []
    for index in range(int(4 * hertz)):
        now = index / hertz
        pairing.add_image(now, now, now)
        if latency is not None and now >= latency:
            pairing.add_pose(now - latency, now - latency)
        pair = pairing.take(now, 0.05, patience)
        if pair is not None:
            answers.append((now, pair))
    late = [pair for _, pair in answers if pair.pose is None or abs(pair.gap) > 0.05]
    assert (len(late) > 0) == (latency is None)
    times = [0.0, *(now for now, _ in answers), 4.0]
    assert max(np.diff(times)) <= 0.62
