# SPDX-License-Identifier: Apache-2.0
"""The task as the solver sees it: feedback, configurations, data and a short training."""

import json
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from dfips_ros.errors import CheckpointError, ConfigError, ShapeError
from dfips_ros.networks.dct_unet import COMPARE_SCALE, DETAIL_SCALE, MEAN_SCALE, _folded, _unfolded
from dfips_ros.processes.jpeg import round_trip, standard_table
from dfips_ros.processes.jpeg_dct import JpegObservation, blocks, by_block, chosen_blocks
from dfips_ros.processes.jpeg_feedback import JpegFeedback, PlaneSpace
from dfips_ros.solver import SolverConfig, TrainingConfig
from dfips_ros.tasks.deblocking.config import (
    COLOUR,
    DNCNN,
    DeblockingConfig,
    DeblockingDataConfig,
    DeblockingLossConfig,
    plain_stages,
)
from dfips_ros.tasks.deblocking.data import deblocking_batches, load_planes
from dfips_ros.tasks.deblocking.metrics import psnr, psnr_b, ssim
from dfips_ros.tasks.deblocking.problem import deblocking_loss, load_solver, make_solver
from dfips_ros.tasks.deblocking.training_recipe import DeblockingTrainingConfig, train

SMALL = DeblockingConfig(widths=((8, 16),), depth=1, fine_depth=1, solver=plain_stages(2))
FINE = DeblockingConfig(widths=((8, 12, 16), (8, 12)), depth=1, fine_depth=2)


@pytest.fixture(scope="module")
def batch(folder):
    data = DeblockingDataConfig(batch_size=4, crop_size=32, tables_per_batch=2)
    return next(deblocking_batches(load_planes([folder], 32), data))


def test_the_residual_is_simulated_minus_observed(batch):
    observation, initial, _ = batch
    estimate = (initial + 0.03 * torch.randn(initial.shape, generator=torch.manual_seed(0))).clamp(0, 1)
    features = JpegFeedback()(observation, estimate)
    expected = round_trip(estimate, observation.tables) - observation.planes
    torch.testing.assert_close(features.inputs["residual"], expected)
    norms = expected.flatten(1).square().mean(1).sqrt() * 255
    torch.testing.assert_close(features.residual_norm, norms, atol=1e-3, rtol=1e-3)


def test_cells_tell_where_the_estimate_contradicts_the_observation(batch):
    observation, _, truth = batch
    cells = JpegFeedback()(observation, truth).inputs["cells"][:, 64:]
    assert (cells.abs() <= 0.55).float().mean() > 0.999  # the truth lies in its cells, up to libjpeg's rounding
    assert JpegFeedback()(observation, 1.0 - truth).inputs["cells"][:, 64:].abs().max() == 2.0


