# SPDX-License-Identifier: Apache-2.0
"""The files that commands read: what is accepted, and how the rest is refused."""

import json

import cv2
import numpy as np
import pytest

from dfips_ros.cli.files import pose_as_dict, read_camera, read_mask, read_pose, rectify, write_json
from dfips_ros.errors import CameraError, MaskError, PoseError
from dfips_ros.geometry import make_pose, rotation_angle

NAN = float("nan")


def test_camera_calibration_file(write_camera):
    camera = read_camera(write_camera())
    assert camera.size == (480, 640)
    assert camera.camera_matrix.shape == (3, 3)
    assert camera.camera_matrix[0, 0] == 600.0
    assert not camera.is_distorted


def test_camera_info_as_topic_echo_prints_it(tmp_path):
    file = tmp_path / "echo.yaml"
    file.write_text(
        "header: {frame_id: c}\nheight: 480\nwidth: 640\ndistortion_model: plumb_bob\nd: [0.1, 0, 0, 0, 0]\n"
        "k: [600, 0, 320, 0, 600, 240, 0, 0, 1]\n---\n"
    )
    camera = read_camera(file)
    assert camera.is_distorted
    assert camera.distortion.tolist() == [0.1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera_matrix": {"data": [NAN, 0, 320, 0, 600, 240, 0, 0, 1]}}, "finite"),
        ({"camera_matrix": {"data": [0, 0, 320, 0, 600, 240, 0, 0, 1]}}, "positive focal lengths"),
        ({"camera_matrix": {"data": [600, 0, 320]}}, "9 numbers"),
        ({"camera_matrix": {"data": ["wide", 0, 320, 0, 600, 240, 0, 0, 1]}}, "expected numbers"),
        ({"camera_matrix": None}, "no camera_matrix"),
        ({"image_width": 0}, "image_width"),
        ({"image_height": "tall"}, "image_height"),
        ({"distortion_coefficients": {"data": [NAN] * 5}}, "finite distortion_coefficients"),
        ({"distortion_model": "thin_prism", "distortion_coefficients": {"data": [0.1] * 5}}, "not supported"),
        ({"distortion_coefficients": {"data": [0.1] * 3}}, "3 coefficients"),
    ],
)
def test_bad_camera_files_are_refused(write_camera, changes, words):
    with pytest.raises(CameraError, match=words):
        read_camera(write_camera(**changes))


@pytest.mark.parametrize("text", ["{unclosed", "- a\n- list", "", "\x00\x01"])
def test_unreadable_yaml_is_refused(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(CameraError, match="bad.yaml"):
        read_camera(file)
    with pytest.raises(PoseError, match="bad.yaml"):
        read_pose(file)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CameraError, match="nowhere.yaml"):
        read_camera(tmp_path / "nowhere.yaml")
    with pytest.raises(MaskError, match="nowhere.png"):
        read_mask(tmp_path / "nowhere.png")


POSE = "position: {x: 0.1, y: -0.2, z: 0.8}\norientation: {x: 0.0, y: 0.0, z: 0.6, w: 0.8}\n"


@pytest.mark.parametrize(
    "text",
    [
        POSE,
        POSE + "---\n",
        "header: {frame_id: c}\npose:\n  " + POSE.replace("\n", "\n  ").rstrip() + "\n",
        "pose:\n  pose:\n    " + POSE.replace("\n", "\n    ").rstrip() + "\n  covariance: [0.0]\n",
    ],
)
def test_pose_as_topic_echo_prints_it(tmp_path, text):
    file = tmp_path / "pose.yaml"
    file.write_text(text)
    pose = read_pose(file)
    assert pose[:3, 3].tolist() == [0.1, -0.2, 0.8]
    half_turn = 2 * np.arctan2(0.6, 0.8)
    assert rotation_angle(pose[:3, :3], np.eye(3)) == pytest.approx(half_turn)
    assert np.allclose(pose[:3, 0], [np.cos(half_turn), np.sin(half_turn), 0.0])


