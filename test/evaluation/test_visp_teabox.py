# SPDX-License-Identifier: Apache-2.0
"""Reading the tea box: model, camera, poses, masks; and what is said when something is missing."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError, MeshError, PoseError
from dfips_ros.evaluation.visp_teabox import (
    find_teabox,
    mask_on_plain_background,
    read_camera_xml,
    read_cao,
    read_pose_text,
)
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose import mask_iou


def test_model_and_camera(teabox_folder):
    files = find_teabox(teabox_folder)
    mesh = read_cao(files.model)
    assert mesh.vertices.shape == (8, 3) and mesh.faces.shape == (12, 3) and len(files.frames) == 6
    assert mesh.diameter == pytest.approx(np.linalg.norm([0.165, 0.068, 0.08]), rel=1e-5)
    triangles = mesh.vertices[mesh.faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(2 * (0.165 * 0.068 + 0.165 * 0.08 + 0.068 * 0.08), rel=1e-5)
    assert np.array_equal(read_camera_xml(files.camera), [[700, 0, 320], [0, 710, 240], [0, 0, 1]])


def test_masks_agree_with_the_poses(teabox_folder):
    files = find_teabox(teabox_folder)
    renderer, camera = RasterRenderer(read_cao(files.model)), torch.from_numpy(read_camera_xml(files.camera)).float()
    for image, pose in files.frames:
        mask = mask_on_plain_background(image)
        true = torch.from_numpy(read_pose_text(pose)).float()[None]
        assert mask_iou(mask, renderer.render(true, camera, mask.shape)[0].numpy()) > 0.98
        assert set(np.unique(mask)) == {0, 255}


def test_the_original_masks_agree_with_their_poses(shared_data):
    folder = shared_data / "sequences" / "visp_tutorials"
    if not folder.is_dir():
        pytest.skip("the tea box is not beside the checkout")
    files = find_teabox(folder)
    renderer, camera = RasterRenderer(read_cao(files.model)), torch.from_numpy(read_camera_xml(files.camera)).float()
    assert len(files.frames) == 49
    for image, pose in files.frames[::12]:
        mask = mask_on_plain_background(image)
        true = torch.from_numpy(read_pose_text(pose)).float()[None]
        assert mask_iou(mask, renderer.render(true, camera, mask.shape)[0].numpy()) > 0.98


def test_missing_parts(teabox_folder, tmp_path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        find_teabox(tmp_path / "nowhere")
    (teabox_folder / "data" / "teabox" / "color" / "0003_L.jpg").unlink()
    with pytest.raises(ConfigError, match="Pass a copy of ViSP's tutorial/tracking"):
        find_teabox(teabox_folder)


@pytest.mark.parametrize("text", ["", "V2\n1", "V1\n2\n0 0 0", "V1\n1\n0 0 x", "V1\n3\n0 0 0 1 0 0 0 1 0\n0\n0\n0"])
def test_bad_models(tmp_path, text):
    (tmp_path / "bad.cao").write_text(text)
    with pytest.raises(MeshError, match=r"bad\.cao"):
        read_cao(tmp_path / "bad.cao")


def test_bad_cameras_poses_and_images(tmp_path):
    file = tmp_path / "bad"
    for text in ("no xml", "<root><px>700</px></root>"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="camera"):
            read_camera_xml(file)
    file.write_text("1 2 3\n4 5")
    with pytest.raises(ConfigError, match="pose"):
        read_pose_text(file)
    np.savetxt(file, 2 * np.eye(4))
    with pytest.raises(PoseError):
        read_pose_text(file)
    with pytest.raises(ConfigError, match="image"):
        mask_on_plain_background(file)
