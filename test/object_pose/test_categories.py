# SPDX-License-Identifier: Apache-2.0
"""Generated instances of the paper's ten categories."""

import cv2
import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.geometry import make_pose
from dfips_ros.processes.mesh import Mesh
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose.categories import CATEGORIES, category_instance

CAMERA = torch.tensor([[120.0, 0, 31.5], [0, 120.0, 31.5], [0, 0, 1]])
# Plausible lengths of the whole object, metres.
SIZES = {
    "couch": (1.8, 3.8), "car": (3.6, 5.6), "bench": (1.1, 2.6), "monitor": (0.4, 1.2), "chair": (0.7, 1.6),
    "table": (0.8, 2.8), "sofa": (1.1, 2.7), "plane": (0.9, 1.8), "bed": (2.0, 3.7), "cabinet": (0.6, 2.9),
}  # fmt: skip


def silhouette(mesh):
    plain = Mesh(mesh.name, mesh.normalised_vertices(), mesh.faces)
    rotation = np.linalg.qr(np.array([[0.2, 1.0, 0.1], [-0.7, 0.3, 0.9], [0.8, 0.1, 0.6]]))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    pose = torch.from_numpy(make_pose(rotation, np.array([0, 0, 2.5]))).float()[None]
    return RasterRenderer(plain).render(pose, CAMERA, (64, 64))[0].numpy() > 0


def test_there_are_the_ten_of_the_paper():
    assert list(CATEGORIES) == "couch car bench monitor chair table sofa plane bed cabinet".split()


@pytest.mark.parametrize("category", CATEGORIES)
def test_instances_are_random_and_seeded(category):
    meshes = [category_instance(category, seed) for seed in range(6)]
    again = category_instance(category, 3)
    assert np.array_equal(again.vertices, meshes[3].vertices) and again.name == f"{category}_3"
    shapes = [silhouette(mesh) for mesh in meshes]
    assert all((a != b).sum() > 8 for i, a in enumerate(shapes) for b in shapes[:i])
    low, high = SIZES[category]
    for mesh, shape in zip(meshes, shapes, strict=True):
        assert low < mesh.diameter < high and 20 < len(mesh.faces) < 2000
        assert shape.sum() > 80  # something is there to see


@pytest.mark.parametrize("category", CATEGORIES)
def test_objects_stand_on_the_ground_and_hang_together(category):
    for seed in range(6):
        vertices = category_instance(category, seed).vertices
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        if category != "plane":
            assert -0.15 < low[2] < 0.06 * (high[2] - low[2]) + 0.02
        seen = cv2.dilate(silhouette(category_instance(category, seed)).astype(np.uint8), np.ones((3, 3), np.uint8))
        assert cv2.connectedComponents(seen)[0] == 2  # ground and one object


def test_unknown_category():
    with pytest.raises(ConfigError, match="category='lamp'"):
        category_instance("lamp", 0)
    with pytest.raises(ConfigError, match="seed"):
        category_instance("car", -1)
