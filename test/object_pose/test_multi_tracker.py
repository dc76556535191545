# SPDX-License-Identifier: Apache-2.0
"""Several objects in one batch: each is answered as if it were alone."""

from __future__ import annotations

import threading
from dataclasses import asdict

import numba as nb
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from dfips_ros.errors import ConfigError, MaskError, PoseError
from dfips_ros.geometry import make_pose
from dfips_ros.processes.mesh import Mesh
from dfips_ros.processes.threads import one_compiled_thread
from dfips_ros.tasks.object_pose import (
    ObjectPoseEstimator,
    PoseTracker,
    TrackState,
    mask_solve,
    multi_tracker,
    tracking_estimator_config,
)
from dfips_ros.tasks.object_pose.mask_solve import MaskRequest, solve_masks
from dfips_ros.tasks.object_pose.multi_tracker import MultiTracker
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


@pytest.fixture
def one_thread():
    with one_compiled_thread():
        yield


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


@pytest.fixture(scope="module")
def solvers(bracket):
    """Estimators by name, of different meshes; ``rod`` may be turned about its axis."""
    rod = trimesh.creation.cylinder(0.02, 0.14, sections=48)
    box = trimesh.creation.box((0.1, 0.06, 0.03))
    meshes = {"holder": bracket} | {n: Mesh(n, m.vertices, m.faces) for n, m in {"rod": rod, "box": box}.items()}
    config = tracking_estimator_config(TrackerConfig())
    return {name: ObjectPoseEstimator(mesh, device="cpu", config=config) for name, mesh in meshes.items()}


PLACES = {"holder": -0.12, "rod": 0.0, "box": 0.12}


def same(one, other):
    """Whether two results tell the same, but for the time it took."""
    assert (one.state, one.reason, one.stamp) == (other.state, other.reason, other.stamp)
    assert (one.solution is None) == (other.solution is None)
    if one.solution is not None:
        a, b = asdict(one.solution), asdict(other.solution)
        assert a.pop("solve_time") > 0 and b.pop("solve_time") > 0 and a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(np.asarray(a[key]), np.asarray(b[key]), rtol=0, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("threads", [1, 2])
def test_objects_in_one_batch_answer_as_each_alone(solvers, threads, request, monkeypatch):
    """Three meshes, one of which is symmetric; one is out of sight for a while and lost, so that it is searched for."""
    if threads == 2:
        request.getfixturevalue("two_threads")
    else:
        request.getfixturevalue("one_thread")
    config = TrackerConfig(lost_frames=2)
    trackers, alone, batches = MultiTracker(), {}, []

    def solve_masks(requests, camera_matrix):
        batches.append(len(requests))
        return mask_solve.solve_masks(requests, camera_matrix)

    monkeypatch.setattr(multi_tracker, "solve_masks", solve_masks)
    for name, estimator in solvers.items():
        trackers.add(name, PoseTracker(estimator, config))
        alone[name] = PoseTracker(estimator, config)
        for each in (trackers[name], alone[name]):
            each.set_pose(pose_at(0, PLACES[name]))
    for step in range(8):
        masks = {n: each.render_mask(pose_at(step, PLACES[n]), CAMERA, (240, 320)) for n, each in solvers.items()}
        masks["box"] &= not 2 <= step < 5
        found = trackers.update(masks, CAMERA, step / 30)
        for name, mask in masks.items():
            same(found[name], alone[name].update(mask, CAMERA, step / 30))
    assert found["box"].state == TrackState.TRACKING
    assert batches == [3, 2, 2, 2, 2, 3, 3]  # none at the given poses; two while the box is unseen and when it is back


def test_what_is_wrong_with_one_mask_is_its_own_error(solvers):
    names = ["holder", "box", "rod"]
    masks = [solvers[n].render_mask(pose_at(0, 0.0), CAMERA, (240, 320)) for n in names]
    behind = pose_at(0, 0.0) * np.array([1, 1, -1, 1])[:, None]
    requests = [
        MaskRequest(solvers["holder"].object_solver, masks[0], pose_at(0, 0.01)),
        MaskRequest(solvers["box"].object_solver, np.zeros((240, 320), bool), pose_at(0, 0.01)),
        MaskRequest(solvers["rod"].object_solver, masks[2], np.stack([pose_at(0, 0.01), behind])),
    ]
    good, empty, wrong = solve_masks(requests, CAMERA)
    expected = solvers["holder"].estimate(masks[0], CAMERA, pose_at(0, 0.01)).T_camera_object
    np.testing.assert_array_equal(good.T_camera_object, expected)
    assert isinstance(empty, MaskError) and "no pixel is set" in str(empty) and isinstance(wrong, PoseError)
    assert all(isinstance(each, MaskError) for each in solve_masks(requests[1:2] * 2, CAMERA))


def test_a_defect_after_the_solve_of_one_is_its_own_error(solvers, monkeypatch):
    pose = pose_at(0, 0.0)
    masks = {name: solvers[name].render_mask(pose, CAMERA, (240, 320)) for name in ("holder", "box")}
    requests = [MaskRequest(solvers[name].object_solver, mask, pose_at(0, 0.01)) for name, mask in masks.items()]
    compare, box = mask_solve.compare_contours, solvers["box"].object_solver.hypotheses.meshes.packed

    def broken(packed, *arguments):
        if packed is box:
            raise ValueError("of the box")
        return compare(packed, *arguments)

    monkeypatch.setattr(mask_solve, "compare_contours", broken)
    good, wrong = solve_masks(requests, CAMERA)
    assert good.iou > 0.9 and isinstance(wrong, ValueError)


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
