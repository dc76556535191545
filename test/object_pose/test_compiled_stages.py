# SPDX-License-Identifier: Apache-2.0
"""The compiled unrolling does what the solver on tensors does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.processes.observation import SilhouetteObservation
from dfips_ros.processes.threads import for_each
from dfips_ros.solver import SolverConfig
from dfips_ros.tasks.object_pose.compiled_stages import CompiledStages, can_compile
from dfips_ros.tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.estimator import DEFAULT_WEIGHTS
from dfips_ros.tasks.object_pose.problem import MeshSet, load_solver, make_solver
from dfips_ros.tasks.object_pose.shapes import random_shape

CONFIGS = {
    "defaults": SolverConfig(),
    "rejects": SolverConfig(max_scalings=0),
    "scales twice": SolverConfig(max_scalings=2, scaling=0.5, tolerance=0.05),
    "not adaptive": SolverConfig(adaptive=False, keep_best=False),
    "stops early": SolverConfig(enough=0.1),
}


@pytest.fixture(scope="module")
def problem():
    solver, config, _ = load_solver(DEFAULT_WEIGHTS, [random_shape(1000 + i) for i in range(4)])
    data = PoseDataConfig(batch_size=24, degraded=0.4, seed=3)
    observation, initial, _ = next(pose_batches(solver.feedback.meshes, config, data))
    return solver, observation, initial


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("num_stages", [0, 1, 5, 7])
def test_agrees_with_the_solver_on_tensors(problem, name, num_stages):
    solver, observation, initial = problem
    trained = solver.config
    solver.config = replace(CONFIGS[name], num_stages=trained.num_stages)
    try:
        expected = solver.estimate(observation, initial, num_stages)
        found = CompiledStages(solver).estimate(observation, initial, num_stages)
    finally:
        solver.config = trained
    assert found.residual_norms.shape == expected.residual_norms.shape == (24, num_stages + 1)
    # Rounding may tip a pixel of the contour now and then, and with it one element; on most nothing is seen of it.
    for mine, theirs in zip(found.history, expected.history, strict=True):
        difference = (mine - theirs).abs().amax((1, 2))
        assert difference.quantile(0.75) < 1e-4
        assert difference.max() < 0.1
    assert (found.residual_norms - expected.residual_norms).abs().max() < 0.01
    assert ((found.estimate - expected.estimate).abs().amax((1, 2)) < 1e-4).float().mean() > 0.7


def test_one_observation_may_have_several_initial_poses(problem):
    solver, observation, initial = problem
    compiled = CompiledStages(solver)
    one = observation[torch.tensor([2])]
    starts = torch.cat([initial[2:3], initial[2:3].clone()])
    starts[1, 0, 3] += 0.05
    before = starts.clone()
    together = compiled.estimate(one, starts)
    assert torch.equal(starts, before)
    for k in range(2):
        alone = compiled.estimate(one, starts[k : k + 1])
        assert torch.equal(alone.estimate[0], together.estimate[k])


def test_other_solvers_are_refused(problem):
    meshes = MeshSet([random_shape(1)], 500)
    for config in (ObjectPoseConfig(feedback="image"), ObjectPoseConfig(width=30)):
        solver = make_solver(config, meshes)
        assert not can_compile(solver)
        with pytest.raises(ConfigError, match="multiple of four"):
            CompiledStages(solver)
    with pytest.raises(ConfigError, match="initial"):
        CompiledStages(problem[0]).estimate(problem[1])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_for_each_does_everything_once(count):
    done = []
    for_each(count, done.append)
    assert sorted(done) == list(range(count))


def test_for_each_raises_what_the_work_raises():
    def work(i):
        if i == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        for_each(8, work)


def test_arrays_give_what_tensors_give(problem):
    solver, observation, initial = problem
    compiled = CompiledStages(solver)
    arrays = SilhouetteObservation(*(part.numpy() for part in vars(observation).values()))
    expected, found = compiled.estimate(observation, initial), compiled.estimate(arrays, initial.numpy())
    assert isinstance(found.estimate, np.ndarray)
    assert np.array_equal(found.estimate, expected.estimate.numpy())
    assert np.array_equal(found.residual_norms, expected.residual_norms.numpy())
    again = vars(arrays.tensors())
    assert all(torch.equal(again[name], part) for name, part in vars(observation).items())


def test_best_start_is_the_one_that_fits_best(problem):
    solver, observation, initial = problem
    compiled = CompiledStages(solver)
    for b in range(8):
        one = observation[torch.tensor([b])]
        starts = torch.stack([initial[b], compiled.estimate(one, initial[b : b + 1]).estimate[0]])
        norms = compiled.estimate(one, starts, 0).residual_norms[:, 0]
        assert compiled.best_start(one, starts.numpy()) == int(norms.argmin())
