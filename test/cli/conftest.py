# SPDX-License-Identifier: Apache-2.0
"""A rendered mask, its camera file and its true pose."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml

from dfips_ros.geometry import make_pose, so3_exp
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose.demo_data import demo_mesh, demo_mesh_path

CAMERA_MATRIX = np.array([[600.0, 0.0, 319.5], [0.0, 605.0, 239.5], [0.0, 0.0, 1.0]])


def camera_table(**changes):
    table = {
        "image_width": 640,
        "image_height": 480,
        "camera_name": "test",
        "camera_matrix": {"rows": 3, "cols": 3, "data": CAMERA_MATRIX.ravel().tolist()},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": np.eye(3).ravel().tolist()},
        "projection_matrix": {"rows": 3, "cols": 4, "data": np.eye(3, 4).ravel().tolist()},
    }
    table.update(changes)
    return table


def rotated(rotation_vector):
    return so3_exp(torch.tensor(rotation_vector, dtype=torch.float64)).numpy()


@pytest.fixture
def scene(tmp_path):
    """Files of one mask of the drill, and the truth."""
    mesh = demo_mesh("drill")
    center = np.array([0.06, -0.03, 1.0])
    rotation = rotated([1.4, 0.5, -0.4])
    truth = make_pose(rotation, center - rotation @ mesh.center)
    depth = RasterRenderer(mesh).render(
        torch.from_numpy(truth[None].astype(np.float32)), torch.from_numpy(CAMERA_MATRIX.astype(np.float32)), (480, 640)
    )
    mask = (depth[0].numpy() > 0).astype(np.uint8) * 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(camera_table()))
    return SimpleNamespace(
        folder=tmp_path,
        mesh=mesh,
        truth=truth,
        mask=mask,
        arguments=[
            "solve", "object_pose",
            "--mesh", str(demo_mesh_path("drill")),
            "--mask", str(tmp_path / "mask.png"),
            "--camera", str(tmp_path / "camera.yaml"),
            "--device", "cpu",
        ],
    )  # fmt: skip


@pytest.fixture
def write_camera(tmp_path):
    """Write a camera file with changed entries."""

    def write(**changes):
        file = tmp_path / "camera.yaml"
        file.write_text(yaml.safe_dump(camera_table(**changes)))
        return file

    return write
