# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics solvers on the same targets in one run: success, time, jumps; and the learned stages alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from tqdm import tqdm

from ..checks import check_range
from ..errors import ConfigError
from ..processes.example_robots import ExampleRobot, example_robot
from ..processes.kinematics import SerialChain
from ..tasks.inverse_kinematics import InverseKinematicsConfig, InverseKinematicsEstimator
from ..tasks.inverse_kinematics.weights import find_weights, load_weights
from .ik_path import ANGLE_LIMIT, POSITION_LIMIT, pose_errors
from .ik_peers import PEERS, PeerArm, PeerError, Solver, peer_version, write_plain_urdf

OURS = {
    "ours": "ours",
    "ours_first": "ours, no restarts",
    "lm": "LM alone, with restarts",
    "lm_first": "LM alone, no restarts",
}
METHODS = (*OURS, *PEERS)
REGIMES = ("cold", "warm")
JUMP = 0.5  # rad or m
LIMIT_SLACK = 1e-6
WARM_UP = 5
FOLLOWED = (1, 8)  # proposals of the first stage that are followed up
COLUMNS = (
    "part", "robot", "regime", "method", "version", "n", "solved_percent", "ms_median", "ms_p99", "ms_mean",
    "jumps_percent", "worst_jump", "supervision", "weights", "samples", "followed", "stage", "position_mean_mm",
    "position_median_mm", "orientation_mean_deg", "orientation_median_deg", "batch", "cores", "poses_per_second",
)  # fmt: skip


@dataclass(frozen=True)
class IkBenchConfig:
    """What is measured.

    Attributes:
        robots: names of example-robot-data's arms.
        methods: names out of ``METHODS``; peers that are not installed are left out.
        targets: per robot: forward kinematics of joints that are uniform within their limits.
        warm: largest distance of a joint of a warm seed from the hidden solution, rad or m.
        timeout: seconds for one target.
        batch: targets in a batch.
        seed: of targets and seeds.
    """

    robots: tuple[str, ...] = ("panda", "ur5", "xarm7", "kinova")
    methods: tuple[str, ...] = METHODS
    targets: int = 2000
    warm: float = 0.1
    timeout: float = 0.05
    batch: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.robots:
            example_robot(name)
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ConfigError(f"methods: unknown {', '.join(unknown)}; known are {', '.join(METHODS)}.")
        check_range("targets", self.targets, 10, 1_000_000)
        check_range("warm", self.warm, 0.0, 3.0)
        check_range("timeout", self.timeout, 1e-4, 10.0)
        check_range("batch", self.batch, 1, 100_000)
        check_range("seed", self.seed, 0, 2**31)


@dataclass(frozen=True)
class Problem:
    """Targets (N, 4, 4) and seeds (N, n) of one robot and regime."""

    targets: np.ndarray
    seeds: np.ndarray


def make_problems(chain: SerialChain, config: IkBenchConfig) -> dict[str, Problem]:
    """The same targets with unrelated seeds (cold) and with seeds near the hidden solution (warm)."""
    rng = np.random.default_rng(config.seed)
    shape = (config.targets, len(chain.names))
    hidden, elsewhere = rng.uniform(chain.lower, chain.upper, shape), rng.uniform(chain.lower, chain.upper, shape)
    near = np.clip(hidden + rng.uniform(-config.warm, config.warm, shape), chain.lower, chain.upper)
    targets = np.array([chain.reference(q) for q in hidden])
    return {"cold": Problem(targets, elsewhere), "warm": Problem(targets, near)}


def judge(chain: SerialChain, found: np.ndarray | None, target: np.ndarray) -> bool:
    """Within the limits and, by Pinocchio's forward kinematics, within 1 mm and 0.1 degrees of the target."""
    if found is None or len(found) != len(chain.names) or not np.isfinite(found).all():
        return False
    low, high = found >= chain.lower - LIMIT_SLACK, found <= chain.upper + LIMIT_SLACK
    if not np.all((low & high) | chain.wraps):
        return False
    distance, angle = pose_errors(chain.reference(found)[None], target[None])
    return bool(distance[0] < POSITION_LIMIT and angle[0] < ANGLE_LIMIT)


