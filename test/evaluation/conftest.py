# SPDX-License-Identifier: Apache-2.0
"""A rendered tea box in the layout of ViSP's tutorials, made here: nothing of ViSP's data is needed."""

import cv2
import numpy as np
import pytest
import torch

from dfips_ros.geometry import make_pose
from dfips_ros.processes.silhouette import RasterRenderer

CAO = """V1
# 3D Points
8                  # Number of points
0     0      0     # Point 0
0     0     -0.08
0.165 0     -0.08
0.165 0      0
0.165 0.068  0
0.165 0.068 -0.08
0     0.068 -0.08
0     0.068  0
1                  # one line
0 1
0                  # no faces from lines
6                  # faces from points
4 0 1 2 3
4 1 6 5 2
4 4 5 6 7
4 0 3 4 7
4 5 4 3 2
4 0 7 6 1
"""
CAMERA_XML = """<?xml version="1.0"?><root><camera><name>Camera_L</name><model>
<px>700.0</px><py>710.0</py><u0>320.0</u0><v0>240.0</v0></model></camera></root>
"""


def teabox_pose(step):
    """A slow turn. -> (4, 4)."""
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_rotvec([2.3 + 0.02 * step, 0.4, 0.3 - 0.01 * step]).as_matrix()
    return make_pose(rotation, np.array([-0.03, 0.02, 0.6]))


@pytest.fixture
def teabox_folder(tmp_path):
    """Six frames on plain grey; a patch of the box has the colour of the background."""
    from dfips_ros.evaluation.visp_teabox import read_cao

    data = tmp_path / "visp" / "data" / "teabox"
    model = tmp_path / "visp" / "model" / "teabox"
    for folder in (data / "color", data / "ground-truth", model):
        folder.mkdir(parents=True)
    (model / "teabox.cao").write_text(CAO)
    (data / "Camera_L.xml").write_text(CAMERA_XML)
    renderer = RasterRenderer(read_cao(model / "teabox.cao"))
    camera = torch.tensor([[700.0, 0, 320], [0, 710, 240], [0, 0, 1]])
    for step in range(6):
        pose = teabox_pose(step)
        seen = renderer.render(torch.from_numpy(pose).float()[None], camera, (480, 640))[0].numpy() > 0
        image = np.full((480, 640, 3), 71, np.uint8)
        image[seen] = (150, 170, 200)
        rows, columns = np.nonzero(seen)
        cv2.circle(image, (int(columns.mean()), int(rows.mean())), 6, (71, 71, 71), -1)
        cv2.imwrite(str(data / "color" / f"{step + 1:04d}_L.jpg"), image)
        np.savetxt(data / "ground-truth" / f"Camera_L_{step + 1:04d}.txt", pose)
    return tmp_path / "visp"
