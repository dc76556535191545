# SPDX-License-Identifier: Apache-2.0
"""What sets the solver on difference images apart from direct regression, DeepIM and IEF, each held to its property."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.baselines.deepim import DeepIm
from dfips_ros.baselines.direct_regression import DirectRegression
from dfips_ros.baselines.ief import IterativeErrorFeedback
from dfips_ros.errors import ConfigError
from dfips_ros.networks.silhouette_cnn import SilhouetteCnnStage
from dfips_ros.solver import Estimator, FeedbackFeatures, SolverConfig, StageTrainer, TrainingConfig
from dfips_ros.tasks.object_pose import ObjectPoseConfig, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.problem import ImageFeedback, MeshSet, make_solver, pose_loss

SIZE, WIDTH = 32, 8
MODEL = ObjectPoseConfig(
    feedback="image", crop_size=SIZE, width=WIDTH, simulation_faces=200, solver=SolverConfig(num_stages=3)
)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
NAMES = ["ours", "direct", "deepim", "ief"]


@pytest.fixture(scope="module")
def meshes(bracket):
    return MeshSet([bracket], 200)


@pytest.fixture(scope="module")
def batch(meshes):
    return next(pose_batches(meshes, MODEL, PoseDataConfig(batch_size=6, degraded=0.5, seed=1)))


def make(name, meshes):
    torch.manual_seed(0)
    return {
        "ours": lambda: make_solver(MODEL, meshes),
        "direct": lambda: DirectRegression(ImageFeedback(meshes), SIZE, WIDTH),
        "deepim": lambda: DeepIm(ImageFeedback(meshes), SIZE, WIDTH, 3),
        "ief": lambda: IterativeErrorFeedback(SIZE, WIDTH, 3, limit=0.2),
    }[name]().eval()


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def features_seen(solver, observation, initial):
    """What each application of a network reads, and its update."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, update: seen.append((inputs[0], update)))
        for module in solver.stages
    ]
    solution = solver.estimate(observation, initial)
    for hook in hooks:
        hook.remove()
    return seen, solution


def with_constant_update(solver, value):
    """Let every network answer with the same large update."""
    for module in solver.modules():
        if isinstance(module, SilhouetteCnnStage):
            torch.nn.init.zeros_(module.head[-1].weight)
            torch.nn.init.constant_(module.head[-1].bias, value)
    return solver


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", DEVICES)
def test_each_is_an_estimator(meshes, batch, name, device):
    observation, initial = batch[0], batch[1].to(device)
    solver, before = make(name, meshes).to(device), initial.clone()
    solution = solver.estimate(observation, initial)
    assert isinstance(solver, Estimator) and torch.equal(initial, before)
    assert solution.estimate.shape == initial.shape and solution.estimate.dtype == initial.dtype
    assert solution.estimate.device == initial.device
    assert len(solution.history) == solver.config.num_stages + 1 and torch.equal(solution.history[0], initial)
    assert solution.residual_norms.shape == (len(initial), len(solution.history))
    alone = solver.estimate(observation[torch.tensor([4])], initial[4:5])
    assert torch.allclose(alone.estimate, solution.estimate[4:5], atol=1e-4)
    with pytest.raises(ConfigError, match="initial"):
        solver.estimate(observation)


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_with_the_same_trainer(meshes, name):
    solver = make(name, meshes)
    batch = next(pose_batches(meshes, MODEL, PoseDataConfig(batch_size=8, degraded=0.0, seed=2)))

    def loss():
        return float(pose_loss(solver.estimate(*batch[:2]).estimate, batch[2]).mean())

    before = loss()
    settings = TrainingConfig(minutes=None, max_batches=30, learning_rate=3e-3, average_decay=0.0)
    StageTrainer(solver, pose_loss, settings).run(itertools.repeat(batch), quiet=True)
    assert loss() < 0.6 * before


def test_ours_sees_the_residual_explicitly(meshes, batch):
    observation, initial, _ = batch
    seen, solution = features_seen(make("ours", meshes), observation, initial)
    first = seen[0][0].inputs["images"]
    assert torch.equal(first[:, 2], first[:, 1] - first[:, 0]) and (first[:, 2] != 0).any()
    assert len({id(stage) for stage in make("ours", meshes).stages}) == 3  # own weights for each stage
    wrong = (first[:, 2] != 0).flatten(1).sum(1) / ((first[:, 0] + first[:, 1]) > 0).flatten(1).sum(1)
    assert torch.allclose(wrong, solution.residual_norms[:, 0], atol=1e-6)


