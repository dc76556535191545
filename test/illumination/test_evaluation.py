# SPDX-License-Identifier: Apache-2.0
"""The comparison: same pictures for all, every method better than nothing, commands that write what they say."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
import yaml

from dfips_ros.baselines.illumination_adam import SHADERS, adam_light
from dfips_ros.baselines.illumination_search import nelder_mead_light
from dfips_ros.cli.main import main
from dfips_ros.errors import ConfigError
from dfips_ros.evaluation.illumination_methods import METHODS, SLOW, SLOWISH
from dfips_ros.evaluation.illumination_runner import evaluate_illumination
from dfips_ros.evaluation.illumination_trials import LightTrialConfig, make_trials
from dfips_ros.geometry import quaternion_xyzw_from_matrix
from dfips_ros.processes.shading import image_values
from dfips_ros.tasks.illumination.metrics import direction_error_deg


@pytest.fixture(scope="module")
def ball():
    """Points of a ball under a light: pixels of all methods, and the truth (1, 8)."""
    rng = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(1, 128, 3, generator=rng), dim=-1)
    normal[..., 2] = -normal[..., 2].abs()
    view = torch.tensor([0.0, 0.0, -1.0]).expand_as(normal)
    truth = torch.tensor([[0.48, -0.36, -0.8, 1.0, 0.5, 0.0, 0.8, 0.05]])
    limit = torch.full((1,), 9.0)
    values = image_values(truth, 0.5 * normal, normal, view, limit, False)
    return (values, 0.5 * normal, normal, view, torch.ones_like(values), limit), truth


@pytest.mark.parametrize("shader", SHADERS)
def test_adam_finds_the_light_of_a_ball(ball, shader):
    pixels, truth = ball
    start = torch.tensor([[0.0, 0.0, -1.0, 0.5, 0.6, 0.1, 0.6, 0.1]])
    light, norm = adam_light(pixels, start, False, shader, 200, 0.05)
    assert direction_error_deg(light, truth[:, :3]).max() < 6.0 and norm.max() < 0.05


def test_nelder_mead_finds_the_light_of_a_ball(ball):
    pixels, truth = ball

    def residual_norm(x):
        simulated = image_values(torch.from_numpy(x).float()[None], *pixels[1:4], pixels[5], False)
        return float((simulated - pixels[0]).square().mean().sqrt())

    light, norm = nelder_mead_light(residual_norm, np.array([0.0, 0.0, -1.0, 0.5, 0.6, 0.1, 0.6, 0.1]), False, 400)
    assert norm < 0.03 and direction_error_deg(torch.from_numpy(light)[None], truth[:, :3]).max() < 10.0


def test_trials_are_the_same_each_time(vase, bracket):
    config = LightTrialConfig("point", "glossy", 2)
    one, two = (list(make_trials([vase, bracket], config)) for _ in range(2))
    assert [t.mesh for t in one] == [0, 0, 1, 1]
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.light, b.light)
        assert a.image.max() > 30 and 0.7 <= np.linalg.norm(a.light) <= 2.0
    for bad in ({"kind": "spot"}, {"material": "wood"}, {"per_mesh": 0}):
        with pytest.raises(ConfigError):
            LightTrialConfig(**bad)


@pytest.mark.parametrize("kind", ["directional", "point"])
def test_all_methods_see_the_same_pictures(vase, kind):
    names = [name for name in METHODS if name not in ("nelder_mead", "ours_shared", "gauss_newton_50", "adam_lambert")]
    rows = evaluate_illumination([vase], kind, names, ("matt", "metallic"), per_mesh=3, slow_trials=2, quiet=True)
    by = {(r["material"], r["subset"], r["method"]): r for r in rows}
    fast = [METHODS[name] for name in names if name not in (*SLOW, *SLOWISH)]
    for material in ("matt", "metallic", "all"):
        assert {by[material, "all", method]["n"] for method in fast} == {6 if material == "all" else 3}
        some = {by[material, "2 of each class", METHODS[name]]["n"] for name in names}
        assert some == {4 if material == "all" else 2}
        assert (material, "all", METHODS["ours_pyrender"]) not in by
    mean = {method: by["all", "all", method]["mean"] for method in fast}
    assert mean[METHODS["ours_7"]] < mean[METHODS["initial"]] and mean[METHODS["ours"]] < mean[METHODS["initial"]]
    assert all(np.isfinite(r["mean"]) and r["ms"] >= 0 for r in rows)
    with pytest.raises(ConfigError, match="unknown"):
        evaluate_illumination([vase], kind, ["guess"], quiet=True)
    with pytest.raises(ConfigError, match="--shared"):
        evaluate_illumination([vase], kind, ["ours_shared"], quiet=True)


@pytest.fixture
def files(tmp_path, vase, scene, camera):
    """Files of one picture: image, mesh, pose, camera."""
    import trimesh

    image, pose, light = scene(1)
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    trimesh.Trimesh(vase.vertices, vase.faces, process=False).export(tmp_path / "vase.obj")
    x, y, z, w = (float(v) for v in quaternion_xyzw_from_matrix(pose[:3, :3]))
    position = dict(zip("xyz", map(float, pose[:3, 3]), strict=True))
    (tmp_path / "pose.yaml").write_text(
        yaml.safe_dump({"position": position, "orientation": {"x": x, "y": y, "z": z, "w": w}})
    )
    matrix = {"rows": 3, "cols": 3, "data": [float(v) for v in camera.reshape(-1)]}
    (tmp_path / "camera.yaml").write_text(
        yaml.safe_dump({"image_width": 640, "image_height": 480, "camera_matrix": matrix})
    )
    return tmp_path, light


def arguments(folder):
    names = {"--image": "photo.png", "--mesh": "vase.obj", "--pose": "pose.yaml", "--camera": "camera.yaml"}
    return ["solve", "illumination", *(word for key, name in names.items() for word in (key, str(folder / name)))]


def test_solve_writes_light_sphere_and_animation(files, capsys):
    folder, light = files
    out = [str(folder / name) for name in ("found.json", "sphere.png", "stages.gif")]
    assert main([*arguments(folder), "--json", out[0], "--sphere", out[1], "--animation", out[2]]) == 0
    found = json.loads((folder / "found.json").read_text())
    assert np.rad2deg(np.arccos(np.dot(found["direction"], light))) < 10.0
    assert "direction: {x: " in capsys.readouterr().out
    assert cv2.imread(out[1]).shape == (256, 256, 3)
    from PIL import Image

    assert Image.open(out[2]).n_frames == 9


def test_solve_says_what_is_wrong_in_one_line(files, capsys):
    folder, _ = files
    cv2.imwrite(str(folder / "deep.png"), np.full((480, 640), 9000, np.uint16))
    cv2.imwrite(str(folder / "small.png"), np.zeros((10, 10), np.uint8))
    for name, words in (("deep.png", "8 bit"), ("small.png", "640x480"), ("none.png", "cannot be read")):
        assert main([*arguments(folder), "--image", str(folder / name)]) == 2
        message = capsys.readouterr().err
        assert words in message and message.count("\n") == 1


def test_evaluate_writes_rows(files, capsys):
    folder, _ = files
    out = folder / "rows.csv"
    methods = ["--methods", "initial", "ours_7", "--materials", "glossy", "--trials", "2"]
    assert main(["evaluate", "illumination", "--mesh", str(folder / "vase.obj"), "--out", str(out), *methods]) == 0
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert {r["method"] for r in rows} == {METHODS["initial"], METHODS["ours_7"]} and rows[0]["commit"]
    assert main(["table", str(out)]) == 0 and "| glossy |" in capsys.readouterr().out
    command = ["evaluate", "illumination", "--mesh", str(folder / "vase.obj"), "--out", str(out), *methods, "--append"]
    assert main([*command, "--materials", "matt"]) == 0
    with out.open() as stream:
        both = list(csv.DictReader(stream))
    assert both[: len(rows)] == rows and {r["material"] for r in both} == {"glossy", "matt", "all"}
    assert main(["evaluate", "illumination"]) == 2
