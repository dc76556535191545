# SPDX-License-Identifier: Apache-2.0
"""Our shading is pyrender's; its derivatives, normals and coarse search are right."""

import cv2
import numpy as np
import pytest
import torch
import trimesh

from dfips_ros.geometry import make_pose, random_rotations
from dfips_ros.processes.mesh import Mesh
from dfips_ros.processes.rasterizer import PackedMeshes, rasterize_numpy
from dfips_ros.processes.shading import ESTIMATE_SIZE, LOWER, UPPER, image_values
from dfips_ros.processes.shading_geometry import draw_geometry, pixel_rays, shading_mesh
from dfips_ros.processes.shading_jacobian import autograd_jacobian, image_jacobian
from dfips_ros.processes.shading_pyrender import PyrenderShading
from dfips_ros.processes.shading_search import search_lights

SIZE = (128, 128)
CAMERA = np.array([[330.0, 0.0, 63.5], [0.0, 330.0, 63.5], [0.0, 0.0, 1.0]])
KINDS = pytest.mark.parametrize("point", [False, True], ids=["directional", "point"])


@pytest.fixture(scope="module")
def ball():
    solid = trimesh.creation.icosphere(subdivisions=4, radius=0.1)
    return Mesh("ball", solid.vertices, solid.faces)


@pytest.fixture(scope="module")
def objects(ball, bracket):
    return [shading_mesh(ball), shading_mesh(bracket)]