@pytest.mark.parametrize("config", [SMALL, FINE, DNCNN], ids=["two levels", "three levels", "dncnn"])
def test_solvers_keep_shape_batch_and_input(batch, config):
    observation, initial, _ = batch
    torch.manual_seed(0)
    solver = make_solver(config).eval()
    for parameter in solver.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    before = initial.clone()
    solution = solver.estimate(observation, initial)
    assert torch.equal(initial, before) and len(solution.history) == config.solver.num_stages + 1
    assert solution.estimate.shape == initial.shape and 0 <= solution.estimate.min() <= solution.estimate.max() <= 1
    alone = solver.estimate(observation[torch.tensor([2])], initial[2:3]).estimate
    torch.testing.assert_close(alone, solution.estimate[2:3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [SMALL, FINE], ids=["two levels", "three levels"])
def test_fresh_stages_leave_the_observation_as_it_is(batch, config):
    observation, initial, _ = batch
    assert torch.equal(make_solver(config).estimate(observation, initial).estimate, initial)


@pytest.mark.parametrize("fold", [2, 4])
def test_pixels_are_folded_as_torch_does_it(fold):
    planes = torch.rand(3, 2, 1, 16, 24, generator=torch.manual_seed(0))
    estimate, residual, observation = planes
    folded = _folded(estimate, residual, observation, fold)
    own = functional.pixel_unshuffle(estimate - 0.5, fold)
    mean = own.mean(1, keepdim=True)
    coarser = functional.avg_pool2d(mean, 3, stride=1, padding=1, count_include_pad=False)
    expected = torch.cat([(own - mean) * DETAIL_SCALE, (mean - coarser) * DETAIL_SCALE, mean * MEAN_SCALE], 1)
    torch.testing.assert_close(folded[:, : fold**2 + 2], expected, atol=1e-5, rtol=1e-5)
    compared = functional.pixel_unshuffle(torch.cat([residual, estimate - observation], 1), fold) * COMPARE_SCALE
    torch.testing.assert_close(folded[:, fold**2 + 2 :], compared)
    with torch.autocast("cpu", torch.bfloat16):  # as in training: the inputs keep their digits
        assert torch.equal(_folded(estimate, residual, observation, fold), folded)
    image = torch.rand(2, fold**2, 6, 4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(_unfolded(image, fold), functional.pixel_shuffle(image, fold))


def test_chosen_blocks_are_those_of_all_blocks():
    for height, width in ((8, 8), (16, 8), (24, 40)):
        planes = torch.rand(3, 1, height, width, generator=torch.manual_seed(0))
        every = by_block(blocks(planes))
        batch, number = (torch.rand(every.shape[:2], generator=torch.manual_seed(1)) < 0.7).nonzero(as_tuple=True)
        assert torch.equal(chosen_blocks(planes, batch, number), every[batch, number])


def test_each_stage_has_the_levels_of_its_config():
    stages = make_solver(FINE).stages
    assert [len(stage.down) for stage in stages] == [2, 1, 1] and [stage.fold for stage in stages] == [2, 4, 4]


def test_an_image_without_any_residual_is_worked_on_all_the_same():
    flat = torch.full((1, 1, 16, 16), 128 / 255)
    observation = JpegObservation.from_planes(flat, torch.tensor(standard_table(50)).float()[None])
    solver = make_solver(SMALL)
    for stage in solver.stages:
        stage.tail.bias.data += 1.0
    assert solver.estimate(observation, flat).estimate.mean() > flat.mean() + 0.1


def test_the_space_clips_and_refuses_other_shapes():
    x = torch.full((1, 1, 8, 8), 0.9)
    assert torch.equal(PlaneSpace().apply(x, torch.zeros_like(x)), x)
    assert PlaneSpace().apply(x, torch.ones_like(x)).max() == 1.0
    with pytest.raises(ShapeError, match="update"):
        PlaneSpace().apply(x, torch.zeros(1, 1, 8, 16))


def test_configurations_round_trip_and_refuse():
    for config in (DeblockingConfig(), COLOUR, SMALL, DNCNN):
        assert DeblockingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="unknown depht"):
        DeblockingConfig.from_dict({"depht": 3})
    for wrong in ({"network": "cnn"}, {"width": 1}, {"depth": 0}, {"fine_depth": -1}, {"widths": ()},
                  {"widths": ((8,),)}, {"widths": ((8, 2),)}, {"solver": SolverConfig(num_stages=3)}):  # fmt: skip
        with pytest.raises(ConfigError):
            DeblockingConfig(**wrong)
    for wrong in ({"crop_size": 60}, {"quality": (0, 50)}, {"quality": (60, 50)}, {"tables_per_batch": 99}):
        with pytest.raises(ConfigError):
            DeblockingDataConfig(**wrong)
    with pytest.raises(ConfigError, match="images"):
        DeblockingTrainingConfig()


def test_images_that_cannot_be_used_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="at least 500x500"):
        load_planes([folder], 500)
    with pytest.raises(ConfigError, match="cannot read"):
        load_planes([tmp_path / "none.png"], 8)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ConfigError, match="cannot read"):
        load_planes([tmp_path], 8)


def test_examples_are_seeded_and_aligned(folder):
    planes = load_planes([folder], 32)
    config = DeblockingDataConfig(batch_size=4, crop_size=32, tables_per_batch=2, chroma=0.0)
    one, two = (next(deblocking_batches(planes, config)) for _ in range(2))
    assert torch.equal(one[2], two[2]) and torch.equal(one[0].planes, two[0].planes)
    assert torch.equal(round_trip(one[2], one[0].tables), one[1])
    assert len({tuple(row.tolist()) for row in one[0].tables}) == 2


@pytest.mark.parametrize("network", ["dct_unet", "dncnn"])
def test_training_learns_and_resumes(folder, tmp_path, network):
    model = SMALL if network == "dct_unet" else DeblockingConfig("dncnn", width=8, depth=3, solver=DNCNN.solver)
    training = TrainingConfig(minutes=None, max_batches=120, learning_rate=2e-3, average_decay=0.9)
    data = DeblockingDataConfig(batch_size=4, crop_size=32, tables_per_batch=2, quality=(10, 20))
    config = DeblockingTrainingConfig(
        (str(folder),), held_out=2, out=str(tmp_path / "w.safetensors"), model=model, data=data, training=training
    )
    provenance = train(config, quiet=True)
    assert provenance["batches"] == 120 and provenance["recipe"]["images"] == [folder.name]
    solver, loaded, checkpoint = load_solver(config.out)
    assert loaded == model and checkpoint.provenance["validation"] == provenance["validation"]
    before, *_, after = provenance["validation"]["10"]
    assert after > before + (0.01 if network == "dct_unet" else -1.0)
    again = train(config, resume=True, quiet=True)
    assert again["batches"] == 120  # nothing is left to do
    other = DeblockingTrainingConfig((str(folder),), out=config.out, held_out=2, data=data, training=training)
    with pytest.raises(CheckpointError, match="does not fit"):
        train(other, resume=True, quiet=True)


