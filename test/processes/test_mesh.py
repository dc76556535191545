# SPDX-License-Identifier: Apache-2.0
"""Meshes from files: every format, and every way in which a file can be wrong."""

import numpy as np
import pytest
import trimesh

from dfips_ros.errors import MeshError
from dfips_ros.processes.mesh import Mesh, load_mesh, simplified, vertex_diameter
from dfips_ros.processes.silhouette import RasterRenderer


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply", "glb", "off", "dae"])
def test_formats(tmp_path, bracket_solid, suffix):
    file = tmp_path / f"part.{suffix}"
    bracket_solid.export(file)
    mesh = load_mesh(file)
    assert mesh.name == "part" and len(mesh.faces) == len(bracket_solid.faces)
    assert np.allclose(np.sort(mesh.vertices.min(0)), np.sort(bracket_solid.bounds[0]), atol=1e-6)
    assert mesh.diameter == pytest.approx(vertex_diameter(bracket_solid.vertices), rel=1e-5)


def test_scale_and_center(tmp_path):
    solid = trimesh.creation.box(extents=(100.0, 200.0, 200.0))
    solid.apply_translation((50.0, 0.0, 0.0))
    solid.export(tmp_path / "mm.stl")
    mesh = load_mesh(tmp_path / "mm.stl", scale=0.001)
    assert mesh.diameter == pytest.approx(0.3, rel=1e-5)
    assert np.allclose(mesh.center, (0.05, 0.0, 0.0), atol=1e-6)


def test_millimetres_are_refused_with_the_remedy(tmp_path):
    trimesh.creation.box(extents=(80.0, 60.0, 40.0)).export(tmp_path / "mm.stl")
    with pytest.raises(MeshError, match=r"diameter 107.7 m .*scale=0.001"):
        load_mesh(tmp_path / "mm.stl")


def test_wrong_way_scale_is_refused(tmp_path):
    trimesh.creation.box(extents=(0.08, 0.06, 0.04)).export(tmp_path / "m.stl")
    with pytest.raises(MeshError, match="larger scale"):
        load_mesh(tmp_path / "m.stl", scale=0.001)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scale(tmp_path, scale):
    with pytest.raises(MeshError, match="scale="):
        load_mesh(tmp_path / "any.stl", scale=scale)


def test_missing_file(tmp_path):
    with pytest.raises(MeshError, match="no file"):
        load_mesh(tmp_path / "none.obj")


def test_unknown_format(tmp_path):
    (tmp_path / "part.step").write_text("ISO-10303-21;")
    with pytest.raises(MeshError, match=r"expected one of .*\.stl.* got '\.step'"):
        load_mesh(tmp_path / "part.step")


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply", "dae", "glb"])
@pytest.mark.parametrize("content", [b"", b"garbage \x00\xff that is no mesh"], ids=["empty", "garbage"])
def test_unreadable_content(tmp_path, suffix, content):
    file = tmp_path / f"bad.{suffix}"
    file.write_bytes(content)
    with pytest.raises(MeshError, match="bad"):
        load_mesh(file)


def test_points_without_faces(tmp_path):
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    with pytest.raises(MeshError, match="triangles|cannot be read"):
        load_mesh(tmp_path / "points.obj")


def test_nan_vertices(tmp_path):
    (tmp_path / "nan.obj").write_text("v nan 0 0\nv 0.1 0 0\nv 0 0.1 0\nf 1 2 3\n")
    with pytest.raises(MeshError, match="NaN|cannot be read"):
        load_mesh(tmp_path / "nan.obj")


def test_bad_arrays():
    with pytest.raises(MeshError, match="shape"):
        Mesh("x", np.zeros((4, 2)), np.zeros((1, 3)))
    with pytest.raises(MeshError, match="at least one triangle"):
        Mesh("x", np.zeros((4, 3)), np.zeros((0, 3)))
    with pytest.raises(MeshError, match="names vertex 9"):
        Mesh("x", np.zeros((4, 3)), np.array([[0, 1, 9]]))


@pytest.mark.slow
def test_a_million_faces_are_simplified_and_look_the_same(tmp_path, camera_matrix):
    import torch

    fine = trimesh.creation.icosphere(subdivisions=8)  # 1.3 million faces
    fine.vertices *= 0.1 * (1.0 + 0.2 * np.sin(5.0 * fine.vertices[:, :1])) * (1.0, 0.7, 0.5)
    assert len(fine.faces) > 1_000_000
    fine.export(tmp_path / "fine.ply")
    mesh = load_mesh(tmp_path / "fine.ply", max_faces=5000)
    assert len(mesh.faces) <= 5100
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = 0.5
    camera = torch.from_numpy(camera_matrix).float()
    original = Mesh("fine", fine.vertices, fine.faces)
    a, b = (RasterRenderer(m).render(pose, camera, (480, 640)) > 0 for m in (mesh, original))
    assert float((a & b).sum() / (a | b).sum()) > 0.995


def test_no_area():
    line = np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0.0]])
    with pytest.raises(MeshError, match="degenerate"):
        Mesh("line", line, np.array([[0, 1, 2]]))


def test_simplified_leaves_small_meshes_alone(bracket):
    assert simplified(bracket, 1000) is bracket
