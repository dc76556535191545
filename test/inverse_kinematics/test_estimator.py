# SPDX-License-Identifier: Apache-2.0
"""Targets that arms can reach are reached, within the limits and the wishes of the config."""

import logging
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError, PoseError, ShapeError
from dfips_ros.geometry import rotation_angle
from dfips_ros.processes.example_robots import example_robot, robots_folder
from dfips_ros.tasks.inverse_kinematics import (
    APPROXIMATE,
    NO_SOLUTION,
    SOLVED,
    TIMED_OUT,
    InverseKinematicsConfig,
    InverseKinematicsEstimator,
)
from dfips_ros.tasks.inverse_kinematics.weights import find_weights

FAR = np.array([[1, 0, 0, 9.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def errors(chain, solution, target):
    """By Pinocchio, not by what the solution says of itself."""
    pose = chain.reference(solution.positions)
    return np.linalg.norm(pose[:3, 3] - target[:3, 3]), rotation_angle(pose[:3, :3], target[:3, :3])


def assert_solved(estimator, solution, target):
    distance, angle = errors(estimator.chain, solution, target)
    assert solution.success and solution.status == SOLVED and solution.reason == ""
    assert distance <= estimator.config.position_tolerance + 1e-9
    assert estimator.config.position_only or angle <= estimator.config.orientation_tolerance + 1e-7
    assert abs(solution.position_error - distance) < 1e-7 and abs(solution.orientation_error - angle) < 1e-6
    inside = (solution.positions >= estimator.lower - 1e-9) & (solution.positions <= estimator.upper + 1e-9)
    assert (inside | estimator.wraps).all() and solution.in_limits


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("name", ["panda", "ur5", "xarm7", "kinova", "z1", "so101"])
def test_cold_seeds(name, learned, estimator_of, positions):
    arm = estimator_of(name, learned)
    targets, seeds = arm.forward(positions(arm, 50, 1)), positions(arm, 50, 2)
    for target, seed in zip(targets, seeds, strict=True):
        solution = arm.solve(target, seed, timeout=5.0)
        assert_solved(arm, solution, target)
        assert solution.jump_from_seed == np.abs(solution.positions - seed).max()
        assert solution.names == arm.joint_names


def test_warm_seeds_do_not_jump(arm, positions):
    q = positions(arm, 100, 3)
    seeds = np.clip(q + np.random.default_rng(4).uniform(-0.1, 0.1, q.shape), arm.lower, arm.upper)
    for target, seed in zip(arm.forward(q), seeds, strict=True):
        solution = arm.solve(target, seed, timeout=5.0)
        assert_solved(arm, solution, target)
        assert solution.jump_from_seed <= 0.5
        assert solution.restarts == 0


def test_without_a_seed(arm, positions):
    for target in arm.forward(positions(arm, 10, 5)):
        solution = arm.solve(target, timeout=5.0)
        assert_solved(arm, solution, target)
        assert math.isnan(solution.jump_from_seed)


def test_the_same_call_gives_the_same_solution_and_changes_no_input(panda, positions):
    targets, seeds = panda.forward(positions(panda, 5, 6)), positions(panda, 5, 7)
    for target, seed in zip(targets, seeds, strict=True):
        kept = target.copy(), seed.copy()
        a, b = panda.solve(target, seed, 5.0), panda.solve(target, seed, 5.0)
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(kept[0], target) and np.array_equal(kept[1], seed)


def test_a_batch_gives_what_single_calls_give(arm, positions):
    targets, seeds = arm.forward(positions(arm, 40, 8)), positions(arm, 40, 9)
    for solution, target, seed in zip(arm.solve_batch(targets, seeds, 20.0), targets, seeds, strict=True):
        assert_solved(arm, solution, target)
        assert np.allclose(solution.positions, arm.solve(target, seed, 5.0).positions, atol=1e-6)
    assert all(s.success for s in arm.solve_batch(targets, timeout=20.0))
    assert all(s.success for s in arm.solve_batch(targets, seeds[0], timeout=20.0))
    assert arm.solve_batch(np.zeros((0, 4, 4))) == []


def test_stages_on_another_device_lead_to_solutions_too(chain_of, positions):
    for name in ("panda", "ur5"):
        chain = chain_of(name)
        arm = InverseKinematicsEstimator(chain, find_weights(chain), device="cpu")
        arm.device = torch.device("cuda")  # the stages stay where they are, but are run as they would be there
        targets, seeds = arm.forward(positions(arm, 40, 8)), positions(arm, 40, 9)
        found = arm.solve_batch(targets, seeds, 20.0)
        for solution, target, seed in zip(found, targets, seeds, strict=True):
            assert_solved(arm, solution, target)
            assert solution.jump_from_seed == np.abs(solution.positions - seed).max()
        assert {s.stages for s in found} == {0, 3}
        assert all(s.success for s in arm.solve_batch(targets, timeout=20.0))


def test_a_step_bound_is_kept(arm, positions):
    bounded = InverseKinematicsEstimator(arm.chain, None, replace(arm.config, max_joint_step=0.3))
    q = positions(arm, 30, 10)
    seeds = np.clip(q + np.random.default_rng(11).uniform(-0.29, 0.29, q.shape), arm.lower, arm.upper)
    for target, seed in zip(bounded.forward(q), seeds, strict=True):
        solution = bounded.solve(target, seed, timeout=5.0)
        assert_solved(bounded, solution, target)
        assert solution.jump_from_seed <= 0.3 + 1e-9
    far = positions(arm, 1, 12)[0]
    solution = bounded.solve(bounded.forward(q[0]), far, timeout=0.02)
    assert solution.jump_from_seed <= 0.3 + 1e-9
    with pytest.raises(ConfigError, match="needs a seed"):
        bounded.solve(bounded.forward(q[0]))
    with pytest.raises(ConfigError, match="needs a seed"):
        bounded.solve_batch(bounded.forward(q))


def test_position_only(arm, positions):
    free = InverseKinematicsEstimator(arm.chain, None, InverseKinematicsConfig(position_only=True))
    turned = free.forward(positions(arm, 20, 13))
    turned[:, :3, :3] = np.eye(3)
    for target, seed in zip(turned, positions(arm, 20, 14), strict=True):
        assert_solved(free, free.solve(target, seed, timeout=5.0), target)


def test_a_redundant_arm_nears_its_posture(panda, positions):
    middle = tuple((0.5 * (panda.lower + panda.upper)).tolist())
    targets, seeds = panda.forward(positions(panda, 20, 15)), positions(panda, 20, 16)
    distances = []
    for weight in (0.0, 0.5, 1.0):
        config = InverseKinematicsConfig(posture_weight=weight, posture=middle)
        arm = InverseKinematicsEstimator(panda.chain, None, config)
        found = [arm.solve(t, s, 5.0) for t, s in zip(targets, seeds, strict=True)]
        for solution, target in zip(found, targets, strict=True):
            assert_solved(arm, solution, target)
        distances.append(np.mean([np.linalg.norm(s.positions - middle) for s in found]))
    assert distances[2] < distances[1] < distances[0]


def test_a_seed_a_hair_outside_is_moved_inside(arm):
    for seed in (arm.lower - 1e-3, arm.upper + 1e-3):
        target = arm.forward(np.clip(seed, arm.lower, arm.upper))
        assert_solved(arm, arm.solve(target, seed, timeout=5.0), target)


def test_seeds_by_name(panda, positions):
    q = positions(panda, 1, 17)[0]
    seed = {**dict(zip(panda.joint_names, q, strict=True)), "panda_finger_joint1": 0.02}
    assert panda.solve(panda.forward(q), seed).jump_from_seed < 1e-9
    del seed["panda_joint4"]
    with pytest.raises(ShapeError, match="panda_joint4"):
        panda.solve(panda.forward(q), seed)


def test_full_turns_are_counted_from_the_seed(estimator_of, positions):
    for name in ("ur5", "kinova"):
        arm = estimator_of(name)
        q = positions(arm, 1, 18)[0]
        index = len(q) - 1
        q[index] = 3.1
        seed = q.copy()
        seed[index] = 3.2 if name == "ur5" else 4 * np.pi + 3.2
        solution = arm.solve(arm.forward(q), seed, 5.0)
        assert_solved(arm, solution, arm.forward(q))
        assert solution.jump_from_seed < 0.2


def test_unreachable_targets_leave_the_arm_where_it_is(arm, positions):
    seed = positions(arm, 1, 19)[0]
    solution = arm.solve(FAR, seed, timeout=0.05)
    assert not solution.success and solution.status == NO_SOLUTION
    assert "the arm reaches" in solution.reason
    assert np.array_equal(solution.positions, seed) and solution.jump_from_seed == 0.0
    distance, angle = errors(arm.chain, solution, FAR)
    assert abs(solution.position_error - distance) < 1e-6 and abs(solution.orientation_error - angle) < 1e-6


def test_the_deadline_is_kept(panda, positions):
    pose = np.eye(4)
    pose[:3, 3] = 1.08, 0.0, 0.333  # less than the sum of the links' lengths, more than the arm can do
    began = time.perf_counter()
    solution = panda.solve(pose, positions(panda, 1, 20)[0], timeout=0.03)
    assert time.perf_counter() - began < 0.5
    assert not solution.success and solution.status == TIMED_OUT and "restarts" in solution.reason
    few = InverseKinematicsEstimator(panda.chain, None, InverseKinematicsConfig(max_restarts=20))
    solution = few.solve(pose, timeout=10.0)
    assert solution.status == NO_SOLUTION and solution.restarts == 20


def test_a_deadline_of_zero_looks_at_the_seed_alone(panda, positions):
    q = positions(panda, 2, 21)
    assert panda.solve(panda.forward(q[0]), q[0], timeout=0.0).success
    solution = panda.solve(panda.forward(q[0]), q[1], timeout=0.0)
    assert not solution.success and solution.status == TIMED_OUT
    assert np.array_equal(solution.positions, q[1]) and solution.iterations == 0


def test_approximate_solutions_have_a_guard(panda, positions):
    q = positions(panda, 1, 22)[0]
    stretched = panda.forward(np.array([0.0, 1.5, 0.0, -0.07, 0.0, 1.6, 0.0]))
    for shift, wanted in ((0.03, APPROXIMATE), (0.3, NO_SOLUTION)):
        target = stretched.copy()
        target[0, 3] += shift
        config = InverseKinematicsConfig(
            return_approximate=True, approximate_position=0.05, approximate_orientation=0.2
        )
        arm = InverseKinematicsEstimator(panda.chain, None, config)
        solution = arm.solve(target, q, timeout=0.05)
        assert solution.status == wanted
        assert solution.success == (wanted == APPROXIMATE)
        if solution.success:
            distance, angle = errors(panda.chain, solution, target)
            assert 1e-4 < distance <= 0.05 and angle <= 0.2
        else:
            assert np.array_equal(solution.positions, q)


def test_self_collision_is_rejected(positions):
    robot = example_robot("ur5")
    srdf = robots_folder() / "ur_description" / "srdf" / "ur5.srdf"
    careful = InverseKinematicsEstimator.from_urdf(robot.urdf, robot.tip, robot.base, srdf=srdf)
    careful = InverseKinematicsEstimator(careful.chain, collision=careful.collision)
    plain = InverseKinematicsEstimator(careful.chain)
    touching = 0
    for q, seed in zip(positions(plain, 60, 23), positions(plain, 60, 24), strict=True):
        if careful.collision(q):
            continue  # only poses that can be had without a collision
        target = plain.forward(q)
        touching += careful.collision(plain.solve(target, seed, 5.0).positions)
        solution = careful.solve(target, seed, timeout=5.0)
        assert_solved(careful, solution, target)
        assert not careful.collision(solution.positions)
    assert touching > 0


def test_bad_srdfs_are_refused():
    robot = example_robot("z1")
    cases = {
        "missing.srdf": "no file",
        "<sdf/>": "expected a <robot>",
        "<robot name='z1'/>": "touches itself wherever",
    }
    for srdf, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            InverseKinematicsEstimator.from_urdf(robot.urdf, robot.tip, robot.base, srdf=srdf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:3], "shape"),
        (lambda t: t * np.nan, "finite"),
        (lambda t: np.diag([1.1, 1.1, 1.1, 1.0]) @ t, "rotation matrix"),
        (lambda t: np.diag([1.0, 1.0, -1.0, 1.0]) @ t, "rotation matrix"),
        (lambda t: t + 0.5 * np.eye(4)[3], "last row|rotation matrix"),
    ],
)
def test_bad_targets_are_refused(change, message, panda):
    with pytest.raises(PoseError, match=message):
        panda.solve(change(np.eye(4)), np.zeros(7))


