# SPDX-License-Identifier: Apache-2.0
"""Examples made on a device are those that the CPU makes, in distribution, and a solver learns from them there."""

import itertools

import numpy as np
import pytest
import torch

from dfips_ros.geometry import rotation_angle_torch
from dfips_ros.processes.device_meshes import DeviceMeshes
from dfips_ros.processes.observation import observe
from dfips_ros.solver import SolverConfig, StageTrainer, TrainingConfig
from dfips_ros.tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.degradation import degrade as degrade_one
from dfips_ros.tasks.object_pose.degradation import holes as holes_of_one
from dfips_ros.tasks.object_pose.degradation import ragged_edges as ragged_edges_of_one
from dfips_ros.tasks.object_pose.device_data import device_pose_batches, random_rotations
from dfips_ros.tasks.object_pose.device_degradation import (
    Chance,
    below_quantile,
    degrade,
    hidden_parts,
    holes,
    ragged_edges,
    random_pixels,
)
from dfips_ros.tasks.object_pose.device_stages import on_device as to_device
from dfips_ros.tasks.object_pose.problem import ContourFeedback, MeshSet, make_solver, pose_loss
from dfips_ros.tasks.object_pose.shapes import random_shape
from dfips_ros.tasks.object_pose.training_recipe import examples, move_to_device

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
MODEL = ObjectPoseConfig(crop_size=64)
COUNT, BATCHES = 96, 16


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def meshes():
    return MeshSet([random_shape(i) for i in range(5)], 500)


@pytest.fixture(params=DEVICES)
def chance(request):
    return Chance(torch.Generator(request.param).manual_seed(1))


@pytest.fixture(scope="module")
def disc():
    v, u = np.mgrid[:96, :96]
    return (((u - 44) ** 2 + (v - 50) ** 2) < 32**2).astype(np.uint8)


def discs(disc, chance):
    return torch.from_numpy(disc > 0).to(chance.device).expand(COUNT, -1, -1)


def on_cpu(observation):
    return to_device(observation, torch.device("cpu"))


def on_device(meshes, device):
    return DeviceMeshes(meshes.packed, meshes.surface, torch.device(device))


def batch(meshes, device, **data):
    return next(device_pose_batches(on_device(meshes, device), MODEL, PoseDataConfig(batch_size=COUNT, **data)))


@pytest.mark.parametrize("device", DEVICES)
def test_batches_show_the_object_at_the_true_pose(meshes, device):
    """And are observed as masks are that the CPU prepares."""
    seen, initial, truth = batch(meshes, device, degraded=0.0, angles=(30.0,), angle_weights=(1.0,))
    seen, initial, truth = on_cpu(seen), initial.cpu(), {name: part.cpu() for name, part in truth.items()}
    feedback = ContourFeedback(meshes)
    at_truth, at_start = (feedback(seen, pose).residual_norm for pose in (truth["pose"], initial))
    assert at_truth.median() < 0.03 and at_truth.max() < 0.3
    assert (at_start > at_truth).float().mean() > 0.95
    angle = torch.rad2deg(rotation_angle_torch(initial[:, :3, :3], truth["pose"][:, :3, :3]))
    assert angle.max() <= 30.01 and angle.max() > 25 and angle.mean() == pytest.approx(15.0, abs=2.5)
    assert torch.allclose(pose_loss(truth["pose"], truth), torch.zeros(COUNT), atol=1e-5)
    identity = truth["pose"][:, :3, :3] @ truth["pose"][:, :3, :3].transpose(1, 2)
    assert torch.allclose(identity, torch.eye(3).expand(COUNT, 3, 3), atol=1e-5)
    expected = observe(seen.mask.numpy(), seen.camera.numpy(), seen.valid.numpy(), seen.mesh_index.numpy())
    assert ((seen.signed_distance - expected.signed_distance).abs() < 0.02 * seen.signed_distance.abs() + 0.08).all()
    assert (seen.contour_valid == 1.0).float().mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("degraded", [0.0, 1.0])
def test_the_same_distribution_as_on_the_cpu(meshes, device, degraded):
    """Of masks: area, edges, what is unknown, what disagrees with the true pose; and of true and initial poses."""
    data = PoseDataConfig(batch_size=COUNT // BATCHES, degraded=degraded)
    makers = pose_batches(meshes, MODEL, data), device_pose_batches(on_device(meshes, device), MODEL, data)
    found: list[list[torch.Tensor]] = [[], []]
    for maker, rows in zip(makers, found, strict=True):
        for seen, initial, truth in itertools.islice(maker, BATCHES):
            there, pose, start = seen.mask.float().cpu(), truth["pose"].cpu(), initial.cpu()
            norm = ContourFeedback(meshes)(on_cpu(seen), pose).residual_norm
            angle = rotation_angle_torch(start[:, :3, :3], pose[:, :3, :3])
            edges = (there[:, 1:] != there[:, :-1]).float().mean((1, 2))
            rows.append(
                torch.stack([
                    there.mean((1, 2)), edges * 10.0, (1.0 - seen.valid.float().cpu()).mean((1, 2)), norm, angle,
                    (start[:, 2, 3] / pose[:, 2, 3]).log(), pose[:, 2, 3].log(), seen.camera[:, 0, 0].cpu().log(),
                    (start[:, :2, 3] - pose[:, :2, 3]).abs().mean(1), seen.mesh_index.cpu().float() / 4.0,
                ], dim=1)
            )  # fmt: skip
    cpu, gpu = (torch.cat(rows) for rows in found)
    spread = torch.sqrt((cpu.var(0) + gpu.var(0)) / COUNT) + 1e-4
    assert ((cpu.mean(0) - gpu.mean(0)).abs() / spread).max() < 4.0
    ratio = (gpu.std(0) + 1e-4) / (cpu.std(0) + 1e-4)
    assert ratio.min() > 0.6 and ratio.max() < 1.6


def test_batches_are_seeded(meshes):
    first, again, other = (batch(meshes, "cpu", seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first[1], again[1]) and torch.equal(first[0].mask, again[0].mask)
    assert not torch.equal(first[1], other[1])


def test_rotations(chance):
    rotation = random_rotations(4000, chance).cpu()
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(4000, 3, 3))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(4000, dtype=torch.float64))
    assert rotation.mean(0).abs().max() < 0.04 and (rotation**2).mean(0).sub(1 / 3).abs().max() < 0.02