def measure(chain: SerialChain, problem: Problem, solve: Solver, label: str, quiet: bool) -> dict[str, float]:
    """Solve all targets one at a time."""
    for target, seed in zip(problem.targets[:WARM_UP], problem.seeds[:WARM_UP], strict=True):
        solve(target, seed.copy())
    seconds, jumps = [], []
    pairs = zip(problem.targets, problem.seeds, strict=True)
    for target, seed in tqdm(pairs, desc=label, total=len(problem.targets), unit="target", disable=quiet or None):
        start = seed.copy()
        begin = time.perf_counter()
        try:
            found = solve(target, start)
        except Exception:  # a peer may raise where it finds nothing: that is no solution
            found = None
        seconds.append(time.perf_counter() - begin)
        found = None if found is None else np.asarray(found, dtype=np.float64)
        if judge(chain, found, target):
            assert found is not None
            way = np.abs(found - seed)
            turned = np.abs(np.remainder(found - seed + np.pi, 2 * np.pi) - np.pi)
            jumps.append(float(np.where(chain.wraps, turned, way).max()))
    times, far = 1e3 * np.array(seconds), np.array(jumps)
    return {
        "n": len(seconds),
        "solved_percent": 100.0 * len(jumps) / len(seconds),
        "ms_median": float(np.median(times)),
        "ms_p99": float(np.percentile(times, 99)),
        "ms_mean": float(times.mean()),
        "jumps_percent": 100.0 * float(np.mean(far > JUMP)) if len(far) else float("nan"),
        "worst_jump": float(far.max()) if len(far) else float("nan"),
    }


def _ours(estimator: InverseKinematicsEstimator, timeout: float) -> Solver:
    def solve(target: np.ndarray, seed: np.ndarray) -> np.ndarray | None:
        solution = estimator.solve(target, seed, timeout)
        return solution.positions if solution.success else None

    return solve


def bench_robot(
    robot: ExampleRobot,
    config: IkBenchConfig,
    weights: str | None = None,
    quiet: bool = False,
    note: Callable[[str], None] = print,
) -> Iterator[dict[str, Any]]:
    """Rows of one robot: every method cold and warm on one core, then stages alone, then a batch on all cores."""
    chain = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
    problems = make_problems(chain, config)
    checkpoint = load_weights(weights, chain) if weights else find_weights(chain)
    if checkpoint is None:
        note(f"{robot.name}: no weights, so that ours is Levenberg-Marquardt with restarts")
    plain = InverseKinematicsConfig()
    once = replace(plain, max_restarts=0)
    makers: dict[str, Callable[[PeerArm], Solver]] = {
        "ours": lambda arm: _ours(InverseKinematicsEstimator(chain, checkpoint, plain, device="cpu"), arm.timeout),
        "ours_first": lambda arm: _ours(InverseKinematicsEstimator(chain, checkpoint, once, device="cpu"), arm.timeout),
        "lm": lambda arm: _ours(InverseKinematicsEstimator(chain, None, plain, device="cpu"), arm.timeout),
        "lm_first": lambda arm: _ours(InverseKinematicsEstimator(chain, None, once, device="cpu"), arm.timeout),
        **{name: maker for name, (_, _, maker) in PEERS.items()},
    }
    with tempfile.TemporaryDirectory(prefix="dfips_ik_") as folder, one_core():
        arm = PeerArm(robot.name, Path(folder) / "arm.urdf", chain, config.timeout)
        write_plain_urdf(robot.urdf, chain, arm.urdf)
        for name in config.methods:
            try:
                solve = makers[name](arm)
            except PeerError as reason:
                note(f"{robot.name}: {name} is left out: {reason}")
                continue
            title = OURS[name] if name in OURS else PEERS[name][0]
            version = "" if name in OURS else peer_version(name)
            for regime, problem in problems.items():
                figures = measure(chain, problem, solve, f"{robot.name} {regime} {name}", quiet)
                yield _row(part="single", robot=robot.name, regime=regime, method=title, version=version, **figures)
    if checkpoint is not None:
        yield from _stages(robot.name, chain, checkpoint, problems["cold"])
    yield _batch(robot.name, chain, checkpoint, problems["cold"], config)


