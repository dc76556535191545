# SPDX-License-Identifier: Apache-2.0
"""The benchmark of inverse kinematics: what counts as solved, what peers are told, how rows become tables."""

import numpy as np
import pytest

from dfips_ros.errors import ConfigError, MissingDependencyError
from dfips_ros.evaluation import ik_peers
from dfips_ros.evaluation.ik_bench import COLUMNS, IkBenchConfig, judge, make_problems, measure
from dfips_ros.evaluation.ik_peers import PEERS, PeerArm, PeerError, write_plain_urdf
from dfips_ros.evaluation.ik_tables import ik_markdown
from dfips_ros.processes import example_robots
from dfips_ros.processes.kinematics import SerialChain


@pytest.fixture
def chain(arm_urdf):
    return SerialChain.from_urdf(arm_urdf, "tool0", "base_link")


def test_what_counts_as_solved(chain):
    q = np.array([0.2, -0.5, 0.8, 0.1, 0.6, -0.3])
    target = chain.reference(q)
    assert judge(chain, q, target)
    assert judge(chain, q + 1e-5, target) and not judge(chain, q + 1e-2, target)
    assert not judge(chain, q + [2 * np.pi, 0, 0, 0, 0, 0], target)  # the same pose, out of limits
    assert not any(judge(chain, wrong, target) for wrong in (None, q[:5], np.full(6, np.nan)))


def test_problems_are_within_limits_and_warm_seeds_near(chain):
    problems = make_problems(chain, IkBenchConfig(targets=20, warm=0.1))
    cold, warm = problems["cold"], problems["warm"]
    assert np.array_equal(cold.targets, warm.targets) and len(cold.targets) == 20
    for problem in problems.values():
        assert np.all((problem.seeds >= chain.lower) & (problem.seeds <= chain.upper))
    moved = np.linalg.norm(chain.forward(warm.seeds)[:, :3, 3] - warm.targets[:, :3, 3], axis=1)
    assert np.median(moved) < 0.2 < np.median(np.abs(cold.seeds - warm.seeds).max(axis=1))


def test_measure_counts_solutions_and_jumps(chain):
    problem = make_problems(chain, IkBenchConfig(targets=10))["warm"]
    answers = iter([*problem.seeds[:5], *problem.seeds])  # five warm-up calls first

    def seed_back(target, seed):
        found = next(answers)
        assert np.array_equal(found, seed)
        if np.array_equal(seed, problem.seeds[3]):
            raise RuntimeError("a peer gave up")
        return found

    assert measure(chain, problem, lambda target, seed: seed, "still", quiet=True)["solved_percent"] == 0.0
    problem.targets[:] = chain.forward(problem.seeds)
    with pytest.raises(RuntimeError):
        measure(chain, problem, seed_back, "raises while it warms up", quiet=True)
    figures = measure(chain, problem, lambda target, seed: seed, "exact", quiet=True)
    assert figures["solved_percent"] == 100.0 and figures["worst_jump"] == figures["jumps_percent"] == 0.0
    assert 0.0 < figures["ms_median"] <= figures["ms_p99"]


def test_the_plain_urdf_is_the_same_arm_and_nothing_else(chain, arm_urdf, tmp_path):
    file = tmp_path / "plain.urdf"
    write_plain_urdf(arm_urdf, chain, file)
    plain = SerialChain.from_urdf(file, "tool0")
    assert plain.base == "base_link" and plain.names == chain.names and plain.model.nq == len(chain.names)
    assert "finger" not in file.read_text() and "camera" not in file.read_text()
    q = np.random.default_rng(0).uniform(chain.lower, chain.upper, (5, 6))
    assert np.allclose(plain.forward(q), chain.forward(q), atol=1e-12)


def test_joints_that_turn_without_end_have_wide_limits_for_peers(arm_urdf, tmp_path):
    endless = arm_urdf.replace('<joint name="wrist_3" type="revolute">', '<joint name="wrist_3" type="continuous">')
    chain = SerialChain.from_urdf(endless, "tool0", "base_link")
    assert chain.wraps.tolist() == [False] * 5 + [True]
    write_plain_urdf(endless, chain, tmp_path / "plain.urdf")
    plain = SerialChain.from_urdf(tmp_path / "plain.urdf", "tool0")
    assert not plain.wraps.any() and plain.upper[-1] == pytest.approx(ik_peers.TURNS)


@pytest.mark.parametrize("name", PEERS)
def test_peers_solve_or_say_why_not(name, chain, arm_urdf, tmp_path):
    file = tmp_path / "plain.urdf"
    write_plain_urdf(arm_urdf, chain, file)
    try:
        solve = PEERS[name][2](PeerArm("arm", file, chain, 0.2))
    except PeerError as reason:
        pytest.skip(str(reason))
    problem = make_problems(chain, IkBenchConfig(targets=10))["warm"]
    solved = [judge(chain, solve(t, s.copy()), t) for t, s in zip(problem.targets, problem.seeds, strict=True)]
    assert sum(solved) >= 8


def test_a_peer_that_is_not_installed(chain, monkeypatch, tmp_path):
    monkeypatch.setattr(ik_peers.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(PeerError, match="trac_ik is not installed"):
        PEERS["tracik"][2](PeerArm("arm", tmp_path / "x", chain, 0.05))


def test_robots_need_their_package(monkeypatch):
    monkeypatch.setattr(example_robots, "PACKAGE", "surely-not-installed")
    with pytest.raises(MissingDependencyError, match="pip install surely-not-installed"):
        _ = example_robots.example_robot("ur5").urdf
    with pytest.raises(ConfigError, match="panda, ur5"):
        example_robots.example_robot("hal")


@pytest.mark.parametrize("values", [{"targets": 1}, {"warm": -1.0}, {"timeout": 0.0}, {"robots": ("x",)},
                                    {"methods": ("x",)}, {"batch": 0}])  # fmt: skip
def test_bad_configurations(values):
    with pytest.raises(ConfigError):
        IkBenchConfig(**values)


def test_tables():
    empty = dict.fromkeys(COLUMNS, "")
    rows = [
        {**empty, "part": "single", "robot": "r", "regime": regime, "method": "m", "version": "1.2", "n": 7,
         "solved_percent": solved, "ms_median": 0.25, "ms_p99": 1.5, "jumps_percent": float("nan"), "machine": "abacus"}
        for regime, solved in (("cold", 50.0), ("warm", 100.0))
    ]  # fmt: skip
    rows.append({**empty, "part": "stages", "robot": "r", "followed": 8, "stage": 1, "position_mean_mm": 6.4,
                 "machine": "abacus"})  # fmt: skip
    rows.append({**empty, "part": "batch", "robot": "r", "batch": 5, "cores": 2, "solved_percent": 99.5,
                 "poses_per_second": 1234.5})  # fmt: skip
    text = ik_markdown(rows)
    assert "| m (1.2) | 50.00 | 0.250 | 1.500 | 100.00 | 0.250 | 1.500 | – | – |" in text
    assert "| 8 | 1 | 6.400 | – | – | – |" in text and "| r | 5 | 2 | 99.50 | 1234 |" in text
    assert "- machine: abacus" in text and "(7 per robot)" in text
    assert ik_markdown([]) == ""