def test_random_pixels_are_on_the_mask(disc, chance):
    masks = discs(disc, chance).clone()
    masks[0] = False
    masks[0, 9, 5] = True
    column, row = random_pixels(masks, 3, chance)
    assert masks[torch.arange(COUNT, device=masks.device)[:, None], row, column].all()
    assert column[0].tolist() == [5] * 3 and row[0].tolist() == [9] * 3
    assert column[1:].float().mean().item() == pytest.approx(44, abs=4)


def test_hidden_parts_are_as_large_as_asked_for(disc, chance):
    masks = discs(disc, chance)
    value = chance.normal(*masks.shape)
    fraction = chance.uniform(0.0, 1.0, COUNT)
    share = (below_quantile(value, masks, fraction) & masks).sum((1, 2)) / masks.sum((1, 2))
    assert torch.allclose(share, fraction, atol=0.01)
    assert not below_quantile(value, masks & False, fraction).any()
    occluded, beyond = hidden_parts(masks, chance)
    assert not (occluded.any(2).any(1) & beyond.any(2).any(1)).any()
    share = ((occluded | beyond) & masks).sum((1, 2)) / masks.sum((1, 2))
    assert share.max() < 0.34 and (share > 0).float().mean().item() == pytest.approx(0.65, abs=0.12)
    assert share[share > 0].mean().item() == pytest.approx(0.165, abs=0.03)


@pytest.mark.parametrize("kind", ["edges", "holes", "all"])
def test_masks_change_as_much_as_on_the_cpu(disc, chance, kind):
    """Compared: the share of pixels that change, of the mask's."""
    rng, masks = np.random.default_rng(0), discs(disc, chance)
    if kind == "edges":
        one = [ragged_edges_of_one(disc, 2.0, rng) for _ in range(COUNT)]
        many = ragged_edges(masks, torch.full((COUNT,), 2.0, device=chance.device), chance)
    elif kind == "holes":
        one = [holes_of_one(disc, 3, rng) for _ in range(COUNT)]
        many = holes(masks, torch.full((COUNT,), 3, device=chance.device), chance)
    else:
        one = [degrade_one(disc, rng)[0] for _ in range(COUNT)]
        many, known = degrade(masks, chance)
        assert not (many & ~known).any() and 0.1 < (~known).any(2).any(1).float().mean() < 0.3
    expected = np.array([(mask != disc).sum() for mask in one]) / disc.sum()
    found = ((many != masks).sum((1, 2)) / masks.sum((1, 2))).cpu().numpy()
    error = np.sqrt((expected.var() + found.var()) / COUNT)
    assert abs(expected.mean() - found.mean()) < 4.0 * error + 0.05 * expected.mean()
    assert 0.7 < found.std() / expected.std() < 1.4


def test_a_mask_that_would_vanish_is_left_alone(chance):
    masks = torch.zeros((40, 64, 64), dtype=torch.bool, device=chance.device)
    masks[1:, 30:36, 30:37] = True
    out, known = degrade(masks, chance)
    alone = ((out == masks) & known).all(2).all(1)
    assert alone[0] and 0.3 < alone.float().mean() < 1.0
    assert (alone | (out.sum((1, 2)) >= 40)).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("feedback", ["contour", "image"])
def test_a_solver_learns_there(meshes, device, feedback):
    model = ObjectPoseConfig(
        feedback=feedback, width=16 if feedback == "contour" else 8, crop_size=48, solver=SolverConfig(num_stages=2)
    )
    torch.manual_seed(0)
    solver = make_solver(model, meshes)
    move_to_device(solver, torch.device(device), seed=0)
    config = TrainingConfig(max_batches=16, minutes=None, learning_rate=3e-3)
    trainer = StageTrainer(solver, pose_loss, config)
    trainer.run(examples(solver, model, PoseDataConfig(batch_size=16, degraded=0.3)), quiet=True)
    assert np.mean(trainer.losses[-5:]) < np.mean(trainer.losses[:5])
    assert {part.device.type for part in solver.state_dict().values()} == {device}