@pytest.mark.parametrize(
    "text",
    [
        "position: {x: 0, y: 0, z: 1}",
        "position: {x: 0, y: 0, z: 1}\norientation: {x: 0, y: 0, z: 0, w: 0}",
        "position: {x: .nan, y: 0, z: 1}\norientation: {x: 0, y: 0, z: 0, w: 1}",
        "position: [0, 0, 1]\norientation: [0, 0, 0, 1]",
    ],
)
def test_bad_poses_are_refused(tmp_path, text):
    file = tmp_path / "pose.yaml"
    file.write_text(text)
    with pytest.raises(PoseError, match="pose.yaml"):
        read_pose(file)


def test_pose_round_trip(tmp_path):
    pose = make_pose(np.diag([1.0, -1.0, -1.0]), np.array([0.1, 0.2, 0.9]))
    file = tmp_path / "pose.yaml"
    file.write_text(json.dumps(pose_as_dict(pose)))
    assert np.allclose(read_pose(file), pose)


def test_masks(tmp_path):
    file = tmp_path / "mask.png"
    label = np.zeros((48, 64), np.uint16)
    label[10:20, 10:30] = 700
    label[30:40, 10:30] = 3
    cv2.imwrite(str(file), label)
    assert (read_mask(file) > 0).sum() == 400
    assert (read_mask(file, (48, 64), label=3) > 0).sum() == 200
    with pytest.raises(MaskError, match="no pixel of value 9"):
        read_mask(file, label=9)
    with pytest.raises(MaskError, match="640x480"):
        read_mask(file, (480, 640))
    grey = np.repeat((label[..., None] > 0).astype(np.uint8) * 255, 3, axis=2)
    cv2.imwrite(str(file), grey)
    assert (read_mask(file) > 0).sum() == 400
    grey[0, 0] = (1, 2, 3)
    cv2.imwrite(str(file), grey)
    with pytest.raises(MaskError, match="one channel"):
        read_mask(file)
    cv2.imwrite(str(file), np.zeros((48, 64), np.uint8))
    with pytest.raises(MaskError, match="no non-zero pixel"):
        read_mask(file)
    file.write_bytes(b"not an image")
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(file)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("plumb_bob", [0.2, -0.05, 0.0, 0.0, 0.0]), ("equidistant", [0.05, 0.01, 0.0, 0.0]),
     ("rational_polynomial", [0.2, -0.05, 0.0, 0.0, 0.0, 0.01, 0.0, 0.0])],
)  # fmt: skip
def test_rectify_moves_pixels_where_the_pinhole_model_says(write_camera, model, coefficients):
    camera = read_camera(write_camera(distortion_model=model, distortion_coefficients={"data": coefficients}))
    point = np.array([[[0.25, 0.15, 1.0]]])
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    seen, _ = project(point, np.zeros(3), np.zeros(3), camera.camera_matrix, camera.distortion)
    picture = np.zeros(camera.size, np.uint8)
    cv2.circle(picture, tuple(int(v) for v in np.round(seen.ravel())), 5, 255, -1)
    rows, columns = np.nonzero(rectify(picture, camera, nearest=True))
    wanted = camera.camera_matrix @ point.ravel()
    assert abs(columns.mean() - wanted[0]) < 1.5
    assert abs(rows.mean() - wanted[1]) < 1.5


def test_json_knows_numpy(tmp_path, capsys):
    write_json(tmp_path / "new" / "a.json", {"a": np.eye(2), "b": np.float32(0.5), "c": tmp_path})
    assert json.loads((tmp_path / "new" / "a.json").read_text())["a"] == [[1.0, 0.0], [0.0, 1.0]]
    write_json("-", {"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_json_has_null_for_what_is_not_finite(tmp_path):
    file = tmp_path / "a.json"
    infinite = float("inf")
    content = {"a": NAN, "b": [1.5, (infinite, -infinite)], "c": np.array([[NAN, 2.0]]), "d": np.float32("nan"),
               "e": {"f": np.float64("inf"), "g": None, "h": True, "i": np.int64(3)}}  # fmt: skip
    write_json(file, content)
    assert json.loads(file.read_text()) == {
        "a": None, "b": [1.5, [None, None]], "c": [[None, 2.0]], "d": None,
        "e": {"f": None, "g": None, "h": True, "i": 3},
    }  # fmt: skip
    with pytest.raises(TypeError, match="object cannot be written"):
        write_json(file, {"a": object()})
