# SPDX-License-Identifier: Apache-2.0
"""The gradients that SoftRas and NMR define, against finite differences of what they define, and on every device."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dfips_ros.baselines.neural_mesh_renderer import (
    NeuralMeshConfig,
    NeuralMeshDescent,
    hard_silhouette,
    visible_faces,
)
from dfips_ros.baselines.silhouette_descent import DescentConfig
from dfips_ros.baselines.soft_silhouette import (
    SoftSilhouetteConfig,
    SoftSilhouetteDescent,
    _close_pairs,
    _close_pairs_torch,
    soft_silhouette,
)
from dfips_ros.errors import ConfigError
from dfips_ros.geometry import make_pose
from dfips_ros.processes.mesh import Mesh
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.solver import Estimator
from dfips_ros.tasks.object_pose import rotation_error_deg

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
CAMERA = torch.tensor([[330.0, 0, 63.5], [0, 330.0, 63.5], [0, 0, 1.0]])
SIZE = 10
# The image spans [-1, 1]: triangles of both windings, a blunt one and a thin one.
TRIANGLES = [
    [[-0.63, -0.52], [0.71, -0.43], [0.12, 0.66]],
    [[0.12, 0.66], [0.71, -0.43], [-0.63, -0.52]],
    [[-0.31, -0.87], [0.93, 0.17], [-0.55, 0.41]],
    [[-0.93, -0.32], [0.22, -0.61], [0.37, 0.74]],
    [[-0.81, 0.03], [0.77, -0.17], [0.83, 0.29]],
]


def flat(corners):
    return torch.ones(corners.shape[:2], dtype=corners.dtype, device=corners.device)


def area(corners):
    (ax, ay), (bx, by), (cx, cy) = corners
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def way_to_step(triangle, vertex, axis, point, direction):
    """How far a corner must go until the triangle's cover of a point steps, and whether it turned over before that."""

    def first_change(ways):
        moved = np.repeat(np.array(triangle)[None], len(ways), axis=0)
        moved[:, vertex, axis] += direction * ways
        a, b, c = moved.transpose(1, 2, 0)
        turns = np.stack([area((a, b, point)), area((b, c, point)), area((c, a, point))]) * np.sign(area(triangle))
        changed = (turns >= 0).all(0) != (turns >= 0).all(0)[0]
        over = area((a, b, c)) * area(triangle) <= 0
        either = changed | over
        first = int(either.argmax()) if either.any() else None
        return first, first is not None and bool(over[first])

    ways = np.concatenate([np.linspace(0, 4, 4001), np.geomspace(4, 1e5, 4000)])
    for _ in range(4):
        first, over = first_change(np.concatenate([[0.0], ways]))
        if first is None:
            return math.inf, False
        ways = np.linspace(ways[max(first - 2, 0)], ways[first - 1], 1001)
    return ways[-1], over


@pytest.mark.parametrize("triangle", TRIANGLES)
@pytest.mark.parametrize("axis", [0, 1])
def test_nmr_gradient_is_that_of_the_blurred_edges(triangle, axis):
    """The ramp is S_j + D s / d for a step s; d is found by moving the corner until the triangle's cover steps.

    A triangle that turns over on the way has no such d; its ramp cannot be steeper than one that ends there.
    """
    corners = torch.tensor(triangle, dtype=torch.float64)
    covered = visible_faces(corners[None], flat(corners[None]), SIZE) >= 0
    lines = covered.any(1) if axis == 0 else covered.any(0)  # others show nothing of the triangle beside its edges
    pixels = [(y, x) for y in range(SIZE) for x in range(SIZE) if lines[(y, x)[axis]]]
    centers = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    exact = 0
    for y, x in np.random.default_rng(0).permutation(pixels)[:20]:
        change = -1.0 if covered[y, x] else 1.0
        weights = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        weights[y, x] = -change  # the loss falls if the pixel steps
        moving = corners.clone().requires_grad_(True)
        (hard_silhouette(moving[None], flat(corners[None]), SIZE, 0.0) * weights).sum().backward()
        for vertex in range(3):
            low = high = 0.0
            for direction in (-1.0, 1.0):
                way, turned = way_to_step(triangle, vertex, axis, centers[[x, y]], direction)
                step = 1e-3 * min(way, 1.0)
                before, after = 0.0, -abs(change) * step / way  # blurred losses, without and with the step
                slope = (after - before) / (direction * step)
                low += min(slope, 0.0) if turned else slope
                high += max(slope, 0.0) if turned else slope
                exact += not turned and slope != 0.0
            slack = 1e-9 + 1e-4 * max(abs(low), abs(high))
            assert low - slack <= moving.grad[vertex, axis].item() <= high + slack
    assert exact > 15


