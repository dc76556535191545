# SPDX-License-Identifier: Apache-2.0
"""Each baseline has the property that defines it."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dfips_ros.baselines.soft_silhouette import SoftSilhouetteConfig, SoftSilhouetteDescent, soft_silhouette
from dfips_ros.errors import ConfigError
from dfips_ros.geometry import make_pose
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose import rotation_error_deg

TRIANGLES = torch.tensor([[[-0.6, -0.5], [0.7, -0.4], [0.1, 0.6]], [[0.1, 0.6], [0.7, -0.4], [0.8, 0.5]]]).double()


def test_soft_silhouette_sharpens_to_the_hard_one():
    soft = soft_silhouette(TRIANGLES, 64, 1e-6)
    axis = (torch.arange(64) + 0.5) / 32 - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    inside = torch.zeros(64, 64, dtype=torch.bool)
    for a, b, c in TRIANGLES:
        edges = [(b - a, a), (c - b, b), (a - c, c)]
        sides = torch.stack([e[0] * (v - p[1]) - e[1] * (u - p[0]) for e, p in edges])
        inside |= (sides >= 0).all(0) | (sides <= 0).all(0)
    assert (soft.round().bool() == inside).float().mean() > 0.999


def test_soft_silhouette_gradient():
    corners = TRIANGLES.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda c: soft_silhouette(c, 6, 0.05), (corners,), atol=1e-4)


def test_soft_silhouette_reaches_beyond_the_triangle():
    """The gradient that a hard silhouette lacks: pixels outside pull too."""
    corners = TRIANGLES.clone().requires_grad_(True)
    soft_silhouette(corners, 16, 0.05)[0, 0].backward()
    assert corners.grad.abs().sum() > 0


@pytest.mark.slow
def test_soft_descent_improves_a_pose(bracket):
    camera = torch.tensor([[330.0, 0, 63.5], [0, 330.0, 63.5], [0, 0, 1.0]])
    vertices = torch.from_numpy(bracket.normalised_vertices())
    faces = torch.from_numpy(bracket.faces).long()
    true = make_pose(Rotation.from_rotvec([0.5, 0.4, 0.2]).as_matrix(), np.array([0.0, 0.0, 3.4]))
    near = make_pose(Rotation.from_rotvec([0.6, 0.3, 0.3]).as_matrix(), np.array([0.05, -0.04, 3.5]))
    normalised = type(bracket)("n", bracket.normalised_vertices(), bracket.faces)
    pose = torch.from_numpy(true).float()[None]
    mask = (RasterRenderer(normalised).render(pose, camera, (128, 128)) > 0).float()
    solver = SoftSilhouetteDescent(vertices, faces, SoftSilhouetteConfig(iterations=60, size=48))
    solution = solver.estimate((mask, camera[None]), torch.from_numpy(near).float()[None])
    found = solution.estimate[0].double().numpy()
    found[:3, :3] = Rotation.from_matrix(found[:3, :3]).as_matrix()
    assert rotation_error_deg(found, true) < rotation_error_deg(near, true)
    assert np.linalg.norm(found[:3, 3] - true[:3, 3]) < np.linalg.norm(near[:3, 3] - true[:3, 3])


def test_bad_settings():
    with pytest.raises(ConfigError, match="iterations"):
        SoftSilhouetteConfig(iterations=0)
    with pytest.raises(ConfigError, match="initial"):
        SoftSilhouetteDescent(torch.zeros(3, 3), torch.zeros(1, 3).long()).estimate((torch.zeros(1), torch.zeros(1)))
