# SPDX-License-Identifier: Apache-2.0
"""Training learns, resumes, and refuses what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.errors import CheckpointError, ConfigError
from dfips_ros.processes.example_robots import example_robot
from dfips_ros.processes.kinematics import ChainForward
from dfips_ros.solver import JointBoxSpace, TrainingConfig, load_checkpoint
from dfips_ros.tasks.inverse_kinematics import InverseKinematicsEstimator, JointNetworkConfig
from dfips_ros.tasks.inverse_kinematics.data import joint_samples, nearest_batches, target_batches
from dfips_ros.tasks.inverse_kinematics.problem import ArmCore, JointLoss, make_solver, pose_errors
from dfips_ros.tasks.inverse_kinematics.training_recipe import KinematicsTrainingConfig, train


def recipe(tmp_path, batches, **more):
    robot = example_robot("so101")
    training = TrainingConfig(minutes=None, max_batches=batches, learning_rate=3e-3, average_decay=0.9)
    return KinematicsTrainingConfig(
        str(robot.urdf), robot.tip, out=str(tmp_path / "arm.safetensors"), batch_size=128,
        model=JointNetworkConfig(width=64, layers=1), training=training, **more,
    )  # fmt: skip


def test_training_learns_and_resumes(tmp_path):
    first = train(recipe(tmp_path, 2), quiet=True)
    assert first["samples"] == 256
    final = train(recipe(tmp_path, 150), resume=True, quiet=True)
    assert final["samples"] == 150 * 128
    assert final["validation"]["position_mean_mm"][2] < 0.9 * first["validation"]["position_mean_mm"][2]
    assert final["validation"]["orientation_mean_deg"][2] < first["validation"]["orientation_mean_deg"][2]
    file = tmp_path / "arm.safetensors"
    checkpoint = load_checkpoint(file, "inverse_kinematics")
    assert checkpoint.provenance["recipe"]["urdf"] == "so101.urdf"
    assert all(w.dtype == torch.float16 for w in checkpoint.weights.values())
    robot = example_robot("so101")
    arm = InverseKinematicsEstimator.from_urdf(robot.urdf, robot.tip, weights=file)
    q = np.random.default_rng(0).uniform(arm.lower, arm.upper, (30, 5))
    found = [arm.solve(arm.forward(x), timeout=5.0) for x in q]
    assert all(s.success for s in found) and any(s.stages == 3 for s in found)
    again = train(recipe(tmp_path, 1, initial_weights=str(file)), quiet=True)
    assert again["validation"]["position_mean_mm"][2] < 0.9 * first["validation"]["position_mean_mm"][2]


def test_what_does_not_fit_is_refused(tmp_path):
    train(recipe(tmp_path, 1), quiet=True)
    wider = replace(recipe(tmp_path, 2), model=JointNetworkConfig(width=32, layers=1))
    with pytest.raises(CheckpointError, match="does not fit"):
        train(wider, resume=True, quiet=True)
    with pytest.raises(CheckpointError, match="do not fit"):
        train(replace(wider, initial_weights=str(tmp_path / "arm.safetensors")), quiet=True)
    with pytest.raises(CheckpointError, match="no file"):
        train(replace(wider, out=str(tmp_path / "new.safetensors")), resume=True, quiet=True)
    with pytest.raises(ConfigError, match="both are needed"):
        replace(wider, tip="")
    with pytest.raises(ConfigError, match="data_seed"):
        replace(wider, data_seed=10_000_000)


@pytest.mark.parametrize("name", ["panda", "kinova"])
def test_nearest_solutions_are_solutions_and_near(name, chain_of):
    core = ArmCore.of(chain_of(name))
    targets, initial, solutions = next(nearest_batches(core, 64, 5))
    distance, angle = pose_errors(ChainForward(core), solutions, targets)
    assert distance.max() < 1e-3 and angle.max() < 2e-3
    inside = (solutions >= torch.from_numpy(core.lower) - 1e-6) & (solutions <= torch.from_numpy(core.upper) + 1e-6)
    assert (inside | torch.from_numpy(core.wraps)).all()
    loss = JointLoss(core)
    generator = torch.Generator().manual_seed(5)
    hidden = joint_samples(core, 64, generator)
    assert torch.equal(next(target_batches(core, 64, 5))[0], targets)  # the same examples
    assert (loss(initial, solutions) <= loss(initial, hidden) + 1e-4).all()
    assert loss(initial, solutions).mean() < 0.8 * loss(initial, hidden).mean()
    turned = solutions + 2 * torch.pi * torch.from_numpy(core.wraps)
    assert torch.allclose(loss(turned, solutions), torch.zeros(64), atol=1e-5)


def test_training_in_joint_space_learns(tmp_path):
    few, many = (train(recipe(tmp_path, n, supervision="nearest"), quiet=True) for n in (1, 60))
    assert many["recipe"]["supervision"] == "nearest"
    assert many["validation"]["position_mean_mm"][2] < 0.9 * few["validation"]["position_mean_mm"][2]
    with pytest.raises(ConfigError, match="task_space, nearest"):
        recipe(tmp_path, 1, supervision="hidden")


def test_proposals_are_jumps_first_and_steps_later():
    config = JointNetworkConfig(jumps=5, steps=3)
    assert [config.proposals(t) for t in range(3)] == [(5, 0), (0, 3), (0, 3)]
    shared = replace(config, solver=replace(config.solver, shared_weights=True))
    assert shared.proposals(0) == shared.proposals(2) == (5, 3)


@pytest.mark.parametrize("name", ["panda", "ur5", "z1"])
def test_a_jump_ends_where_it_says_wherever_it_starts(name, chain_of):
    """Of a stage that ignores its inputs: only the first joint, which looks at the target, depends on the target."""
    core = ArmCore.of(chain_of(name))
    solver = make_solver(core, JointNetworkConfig(width=8, layers=1, jumps=1))
    with torch.no_grad():
        solver.stages[0].network[-1].weight.zero_()
        solver.stages[0].network[-1].bias.uniform_(-0.3, 0.3)
    targets, initial, _ = next(target_batches(core, 32, 7))
    ends = solver.estimate(targets, initial).history[1]
    assert torch.allclose(ends[:, 1:], ends[:1, 1:].expand(32, -1), atol=1e-5)
    turn = torch.atan2(targets[:, 1, 3], targets[:, 0, 3]) * core.table[0, 14] - ends[:, 0]
    turn = torch.remainder(turn - turn.median() + torch.pi, 2 * torch.pi) - torch.pi
    held = (ends[:, 0] - core.lower[0] < 1e-3) | (core.upper[0] - ends[:, 0] < 1e-3)
    assert (turn.abs() < 1e-4)[~held].all() and (~held).sum() > 16


def test_a_clipped_joint_learns_to_come_back_and_not_to_go_on():
    space = JointBoxSpace(torch.tensor([-1.0]), torch.tensor([1.0]))
    cases = ((2.0, 1.0, 1.0), (2.0, -1.0, 0.0), (-2.0, -1.0, -1.0), (-2.0, 1.0, 0.0), (0.1, 1.0, 1.0))
    for update, pull, passed in cases:
        u = torch.tensor([[update]], requires_grad=True)
        (pull * space.apply(torch.zeros(1, 1), u)).sum().backward()
        assert u.grad.item() == passed


def test_config_round_trip():
    config = JointNetworkConfig(width=96, layers=3)
    assert JointNetworkConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="unknown depth"):
        JointNetworkConfig.from_dict({"depth": 3})
    for bad in ({"width": 1}, {"layers": 0}, {"jumps": 0}, {"steps": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            JointNetworkConfig(**bad)


def test_targets_are_reachable_and_seeded(chain_of):
    chain = chain_of("z1")
    core = ArmCore.of(chain)
    a, b = next(target_batches(core, 16, 3)), next(target_batches(core, 16, 3))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], next(target_batches(core, 16, 4))[0])
    q = joint_samples(core, 1000, torch.Generator().manual_seed(0)).numpy()
    assert (q >= core.lower - 1e-6).all() and (q <= core.upper + 1e-6).all()
    assert np.ptp(q, axis=0).min() > 0.9 * (core.upper - core.lower).min()
