# SPDX-License-Identifier: Apache-2.0
"""Methods on the same JPEGs, the gallery, the baselines, and the commands."""

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dfips_ros.baselines.deep_image_prior import DeepImagePrior, DeepImagePriorConfig
from dfips_ros.baselines.dncnn import load_dncnn3
from dfips_ros.cli.main import main
from dfips_ros.errors import CheckpointError, ConfigError, MissingDependencyError
from dfips_ros.evaluation.deblocking_gallery import busiest, write_gallery
from dfips_ros.evaluation.deblocking_runner import evaluate_deblocking, luminance, make_method
from dfips_ros.processes.jpeg import round_trip, standard_table
from dfips_ros.processes.jpeg_dct import JpegObservation

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "jpeg"


def test_one_row_for_each_set_quality_and_method(folder):
    methods = ("jpeg", "direct", "two", "three", "ours")
    rows = evaluate_deblocking({"own": folder}, (10, 30), methods, quiet=True)
    assert len(rows) == 10 and {row["images"] for row in rows} == {6}
    by_method = {row["method"]: row for row in rows if row["quality"] == 30}
    assert by_method["JPEG"]["agreement"] > 0.998 and by_method["ours, 3 stages, consistent"]["agreement"] > 0.999
    assert by_method["ours, 3 stages, consistent"]["psnr"] > by_method["JPEG"]["psnr"]
    none, one, two, three, ours = [row["parameters"] for row in rows if row["quality"] == 10]
    assert none == 0 and 1e5 < one < two < three == ours
    assert all(0 < row["ssim"] <= 1 and row["psnr_b"] <= row["psnr"] + 1e-9 for row in rows)


def test_slow_methods_get_a_subset_and_all_others_a_row_over_it(folder):
    rows = evaluate_deblocking({"own": folder}, (10, 20), ("jpeg", "dip"), slow_images=1, dip_iterations=3, quiet=True)
    assert [(r["quality"], r["subset"], r["method"]) for r in rows] == [
        (10, "all", "JPEG"), (10, "first 1", "JPEG"), (10, "first 1", "Deep Image Prior"), (20, "all", "JPEG"),
    ]  # fmt: skip


def test_a_journal_keeps_the_slow_figures_of_the_very_same_jpegs(folder, tmp_path, monkeypatch):
    def evaluate(quality: int, iterations: int = 2) -> list[dict]:
        return evaluate_deblocking({"own": folder}, (quality,), ("dip",), slow_images=1, dip_iterations=iterations,
                                   quiet=True, journal=tmp_path / "dip.jsonl")  # fmt: skip

    before = evaluate(10)
    monkeypatch.setattr(DeepImagePrior, "estimate", lambda *_: pytest.fail("The journal has it."))
    assert evaluate(10) == before  # the time that it took, too
    with pytest.raises(pytest.fail.Exception):
        evaluate(20)
    with pytest.raises(ConfigError, match="belongs to another evaluation"):
        evaluate(10, iterations=3)


def test_published_figures_stand_beside_those_of_the_same_images_only(folder, tmp_path):
    for file in sorted(folder.iterdir())[:5]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    five, six = (
        evaluate_deblocking({"classic5": images}, (10, 11), ("jpeg",), quiet=True, cited=True)
        for images in (tmp_path, folder)
    )
    assert [(row["method"], row["quality"], row["psnr"]) for row in five if "cited" in row["method"]] == [
        ("FBCNN (cited: Jiang et al. 2021)", 10, 30.12), ("DnCNN-3 (cited: Zhang et al. 2017)", 10, 29.40),
    ]  # fmt: skip
    assert [row["method"] for row in six] == ["JPEG", "JPEG"]


def test_what_cannot_be_evaluated_is_refused(folder, tmp_path):
    for sets, qualities, methods, reason in [
        ({}, (10,), ("jpeg",), "at least one"), ({"a": tmp_path}, (10,), ("jpeg",), "no lossless image"),
        ({"a": folder}, (0,), ("jpeg",), "quality"), ({"a": folder}, (10,), ("magic",), "unknown magic"),
        ({"a": folder}, (10,), ("dncnn",), "--dncnn FILE"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=reason):
            evaluate_deblocking(sets, qualities, methods, quiet=True)


def test_luminance_is_that_of_matlab():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [0, 0, 255], [0, 255, 0], [255, 0, 0]]], np.uint8)  # BGR
    assert luminance(colours).tolist() == [[16, 235, 81, 145, 41]]
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert luminance(grey) is grey


def test_deep_image_prior_approaches_the_image_and_leaves_torch_as_it_was():
    plane = torch.from_numpy(cv2.GaussianBlur(np.random.default_rng(0).random((48, 40), np.float32), (0, 0), 4))
    plane = ((plane - plane.min()) / (plane.max() - plane.min()))[None, None]
    tables = torch.tensor(standard_table(20)).float()[None]
    observation = JpegObservation.from_planes(round_trip(plane, tables), tables)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small = DeepImagePriorConfig(widths=(16, 16), skips=(0, 4))
    found = [DeepImagePrior(replace(small, iterations=n)).estimate(observation) for n in (2, 60)]
    assert torch.equal(torch.rand(3), expected)
    assert found[1].estimate.shape == plane.shape and found[1].residual_norms.shape == (1, 2)
    assert found[1].residual_norms[0, 1] < 0.7 * found[0].residual_norms[0, 1]
    for wrong in ({"iterations": 0}, {"average": 1.0}, {"widths": (8, 8)}, {"widths": (), "skips": ()}):
        with pytest.raises(ConfigError):
            DeepImagePriorConfig(**wrong)


