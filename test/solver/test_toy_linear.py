# SPDX-License-Identifier: Apache-2.0
"""The solver on a linear forward process y = A x, whose answer is known in closed form."""

import itertools

import pytest
import torch

from dfips_ros.errors import CheckpointError, ConfigError, ShapeError
from dfips_ros.solver import FeedbackSolver, ResidualFeedback, SolverConfig, StageTrainer, TrainingConfig, VectorSpace

A = torch.tensor([[2.0, 0.5, 0.0], [0.0, 1.5, -0.5], [0.3, 0.0, 1.0]])


def process(x):
    return x @ A.T


class LinearStage(torch.nn.Module):
    """update = W residual; the best W is -A^-1."""

    def __init__(self, matrix=None):
        super().__init__()
        start = torch.zeros(3, 3) if matrix is None else matrix
        self.matrix = torch.nn.Parameter(start.clone())

    def forward(self, features):
        return features.inputs["residual"] @ self.matrix.T


def make(stage=LinearStage, **config):
    return FeedbackSolver(ResidualFeedback(process), VectorSpace(3), stage, SolverConfig(**config))


def batches(seed=0, size=64):
    rng = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(size, 3, generator=rng)
        yield process(x), x + torch.randn(size, 3, generator=rng), x


def distance(estimate, truth):
    return (estimate - truth).square().sum(1)


def train(solver, batches_limit=400, **more):
    config = TrainingConfig(minutes=None, max_batches=batches_limit, learning_rate=3e-2, weight_decay=0.0, **more)
    trainer = StageTrainer(solver, distance, config)
    trainer.run(batches(), quiet=True)
    return trainer


def test_training_finds_the_inverse():
    solver = make(num_stages=1, adaptive=False)
    train(solver)
    learned = solver.stages[0].matrix.detach()
    assert torch.allclose(learned, -torch.linalg.inv(A), atol=2e-3)
    observation, initial, truth = next(batches(seed=1))
    assert torch.allclose(solver.estimate(observation, initial).estimate, truth, atol=2e-2)


def test_update_is_unbounded():
    solver = make(lambda: LinearStage(-torch.linalg.inv(A)), num_stages=1)
    truth = torch.full((1, 3), 1e4)
    solution = solver.estimate(process(truth), torch.zeros(1, 3))
    assert torch.allclose(solution.estimate, truth, rtol=1e-4)


def test_gradients_stop_between_stages():
    solver = make(num_stages=2, adaptive=False)
    observation, initial, truth = next(batches())
    steps = list(solver.training_steps(observation, initial))
    distance(steps[1][1], truth).mean().backward()
    assert solver.stages[0].matrix.grad is None
    assert solver.stages[1].matrix.grad.abs().sum() > 0


def test_shared_weights_are_one_stage():
    assert len(make(num_stages=4, shared_weights=True).stages) == 1
    assert len(make(num_stages=4).stages) == 4


def test_history_starts_with_the_initial_estimate_and_leaves_it_alone():
    solver = make(lambda: LinearStage(-0.5 * torch.linalg.inv(A)), num_stages=3)
    observation, initial, truth = next(batches())
    kept = initial.clone()
    solution = solver.estimate(observation, initial)
    assert len(solution.history) == 4 and solution.residual_norms.shape == (64, 4)
    assert torch.equal(solution.history[0], kept) and torch.equal(initial, kept)
    # Each stage halves the error exactly: x_t = x + (x_0 - x) / 2^t.
    assert torch.allclose(solution.history[3], truth + (kept - truth) / 8.0, atol=1e-5)
    assert torch.allclose(solution.estimate, solution.history[3])


def test_adaptive_update_scales_an_overshoot_to_the_known_step():
    solver = make(lambda: LinearStage(-2.5 * torch.linalg.inv(A)), num_stages=1, max_scalings=1, scaling=0.4)
    observation, initial, truth = next(batches())
    # 2.5 times the right step makes the residual 1.5 times as large; 0.4 of it is exactly the right step.
    assert torch.allclose(solver.estimate(observation, initial).estimate, truth, atol=1e-4)
    plain = make(lambda: LinearStage(-2.5 * torch.linalg.inv(A)), num_stages=1, adaptive=False, keep_best=False)
    assert torch.allclose(plain.estimate(observation, initial).estimate, truth - 1.5 * (initial - truth), atol=1e-4)


