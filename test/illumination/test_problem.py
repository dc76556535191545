# SPDX-License-Identifier: Apache-2.0
"""The space of lights, the observation, training data and training."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import CheckpointError, ConfigError
from dfips_ros.processes.shading import LOWER, UPPER
from dfips_ros.solver import SolverConfig, TrainingConfig, load_checkpoint
from dfips_ros.tasks.illumination import KINDS, IlluminationConfig, LightDataConfig
from dfips_ros.tasks.illumination.data import draw_views, light_batches, random_lights, sample_pixels
from dfips_ros.tasks.illumination.metrics import direction_error_deg, light_error
from dfips_ros.tasks.illumination.problem import (
    DISTANCE_RANGE,
    LightSpace,
    ShadingFeedback,
    illumination_loss,
    least_squares_light,
    light_axes,
    load_solver,
    make_solver,
    refine,
)
from dfips_ros.tasks.illumination.training_recipe import LightTrainingConfig, train

DATA = LightDataConfig(batch_size=16, views=24, wrong_pose=0.3, seed=3)


@pytest.fixture(scope="module")
def views(vase, bracket):
    return draw_views([vase, bracket], DATA, 128)


@pytest.fixture(scope="module", params=KINDS)
def batch(request, views):
    model = IlluminationConfig(kind=request.param)
    return model, next(light_batches(views, model, DATA))


def test_updates_stay_in_the_space(batch):
    model, (_, initial, _) = batch
    space, rng = LightSpace(model.point), torch.Generator().manual_seed(0)
    assert torch.equal(space.apply(initial, torch.zeros_like(initial)), initial)
    for size in (0.01, 1.0, 30.0):
        moved = space.apply(initial, size * torch.randn(initial.shape, generator=rng))
        assert torch.isfinite(moved).all()
        assert (moved[:, 3:] >= torch.tensor(LOWER)).all() and (moved[:, 3:] <= torch.tensor(UPPER)).all()
        distance = torch.linalg.vector_norm(moved[:, :3], dim=1)
        low, high = DISTANCE_RANGE if model.point else (1.0, 1.0)
        assert (distance > low - 1e-5).all() and (distance < high + 1e-5).all()


def test_axes_are_right_handed_and_hold_the_light():
    for light in (torch.randn(50, 3), torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 2.0]])):
        axes = light_axes(light)
        assert torch.allclose(axes.transpose(1, 2) @ axes, torch.eye(3).expand_as(axes), atol=1e-5)
        assert torch.allclose(torch.linalg.det(axes), torch.ones(len(light)), atol=1e-5)
        assert torch.allclose(axes[:, :, 2], torch.nn.functional.normalize(light, dim=1), atol=1e-5)


def test_examples_are_lit_and_the_truth_explains_them(batch):
    model, (observation, initial, truth) = batch
    assert torch.isfinite(initial).all() and initial.shape == truth["estimate"].shape == (16, 8)
    assert torch.allclose(observation.weight.mean(1), torch.ones(16), atol=1e-5)
    feedback = ShadingFeedback(model.point)
    at_truth = feedback(observation, truth["estimate"]).residual_norm
    at_start = feedback(observation, initial).residual_norm
    assert at_truth.median() < 0.03 and at_truth.median() < at_start.median()
    assert illumination_loss(truth["estimate"], truth).max() < 1e-3 < illumination_loss(initial, truth).min()


def test_untrained_stages_already_lower_the_residual(batch):
    model, (observation, initial, truth) = batch
    torch.manual_seed(0)
    solution = make_solver(model).eval().estimate(observation, initial)
    assert (solution.residual_norms[:, -1] <= solution.residual_norms[:, 0]).all()
    assert solution.residual_norms[:, -1].mean() < 0.6 * solution.residual_norms[:, 0].mean()
    first, last = (light_error(x[:, :3], truth["estimate"][:, :3], model.point) for x in solution.history[:: 7])
    assert last.median() < first.median()


def test_refinement_keeps_the_best_candidates_and_lowers_their_residuals(batch):
    """What misleads the stages does not mislead the plain steps beside them."""
    model, (observation, initial, truth) = batch
    turned = initial * torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    starts = torch.stack([initial, turned, truth["estimate"]], dim=1).flatten(0, 1)
    repeated = observation[torch.arange(16).repeat_interleave(3)]
    feedback, solver = ShadingFeedback(model.point), make_solver(model).eval()
    solution = solver.estimate(repeated, starts)
    refined = refine(solver, repeated, observation, solution)
    count = 3 if model.point else 6
    assert refined.estimates.shape == (16, count, 8) and refined.history.shape == (16, count, 8, 8)
    before = refined.history_norms.min(2).values
    assert (refined.norms <= before + 1e-6).all() and (before.unflatten(1, (-1, 3)).diff(dim=2) >= 0).all()
    assert torch.allclose(before[:, 0], solution.residual_norms.min(1).values.reshape(16, 3).amin(1))
    rows, best = torch.arange(16), refined.best
    assert (refined.norms[rows, best] <= refined.norms.amin(1) / 0.994).all()
    assert (refined.norms[rows, best] <= refined.norms[:, :3].amin(1)).all()
    found = feedback(observation, refined.estimates[rows, best]).residual_norm
    assert torch.allclose(found, refined.norms[rows, best], atol=1e-5)

    if model.point:
        return
    unmoved = solver.estimate(repeated, starts, 0)
    stuck = type(solution)(unmoved.estimate, unmoved.history * 8, unmoved.residual_norms.expand(-1, 8))
    rescued = refine(solver, repeated, observation, stuck)
    assert rescued.norms[rows, rescued.best].mean() < 0.6 * unmoved.residual_norms.reshape(16, 3)[:, :2].amin(1).mean()


def test_least_squares_finds_matt_lights_on_a_ball():
    normal = torch.nn.functional.normalize(torch.randn(1, 400, 3), dim=-1)
    normal[..., 2] = -normal[..., 2].abs()
    light = torch.nn.functional.normalize(torch.tensor([[0.4, 0.3, -0.8]]), dim=1)
    linear = (normal @ light[0]).clamp_min(0.0) + 0.05
    from dfips_ros.tasks.illumination.problem import LightObservation

    observation = LightObservation(
        linear ** (1 / 2.2), 0.5 * normal, normal, torch.tensor([0.0, 0.0, -1.0]).expand_as(normal),
        torch.ones_like(linear), torch.full((1,), 9.0), torch.ones(1), torch.zeros(1).long(),
        torch.zeros(1, 400).long(),
    )  # fmt: skip
    for point in (False, True):
        assert direction_error_deg(least_squares_light(observation, point)[:, :3], light).max() < 1.0


def test_pixels_are_chosen_over_the_whole_range():
    values = torch.rand(3, 1000)
    for rng in (None, torch.Generator().manual_seed(1)):
        chosen, weight = sample_pixels(values, 128, rng)
        picked = values.gather(1, chosen)
        assert torch.allclose(weight.mean(1), torch.ones(3), atol=1e-5)
        assert torch.allclose((weight * picked).mean(1), values.mean(1), atol=0.02)
        assert (picked > values.quantile(0.875, dim=1, keepdim=True)).float().mean() > 0.2
    few, _ = sample_pixels(torch.rand(1, 61), 128)
    assert few.max() < 61


def test_lights_reach_the_asked_share(views):
    point = views.true[..., :3].float()
    normal = views.true[..., 3:].float()
    lights = random_lights(normal, point, False, LightDataConfig(lit=0.3), torch.Generator().manual_seed(0), tries=60)
    share = ((normal @ lights[..., None])[..., 0] > 0.05).float().mean(1)
    assert share.min() > 0.15


def test_training_writes_weights_that_load(tmp_path, vase, bracket):
    config = LightTrainingConfig(
        out=str(tmp_path / "mine.safetensors"), data=DATA,
        model=IlluminationConfig(width=16, solver=SolverConfig(num_stages=2, shared_weights=True)),
        training=TrainingConfig(minutes=None, max_batches=3),
    )  # fmt: skip
    found = train(config, [vase], [bracket], quiet=True)
    assert found["batches"] == 3 and len(found["validation"]["mean"]) == 3
    solver, model, checkpoint = load_solver(config.out, "directional")
    assert model == config.model and len(solver.stages) == 1 and checkpoint.provenance["samples"] == 48
    with pytest.raises(CheckpointError, match="directional light"):
        load_solver(config.out, "point")
    own = LightTrainingConfig(
        out=str(tmp_path / "own.safetensors"), initial_weights=config.out, data=DATA,
        model=IlluminationConfig(width=16, solver=SolverConfig(num_stages=2)),
        training=TrainingConfig(minutes=None, max_batches=1),
    )  # fmt: skip
    train(own, [vase], [bracket], quiet=True)
    assert {name[0] for name in load_checkpoint(own.out).weights} == {"0", "1"}


@pytest.mark.parametrize("values", [
    {"kind": "spot"}, {"pixels": 1}, {"crop_size": 4}, {"width": 1}, {"colour": 3},
], ids=str)  # fmt: skip
def test_bad_models_are_refused(values):
    with pytest.raises(ConfigError):
        IlluminationConfig.from_dict({**IlluminationConfig().to_dict(), **values})


@pytest.mark.parametrize("values", [
    {"batch_size": 0}, {"lit": 2.0}, {"point_range": (0.1, 2.0)}, {"depth_range": (3.0, 2.0)}, {"noise": -1.0},
], ids=str)  # fmt: skip
def test_bad_data_settings_are_refused(values):
    with pytest.raises(ConfigError):
        LightDataConfig(**values)


def test_configuration_round_trip():
    for kind in KINDS:
        config = IlluminationConfig(kind=kind, pixels=64, solver=SolverConfig(num_stages=3))
        assert IlluminationConfig.from_dict(config.to_dict()) == config
    assert np.isclose(float(light_error(torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 1.0, 0]]), False)), 2**0.5)