def test_nmr_sends_nothing_where_the_loss_wants_the_pixel_as_it_is():
    corners = torch.tensor(TRIANGLES[:1], dtype=torch.float64)
    target = visible_faces(corners, flat(corners), SIZE) >= 0
    for sign, some in ((1.0, False), (-1.0, True)):
        moving = corners.clone().requires_grad_(True)
        image = hard_silhouette(moving, flat(corners), SIZE)
        (sign * (image * (~target) - image * target)).sum().backward()  # kept as it is, and the contrary
        assert bool(moving.grad.abs().sum() > 0) == some


def test_nmr_passes_over_edges_inside_the_silhouette():
    """A triangle before a larger one: its own edges are no part of the silhouette's outline."""
    large = torch.tensor(TRIANGLES[0], dtype=torch.float64)
    corners = torch.stack([large, large.mean(0) + 0.4 * (large - large.mean(0))])
    moving = corners.clone().requires_grad_(True)
    depth = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    hard_silhouette(moving, depth, 40).sum().backward()  # the loss wants covered pixels to vanish
    assert (moving.grad[0].abs() > 0).all() and (moving.grad[1] == 0).all()


def test_nearest_triangle_is_shown():
    corners = torch.tensor([TRIANGLES[0], TRIANGLES[2]], dtype=torch.float64)
    alone = [visible_faces(c[None], flat(c[None]), SIZE) >= 0 for c in corners]
    both = alone[0] & alone[1]
    for near in (0, 1):
        depth = torch.ones(2, 3, dtype=torch.float64)
        depth[near] = 2.0
        shown = visible_faces(corners, depth, SIZE)
        assert both.any() and (shown[both] == near).all() and ((shown >= 0) == (alone[0] | alone[1])).all()


def test_softras_sharpens_to_the_hard_silhouette():
    corners = torch.tensor([TRIANGLES[0], TRIANGLES[3]], dtype=torch.float64)
    hard = visible_faces(corners, flat(corners), 64) >= 0
    assert ((soft_silhouette(corners, 64, 1e-6) > 0.5) == hard).double().mean() > 0.999


@pytest.mark.parametrize("triangle", TRIANGLES)
@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_softras_gradient_by_finite_differences(triangle, sigma):
    corners = torch.tensor([triangle, TRIANGLES[0]], dtype=torch.float64, requires_grad=True)
    # Pairs that are passed over differ by sigmoid(-16) from pair to pair.
    assert torch.autograd.gradcheck(lambda c: soft_silhouette(c, 5, sigma), (corners,), eps=1e-7, atol=1e-4)


def test_both_gradients_reach_beyond_the_triangle():
    """What a hard silhouette lacks: pixels outside pull too."""
    for silhouette in (lambda c: soft_silhouette(c, 16, 0.05), lambda c: hard_silhouette(c, flat(c), 16)):
        corners = torch.tensor(TRIANGLES[:1], dtype=torch.float64, requires_grad=True)
        image = silhouette(corners)
        assert image[8, 15] < 0.5
        (-image[8, 15]).backward()
        assert corners.grad.abs().sum() > 0


@pytest.mark.parametrize("sigma", [3e-6, 3e-3, 0.1])
@pytest.mark.parametrize("device", DEVICES)
def test_softras_finds_the_same_pairs_on_every_device(sigma, device):
    corners = torch.tensor(TRIANGLES, dtype=torch.float64)
    compiled = _close_pairs(corners.numpy(), 32, sigma)
    plain = _close_pairs_torch(corners.to(device), 32, sigma).cpu().numpy()
    assert {tuple(pair) for pair in compiled} == {tuple(pair) for pair in plain} and len(plain) == len(compiled)


def descents(mesh, **settings):
    vertices, faces = torch.from_numpy(mesh.normalised_vertices()), torch.from_numpy(mesh.faces).long()
    return {
        "softras": SoftSilhouetteDescent(vertices, faces, SoftSilhouetteConfig(**settings)),
        "nmr": NeuralMeshDescent(vertices, faces, NeuralMeshConfig(**settings)),
    }