def test_adaptive_update_rejects_what_cannot_be_mended():
    solver = make(lambda: LinearStage(torch.linalg.inv(A)), num_stages=3)
    observation, initial, _ = next(batches())
    solution = solver.estimate(observation, initial)
    assert torch.equal(solution.estimate, initial)
    assert torch.allclose(solution.residual_norms, solution.residual_norms[:, :1].expand(-1, 4))


def test_adaptive_update_rejects_nan():
    class NanStage(LinearStage):
        def forward(self, features):
            return torch.full_like(features.inputs["residual"], float("nan"))

    observation, initial, _ = next(batches())
    assert torch.equal(make(NanStage, num_stages=2).estimate(observation, initial).estimate, initial)


def test_nan_is_never_the_best():
    """Not as an estimate of a stage, and not as the initial one."""

    class LateNan(LinearStage):
        def forward(self, features):
            update = super().forward(features)
            return update if float(features.residual_norm.max()) > 1e-3 else update + float("nan")

    truth = torch.ones(1, 3)
    solver = make(lambda: LateNan(-torch.linalg.inv(A)), num_stages=3, adaptive=False, keep_best=True)
    assert torch.allclose(solver.estimate(process(truth), torch.zeros(1, 3)).estimate, truth, atol=1e-3)

    class Anew(LinearStage):
        def forward(self, features):
            return torch.ones(1, 3)

    class FromNan(VectorSpace):
        def apply(self, estimate, update):
            return estimate.nan_to_num(0.0) + update

    space = FeedbackSolver(ResidualFeedback(process), FromNan(3), Anew, SolverConfig(num_stages=1))
    assert torch.equal(space.estimate(process(truth), torch.full((1, 3), float("nan"))).estimate, truth)


def test_a_process_that_does_not_fit_the_observation():
    solver = FeedbackSolver(ResidualFeedback(lambda x: x[:, :1]), VectorSpace(3), LinearStage, SolverConfig())
    with pytest.raises(ShapeError, match=r"observation \(8,\).*\(8, 1\)"):
        solver.estimate(torch.zeros(8), torch.zeros(8, 3))


@pytest.mark.parametrize("adaptive", [True, False])
def test_residual_never_grows_with_the_adaptive_update_only(adaptive):
    torch.manual_seed(3)
    matrices = itertools.cycle([torch.randn(3, 3) for _ in range(5)])
    solver = make(lambda: LinearStage(next(matrices)), num_stages=5, adaptive=adaptive, keep_best=False)
    observation, initial, _ = next(batches())
    norms = solver.estimate(observation, initial).residual_norms
    grows = (norms[:, 1:] > norms[:, :-1] + 1e-6).any()
    assert bool(grows) is not adaptive


def test_stages_stop_when_it_is_enough():
    calls = []

    class Counting(LinearStage):
        def forward(self, features):
            calls.append(1)
            return super().forward(features)

    solver = make(lambda: Counting(-torch.linalg.inv(A)), num_stages=4, enough=1e-3)
    observation, initial, truth = next(batches())
    solution = solver.estimate(observation, initial)
    assert len(calls) == 1 and len(solution.history) == 5  # the first stage already solves it
    assert torch.allclose(solution.estimate, truth, atol=1e-4)


def test_enough_is_judged_for_each_element():
    solver = make(lambda: LinearStage(-torch.linalg.inv(A)), num_stages=2, enough=1e-3)
    observation, initial, truth = next(batches())
    initial = initial.clone()
    initial[0] = truth[0]  # explained already
    solution = solver.estimate(observation, initial)
    assert torch.equal(solution.history[1][0], initial[0])
    assert not torch.equal(solution.history[1][1:], initial[1:])


def test_without_enough_what_is_explained_is_worked_on_too():
    class Mover(LinearStage):
        def forward(self, features):
            return torch.ones_like(super().forward(features))

    solver = make(lambda: Mover(A), num_stages=1, adaptive=False, keep_best=False)
    _, _, truth = next(batches())
    solution = solver.estimate(truth @ A.T, truth)
    assert float(solution.residual_norms[:, 0].max()) < 1e-5
    assert torch.allclose(solution.estimate, truth + 1.0)


