# SPDX-License-Identifier: Apache-2.0
"""Faces that look away need not be drawn: the image stays the same."""

import numpy as np
import pytest
import trimesh

from dfips_ros.geometry import make_pose, random_rotations
from dfips_ros.processes.mesh import load_mesh
from dfips_ros.processes.orientation import turned_outwards
from dfips_ros.processes.rasterizer import PackedMeshes, rasterize_numpy
from dfips_ros.tasks.object_pose.demo_data import demo_mesh_path


def parts(*solids):
    joined = trimesh.util.concatenate(solids)
    return np.asarray(joined.vertices), np.asarray(joined.faces)


def ball():
    return trimesh.creation.icosphere(subdivisions=3, radius=0.4)


def inverted_box():
    box = trimesh.creation.box((0.9, 0.2, 0.3))
    box.invert()
    return box


def drill():
    mesh = load_mesh(demo_mesh_path("drill"))
    return mesh.normalised_vertices(), mesh.faces


def seams():
    """As CAD files have it: every face with corners of its own."""
    mesh = ball()
    return np.asarray(mesh.triangles).reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3)


def one_turned(faces):
    return np.vstack([faces[:1, ::-1], faces[1:]])


CLOSED = {
    "ball": lambda: parts(ball()),
    "ball and inverted box": lambda: parts(ball(), inverted_box()),
    "seams": seams,
    "drill": drill,
}
OPEN = {
    "a face is missing": lambda: (np.asarray(ball().vertices), np.asarray(ball().faces)[1:]),
    "a face is turned round": lambda: (np.asarray(ball().vertices), one_turned(ball().faces)),
    "a sheet": lambda: (np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), np.array([[0, 1, 2]])),
}  # fmt: skip


def drawn(packed, count=20, size=(120, 160)):
    rotations = random_rotations(count, np.random.default_rng(0))
    poses = make_pose(rotations, np.tile([0.05, -0.02, 2.5], (count, 1)))
    camera = np.array([[220.0, 0, 79.5], [0, 220.0, 59.5], [0, 0, 1.0]])
    return rasterize_numpy(packed, np.zeros(count, int), poses, np.tile(camera, (count, 1, 1)), size)


@pytest.mark.parametrize("name", CLOSED)
def test_one_side_of_a_closed_surface_gives_the_same_image(name):
    vertices, faces = CLOSED[name]()
    packed = PackedMeshes([(vertices, faces)])
    assert packed.front.tolist() == [-1.0]
    one_side = drawn(packed)
    packed.front = np.zeros(1, np.float32)
    both = drawn(packed)
    assert (one_side > 0).sum() > 20 * 500
    assert ((one_side > 0) != (both > 0)).sum() <= 2  # rounding on an edge
    seen = (one_side > 0) & (both > 0)
    assert np.quantile(np.abs(one_side - both)[seen], 0.999) < 1e-5


@pytest.mark.parametrize("name", CLOSED)
def test_closed_surfaces_are_turned_outwards(name):
    vertices, faces = CLOSED[name]()
    turned = turned_outwards(vertices, faces)
    assert turned is not None
    assert np.array_equal(np.sort(turned, axis=1), np.sort(faces, axis=1))
    assert trimesh.Trimesh(vertices, turned, process=False).volume > 0


@pytest.mark.parametrize("name", OPEN)
def test_of_open_surfaces_both_sides_are_drawn(name):
    vertices, faces = OPEN[name]()
    assert turned_outwards(vertices, faces) is None
    packed = PackedMeshes([(vertices, faces)])
    assert packed.front.tolist() == [0.0] and np.array_equal(packed.faces, faces)
    away = packed.faces[:, ::-1]
    image = drawn(packed)
    assert (image > 0).any()
    assert np.array_equal(image > 0, drawn(PackedMeshes([(vertices, away)])) > 0)
