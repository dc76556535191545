# SPDX-License-Identifier: Apache-2.0
"""Every space: apply(x, 0) == x, results stay inside, wrong shapes are refused."""

import math

import pytest
import torch

from dfips_ros.errors import ConfigError, ShapeError
from dfips_ros.geometry import make_pose_torch, so3_exp
from dfips_ros.solver import ImageSpace, JointBoxSpace, Se3ImageSpace, SphereSpace, VectorSpace

LOWER, UPPER = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1.0, 0.5, 4.0])


def poses(count, generator):
    rotation = so3_exp(torch.randn(count, 3, generator=generator))
    shift = torch.rand(count, 3, generator=generator) + torch.tensor([-0.5, -0.5, 2.0])
    return make_pose_torch(rotation, shift)


def unit(count, generator):
    x = torch.randn(count, 3, generator=generator)
    return x / x.norm(dim=1, keepdim=True)


def is_rotation(r):
    return torch.allclose(r @ r.transpose(1, 2), torch.eye(3).expand_as(r), atol=1e-5) and bool((r.det() > 0).all())


SPACES = {
    "vector": (VectorSpace(4), lambda n, g: torch.randn(n, 4, generator=g), lambda x: bool(x.isfinite().all())),
    "joint_box": (
        JointBoxSpace(LOWER, UPPER),
        lambda n, g: LOWER + (UPPER - LOWER) * torch.rand(n, 3, generator=g),
        lambda x: bool(((x >= LOWER) & (x <= UPPER)).all()),
    ),
    "wrapping_joints": (
        JointBoxSpace(torch.full((3,), -math.pi), torch.full((3,), math.pi), torch.tensor([True, True, True])),
        lambda n, g: (torch.rand(n, 3, generator=g) - 0.5) * 6.0,
        lambda x: bool(((x >= -math.pi) & (x < math.pi + 1e-6)).all()),
    ),
    "sphere": (SphereSpace(), unit, lambda x: torch.allclose(x.norm(dim=1), torch.ones(len(x)), atol=1e-5)),
    "image": (
        ImageSpace((1, 4, 5)),
        lambda n, g: torch.rand(n, 1, 4, 5, generator=g),
        lambda x: bool(((x >= 0) & (x <= 1)).all()),
    ),
    "se3_image": (
        Se3ImageSpace(), poses,
        lambda x: is_rotation(x[:, :3, :3]) and bool((x[:, 2, 3] > 0).all()),
    ),
}  # fmt: skip


@pytest.fixture(params=SPACES)
def case(request):
    return SPACES[request.param]


def test_zero_update_moves_nothing(case):
    space, sample, _ = case
    x = sample(16, torch.Generator().manual_seed(0))
    assert torch.allclose(space.apply(x, torch.zeros(16, *space.update_shape)), x, atol=1e-6)


def test_small_updates_can_be_learned(case):
    """A stage whose last layer starts at zero gets a gradient."""
    space, sample, _ = case
    x = sample(4, torch.Generator().manual_seed(0))
    update = torch.zeros(4, *space.update_shape, requires_grad=True)
    space.apply(x, update).square().mul(torch.rand(x.shape)).sum().backward()
    assert bool((update.grad.flatten(1).abs().amax(1) > 1e-4).all())


@pytest.mark.parametrize("depth", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("step", [-1e5, 1e5])
def test_depth_stays_a_number(depth, step):
    pose = make_pose_torch(torch.eye(3)[None], torch.tensor([[0.0, 0.0, depth]]))
    moved = Se3ImageSpace().apply(pose, torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, step]]))
    assert 0.0 < float(moved[0, 2, 3]) < math.inf


@pytest.mark.parametrize("size", [0.1, 1.0, 5.0])
def test_results_stay_inside(case, size):
    space, sample, inside = case
    generator = torch.Generator().manual_seed(1)
    x = sample(64, generator)
    update = size * torch.randn(64, *space.update_shape, generator=generator)
    kept = x.clone()
    assert inside(space.apply(x, update))
    assert torch.equal(x, kept)


def test_wrong_update_shape_is_refused(case):
    space, sample, _ = case
    x = sample(2, torch.Generator().manual_seed(0))
    with pytest.raises(ShapeError, match="update"):
        space.apply(x, torch.zeros(2, 17))


def test_se3_moves_the_image_as_documented():
    pose = make_pose_torch(torch.eye(3)[None], torch.tensor([[0.2, -0.1, 4.0]]))
    moved = Se3ImageSpace().apply(pose, torch.tensor([[0.0, 0.0, math.pi / 2, 0.05, -0.03, math.log(1.25)]]))
    assert torch.allclose(moved[0, :3, 3], torch.tensor([0.25 * 1.25, -0.13 * 1.25, 5.0]), atol=1e-6)
    assert torch.allclose(moved[0, :3, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_sphere_follows_the_great_circle():
    x = torch.tensor([[1.0, 0.0, 0.0]])
    moved = SphereSpace().apply(x, torch.tensor([[7.0, math.pi / 2, 0.0]]))  # the radial part does nothing
    assert torch.allclose(moved, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6)


def test_wrapping_joint_goes_round():
    space = JointBoxSpace(torch.tensor([-1.0]), torch.tensor([1.0]), torch.tensor([True]))
    moved = space.apply(torch.tensor([[3.0]]), torch.tensor([[0.5]]))
    assert torch.allclose(moved, torch.tensor([[3.5 - 2 * math.pi]]), atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: JointBoxSpace(torch.tensor([1.0]), torch.tensor([0.0])),
        lambda: JointBoxSpace(torch.zeros(2), torch.zeros(3)),
        lambda: ImageSpace((1, 2, 2), 1.0, 0.0),
    ],
)
def test_bad_limits_are_refused(make):
    with pytest.raises(ConfigError):
        make()
