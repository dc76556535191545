# SPDX-License-Identifier: Apache-2.0
"""A lost object is looked for beside the others: nobody waits for it, and nothing of an old mask is told."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from dfips_ros.errors import ConfigError, MaskError  # noqa: E402
from dfips_ros.nodes.tracked_object_set import TrackedObjectSet  # noqa: E402
from dfips_ros.nodes.tracker_parameters import ObjectParameters, PoseTrackerParameters  # noqa: E402
from dfips_ros.processes.mesh import load_mesh  # noqa: E402
from dfips_ros.tasks.object_pose import TrackerConfig, TrackResult, TrackState  # noqa: E402

SEEN, UNSEEN = np.ones((4, 4), bool), np.zeros((4, 4), bool)
WAIT = 30.0


class Tracker:
    """Stand-in: tracks what is seen, unless it is lost: then it searches until it is let, and finds what it is told."""

    def __init__(self):
        self.config, self.state = TrackerConfig(), TrackState.TRACKING
        self.let, self.finds, self.log = threading.Event(), True, []

    def reset(self):
        self.log.append("reset")
        self.state = TrackState.INITIALISING

    def set_pose(self, pose):
        self.log.append("set_pose")

    def update(self, mask, camera_matrix, stamp):
        self.log.append(stamp)
        if mask.any() and self.state != TrackState.TRACKING:
            assert self.let.wait(WAIT)
            self.log.append("through")
            if isinstance(self.finds, Exception):
                raise self.finds
            self.state = TrackState.TRACKING if self.finds else self.state
        return TrackResult(self.state, f"mask of {stamp}", None, stamp)


@pytest.fixture
def objects(box_mesh):
    """Three objects with stand-ins; the first is tracked."""
    found = TrackedObjectSet(lambda parameters: (SimpleNamespace(mesh=load_mesh(box_mesh)), Tracker()))
    node = PoseTrackerParameters(mesh=box_mesh, mask_mode="label")
    for label, name in enumerate(("box", "cup", "jar"), 1):
        own = ObjectParameters(mesh=box_mesh, label_value=label)
        track = found.add(node.of(name, own), own, found.load(node))
        track.state = track.tracker.state = TrackState.TRACKING if name == "box" else TrackState.LOST
    yield found
    for track in found.tracks:
        track.tracker.let.set()
    found.clear()


def update(objects, stamp, **masks):
    return objects.update({"box": SEEN, "cup": SEEN, "jar": UNSEEN, **masks}, np.eye(3), stamp)


def wait_until(condition):
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("waited in vain")


def test_nobody_waits_and_the_tracker_goes_on_from_what_was_found(objects):
    cup = objects["cup"].tracker
    for stamp in (1.0, 2.0, 3.0):
        found = update(objects, stamp)
        assert (found["box"].state, found["box"].stamp) == (TrackState.TRACKING, stamp)
        assert (found["cup"].state, found["cup"].reason) == (TrackState.LOST, "searching")
        assert found["cup"].solution is None and found["jar"].reason == f"mask of {stamp}"
        assert list(found) == ["box", "cup", "jar"]
    assert cup.log == [1.0]  # the other masks were left out
    cup.let.set()
    wait_until(lambda: cup.state == TrackState.TRACKING)
    found = update(objects, 4.0)
    assert (found["cup"].state, found["cup"].stamp, cup.log) == (TrackState.TRACKING, 4.0, [1.0, "through", 4.0])


def test_objects_that_are_lost_take_turns(objects):
    cup, jar = objects["cup"].tracker, objects["jar"].tracker
    cup.finds = jar.finds = False
    found = update(objects, 1.0, jar=SEEN)
    assert found["jar"].reason == "waiting until the search for 'cup' is through" and jar.log == []
    for stamp, searched, next_log in ((2.0, cup, jar.log), (3.0, jar, cup.log)):
        count = len(next_log)
        searched.let.set()
        wait_until(lambda searched=searched: searched.log[-1] == "through" and not objects._search.name)
        searched.let.clear()
        update(objects, stamp, jar=SEEN)
        wait_until(lambda count=count, next_log=next_log: len(next_log) > count)
        assert next_log[-1] == stamp


def test_a_quick_search_answers_its_own_mask(objects):
    objects["cup"].tracker.let.set()
    states = []

    def found():
        states.append(update(objects, float(len(states) + 1))["cup"].state)
        return states[-1] == TrackState.TRACKING

    wait_until(found)
    assert objects["cup"].tracker.log[0] == 1.0


def test_alone_or_with_nobody_tracked_it_is_looked_for_at_once(objects):
    objects["cup"].tracker.let.set()
    assert update(objects, 1.0, box=UNSEEN)["cup"].state == TrackState.TRACKING
    objects["box"].state = objects["box"].tracker.state = TrackState.LOST
    objects["cup"].tracker.reset()
    objects["box"].tracker.let.set()
    assert [each.state for each in update(objects, 2.0).values()][:2] == [TrackState.TRACKING] * 2


@pytest.mark.parametrize("change", [
    lambda objects: objects["cup"].forget(),
    lambda objects: objects["cup"].start_from(np.eye(4)),
    lambda objects: objects.remove("cup"),
    lambda objects: objects.clear(),
])  # fmt: skip
def test_a_change_waits_until_the_tracker_is_free(change, objects):
    cup = objects["cup"].tracker
    update(objects, 1.0)
    threading.Timer(0.1, cup.let.set).start()
    change(objects)
    assert cup.log[:2] == [1.0, "through"] and cup.log[2:] in ([], ["reset"], ["set_pose"])
    objects._search.settle("cup")
    if "cup" not in objects.names:
        with pytest.raises(ConfigError):
            objects["cup"]


def test_an_error_is_told_once_with_the_next_mask(objects):
    cup = objects["cup"].tracker
    cup.finds = MaskError("a mask of the wrong kind")
    update(objects, 1.0)
    cup.let.set()
    wait_until(lambda: not objects._search.name)
    assert update(objects, 2.0)["cup"] is cup.finds
    cup.let.clear()
    assert update(objects, 3.0)["cup"].reason == "searching"
