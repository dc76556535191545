# SPDX-License-Identifier: Apache-2.0
"""The rules of the replayed pose tracker, with a stand-in for the solver."""

from types import SimpleNamespace

import numpy as np
import pytest

from dfips_ros.bags.types import make, make_header
from dfips_ros.cli.replay_object import ReplayedObject
from dfips_ros.cli.replay_tracker import PoseReplay, PoseTopics
from dfips_ros.messages.image import image_fields
from dfips_ros.tasks.object_pose import ObjectPoseSolution, TrackerConfig, TrackResult, TrackState

SIZE = (24, 32)
PERIOD = 33_000_000
START = 5 * 10**9
POSE = np.eye(4) + np.pad([[0.5]], ((2, 1), (3, 0)))


class StandIn:
    """Estimator and tracker in one: whatever has a pixel is tracked."""

    config = TrackerConfig()
    mesh = SimpleNamespace(vertices=np.eye(3), diameter=0.1)
    resets = 0

    def render_mask(self, pose, camera_matrix, size):
        return np.zeros(size, bool)

    def reset(self):
        self.resets += 1

    def update(self, mask, camera_matrix, stamp):
        if mask.sum() == 1:
            raise ZeroDivisionError("a defect that nobody expected")
        solution = ObjectPoseSolution(POSE, np.eye(6), 0.9, (POSE,), np.array([0.1]), 0.001)
        return TrackResult(TrackState.TRACKING, "tracking", solution, stamp)


def message(pixels, time, frame="eye", **changes):
    return make("sensor_msgs/msg/Image", **{"header": make_header(time, frame), **image_fields(pixels), **changes})


def info(**changes):
    fields = {
        "header": make_header(0, "eye"), "height": SIZE[0], "width": SIZE[1], "distortion_model": "", "d": np.zeros(0),
        "k": np.array([30.0, 0, 16, 0, 30, 12, 0, 0, 1]), "r": np.zeros(9), "p": np.zeros(12), "binning_x": 0,
        "binning_y": 0,
        "roi": make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }  # fmt: skip
    return make("sensor_msgs/msg/CameraInfo", **{**fields, **changes})


@pytest.fixture
def replay():
    """A pipeline that knows its camera, and the overlays (time, grey level) that it drew."""
    drawn = []
    tracker = StandIn()
    pipeline = PoseReplay(
        PoseTopics("/mask", "/info", "/image"), "/t", [ReplayedObject("part", tracker, tracker)], camera=info(),
        on_overlay=lambda frames, picture: drawn.append((frames[0].time, int(np.median(picture)))),
    )  # fmt: skip
    return SimpleNamespace(pipeline=pipeline, drawn=drawn, tracker=tracker)


def mask(time, pixels=200, **changes):
    found = np.zeros(SIZE, bool)
    found.ravel()[:pixels] = True
    return message(found, time, **changes)


def answer(replay, sent, recorded=None):
    time = sent.header.stamp.sec * 10**9 + sent.header.stamp.nanosec
    outputs = list(replay.pipeline.take("/mask", sent, time if recorded is None else recorded))
    return next((o.message for o in outputs if o.topic == "/t/tracked_object"), None)


def states(replay, messages):
    return [TrackState(answer(replay, each).state).name for each in messages]


def test_after_lost_frames_unusable_masks_the_object_is_lost_until_it_is_seen(replay):
    good, bad = {"encoding": "mono8"}, {"encoding": "rgb8"}
    kinds = [bad, good, bad, bad, good, bad, bad, bad, bad, good]
    found = states(replay, [mask(START + k * PERIOD, **kind) for k, kind in enumerate(kinds)])
    assert found == ["INITIALISING", *["TRACKING"] * 6, "LOST", "LOST", "TRACKING"]


def test_a_defect_in_one_mask_does_not_end_the_rest(replay):
    found = [answer(replay, mask(START + k * PERIOD, pixels)) for k, pixels in enumerate((200, 1, 200))]
    assert "ZeroDivisionError" in found[1].reason and found[1].pose.covariance[0] == -1.0
    assert [each.pose.pose.position.z for each in found] == [0.5, 0.5, 0.5] and found[2].reason.startswith("the mask")


def test_a_clock_that_was_set_back_begins_anew_and_late_masks_are_left_out(replay):
    assert states(replay, [mask(START)]) == ["TRACKING"]
    assert answer(replay, mask(START - PERIOD)) is None and replay.pipeline.late == 1
    assert states(replay, [mask(START - 10**9)]) == ["TRACKING"] and replay.tracker.resets == 1


def test_masks_without_stamp_or_frame_get_those_of_the_recording_and_the_camera(replay):
    found = answer(replay, mask(0, frame=""), recorded=START)
    assert (found.header.stamp.sec, found.header.frame_id) == (5, "eye")


def test_each_overlay_shows_the_image_nearest_to_its_mask_and_none_waits_for_long(replay):
    """Images of level k at 0, 30, 60 ... ms; masks a little before and after, and long after the last image."""
    order = []
    for k in range(8):
        order.append((k * 30_000_000, "/image"))
        order += [(k * 30_000_000 + offset, "/mask") for offset in (4_000_000, 24_000_000)]
    order += [(10**9 + k * PERIOD, "/mask") for k in range(20)]
    most = 0
    for time, topic in order:
        level = min(time // 30_000_000, 20)
        grey = np.full((*SIZE, 3), 10 * level, np.uint8)
        sent = mask(START + time) if topic == "/mask" else message(grey, START + time)
        list(replay.pipeline.take(topic, sent, START + time))
        masks = len(replay.pipeline.objects[0].frames)
        most = max(most, masks - len(replay.drawn))
    list(replay.pipeline.finish())
    assert [time for time, _ in replay.drawn] == [frame.time for frame in replay.pipeline.objects[0].frames]
    for time, level in replay.drawn[:14]:
        nearest = round((time - START) / 30_000_000)
        assert abs(level - 10 * nearest) <= 3, "text and frame of the picture are darker"
    assert most <= 8, "at most those of a fifth of a second"


def test_a_calibration_that_cannot_be_used_leaves_the_last_one(replay):
    from dfips_ros.errors import CameraError

    with pytest.raises(CameraError):
        replay.pipeline.take("/info", info(k=np.full(9, np.nan)), START)
    assert states(replay, [mask(START)]) == ["TRACKING"]
    replay.pipeline.take("/info", info(height=2 * SIZE[0], width=2 * SIZE[1]), START)
    assert states(replay, [mask(START + PERIOD)]) == ["TRACKING"]
