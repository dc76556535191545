# SPDX-License-Identifier: Apache-2.0
"""The parts of an inverse kinematics solve. It is compiled as a whole, so the parts run once more by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..processes.example_robots import example_robot
from ..processes.kinematics import SerialChain
from ..tasks.inverse_kinematics import InverseKinematicsConfig, InverseKinematicsEstimator
from ..tasks.inverse_kinematics.arm import ArmArrays
from ..tasks.inverse_kinematics.compiled_stages import run_stages
from ..tasks.inverse_kinematics.search import read_pose
from ..tasks.inverse_kinematics.weights import find_weights, load_weights
from .bench_figures import REST, WHOLE, measure
from .ik_bench import COLUMNS, IkBenchConfig, judge, make_problems, one_core

PARTS = (WHOLE, "polish of the seed", "simulate", "network and update", "polish of the proposals", REST)
TARGETS = 500  # at most
BATCHES = (1, 8, 64, 512, 4096)
RUNS = 3  # of each target; the fastest counts, so that parts of runs of their own can be subtracted


def part_rows(config: IkBenchConfig, weights: str | None = None) -> Iterator[dict[str, Any]]:
    """A row for each part and robot that has weights, in the columns of the comparison; ``part`` is ``path``."""
    for name in config.robots:
        robot = example_robot(name)
        chain = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
        checkpoint = load_weights(weights, chain) if weights else find_weights(chain)
        if checkpoint is None:
            continue
        problem = make_problems(chain, replace(config, targets=min(config.targets, TARGETS)))["cold"]
        with one_core():
            laps = measure_parts(chain, checkpoint, problem.targets, problem.seeds, config.timeout)
        for part in PARTS if laps else ():
            times = 1e3 * np.array([lap[part] for lap in laps])
            yield {
                **dict.fromkeys(COLUMNS, ""), "part": "path", "robot": name, "regime": "cold", "method": part,
                "n": len(laps), "ms_median": float(np.median(times)), "ms_p99": float(np.percentile(times, 99)),
            }  # fmt: skip


def cuda_rows(config: IkBenchConfig, weights: str | None = None) -> Iterator[dict[str, Any]]:
    """Batches on CUDA, beside the one on all cores, in the columns of the comparison; one row for each size."""
    for name in config.robots:
        robot = example_robot(name)
        chain = SerialChain.from_urdf(robot.urdf, robot.tip, robot.base)
        checkpoint = load_weights(weights, chain) if weights else find_weights(chain)
        problem = make_problems(chain, replace(config, targets=max(BATCHES)))["cold"]
        estimator = InverseKinematicsEstimator(chain, checkpoint, device="cuda")
        for size in BATCHES:
            targets, seeds = problem.targets[:size], problem.seeds[:size]
            answers: list[Any] = []
            seconds = measure(
                lambda _, t=targets, s=seeds, a=answers: a.append(estimator.solve_batch(t, s, 10.0)),  # type: ignore[misc]  # noqa: B023
                RUNS, "cuda",
            )  # fmt: skip
            solved = sum(judge(chain, a.positions, t) for a, t in zip(answers[-1], targets, strict=True) if a.success)
            yield {
                **dict.fromkeys(COLUMNS, ""), "part": "batch", "robot": name, "regime": "cold", "method": "ours",
                "n": size, "batch": size, "cores": "cuda", "solved_percent": 100.0 * solved / size,
                "poses_per_second": solved / float(np.median(seconds)),
            }  # fmt: skip


def parts_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of :func:`part_rows` as a table with a column for each robot."""
    robots = list(dict.fromkeys(row["robot"] for row in rows))
    cells = {(row["method"], row["robot"]): row for row in rows}
    counts = ", ".join(f"{robot} {cells[WHOLE, robot]['n']}" for robot in robots)
    lines = [
        "## Parts of our solve, cold seeds\n",
        f"Median and p99 in ms of the targets that the seed alone does not solve ({counts}), without restarts. The "
        "solve is compiled as a whole: its parts run once more by themselves, and the last ones are differences.\n",
        "| part | " + " | ".join(robots) + " |",
        "|---|" + "---:|" * len(robots),
    ]
    for part in PARTS:
        own = [cells[part, robot] for robot in robots]
        lines.append(f"| {part} | " + " | ".join(f"{r['ms_median']:.4f} / {r['ms_p99']:.4f}" for r in own) + " |")
    return "\n".join(lines) + "\n" if robots else ""


def measure_parts(
    chain: SerialChain, checkpoint: Any, targets: np.ndarray, seeds: np.ndarray, timeout: float
) -> list[dict[str, float]]:
    """Seconds of the parts for each target that its seed alone does not solve, on one thread.

    Args:
        chain: the arm.
        checkpoint: weights of the learned stages.
        targets: (N, 4, 4).
        seeds: (N, n).
        timeout: seconds for one target.
    """
    plain = replace(InverseKinematicsConfig(), max_restarts=0)
    whole = InverseKinematicsEstimator(chain, checkpoint, plain, device="cpu")
    seed_alone = InverseKinematicsEstimator(chain, None, plain, device="cpu")
    stages = _Stages(chain, checkpoint, plain)
    laps = []
    for target, seed in zip(targets, seeds, strict=True):
        if whole.solve(target, seed, timeout).stages == 0:
            continue
        total = _fastest(lambda t=target, s=seed: whole.solve(t, s, timeout))  # type: ignore[misc]
        first = _fastest(lambda t=target, s=seed: seed_alone.solve(t, s, timeout))  # type: ignore[misc]
        call = _fastest(lambda t=target, s=seed: seed_alone.solve(t, s, 0.0))  # type: ignore[misc]
        learned = _fastest(lambda t=target, s=seed: stages.run(t, s))  # type: ignore[misc]
        simulated = _fastest(lambda s=seed: chain.forward(np.tile(s, (stages.simulations, 1))))  # type: ignore[misc]
        simulated, first = min(simulated, learned), max(first - call, 0.0)
        proposals = max(total - call - first - learned, 0.0)
        parts = dict(zip(PARTS[1:-1], (first, simulated, learned - simulated, proposals), strict=True))
        scale = min(1.0, total / max(sum(parts.values()), 1e-12))  # runs of their own may add up to a little more
        parts = {name: scale * seconds for name, seconds in parts.items()}
        laps.append({WHOLE: total, **parts, REST: total - sum(parts.values())})
    return laps


class _Stages:
    """The compiled stages alone."""

    def __init__(self, chain: SerialChain, checkpoint: Any, config: InverseKinematicsConfig) -> None:
        arrays = ArmArrays(chain, checkpoint, config)
        self._core, self._weights, self._shape = arrays._core, arrays._weights, arrays._shape
        count, n = min(config.num_seeds, int(self._shape[5] + self._shape[6])), len(chain)
        self._bounds = np.stack([arrays.lower, arrays.upper])
        self._found, self._norms, self._target = np.empty((count, n)), np.empty(count), np.empty(12)
        followed = [1] + [count] * (int(self._shape[0]) - 1)
        proposed = [int(self._shape[5 + 2 * t] + self._shape[6 + 2 * t]) + 1 for t in range(int(self._shape[0]))]
        self.simulations = int(np.dot(followed, proposed)) + count  # forward kinematics of every proposal

    def run(self, target: np.ndarray, seed: np.ndarray) -> None:
        table, place, scale, first, last, sizes = self._core
        read_pose(target, first, last, self._target)
        run_stages(
            table, self._target, scale, place, sizes, self._bounds, self._weights, self._shape, seed, self._found,
            self._norms,
        )  # fmt: skip


def _fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
