# SPDX-License-Identifier: Apache-2.0
"""Contour Gauss-Newton: converges from near, never makes the IoU worse, leaves its input alone."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.geometry import rotation_angle_torch
from dfips_ros.processes.observation import SilhouetteObservation
from dfips_ros.tasks.object_pose import ObjectPoseConfig, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.gauss_newton import ContourGaussNewton, GaussNewtonConfig, damped_step
from dfips_ros.tasks.object_pose.problem import MeshSet


@pytest.fixture(scope="module")
def batch(bracket):
    meshes = MeshSet([bracket], 2000)
    data = PoseDataConfig(
        batch_size=24, degraded=0.0, angles=(20.0,), angle_weights=(1.0,), initial_shift=0.05, initial_log_depth=0.05,
        depth_range=(2.5, 5.0),
    )  # fmt: skip
    return meshes, *next(pose_batches(meshes, ObjectPoseConfig(), data))


def angles(estimate, truth):
    return np.rad2deg(rotation_angle_torch(estimate[:, :3, :3], truth["pose"][:, :3, :3]).numpy())


def test_converges_from_near(batch):
    meshes, observation, initial, truth = batch
    kept = initial.clone()
    solution = ContourGaussNewton(meshes).estimate(observation, initial)
    assert torch.equal(initial, kept) and torch.equal(solution.history[0], kept)
    assert np.median(angles(solution.estimate, truth)) < 0.15 * np.median(angles(initial, truth))
    assert (solution.residual_norms[:, 1:] <= solution.residual_norms[:, :-1]).all()
    assert solution.residual_norms.shape == (24, len(solution.history))
    assert solution.estimate.shape == initial.shape and solution.estimate.dtype == initial.dtype


def test_stops_at_the_truth(batch):
    meshes, observation, _, truth = batch
    solution = ContourGaussNewton(meshes).estimate(observation, truth["pose"])
    assert np.median(angles(solution.estimate, truth)) < 0.6


def test_iterations_are_bounded(batch):
    meshes, observation, initial, _ = batch
    solution = ContourGaussNewton(meshes, GaussNewtonConfig(iterations=2)).estimate(observation, initial)
    assert len(solution.history) <= 3


def test_needs_an_initial_estimate(batch):
    with pytest.raises(ConfigError, match="initial"):
        ContourGaussNewton(batch[0]).estimate(batch[1])


@pytest.mark.parametrize("bad", [{"iterations": 0}, {"damping": 0.0}, {"robust_pixels": -1}, {"enough": 2.0}])
def test_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        GaussNewtonConfig(**bad)


def test_arrays_give_what_tensors_give(batch):
    meshes, observation, initial, _ = batch
    solver = ContourGaussNewton(meshes)
    arrays = SilhouetteObservation(*(part.numpy() for part in vars(observation).values()))
    expected, found = solver.estimate(observation, initial), solver.estimate(arrays, initial.numpy())
    assert isinstance(found.estimate, np.ndarray) and found.estimate.dtype == np.float32
    assert np.array_equal(found.estimate, expected.estimate.numpy())
    assert np.array_equal(found.residual_norms, expected.residual_norms.numpy())
    assert np.array_equal(np.stack(found.history), torch.stack(expected.history).numpy())


def test_damped_step_solves_the_damped_system():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, b, damping = rng.normal(size=(9, 6)), rng.normal(size=6), rng.uniform(0.01, 1.0, 6)
        a, out = rows.T @ rows, np.empty(6)
        damped_step(a, b, damping, out)
        assert np.allclose((a + np.diag(damping)) @ out, -b)