@pytest.fixture(scope="module")
def problem(bracket):
    """A mask, the true pose, and one that is off by 11 degrees."""
    true = make_pose(Rotation.from_rotvec([0.5, 0.4, 0.2]).as_matrix(), np.array([0.0, 0.0, 3.4]))
    near = make_pose(Rotation.from_rotvec([0.6, 0.3, 0.3]).as_matrix(), np.array([0.05, -0.04, 3.5]))
    pose = torch.from_numpy(true).float()[None]
    renderer = RasterRenderer(Mesh("n", bracket.normalised_vertices(), bracket.faces))
    mask = (renderer.render(pose, CAMERA, (128, 128)) > 0).float()
    return mask, true, near


@pytest.mark.parametrize("device", DEVICES)
def test_nmr_shows_what_the_renderer_shows(bracket, problem, device):
    mask, true, _ = problem
    solver = descents(bracket, size=128)["nmr"]
    pose = torch.from_numpy(true).float().to(device)
    image = solver.silhouette(*solver._project(pose, CAMERA.to(device), 128), 0.0)
    assert (image.cpu() != mask[0]).float().mean() < 1e-3


@pytest.mark.parametrize("name", ["softras", "nmr"])
@pytest.mark.parametrize("device", DEVICES)
def test_descent_improves_a_pose_on_every_device(bracket, problem, name, device):
    mask, true, near = problem
    solver = descents(bracket, iterations=60, size=48)[name]
    initial = torch.from_numpy(near).float()[None].to(device)
    before = initial.clone()
    solution = solver.estimate((mask.to(device), CAMERA[None].to(device)), initial)
    assert isinstance(solver, Estimator) and torch.equal(initial, before)
    assert solution.estimate.device.type == device and solution.estimate.dtype == torch.float32
    assert solution.residual_norms.shape == (1, 2) and solution.residual_norms[0, 1] < solution.residual_norms[0, 0]
    found = solution.estimate[0].cpu().double().numpy()
    found[:3, :3] = Rotation.from_matrix(found[:3, :3]).as_matrix()
    assert rotation_error_deg(found, true) < rotation_error_deg(near, true)
    assert np.linalg.norm(found[:3, 3] - true[:3, 3]) < np.linalg.norm(near[:3, 3] - true[:3, 3])


@pytest.mark.parametrize("name", ["softras", "nmr"])
def test_an_element_does_not_depend_on_its_batch(bracket, problem, name):
    mask, true, near = problem
    solver = descents(bracket, iterations=3, size=24)[name]
    initial = torch.from_numpy(np.stack([near, true])).float()
    together = solver.estimate((mask.repeat(2, 1, 1), CAMERA.repeat(2, 1, 1)), initial)
    alone = solver.estimate((mask, CAMERA[None]), initial[1:])
    assert torch.equal(together.estimate[1:], alone.estimate)


@pytest.mark.parametrize("kind", [DescentConfig, SoftSilhouetteConfig, NeuralMeshConfig])
@pytest.mark.parametrize("bad", [{"iterations": 0}, {"size": 4}, {"learning_rate": -1.0}])
def test_bad_settings(kind, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        kind(**bad)


def test_bad_settings_of_each_descent(bracket):
    with pytest.raises(ConfigError, match="sigma_start"):
        SoftSilhouetteConfig(sigma_start=0.0)
    with pytest.raises(ConfigError, match="shortest"):
        NeuralMeshConfig(shortest=math.inf)
    for solver in descents(bracket).values():
        with pytest.raises(ConfigError, match="initial"):
            solver.estimate((torch.zeros(1, 8, 8), CAMERA[None]))


def test_a_start_that_fits_better_is_kept(bracket, problem):
    """Long steps lead away from the true pose; towards it they are taken. (NMR compares all poses, its start too.)"""
    mask, true, near = problem
    for initial, kept in ((true, True), (near, False)):
        start = torch.from_numpy(initial).float()[None]
        settings = {"iterations": 12, "size": 64, "learning_rate": 0.8 if kept else 0.02}
        free, bound = (
            descents(bracket, keep_start=keep, **settings)["softras"].estimate((mask, CAMERA[None]), start).estimate
            for keep in (False, True)
        )
        assert torch.equal(bound, start if kept else free) and not torch.equal(free, start)