def test_published_weights_need_h5py_and_the_right_file(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install h5py"):
        load_dncnn3(tmp_path / "DnCNN3.mat")


@pytest.mark.skipif(not (DATA / "DnCNN3.mat").is_file(), reason="DnCNN3.mat is not beside the checkout")
def test_the_published_dncnn3_has_its_published_figures():
    pytest.importorskip("h5py", reason="h5py is not installed")
    method = make_method("dncnn3", None, None, DATA / "DnCNN3.mat", 1)
    gains = []
    for file in sorted((DATA / "classic5").glob("*")):
        plane = luminance(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))[128:256, 128:256]
        clean = torch.from_numpy(plane.astype(np.float32) / 255.0)[None, None]
        tables = torch.tensor(standard_table(10)).float()[None]
        observation = JpegObservation.from_planes(round_trip(clean, tables), tables)
        before, after = ((x - clean).square().mean() for x in (observation.planes, method(observation)))
        gains.append(10 * float(torch.log10(before / after)))
    assert len(gains) == 5 and np.mean(gains) > 1.2  # dB; 1.58 for the whole images in the paper
    with pytest.raises(CheckpointError, match="not the published"):
        load_dncnn3(DATA / "MANIFEST.md")


def test_the_gallery_shows_the_busiest_crops(folder, tmp_path):
    plane = np.full((200, 240), 128, np.uint8)
    plane[90:180, 120:220] = np.random.default_rng(0).integers(0, 256, (90, 100))
    y, x = busiest(plane)
    assert 80 <= y <= 96 and 112 <= x <= 128
    (file,) = write_gallery({"own": folder}, 10, tmp_path)
    assert cv2.imread(str(file)).shape[1] == 3 * 96 * 3


def test_commands(folder, jpeg, tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(jpeg(40, 56))
    assert main(["solve", "deblocking", str(tmp_path / "in.jpg"), str(tmp_path / "out.png"), "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert cv2.imread(str(tmp_path / "out.png")).shape == (40, 56, 3)
    assert told["agreement"] > 0.998 and told["width"] == 56 and len(told["residual_norms"]) == 5
    csv = tmp_path / "rows.csv"
    words = ["--sets", f"own={folder}", "--quality", "20", "--methods", "jpeg", "ours", "--out", str(csv)]
    assert main(["evaluate", "deblocking", *words, "--pictures", str(tmp_path), "--quiet"]) == 0
    assert main(["table", str(csv)]) == 0
    assert "ours, 3 stages, consistent" in capsys.readouterr().out
    weights = str(tmp_path / "w.safetensors")
    words = ["--images", str(folder), "--batches", "2", "--network", "colour", "--batch-size", "2", "--out", weights]
    words += ["--held-out", "2", "--crop-size", "32", "--device", "cpu", "--quiet"]
    assert main(["train", "deblocking", *words]) == 0
    assert "PSNR" in capsys.readouterr().out
    assert main(["solve", "deblocking", str(tmp_path / "in.jpg"), str(tmp_path / "o.png"), "--weights", weights]) == 0


def test_bench_times_every_kind_of_consistency(jpeg, tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(jpeg(40, 56))
    words = ["--repeats", "2", "--threads", "1", "--out", str(tmp_path / "b.csv"), "--json", "-"]
    assert main(["bench", "deblocking", "--jpeg", str(tmp_path / "in.jpg"), *words]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out)["figures"] if row["part"] == "whole"]
    assert [row["figure"] for row in rows] == [f"consistency {kind}: restore" for kind in ("exact", "project", "off")]
    assert all("56x40" in row["note"] and 0 < row["value"] <= row["p99"] for row in rows)
    with open(tmp_path / "b.csv") as stream:
        assert sum(row["part"] == "whole" for row in csv.DictReader(stream)) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["bench", "deblocking", "--jpeg", "none.jpg"], "cannot be read"),
        (["bench", "deblocking", "--repeats", "0"], "repeats"),
        (["solve", "deblocking", "none.jpg", "out.png"], "cannot be read"),
        (["solve", "deblocking", "none.jpg", "out.jpg"], "lossless"),
        (["evaluate", "deblocking", "--sets", "folder"], "NAME=FOLDER"),
        (["train", "deblocking", "--images", "nowhere.png"], "cannot read"),
        (["train", "deblocking", "--images", "nowhere.png", "--width", "8"], "for --network dncnn"),
    ],
)
def test_commands_say_what_is_wrong(words, reason, capsys):
    assert main(words) == 2
    assert reason in capsys.readouterr().err
