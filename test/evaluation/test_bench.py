# SPDX-License-Identifier: Apache-2.0
"""What ``dfips bench`` measures, at toy size: the stopwatch, the parts, and rows that say what was left out."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.evaluation import bench_light, bench_pose, illumination_methods
from dfips_ros.evaluation.bench_figures import (
    NOT_MEASURED,
    REST,
    WHOLE,
    Stopwatch,
    figures_of_parts,
    measure,
    pick_devices,
)
from dfips_ros.evaluation.bench_scaling import SWEEPS, ScalingConfig, lumpy_mesh, measure_scaling
from dfips_ros.processes.simplification import silhouette_agreement
from dfips_ros.solver import Checkpoint, save_checkpoint
from dfips_ros.tasks.illumination import IlluminationConfig, IlluminationEstimator
from dfips_ros.tasks.illumination.problem import make_solver
from dfips_ros.tasks.object_pose import Symmetries


class Worker:
    def outer(self):
        time.sleep(0.004)
        self.inner()
        return "done"

    def inner(self):
        time.sleep(0.008)

    def raises(self):
        raise ValueError("as it did before")


SEAMS = {"outer": [(Worker, "outer")], "inner": [(Worker, "inner"), (Worker, "gone")], "bad": [(Worker, "raises")]}


def test_a_stopwatch_counts_what_is_inside_for_the_inner_part_alone_and_leaves_no_trace():
    before = dict(vars(Worker))
    watch = Stopwatch(SEAMS, keep="outer")
    with watch.open():
        lap = watch.lap(lambda: (Worker().outer(), time.sleep(0.002)))
        with pytest.raises(ValueError, match="as it did before"):
            Worker().raises()
    assert vars(Worker) == before
    assert 0.008 <= lap["inner"] and 0.004 <= lap["outer"] and 0.002 <= lap[REST]
    assert lap["outer"] + lap["inner"] + lap[REST] == pytest.approx(lap[WHOLE])
    assert watch.kept[1] == "done" and isinstance(watch.kept[0][0], Worker)


def test_parts_that_some_laps_lack_are_rows_all_the_same():
    laps = [{WHOLE: 3.0, "a": 1.0, REST: 2.0}, {WHOLE: 3.0, "b": 2.0, REST: 1.0}]
    rows = figures_of_parts("solve", laps, device="cpu")
    assert {row.part: row.value for row in rows} == {WHOLE: 3000.0, "a": 500.0, "b": 1000.0, REST: 1500.0}
    assert all(row.repeats == 2 and row.unit == "ms" for row in rows)
    with pytest.raises(ConfigError, match="nothing was measured"):
        figures_of_parts("solve", [])


def test_warm_up_is_not_counted():
    calls = []
    assert len(measure(calls.append, 3, warm_up=2)) == 3 and calls == [0, 0, 0, 1, 2]


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        assert pick_devices("auto") == ["cpu", "cuda"]
        return
    assert pick_devices("auto") == pick_devices("cpu") == ["cpu"]
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_devices("cuda")


@pytest.mark.parametrize("faces", [300, 1_000, 5_000, 20_000])
def test_the_lump_has_about_the_faces_that_were_asked_for_and_keeps_its_shape(faces):
    mesh = lumpy_mesh(faces)
    assert len(mesh.faces) == pytest.approx(faces, rel=0.06)
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}  # closed
    assert silhouette_agreement(lumpy_mesh(20_000), mesh) > (0.97 if faces > 300 else 0.9)


TOY = ScalingConfig(
    faces=(300, 1_000_000), sizes=(64,), batches=(1, 4, 10_000_000), stages=(1, 6), objects=(1, 2), repeats=2,
    budget=5.0, quick=True,
)  # fmt: skip


@pytest.mark.parametrize("sweep", SWEEPS)
def test_scaling_has_a_row_for_every_size_and_says_which_were_not_measured(sweep):
    rows = list(measure_scaling(replace(TOY, sweeps=(sweep,)), "cpu"))
    field = {"size": "sizes", "batch": "batches"}.get(sweep, sweep)
    assert {row.at for row in rows} == set(getattr(TOY, field)) and {row.sweep for row in rows} == {sweep}
    for row in rows:
        if row.at >= 1_000_000:  # by --quick, or by the budget
            assert row.value is None and row.note.startswith(NOT_MEASURED)
        else:
            assert row.value > 0 and row.repeats >= 1 and (row.p99 is None or row.p99 >= row.value)
    if sweep == "batch":
        assert any("more than 5 s" in row.note for row in rows if row.at >= 1_000_000)
        times = {(row.figure, row.at): row.value for row in rows if row.unit == "ms" and row.value}
        rates = {(row.figure.removesuffix(", throughput"), row.at): row.value for row in rows if row.unit == "poses/s"}
        assert len(times) == 4 and all(rates[k] == pytest.approx(1e3 * k[1] / times[k], rel=1e-3) for k in times)


def test_pose_methods_are_timed_on_the_same_masks(bracket):
    rows = list(bench_pose.measure_peers(bracket, Symmetries.none(), None, "cpu", 2, True, section="s"))
    assert len(rows) == len(bench_pose.PEERS)
    measured = [row for row in rows if row.value is not None]
    assert {row.note for row in rows if row.value is None} >= {f"{NOT_MEASURED}--quick"}
    assert len(measured) >= len(rows) - 3 and all(row.value > 0 and row.repeats == 2 for row in measured)


@pytest.fixture(scope="module")
def light(bracket, tmp_path_factory):
    """An estimator with untrained weights: their time is that of trained ones."""
    config = IlluminationConfig(kind="directional")
    path = tmp_path_factory.mktemp("weights") / "light.safetensors"
    solver = make_solver(config)
    save_checkpoint(path, Checkpoint("illumination", config.to_dict(), {}, solver.stages.state_dict()))
    return str(path), IlluminationEstimator(bracket, "directional", "cpu", path)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_light_parts_and_methods(bracket, light, one_thread, monkeypatch):
    monkeypatch.setattr(illumination_methods, "ADAM_ITERATIONS", 3)
    weights, estimator = light
    inputs = bench_light.make_inputs(bracket, "directional", 2, 0)
    rows = bench_light.measure_parts(estimator, inputs, "cpu", section="s")
    found = {row.part: row.value for row in rows}
    assert set(found) == set(bench_light.PARTS) and all(value > 0 for value in found.values())
    assert sum(found.values()) - found[WHOLE] <= 1.3 * found[WHOLE]
    peers = list(bench_light.measure_peers(estimator, inputs[:1], weights, True))
    assert len(peers) == len(bench_light.PEERS)
    for row in peers:
        assert row.note == f"{NOT_MEASURED}--quick" if "Nelder" in row.figure else row.value > 0
