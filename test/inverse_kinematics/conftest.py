# SPDX-License-Identifier: Apache-2.0
"""Arms and targets for the inverse kinematics tests."""

import numpy as np
import pytest
import torch

pytest.importorskip("pinocchio")

from dfips_ros.processes.example_robots import EXAMPLE_ROBOTS, example_robot
from dfips_ros.processes.kinematics import SerialChain
from dfips_ros.tasks.inverse_kinematics import InverseKinematicsEstimator
from dfips_ros.tasks.inverse_kinematics.weights import find_weights


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are slower on several threads, much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def chain_of():
    made = {}

    def get(name):
        if name not in made:
            robot = example_robot(name)
            made[name] = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
        return made[name]

    return get


@pytest.fixture(scope="session")
def estimator_of(chain_of):
    """Builds an estimator: ``estimator_of("panda", learned=True, config=None)``."""

    def get(name, learned=True, config=None):
        chain = chain_of(name)
        return InverseKinematicsEstimator(chain, find_weights(chain) if learned else None, config)

    return get


@pytest.fixture(scope="session", params=EXAMPLE_ROBOTS)
def arm(request, estimator_of):
    """Every example arm, with the weights that ship for it."""
    return estimator_of(request.param)


@pytest.fixture(scope="session")
def panda(estimator_of):
    return estimator_of("panda")


@pytest.fixture
def positions():
    """Joint positions (count, n) uniform within the limits of an estimator."""

    def draw(estimator, count, seed=0):
        return np.random.default_rng(seed).uniform(estimator.lower, estimator.upper, (count, len(estimator.lower)))

    return draw