def test_slightly_skewed_targets_are_straightened(panda, positions):
    q = positions(panda, 1, 25)[0]
    target = panda.forward(q)
    rounded = target.copy()
    rounded[:3, :3] = np.round(target[:3, :3], 4)
    assert panda.solve(rounded, q).success


@pytest.mark.parametrize("seed", [np.zeros(6), np.zeros((7, 1)), [np.nan] * 7, "home", ["a"] * 7])
def test_bad_seeds_are_refused(seed, panda):
    with pytest.raises(ShapeError, match="seed"):
        panda.solve(np.eye(4), seed)
    with pytest.raises(ShapeError, match="seeds"):
        panda.solve_batch(np.eye(4)[None], seed)


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_bad_timeouts_are_refused(timeout, panda):
    with pytest.raises(ConfigError, match="timeout"):
        panda.solve(np.eye(4), np.zeros(7), timeout)
    with pytest.raises(ConfigError, match="timeout"):
        panda.solve_batch(np.eye(4)[None], np.zeros(7), timeout)


def test_bad_joint_vectors_and_devices_are_refused(panda):
    with pytest.raises(ShapeError, match="q: expected shape"):
        panda.forward(np.zeros(6))
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda"):
        InverseKinematicsEstimator(panda.chain, device="gpu")
    with pytest.raises(ConfigError, match="expected 7 positions"):
        InverseKinematicsEstimator(panda.chain, config=InverseKinematicsConfig(posture=(0.0,)))


@pytest.mark.parametrize(
    "bad",
    [
        {"position_tolerance": 0.0}, {"orientation_tolerance": 4.0}, {"max_joint_step": 0.0}, {"posture_weight": 2.0},
        {"posture": (math.nan,)}, {"approximate_position": 1e-9}, {"approximate_orientation": 1e-9},
        {"max_restarts": -1}, {"num_seeds": 0}, {"random_seed": -1},
    ],
)  # fmt: skip
def test_bad_configs_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        InverseKinematicsConfig(**bad)


def test_an_arm_without_weights_says_so(tmp_path, caplog):
    robot = example_robot("panda")
    other = robot.urdf.read_text().replace("0.316", "0.317")  # not a panda any more
    with caplog.at_level(logging.WARNING):
        arm = InverseKinematicsEstimator.from_urdf(other, robot.tip, robot.base)
    assert not arm.has_weights and "no weights" in caplog.text
    q = np.array([0.1, 0.2, -0.3, -1.5, 0.4, 1.6, 0.7])
    assert_solved(arm, arm.solve(arm.forward(q), timeout=5.0), arm.forward(q))
