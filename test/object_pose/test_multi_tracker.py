# SPDX-License-Identifier: Apache-2.0
"""Several objects side by side: each is answered as if it were alone."""

from __future__ import annotations

import threading

import numba as nb
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dfips_ros.errors import ConfigError, MaskError
from dfips_ros.geometry import make_pose
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, PoseTracker, tracking_estimator_config
from dfips_ros.tasks.object_pose.multi_tracker import MultiTracker, one_compiled_thread
from dfips_ros.tasks.object_pose.prediction import predict_pose, predicted_covariance
from dfips_ros.tasks.object_pose.tracker import TrackerConfig

CAMERA = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1.0]])
FULL = np.ones((4, 4), bool)


class Recorder:
    """Stand-in of a tracker: notes how it is called, and meets another one if it is told to."""

    def __init__(self, error=None, meeting=None):
        self.error, self.meeting, self.threads = error, meeting, []

    def update(self, mask, camera_matrix, stamp):
        self.threads.append(nb.get_num_threads())
        if self.meeting is not None:
            self.meeting.wait(20.0)
        if self.error is not None:
            raise self.error
        return (int(mask.sum()), stamp)


@pytest.fixture
def two_threads():
    before = nb.get_num_threads()
    if nb.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one core only")
    nb.set_num_threads(2)
    yield
    assert nb.get_num_threads() == 2
    nb.set_num_threads(before)


def test_numbers_are_stable_and_never_used_twice():
    trackers = MultiTracker()
    assert [trackers.add(name, Recorder()) for name in "abc"] == [1, 2, 3]
    trackers.remove("b")
    assert trackers.add("b", Recorder()) == 4
    assert (trackers.names, trackers.number("c"), len(trackers)) == (("a", "c", "b"), 3, 3)
    trackers.clear()
    assert trackers.add("a", Recorder()) == 5


def test_wrong_names_are_told():
    trackers, tracker = MultiTracker(), Recorder()
    trackers.add("a", tracker)
    with pytest.raises(ConfigError, match="'a': there is another one"):
        trackers.add("a", Recorder())
    with pytest.raises(ConfigError, match="in use for another"):
        trackers.add("b", tracker)
    for call in (trackers.remove, trackers.number, lambda name: trackers.update({name: FULL}, CAMERA, 0.0)):
        with pytest.raises(ConfigError, match="'z': there is none of this name; there are: 'a'"):
            call("z")


def test_objects_that_are_seen_share_the_threads(two_threads):
    """They run at the same time (each waits for the other), on one thread each; a single one has them all."""
    meeting = threading.Barrier(2)
    trackers = MultiTracker()
    recorders = {name: Recorder(meeting=meeting) for name in "ab"} | {"unseen": Recorder()}
    for name, recorder in recorders.items():
        trackers.add(name, recorder)
    found = trackers.update({"a": FULL, "unseen": ~FULL, "b": FULL}, CAMERA, 2.0)
    assert found == {"a": (16, 2.0), "unseen": (0, 2.0), "b": (16, 2.0)} and list(found) == ["a", "unseen", "b"]
    assert recorders["a"].threads == recorders["b"].threads == [1]
    recorders["a"].meeting = None
    trackers.update({"a": FULL, "unseen": ~FULL}, CAMERA, 3.0)
    assert recorders["a"].threads == [1, 2] and len(recorders["b"].threads) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_error_of_one_object_is_none_of_the_others(count):
    trackers, error = MultiTracker(), MaskError("odd")
    trackers.add("odd", Recorder(error))
    for i in range(1, count):
        trackers.add(str(i), Recorder())
    found = trackers.update(dict.fromkeys(trackers.names, FULL), CAMERA, 1.0)
    assert found["odd"] is error
    assert all(found[str(i)] == (16, 1.0) for i in range(1, count))


def test_threads_come_back_after_an_error():
    before = nb.get_num_threads()
    with pytest.raises(MaskError), one_compiled_thread():
        assert nb.get_num_threads() == 1
        raise MaskError("odd")
    assert nb.get_num_threads() == before


def pose_at(step, x):
    turn = Rotation.from_euler("xyz", [30 + 2 * step, -20, 10 + step], degrees=True).as_matrix()
    return make_pose(turn, np.array([x + 0.004 * step, 0.01, 0.6]))


def test_two_solvers_side_by_side_answer_as_each_alone(bracket, two_threads):
    config = TrackerConfig()
    estimators = [ObjectPoseEstimator(bracket, config=tracking_estimator_config(config)) for _ in range(3)]
    trackers, alone = MultiTracker(), {"a": PoseTracker(estimators[2], config), "b": PoseTracker(estimators[2], config)}
    for name, estimator in zip("ab", estimators, strict=False):
        trackers.add(name, PoseTracker(estimator, config))
        for each in (trackers[name], alone[name]):
            each.set_pose(pose_at(0, -0.12 if name == "a" else 0.12))
    for step in range(4):
        truth = {"a": pose_at(step, -0.12), "b": pose_at(step, 0.12)}
        masks = {name: estimators[2].render_mask(pose, CAMERA, (240, 320)) for name, pose in truth.items()}
        found = trackers.update(masks, CAMERA, step / 30)
        for name, mask in masks.items():
            expected = alone[name].update(mask, CAMERA, step / 30).solution.T_camera_object
            np.testing.assert_allclose(found[name].solution.T_camera_object, expected, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 3.0])
def test_prediction_goes_on_as_before(ratio):
    center = np.array([0.02, -0.01, 0.03])
    turn = Rotation.from_rotvec([0.02, -0.05, 0.03])

    def at(time):  # turns about its center, which moves in a straight line
        rotation = Rotation.from_rotvec(time * turn.as_rotvec()) * Rotation.from_euler("xyz", [1.0, 0.5, -0.2])
        place = np.array([0.1, 0.0, 0.7]) + time * np.array([0.01, -0.02, 0.005])
        return make_pose(rotation.as_matrix(), place - rotation.as_matrix() @ center)

    np.testing.assert_allclose(predict_pose(at(0.0), at(1.0), ratio, center), at(1.0 + ratio), atol=1e-12)
    grown = predicted_covariance(np.eye(6), ratio)
    assert grown[0, 0] == pytest.approx((1 + ratio) ** 2 + ratio**2) and grown[0, 0] >= 1.0
    with pytest.raises(ConfigError, match="ratio"):
        predict_pose(at(0), at(1), -1.0, center)