def seen_points(mesh, pose):
    """Pixels away from outlines and creases, and position, normal and view of each, (1, N, 3)."""
    depth, normal = draw_geometry(mesh, pose, CAMERA, SIZE)
    clear = cv2.erode((depth > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        clear &= (normal * np.roll(normal, step, axis)).sum(-1) > 0.9
    points = (pixel_rays(CAMERA, SIZE) * depth[..., None])[clear]
    view = -points / np.linalg.norm(points, axis=1, keepdims=True)
    center = pose[:3, 3].astype(np.float32)
    return clear, *(torch.from_numpy(a.astype(np.float32))[None] for a in (points - center, normal[clear], view))


def random_estimate(rng, point):
    light = rng.normal(size=3)
    light *= (rng.uniform(0.7, 2.0) if point else 1.0) / np.linalg.norm(light)
    light[2] = -abs(light[2])  # from the camera's side
    albedo = rng.uniform(0.1, 1.0)
    rest = [rng.uniform(0.0, 2.0), albedo, rng.uniform(), rng.uniform(0.15, 1.0), 0.1 * albedo]
    return torch.tensor([[*light, *rest]], dtype=torch.float32)


@KINDS
def test_shading_is_that_of_pyrender(objects, point):
    rng = np.random.default_rng(3)
    for mesh in objects:
        for _ in range(4):
            pose = make_pose(random_rotations(1, rng)[0], np.array([0.05, -0.03, 3.0]))
            clear, position, normal, view = seen_points(mesh, pose)
            x = random_estimate(rng, point)
            ours = image_values(x, position, normal, view, torch.ones(1), point)[0].numpy()
            light, (log_intensity, albedo, metallic, roughness, ambient) = x[0, :3].numpy(), x[0, 3:].tolist()
            picture = PyrenderShading(mesh, pose, CAMERA, SIZE).render(
                light, point, np.exp(log_intensity), albedo, metallic, roughness, ambient / albedo
            )
            assert (picture[..., 0] == picture[..., 2]).all() and clear.sum() > 300
            error = np.abs(ours - picture[clear][:, 0] / 255.0)
            assert np.median(error) < 0.75 / 255.0
            assert np.quantile(error, 0.99) < 3.0 / 255.0


@KINDS
def test_jacobian_is_the_slope(objects, point):
    rng = np.random.default_rng(4)
    _, position, normal, view = seen_points(objects[0], make_pose(np.eye(3), np.array([0.0, 0.0, 3.0])))
    some = slice(None, None, 50)
    geometry = [a[:, some].double() for a in (position, normal, view)]
    x = random_estimate(rng, point).double()
    limit = torch.full((1,), 9.0).double()
    with torch.inference_mode():  # as inside of the solver
        values, jacobian = image_jacobian(x, *geometry, limit, point)
    for i in range(ESTIMATE_SIZE):
        step = torch.zeros_like(x)
        step[0, i] = 1e-5
        difference = image_values(x + step, *geometry, limit, point) - image_values(x - step, *geometry, limit, point)
        slope = difference / 2e-5
        close = torch.isclose(jacobian[..., i], slope, rtol=1e-3, atol=1e-5)
        assert close.float().mean() > 0.98  # the shader clamps: a few points sit on a kink
    assert torch.equal(values, image_values(x, *geometry, limit, point))


@KINDS
def test_compiled_derivatives_are_those_of_autograd(objects, point):
    rng = np.random.default_rng(6)
    _, position, normal, view = seen_points(objects[1], make_pose(np.eye(3), np.array([0.0, 0.0, 3.0])))
    for limit in (9.0, 0.6):
        x = torch.cat([random_estimate(rng, point) for _ in range(8)])
        geometry = [a.expand(8, -1, -1) for a in (position, normal, view)]
        arguments = (x, *geometry, torch.full((8,), limit), point)
        for compiled, automatic in zip(image_jacobian(*arguments), autograd_jacobian(*arguments), strict=True):
            assert compiled.abs().max() > 0.1
            close = torch.isclose(compiled, automatic, rtol=1e-3, atol=2e-3)
            assert close.float().mean() > 0.999  # a few points sit on a kink


@KINDS
def test_batch_elements_do_not_know_each_other(objects, point):
    rng = np.random.default_rng(5)
    _, position, normal, view = seen_points(objects[1], make_pose(np.eye(3), np.array([0.0, 0.0, 3.0])))
    x = torch.cat([random_estimate(rng, point) for _ in range(3)])
    three = [a.expand(3, -1, -1) for a in (position, normal, view)]
    limit = torch.tensor([0.5, 1.0, 2.0])
    together = image_values(x, *three, limit, point)
    assert torch.equal(together, image_values(x, *three, limit, point))
    for b in range(3):
        alone = image_values(x[b : b + 1], position, normal, view, limit[b : b + 1], point)
        assert torch.allclose(together[b], alone[0], atol=1e-6)
        assert alone.max() <= limit[b]
    assert len(LOWER) == len(UPPER) == ESTIMATE_SIZE - 3


def test_normals_of_a_ball_point_away_from_its_center(objects):
    pose = make_pose(random_rotations(1, np.random.default_rng(0))[0], np.array([0.0, 0.0, 3.0]))
    clear, position, normal, _ = seen_points(objects[0], pose)
    radial = torch.nn.functional.normalize(position, dim=-1)
    assert clear.sum() > 5000 and (radial * normal).sum(-1).min() > 0.999


def test_winding_does_not_matter_and_depth_is_that_of_the_rasteriser(bracket):
    rng = np.random.default_rng(1)
    flipped = bracket.faces.copy()
    some = rng.uniform(size=len(flipped)) < 0.5
    flipped[some] = flipped[some][:, ::-1]
    one, other = shading_mesh(bracket), shading_mesh(Mesh("flipped", bracket.vertices, flipped))
    for rotation in random_rotations(5, rng):
        pose = make_pose(rotation, np.array([0.0, 0.0, 2.5]))
        depth, normal = draw_geometry(one, pose, CAMERA, SIZE)
        depth2, normal2 = draw_geometry(other, pose, CAMERA, SIZE)
        assert np.array_equal(depth, depth2) and np.allclose(normal[depth > 0], normal2[depth > 0], atol=1e-5)
        packed = PackedMeshes([(one.vertices, one.faces)])
        plain = rasterize_numpy(packed, np.zeros(1, np.int64), pose[None], CAMERA[None], SIZE)[0]
        both = (plain > 0) & (depth > 0)
        assert ((plain > 0) != (depth > 0)).sum() < 0.01 * both.sum()
        assert np.abs(plain - depth)[both].max() < 1e-3


@KINDS
def test_search_finds_lights_on_a_ball(objects, point):
    rng = np.random.default_rng(6)
    _, position, normal, view = seen_points(objects[0], make_pose(np.eye(3), np.array([0.0, 0.0, 3.0])))
    some = torch.from_numpy(rng.choice(position.shape[1], 128, replace=False))
    geometry = [a[:, some] for a in (position, normal, view)]
    for _ in range(10):
        x = random_estimate(rng, point)
        limit = torch.full((1,), 9.0)
        values = image_values(x, *geometry, limit, point)
        arrays = [a.numpy() for a in (*geometry, values, torch.ones_like(values), limit)]
        found = search_lights(*arrays, point, 3)
        assert found.shape == (1, 3, ESTIMATE_SIZE) and np.isfinite(found).all()
        assert (found[..., 3:] >= LOWER).all() and (found[..., 3:] <= UPPER).all()
        true = x[0, :3].numpy()
        cosine = found[0, :, :3] @ true / np.linalg.norm(found[0, :, :3], axis=1) / np.linalg.norm(true)
        assert np.rad2deg(np.arccos(cosine.max())) < 30.0