def test_further_stages_are_trained_behind_those_that_are_kept(folder, tmp_path):
    data = DeblockingDataConfig(batch_size=4, crop_size=32, tables_per_batch=2, quality=(10, 20))
    training = TrainingConfig(minutes=None, max_batches=3)
    one = replace(FINE, solver=plain_stages(1))
    first = DeblockingTrainingConfig(
        (str(folder),), 2, out=str(tmp_path / "1.safetensors"), model=one, data=data, training=training
    )
    told = train(first, quiet=True)
    config = replace(first, model=FINE, first=first.out, out=str(tmp_path / "3.safetensors"))
    provenance = train(config, quiet=True)
    assert provenance["recipe"]["first"] == "1.safetensors" and provenance["first"]["date"] == told["date"]
    (kept,), (same, *later) = (load_solver(c.out)[0].stages for c in (first, config))
    assert all(torch.equal(a, b) for a, b in zip(kept.state_dict().values(), same.state_dict().values(), strict=True))
    assert len(later) == 2 and all(stage.tail.weight.abs().max() > 0 for stage in later)
    for wrong in (replace(config, model=one), replace(config, model=replace(FINE, fine_depth=1))):
        with pytest.raises(ConfigError, match="first="):
            train(wrong, quiet=True)


def test_a_training_goes_on_from_other_weights(folder, tmp_path):
    data = DeblockingDataConfig(batch_size=4, crop_size=32, tables_per_batch=2, quality=(10, 20))
    still = TrainingConfig(minutes=None, max_batches=1, learning_rate=0.0, final_learning_rate=0.0)
    start = DeblockingTrainingConfig(
        (str(folder),), 2, out=str(tmp_path / "a.safetensors"), model=SMALL, data=data,
        training=TrainingConfig(minutes=None, max_batches=3),
    )  # fmt: skip
    train(start, quiet=True)
    one = replace(SMALL, solver=plain_stages(1))
    config = replace(start, initial_weights=start.out, out=str(tmp_path / "b.safetensors"), model=one, training=still)
    provenance = train(config, quiet=True)
    assert provenance["recipe"]["initial_weights"] == "a.safetensors" and provenance["initial_weights"]["batches"] == 3
    kept, same = (load_solver(c.out)[0].stages[0].state_dict().values() for c in (start, config))
    assert all(torch.equal(a, b) for a, b in zip(kept, same, strict=True))
    with pytest.raises(ConfigError, match="initial_weights="):
        train(replace(config, model=replace(one, fine_depth=2)), quiet=True)
    with pytest.raises(ConfigError, match="one of them"):
        replace(config, first=start.out)


LOSSES = [DeblockingLossConfig(), DeblockingLossConfig(similarity=0.5), DeblockingLossConfig(blocking=10.0)]


@pytest.mark.parametrize("config", LOSSES, ids=str)
def test_the_loss_is_small_at_the_truth_and_pulls_towards_it(config):
    x, noise = torch.rand(2, 3, 1, 32, 32, generator=torch.manual_seed(0))
    assert deblocking_loss(x, x, config).max() < 1.1e-3
    losses = [deblocking_loss(x + step * noise, x, config) for step in (0.05, 0.1, 0.3)]
    assert all((near < far).all() for near, far in pairwise(losses))
    estimate = (x + 0.1 * noise).requires_grad_()
    (slope,) = torch.autograd.grad(deblocking_loss(estimate, x, config).sum(), estimate)
    assert (slope * noise).sum() > 0


def test_the_terms_of_the_loss_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    truth = cv2.GaussianBlur(rng.uniform(0, 255, (64, 64)), (0, 0), 2).round()
    blocky = truth + np.kron(rng.uniform(-8, 8, (8, 8)), np.ones((8, 8)))
    x, g = (torch.tensor(image / 255.0)[None, None] for image in (blocky, truth))
    plain = float(deblocking_loss(x, g))
    assert np.allclose(plain, np.abs(blocky - truth).mean() / 255, atol=1e-3)
    squared = [255**2 * 10 ** (-value / 10) for value in (psnr_b(blocky, truth), psnr(blocky, truth))]
    effect = (squared[0] - squared[1]) / (np.log2(8) / np.log2(64)) / 255**2  # of the blocky one; the truth has none
    assert psnr_b(truth, truth) == np.inf
    term = float(deblocking_loss(x, g, DeblockingLossConfig(blocking=1.0))) - plain
    assert 0.9 * effect < term < 1.5 * effect
    term = float(deblocking_loss(x, g, DeblockingLossConfig(similarity=1.0))) - plain
    assert abs(term - (1.0 - ssim(blocky, truth))) < 0.25 * term
    for wrong in ({"similarity": -1.0}, {"blocking": -1.0}):
        with pytest.raises(ConfigError):
            DeblockingLossConfig(**wrong)
