# SPDX-License-Identifier: Apache-2.0
"""OpenCV's contour trackers: they come nearer to the true pose, and give up where they are lost."""

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dfips_ros.baselines.opencv_rapid import TRACKERS, OpencvRapid, OpencvRapidConfig
from dfips_ros.errors import ConfigError, MissingDependencyError
from dfips_ros.geometry import make_pose
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose import rotation_error_deg

needs_rapid = pytest.mark.skipif(not hasattr(cv2, "rapid"), reason="OpenCV is installed without its module rapid")


@pytest.fixture(scope="module")
def scene(bracket, camera_matrix):
    """Masks and true poses of two views."""
    turns = Rotation.from_rotvec([[0.5, 0.4, 0.2], [-0.7, 0.9, 0.4]]).as_matrix()
    places = np.array([[0.02, -0.01, 0.8], [-0.05, 0.03, 1.0]])
    true = make_pose(turns, places - turns @ bracket.center)
    cameras = torch.from_numpy(camera_matrix).expand(2, 3, 3)
    masks = RasterRenderer(bracket).render(torch.from_numpy(true).float(), cameras[0].float(), (480, 640)) > 0
    return (masks, cameras), true


@needs_rapid
@pytest.mark.parametrize("name", TRACKERS)
def test_the_pose_is_improved_and_inputs_are_kept(scene, bracket, name):
    observation, true = scene
    nudge = make_pose(Rotation.from_rotvec([0.1, -0.08, 0.06]).as_matrix(), np.array([0.004, -0.005, 0.02]))
    initial = torch.from_numpy(true @ nudge)
    before = initial.clone()
    solution = OpencvRapid(bracket.vertices, bracket.faces, OpencvRapidConfig(name)).estimate(observation, initial)
    assert torch.equal(initial, before) and solution.estimate.shape == (2, 4, 4)
    for found, near, there in zip(solution.estimate.numpy(), initial.numpy(), true, strict=True):
        assert rotation_error_deg(found, there) < 0.5 * rotation_error_deg(near, there)
        shift, shift_before = (np.linalg.norm(((T - there) @ [*bracket.center, 1.0])[:3]) for T in (found, near))
        assert shift < 0.5 * shift_before


@needs_rapid
@pytest.mark.parametrize("name", TRACKERS)
def test_a_lost_object_stays_where_it_was(scene, bracket, name):
    (masks, cameras), true = scene
    tracker = OpencvRapid(bracket.vertices, bracket.faces, OpencvRapidConfig(name))
    beside = torch.from_numpy(true).clone()
    beside[:, 0, 3] += 5.0
    for seen in (torch.zeros_like(masks), masks):
        assert torch.allclose(tracker.estimate((seen, cameras), beside).estimate, beside)


@needs_rapid
def test_no_initial_pose(bracket, scene):
    with pytest.raises(ConfigError, match="needs an initial estimate"):
        OpencvRapid(bracket.vertices, bracket.faces).estimate(scene[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"tracker": "best"}, "ols, gos"), ({"points": 2}, "points=2"), ({"reaches": ()}, "reaches"),
     ({"reaches": (0.1, -1.0)}, "reaches"), ({"iterations": 0}, "iterations=0")],
)  # fmt: skip
def test_bad_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        OpencvRapidConfig(**values)


def test_an_opencv_without_the_module_is_told(bracket, monkeypatch):
    monkeypatch.delattr(cv2, "rapid", raising=False)
    with pytest.raises(MissingDependencyError, match="opencv-contrib-python-headless"):
        OpencvRapid(bracket.vertices, bracket.faces)
