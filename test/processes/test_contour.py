# SPDX-License-Identifier: Apache-2.0
"""Contour rows: the residual is zero at the truth, and the Jacobian is its derivative."""

import numpy as np
import pytest
import torch

from dfips_ros.geometry import make_pose, random_rotations, so3_exp
from dfips_ros.processes.contour import NUM_SIMULATED, NUM_SURFACE, compare, compare_contours
from dfips_ros.processes.observation import NUM_OBSERVED, observe, signed_distance
from dfips_ros.processes.rasterizer import rasterize_numpy
from dfips_ros.solver import Se3ImageSpace
from dfips_ros.tasks.object_pose.problem import MeshSet

CAMERA = np.array([[330.0, 0, 63.5], [0, 330.0, 63.5], [0, 0, 1.0]])


@pytest.fixture(scope="module")
def scene(bracket):
    meshes = MeshSet([bracket], 5000)
    rng = np.random.default_rng(3)
    count = 12
    poses = make_pose(random_rotations(count, rng), np.tile([0.02, -0.03, 3.4], (count, 1)))
    cameras = np.tile(CAMERA, (count, 1, 1))
    masks = rasterize_numpy(meshes.packed, np.zeros(count, int), poses, cameras, (128, 128)) > 0
    observation = observe(masks.astype(np.uint8), cameras)
    return meshes, observation, torch.from_numpy(poses).float()


def test_signed_distance_of_a_half_plane():
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 10:] = 1
    distance = signed_distance(mask)
    assert np.allclose(distance[8], 9.5 - np.arange(30), atol=0.06)


def test_at_the_truth_there_is_no_residual(scene):
    meshes, observation, poses = scene
    out = compare(meshes.packed, meshes.surface, observation, poses)
    assert torch.allclose(out["norm"], torch.zeros(len(poses)))
    contour = out["residual"][:, : NUM_SIMULATED + NUM_OBSERVED]
    assert contour.abs().max() < 1e-5
    surface = out["residual"][:, -NUM_SURFACE:]
    assert surface.shape[1] == NUM_SURFACE and surface.max() < 0.01
    assert out["weight"].mean() > 0.9


@pytest.mark.parametrize("axis", range(6))
def test_jacobian_is_the_derivative(scene, axis):
    """A true pose moved by a small u must give residuals near J u, averaged over the contour's points."""
    meshes, observation, poses = scene
    step = torch.zeros(len(poses), 6)
    step[:, axis] = 0.08 if axis < 3 else 0.04
    moved = Se3ImageSpace().apply(poses, step)
    out = compare(meshes.packed, meshes.surface, observation, moved)
    rows = slice(0, NUM_SIMULATED + NUM_OBSERVED)
    known = out["weight"][:, rows] > 0
    residual = out["residual"][:, rows][known]
    predicted = (out["jacobian"][:, rows] @ step[:, :, None])[..., 0][known]
    # Silhouettes change shape, so the fit is not exact; slope and correlation say that sign and scale are right.
    slope = float((residual * predicted).sum() / predicted.square().sum())
    correlation = float(torch.corrcoef(torch.stack([residual, predicted]))[0, 1])
    assert 0.7 < slope < 1.2
    assert correlation > 0.75


def test_rows_do_not_depend_on_the_image_scale(scene, bracket):
    """Distances are in diameters: a crop of half the focal length gives the same global features."""
    meshes, _, poses = scene
    outs = []
    for focal in (330.0, 220.0):
        camera = CAMERA.copy()
        camera[0, 0] = camera[1, 1] = focal
        cameras = np.tile(camera, (len(poses), 1, 1))
        masks = rasterize_numpy(meshes.packed, np.zeros(len(poses), int), poses.numpy(), cameras, (128, 128)) > 0
        step = torch.tensor([0.1, -0.05, 0.2, 0.03, 0.02, 0.05]).expand(len(poses), 6)
        moved = Se3ImageSpace().apply(poses, step)
        outs.append(compare(meshes.packed, meshes.surface, observe(masks.astype(np.uint8), cameras), moved))
    a, b = (out["context"][:, 1:12] for out in outs)
    assert (a - b).abs().mean() < 0.03


def test_batch_rows_are_those_of_single_ones(scene):
    meshes, observation, poses = scene
    moved = poses.clone()
    moved[:, :3, :3] = so3_exp(torch.tensor([[0.2, 0.1, -0.1]])) @ poses[:, :3, :3]
    together = compare(meshes.packed, meshes.surface, observation, moved)
    for b in (0, 5):
        alone = compare(meshes.packed, meshes.surface, observation[torch.tensor([b])], moved[b : b + 1])
        for name, value in alone.items():
            assert torch.allclose(value[0], together[name][b], atol=1e-6), name


def test_unknown_pixels_make_no_rows(scene):
    meshes, observation, poses = scene
    mask = observation.mask.numpy().copy()
    valid = np.ones_like(mask)
    valid[:, :, :64] = 0
    mask[:, :, :64] = 0
    half = observe(mask, np.tile(CAMERA, (len(mask), 1, 1)), valid)
    out = compare(meshes.packed, meshes.surface, half, poses)
    contour = out["residual"][:, : NUM_SIMULATED + NUM_OBSERVED]
    assert contour.abs().max() < 0.02  # the cut itself is not mistaken for a contour
    assert torch.allclose(out["norm"], torch.zeros(len(poses)), atol=1e-6)
    assert (out["weight"] == 0).float().mean() > 0.1


def test_nothing_in_view_gives_no_rows_and_no_crash(scene):
    meshes, observation, poses = scene
    away = poses.clone()
    away[:, 0, 3] = 50.0
    out = compare(meshes.packed, meshes.surface, observation, away)
    assert torch.allclose(out["norm"], torch.ones(len(poses)))
    assert all(bool(value.isfinite().all()) for value in out.values())


def test_contours_alone_are_those_of_the_whole_comparison(scene):
    meshes, observation, poses = scene
    moved = poses.clone()
    moved[:, :3, :3] = so3_exp(torch.tensor([[0.1, -0.2, 0.1]])) @ poses[:, :3, :3]
    out = compare(meshes.packed, meshes.surface, observation, moved)
    rows = NUM_SIMULATED + NUM_OBSERVED
    for b in range(len(poses)):
        one = observation[torch.tensor([b])]
        jacobian, residual, weight, norm = compare_contours(meshes.packed, one, moved[b].numpy())
        for mine, theirs in ((jacobian, "jacobian"), (residual, "residual"), (weight, "weight")):
            assert np.allclose(mine, out[theirs][b, :rows], atol=1e-6), theirs
        assert norm == pytest.approx(float(out["norm"][b]), abs=1e-6)