@pytest.mark.parametrize(("name", "bounded"), [("ours", False), ("direct", False), ("deepim", False), ("ief", True)])
def test_only_ief_bounds_its_steps(meshes, batch, name, bounded):
    observation, initial, _ = batch
    for value in (0.01, 0.5, 3.0):
        seen, _ = features_seen(with_constant_update(make(name, meshes), value), observation, initial)
        length = torch.linalg.vector_norm(torch.cat([update for _, update in seen]), dim=1)
        whole = value * 6**0.5
        expected = min(whole, 0.2) if bounded else whole
        assert torch.allclose(length, torch.full_like(length, expected), rtol=1e-4)


def test_deepim_never_sees_the_difference(meshes, batch):
    observation, initial, _ = batch
    solver = make("deepim", meshes)
    seen, _ = features_seen(solver, observation, initial)
    full = ImageFeedback(meshes)(observation, initial).inputs["images"]
    given = seen[0][0].inputs["images"]
    assert torch.equal(given[:, 0], full[:, 0]) and torch.equal(given[:, 1], full[:, 1])
    assert full[:, 2].abs().sum() > 0
    for channel in torch.cat([s.inputs["images"] for s, _ in seen]).unbind(1):
        assert not any(torch.allclose(channel[: len(full)].abs(), sign * full[:, 2].abs()) for sign in (1.0, 2.0))
    assert len(solver.stages) == 1 and len(seen) == 3  # shared weights

    class Blind:  # a feedback whose difference image is nonsense changes nothing
        def __call__(self, observation, estimate):
            features = ImageFeedback(meshes)(observation, estimate)
            images = features.inputs["images"].clone()
            images[:, 2] = torch.rand_like(images[:, 2])
            return FeedbackFeatures({**features.inputs, "images": images}, features.residual_norm)

    blind = DeepIm(Blind(), SIZE, WIDTH, 3).eval()
    blind.stages.load_state_dict(solver.stages.state_dict())
    assert torch.equal(blind.estimate(observation, initial).estimate, solver.estimate(observation, initial).estimate)


def test_ief_does_not_simulate(meshes, batch, monkeypatch):
    """Its features depend on the observation and on the pose as numbers, for whatever mesh; no process runs."""
    observation, initial, _ = batch
    solver = make("ief", meshes)
    seen, solution = features_seen(solver, observation, initial)
    assert torch.isnan(solution.residual_norms).all()  # without a forward process nobody knows them
    observed = (observation.mask * observation.valid).float()
    assert all(torch.equal(s.inputs["images"], observed[:, None]) for s, _ in seen)
    numbers = [s.inputs["scale"] for s, _ in seen]
    assert torch.equal(numbers[0][:, :9].reshape(-1, 3, 3), initial[:, :3, :3])
    assert not torch.equal(numbers[0], numbers[1])  # the estimate is what is fed back
    for process in ("dfips_ros.tasks.object_pose.problem.compare", "dfips_ros.processes.contour.compare"):
        monkeypatch.setattr(process, None)  # whoever simulates now fails
    other = replace(observation, mesh_index=observation.mesh_index + 7)
    assert torch.equal(solver.estimate(other, initial).estimate, solution.estimate)
    with pytest.raises(TypeError):
        make("deepim", meshes).estimate(observation, initial)


def test_direct_regression_is_asked_once(meshes, batch):
    observation, initial, _ = batch
    solver = make("direct", meshes)
    seen, solution = features_seen(solver, observation, initial)
    assert len(seen) == 1 and len(solution.history) == 2
    with pytest.raises(ConfigError, match="num_stages"):
        solver.estimate(observation, initial, num_stages=2)
    wild = with_constant_update(solver, 3.0).estimate(observation, initial)  # nothing is refused
    assert torch.equal(wild.estimate, wild.history[1]) and (wild.residual_norms[:, 1] > 0.5).all()


def test_parameters_grow_with_width_and_stages(meshes):
    def count(solver):
        return sum(p.numel() for p in solver.stages.parameters())

    one = count(make("direct", meshes))
    assert count(make("ours", meshes)) == 3 * one
    assert count(make("deepim", meshes)) == one - WIDTH * 9  # a channel less
    assert count(DirectRegression(ImageFeedback(meshes), SIZE, 2 * WIDTH)) > 2 * one


@pytest.mark.parametrize("width", [0, 6, -4])
def test_width_is_a_multiple_of_four(width):
    with pytest.raises(ConfigError, match="width"):
        SilhouetteCnnStage(SIZE, width)


def test_bad_limit():
    for limit in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="limit"):
            IterativeErrorFeedback(SIZE, limit=limit)