def test_batch_is_consistent():
    solver = make(lambda: LinearStage(-2.2 * torch.linalg.inv(A)), num_stages=3)
    observation, initial, _ = next(batches())
    together = solver.estimate(observation, initial).estimate
    alone = torch.cat([solver.estimate(observation[i : i + 1], initial[i : i + 1]).estimate for i in range(8)])
    assert torch.allclose(together[:8], alone, atol=1e-5)


def test_an_initial_estimate_is_needed():
    with pytest.raises(ConfigError, match="initial"):
        make().estimate(torch.zeros(1, 3))


def test_training_is_seeded():
    results = []
    for _ in range(2):
        solver = make(num_stages=2)
        train(solver, 30)
        results.append(solver.stages[1].matrix.detach().clone())
    assert torch.equal(*results)


def test_training_resumes_where_it_stopped(tmp_path):
    whole = make(num_stages=2)
    config = TrainingConfig(minutes=None, max_batches=60, average_decay=0.9)
    StageTrainer(whole, distance, config).run(batches(), quiet=True)

    state = tmp_path / "toy.state"
    first = StageTrainer(make(num_stages=2), distance, config, state)
    data = batches()
    for _ in range(25):
        first.train_batch(next(data), first._progress())
    first.save()
    second_solver = make(num_stages=2)
    second = StageTrainer(second_solver, distance, config, state)
    second.resume()
    assert second.batches == 25
    second.run(data, quiet=True)
    assert torch.allclose(second_solver.stages[0].matrix, whole.stages[0].matrix, atol=1e-6)
    assert all(torch.allclose(v, second.averaged_weights()[k]) for k, v in second.average.items())


def test_training_in_bfloat16_learns_too():
    solver = make(num_stages=1, adaptive=False)
    train(solver, bfloat16=True)
    assert solver.stages[0].matrix.dtype == torch.float32
    assert torch.allclose(solver.stages[0].matrix.detach(), -torch.linalg.inv(A), atol=0.03)


def test_resume_without_a_state_says_so(tmp_path):
    trainer = StageTrainer(make(), distance, TrainingConfig(), tmp_path / "none.state")
    with pytest.raises(CheckpointError, match=r"none\.state"):
        trainer.resume()


def test_resume_from_a_file_that_is_none(tmp_path):
    file = tmp_path / "bad.state"
    file.write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"bad\.state"):
        StageTrainer(make(), distance, TrainingConfig(), file).resume()


def test_data_that_end(tmp_path):
    trainer = StageTrainer(make(), distance, TrainingConfig(minutes=None, max_batches=9), tmp_path / "a.state")
    with pytest.raises(ConfigError, match="ended after 4 batches"):
        trainer.run(list(itertools.islice(batches(), 4)), quiet=True)
    trainer.resume()
    assert trainer.batches == 4


def test_a_loss_that_is_no_number():
    trainer = StageTrainer(make(), lambda x, truth: distance(x, truth) * float("nan"), TrainingConfig())
    with pytest.raises(ConfigError, match="not a number in 50 batches"):
        trainer.run(batches(), quiet=True)


def test_training_stops_on_time():
    solver = make(num_stages=2)
    trainer = StageTrainer(solver, distance, TrainingConfig(minutes=0.02))
    trainer.run(batches(), quiet=True)
    assert 1.0 <= trainer.seconds < 6.0


@pytest.mark.parametrize(
    "bad",
    [
        {"num_stages": 0}, {"num_stages": 2.5}, {"num_stages": "five"}, {"scaling": 0.0}, {"scaling": 1.5},
        {"max_scalings": -1}, {"tolerance": -0.1},
    ],
)  # fmt: skip
def test_solver_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SolverConfig(**bad)


@pytest.mark.parametrize(
    "bad", [{"minutes": None}, {"minutes": -1}, {"max_batches": 0}, {"learning_rate": -1}, {"warmup": 2}]
)
def test_training_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainingConfig(**bad)
