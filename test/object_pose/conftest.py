# SPDX-License-Identifier: Apache-2.0
"""One estimator for all tests of the task."""

import numpy as np
import pytest

from dfips_ros.geometry import make_pose, random_perturbations, random_rotations
from dfips_ros.tasks.object_pose import ObjectPoseEstimator


@pytest.fixture(scope="session")
def estimator(bracket):
    return ObjectPoseEstimator.from_mesh(bracket, device="cpu")


@pytest.fixture(scope="session")
def true_poses(bracket):
    """Twenty poses all over the image, near and far."""
    rng = np.random.default_rng(5)
    rotation = random_rotations(20, rng)
    depth = rng.uniform(2.5, 5.0, 20) * bracket.diameter
    shift = np.stack([rng.uniform(-0.3, 0.3, 20) * depth, rng.uniform(-0.2, 0.2, 20) * depth, depth], axis=1)
    return make_pose(rotation, shift - rotation @ bracket.center)


@pytest.fixture(scope="session")
def near_poses(bracket, true_poses):
    """Each true pose, off by up to 25 degrees, a tenth of the diameter and a tenth of the depth."""
    rng = np.random.default_rng(6)
    near = true_poses.copy()
    center = true_poses @ np.append(bracket.center, 1.0)
    for pose, middle in zip(near, center, strict=True):
        pose[:3, :3] = random_perturbations(1, np.deg2rad(25), rng)[0] @ pose[:3, :3]
        moved = middle[:3] + rng.uniform(-0.1, 0.1, 3) * (bracket.diameter, bracket.diameter, middle[2])
        pose[:3, 3] = moved - pose[:3, :3] @ bracket.center
    return near
