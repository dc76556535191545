# SPDX-License-Identifier: Apache-2.0
"""``dfips solve`` on a rendered mask, and on bad input."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml

from dfips_ros.cli.files import pose_as_dict
from dfips_ros.cli.main import main
from dfips_ros.geometry import make_pose, rotation_angle, so3_exp


def test_solves_from_nothing_and_writes_json_and_overlay(scene, capsys):
    result, overlay = scene.folder / "result.json", scene.folder / "overlay.png"
    assert main([*scene.arguments, "--json", str(result), "--overlay", str(overlay)]) == 0
    content = json.loads(result.read_text())
    assert content["iou"] > 0.85
    assert np.shape(content["T_camera_object"]) == (4, 4)
    assert np.shape(content["covariance"]) == (6, 6)
    assert len(content["history"]) == len(content["residual_norms"])
    assert content["pose"]["position"]["z"] == pytest.approx(scene.truth[2, 3], abs=0.1)
    assert cv2.imread(str(overlay)).shape == (480, 640, 3)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["position"]["x"] == pytest.approx(content["pose"]["position"]["x"], abs=1e-4)


def test_starts_from_an_initial_pose(scene):
    turn = so3_exp(torch.tensor([0.10, -0.12, 0.08], dtype=torch.float64)).numpy()
    center = scene.truth[:3, :3] @ scene.mesh.center + scene.truth[:3, 3] + [0.01, -0.01, 0.03]
    rotation = turn @ scene.truth[:3, :3]
    initial = make_pose(rotation, center - rotation @ scene.mesh.center)
    (scene.folder / "pose.yaml").write_text(yaml.safe_dump(pose_as_dict(initial)))
    result = scene.folder / "result.json"
    assert main([*scene.arguments, "--initial", str(scene.folder / "pose.yaml"), "--json", str(result)]) == 0
    content = json.loads(result.read_text())
    estimate = np.array(content["T_camera_object"])
    assert np.allclose(content["history"][0], initial, atol=1e-5)
    assert content["iou"] > 0.93
    assert np.degrees(rotation_angle(estimate[:3, :3], scene.truth[:3, :3])) < 4.0


def test_json_on_stdout_is_nothing_but_json(scene, capsys):
    assert main([*scene.arguments, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "dfips solve object_pose"


def test_symmetries_come_from_a_file(scene, capsys):
    info = scene.folder / "models_info.json"
    info.write_text('{"round": {"symmetries_continuous": [{"axis": [0, 0, 1]}]}}')
    variances = []
    for more in ([], ["--models-info", str(info), "--models-info-key", "round"]):
        assert main([*scene.arguments, *more, "--json", "-"]) == 0
        rotation = np.array(json.loads(capsys.readouterr().out)["covariance"])[3:, 3:]
        variances.append(np.linalg.eigvalsh(rotation)[-1])
    assert variances[1] > 1.0 > variances[0]  # nothing is known about a free axis


def bad(scene, capsys, *changes):
    """Run with changed arguments; return what stderr says after checking that it is one line and exit status 2."""
    assert main([*scene.arguments, *changes]) == 2
    text = capsys.readouterr().err.strip()
    lines = [line for line in text.splitlines() if not line.startswith("Getting ready")]
    assert len(lines) == 1, text
    assert lines[0].startswith("dfips solve: ")
    return lines[0]


def test_missing_mesh(scene, capsys):
    assert "nowhere.stl" in bad(scene, capsys, "--mesh", "nowhere.stl")


def test_mesh_in_millimetres(scene, capsys):
    assert "scale" in bad(scene, capsys, "--scale", "1000")


def test_missing_mask(scene, capsys):
    assert "nowhere.png" in bad(scene, capsys, "--mask", "nowhere.png")


def test_mask_of_another_size(scene, capsys):
    cv2.imwrite(str(scene.folder / "small.png"), scene.mask[::2, ::2])
    text = bad(scene, capsys, "--mask", str(scene.folder / "small.png"))
    assert "640x480" in text
    assert "320x240" in text


def test_camera_with_nan(scene, capsys, write_camera):
    matrix = {"data": [float("nan"), 0.0, 320.0, 0.0, 600.0, 240.0, 0.0, 0.0, 1.0]}
    text = bad(scene, capsys, "--camera", str(write_camera(camera_matrix=matrix)))
    assert "finite" in text


def test_camera_that_is_not_yaml(scene, capsys):
    (scene.folder / "bad.yaml").write_text("{unclosed")
    assert "bad.yaml" in bad(scene, capsys, "--camera", str(scene.folder / "bad.yaml"))


def test_pose_behind_the_camera(scene, capsys):
    (scene.folder / "pose.yaml").write_text("position: {x: 0, y: 0, z: -1}\norientation: {x: 0, y: 0, z: 0, w: 1}")
    assert "in front of the camera" in bad(scene, capsys, "--initial", str(scene.folder / "pose.yaml"))


def test_weights_that_are_not_weights(scene, capsys):
    (scene.folder / "weights.safetensors").write_bytes(b"nonsense")
    assert "weights.safetensors" in bad(scene, capsys, "--weights", str(scene.folder / "weights.safetensors"))


def test_overlay_with_unknown_ending(scene, capsys):
    assert "--overlay" in bad(scene, capsys, "--overlay", str(scene.folder / "picture.xyz"))


def test_bad_models_info(scene, capsys):
    assert "nowhere.json" in bad(scene, capsys, "--models-info", str(scene.folder / "nowhere.json"))
    assert "--models-info FILE" in bad(scene, capsys, "--models-info-key", "5")
