# SPDX-License-Identifier: Apache-2.0
"""The compiled twins say what torch says; weights serve an arm on any stand and with any tool, and no other arm."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import CheckpointError, ConfigError
from dfips_ros.evaluation.ik_path import pose_errors
from dfips_ros.processes.example_robots import EXAMPLE_ROBOTS, example_robot
from dfips_ros.processes.kinematics import SerialChain
from dfips_ros.solver import SolverConfig
from dfips_ros.tasks.inverse_kinematics import InverseKinematicsEstimator, JointNetworkConfig
from dfips_ros.tasks.inverse_kinematics.compiled_stages import run_stages
from dfips_ros.tasks.inverse_kinematics.data import joint_samples, target_batches
from dfips_ros.tasks.inverse_kinematics.problem import ArmCore, KinematicsFeedback, PoseLoss, ProposalLoss, make_solver
from dfips_ros.tasks.inverse_kinematics.weights import flat_weights, load_weights, save_weights

pytestmark = pytest.mark.parametrize("name", EXAMPLE_ROBOTS)


@pytest.fixture
def core(name, chain_of):
    return ArmCore.of(chain_of(name))


def test_compiled_feedback_and_loss_are_those_of_torch(core):
    targets, q, _ = next(target_batches(core, 64, 0))
    single, double = KinematicsFeedback(core)(targets, q), KinematicsFeedback(core, False)(targets.double(), q.double())
    assert set(single.inputs) == set(double.inputs)
    for key, value in single.inputs.items():
        assert torch.allclose(value.double(), double.inputs[key], atol=1e-4), key
    assert torch.allclose(single.residual_norm.double(), double.residual_norm, atol=1e-5)
    a, b = q.clone().requires_grad_(), q.double().requires_grad_()
    losses = PoseLoss(core)(a, targets), PoseLoss(core, False)(b, targets.double())
    assert torch.allclose(losses[0].double(), losses[1], atol=1e-5)
    for loss in losses:
        loss.sum().backward()
    assert torch.allclose(a.grad.double(), b.grad, atol=1e-3)


def test_compiled_judge_is_that_of_torch(core):
    targets, q, _ = next(target_batches(core, 64, 2))
    torch.manual_seed(0)
    jumps, steps, dampings = torch.randn(3, 64, 4, q.shape[1])
    said = jumps, steps, torch.exp(2.0 * dampings)
    single = ProposalLoss(core)(KinematicsFeedback(core)(targets, q).inputs, *said)
    inputs = KinematicsFeedback(core, False)(targets.double(), q.double()).inputs
    double = ProposalLoss(core, False)(inputs, *(x.double() for x in said))
    assert single.shape == (64, 8) and torch.allclose(single.double(), double, atol=1e-3)
    exact = torch.zeros(64, 1, q.shape[1])  # a jump of no length leads to where the estimate is
    at_home = ProposalLoss(core)(KinematicsFeedback(core)(targets, q).inputs, exact, *(x[:, :0] for x in said[1:]))
    assert torch.allclose(at_home[:, 0], PoseLoss(core)(q, targets), atol=1e-5)


@pytest.mark.parametrize(("count", "shared"), [(1, False), (4, False), (6, False), (4, True)])
def test_compiled_stages_are_those_of_the_solver(core, count, shared):
    torch.manual_seed(0)
    config = JointNetworkConfig(width=48, solver=SolverConfig(3, shared, adaptive=False, keep_best=False))
    solver = make_solver(core, config)
    targets, q, _ = next(target_batches(core, 5, 1))
    flat, shape = flat_weights(solver, config, q.shape[1])
    solver.double()
    box = np.stack([np.where(core.wraps, -np.inf, core.lower), np.where(core.wraps, np.inf, core.upper)])
    for pose, start in zip(targets.double(), q.double(), strict=True):
        target = np.concatenate([pose[:3, :3].reshape(-1), pose[:3, 3]])
        found, norms = np.empty((count, q.shape[1])), np.empty(count)
        run_stages(
            core.table, target, core.scale, core.place, core.sizes, box, flat, shape, start.numpy(), found, norms
        )
        with torch.inference_mode():
            updates = solver.stage(0).ranked(solver.feedback(pose[None], start[None]), count)[:, 0]
        estimates = solver.space.apply(start.expand(count, -1), updates)
        for t in (1, 2):
            with torch.no_grad():
                estimates = solver.space.apply(
                    estimates, solver.stage(t)(solver.feedback(pose.expand(count, 4, 4), estimates))
                )
        if count == 1:
            assert torch.allclose(estimates, solver.estimate(pose[None], start[None]).estimate)
        apart = np.abs(found - estimates.numpy())
        assert np.where(core.wraps, np.abs(np.sin(apart / 2)) * 2, apart).max() < 1e-4
        assert np.abs(norms - solver.feedback(pose.expand(count, 4, 4), estimates).residual_norm.numpy()).max() < 1e-4


def saved(path, core):
    torch.manual_seed(1)
    config = JointNetworkConfig(width=16, layers=1)
    save_weights(path, core, config, {"made": "for a test"}, make_solver(core, config))
    return path


def test_weights_round_trip(core, name, chain_of, tmp_path):
    file = saved(tmp_path / "w.safetensors", core)
    arm = InverseKinematicsEstimator(chain_of(name), load_weights(file, chain_of(name)))
    assert arm.has_weights and arm.provenance == {"made": "for a test"}
    q, seeds = (joint_samples(core, 5, torch.Generator().manual_seed(s)).double().numpy() for s in (0, 1))
    history = arm.unroll(arm.forward(q), seeds)
    assert history.shape == (4, 5, q.shape[1])
    assert np.allclose(arm.forward(history[0]), arm.forward(seeds), atol=1e-5)
    assert ((history >= arm.lower - 1e-6) & (history <= arm.upper + 1e-6)).all()
    assert not np.allclose(history[1], history[0])
    targets = arm.forward(q)
    apart = []
    for follow in (1, 12):  # the first proposal is one of the twelve
        distance, angle = pose_errors(arm.forward(arm.unroll(targets, seeds, follow)[-1]), targets)
        apart.append(np.hypot(distance, core.rotation_weight * angle))
    assert (apart[1] <= apart[0] + 1e-4).all()
    with pytest.raises(ConfigError, match="follow=13"):
        arm.unroll(targets, seeds, 13)
    with pytest.raises(ConfigError, match="no weights"):
        InverseKinematicsEstimator(chain_of(name)).unroll(arm.forward(q), seeds)


def test_weights_serve_any_stand_and_tool_but_no_other_arm(core, name, chain_of, tmp_path):
    chain, robot = chain_of(name), example_robot(name)
    file = saved(tmp_path / "w.safetensors", core)
    moved = robot.urdf.read_text().replace("</robot>", (
        '<link name="table"/><link name="pen"/><joint name="on_table" type="fixed"><parent link="table"/>'
        f'<child link="{SerialChain.from_urdf(robot.urdf, robot.tip).base}"/>'
        '<origin xyz="0.4 -0.3 0.8" rpy="0.1 0.2 2.0"/></joint>'
        f'<joint name="pen_holder" type="fixed"><parent link="{robot.tip}"/><child link="pen"/>'
        '<origin xyz="0.03 0.01 0.2" rpy="0.5 -0.4 0.3"/></joint></robot>'
    ))  # fmt: skip
    held = SerialChain.from_urdf(moved, "pen", "table")
    arms = [InverseKinematicsEstimator(c, load_weights(file, c)) for c in (chain, held)]
    q, seeds = (joint_samples(core, 5, torch.Generator().manual_seed(s)).double().numpy() for s in (2, 3))
    histories = [arm.unroll(arm.forward(q), seeds) for arm in arms]
    assert np.allclose(*histories, atol=1e-3)

    shifted, tightened = (ArmCore(core.table.copy(), core.lower, core.upper.copy(), core.wraps) for _ in range(2))
    shifted.table[1, 9] += 1e-3
    tightened.upper[:] -= 0.1
    for other in (shifted, tightened):
        saved(file, other)
        with pytest.raises(CheckpointError, match="another arm"):
            load_weights(file, chain)


def test_shipped_weights_fit_and_know_how_they_were_made(name, estimator_of):
    arm = estimator_of(name)
    assert arm.has_weights
    assert arm.provenance["samples"] > 0 and arm.provenance["recipe"]["urdf"] == example_robot(name).urdf.name
    assert not any(isinstance(v, str) and "/" in v for v in arm.provenance["recipe"].values())