def _stages(name: str, chain: SerialChain, checkpoint: Any, problem: Problem) -> Iterator[dict[str, Any]]:
    """Errors after each learned stage, without any polish: the plain solver, and several proposals followed up."""
    estimator = InverseKinematicsEstimator(chain, checkpoint)
    for followed in FOLLOWED:
        for stage, positions in enumerate(estimator.unroll(problem.targets, problem.seeds, followed)):
            yield _row(
                part="stages", robot=name, regime="cold", method="stages alone", followed=followed, stage=stage,
                **_errors(chain, positions, problem.targets),
            )  # fmt: skip


def _errors(chain: SerialChain, positions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    distance, angle = pose_errors(np.array([chain.reference(q) for q in positions]), targets)
    return {
        "n": len(distance),
        "position_mean_mm": 1e3 * float(distance.mean()),
        "position_median_mm": 1e3 * float(np.median(distance)),
        "orientation_mean_deg": float(np.degrees(angle).mean()),
        "orientation_median_deg": float(np.degrees(np.median(angle))),
    }


def compare_weights(
    robot: ExampleRobot, files: Sequence[str], config: IkBenchConfig, quiet: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows of weights files for one arm: errors after each stage alone, and what they solve at the first try."""
    chain = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
    problem = make_problems(chain, config)["cold"]
    for file in files:
        checkpoint = load_weights(file, chain)
        recipe = checkpoint.provenance.get("recipe", {})
        shared = checkpoint.config["network"]["solver"]["shared_weights"]
        estimator = InverseKinematicsEstimator(chain, checkpoint, InverseKinematicsConfig(max_restarts=0), device="cpu")
        with one_core():
            solve = _ours(estimator, config.timeout)
            figures = measure(chain, problem, solve, f"{robot.name} {Path(file).name}", quiet)
        for stage, positions in enumerate(estimator.unroll(problem.targets, problem.seeds)):
            yield _row(
                part="training", robot=robot.name, regime="cold", method="stages alone", followed=1, stage=stage,
                supervision=recipe.get("supervision", ""), weights="shared" if shared else "own",
                samples=checkpoint.provenance.get("samples", ""), solved_percent=figures["solved_percent"],
                **_errors(chain, positions, problem.targets),
            )  # fmt: skip


def _batch(name: str, chain: SerialChain, checkpoint: Any, problem: Problem, config: IkBenchConfig) -> dict[str, Any]:
    """Solved poses per second of batches on all cores, from cold seeds."""
    estimator = InverseKinematicsEstimator(chain, checkpoint, InverseKinematicsConfig(), device="cpu")
    size = min(config.batch, len(problem.targets))
    pieces = [slice(i, i + size) for i in range(0, len(problem.targets) - size + 1, size)]
    estimator.solve_batch(problem.targets[pieces[0]], problem.seeds[pieces[0]], 10.0)
    solved, seconds = 0, 0.0
    for piece in pieces:
        begin = time.perf_counter()
        answers = estimator.solve_batch(problem.targets[piece], problem.seeds[piece], 10.0)
        seconds += time.perf_counter() - begin
        pairs = zip(answers, problem.targets[piece], strict=True)
        solved += sum(answer.success and judge(chain, answer.positions, target) for answer, target in pairs)
    count = size * len(pieces)
    return _row(
        part="batch", robot=name, regime="cold", method="ours", n=count, batch=size, cores=cores(),
        solved_percent=100.0 * solved / count, poses_per_second=solved / seconds,
    )  # fmt: skip


def _row(**figures: Any) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS, ""), **figures}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep the process, and what it starts, on one core."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    threads, compiled = torch.get_num_threads(), numba.get_num_threads()  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    numba.set_num_threads(1)  # type: ignore[attr-defined]
    if allowed is not None:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
        numba.set_num_threads(compiled)  # type: ignore[attr-defined]


def bench(
    config: IkBenchConfig,
    weights: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
    note: Callable[[str], None] = print,
    compare: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """All rows.

    Args:
        config: what is measured.
        weights: weights file, for one robot; by default those that ship.
        provenance: columns that every row carries.
        quiet: no progress bars.
        note: called with a line for everything that is left out.
        compare: weights files for one robot, to compare these alone.
    """
    if compare:
        robot = example_robot(config.robots[0])
        return [{**row, **(provenance or {})} for row in compare_weights(robot, compare, config, quiet)]
    rows: Sequence[dict[str, Any]] = [
        row for name in config.robots for row in bench_robot(example_robot(name), config, weights, quiet, note)
    ]
    return [{**row, **(provenance or {})} for row in rows]
