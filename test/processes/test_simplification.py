# SPDX-License-Identifier: Apache-2.0
"""Fewer faces, the same silhouette."""

import numpy as np
import pytest
import trimesh

from dfips_ros.evaluation.bench_scaling import lumpy_mesh
from dfips_ros.processes.mesh import Mesh, clustered, load_mesh, simplified
from dfips_ros.processes.simplification import LEAST_IOU, silhouette_agreement, simplified_for_silhouettes
from dfips_ros.tasks.object_pose.demo_data import demo_mesh_path

FACES = 1000


def loose_rings() -> Mesh:
    """Thin rings that touch nothing: what edge collapse spoils first."""
    rng = np.random.default_rng(0)
    rings = []
    for _ in range(12):
        ring = trimesh.creation.torus(0.2, 0.004, major_sections=48, minor_sections=12)
        ring.apply_transform(trimesh.transformations.random_rotation_matrix(rng.uniform(size=3)))
        rings.append(ring)
    joined = trimesh.util.concatenate(rings)
    return Mesh("rings", np.asarray(joined.vertices), np.asarray(joined.faces))


def sphere() -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=5)
    return Mesh("ball", np.asarray(ball.vertices), np.asarray(ball.faces))


MESHES = {"rings": loose_rings, "ball": sphere, "drill": lambda: load_mesh(demo_mesh_path("drill"))}


@pytest.mark.parametrize("name", MESHES)
def test_the_silhouette_stays(name):
    mesh = MESHES[name]()
    coarse = simplified_for_silhouettes(mesh, FACES)
    assert silhouette_agreement(mesh, coarse) >= LEAST_IOU
    assert name != "ball" or len(coarse.faces) <= 1.1 * FACES
    assert np.array_equal(coarse.center, mesh.center) and coarse.diameter == mesh.diameter


def test_thin_parts_get_more_faces_than_asked_for():
    rings = loose_rings()
    few = 240  # twenty for each ring
    assert silhouette_agreement(rings, simplified(rings, few)) < LEAST_IOU
    assert len(simplified_for_silhouettes(rings, few).faces) > 1.5 * few


def test_a_small_mesh_is_left_alone():
    mesh = load_mesh(demo_mesh_path("foam_brick"))
    assert simplified_for_silhouettes(mesh, 5000) is mesh


def test_agreement_is_one_with_itself_and_less_with_another():
    assert silhouette_agreement(sphere(), sphere()) == 1.0
    ball = sphere()
    assert silhouette_agreement(ball, Mesh("small", 0.9 * ball.vertices, ball.faces)) == pytest.approx(0.81, abs=0.03)


@pytest.mark.parametrize("faces, scale", [(90_000, 0.05), (90_000, 1000.0), (180_000, 1.0)])
def test_many_faces_in_any_unit(faces, scale):
    """As a mesh file is loaded, then simulated: few faces, and the silhouette of the file."""
    lump = lumpy_mesh(faces)
    mesh = Mesh("lump", scale * lump.vertices, lump.faces)
    loaded = simplified(mesh, 10_000)
    assert len(loaded.faces) <= 11_000
    coarse = simplified_for_silhouettes(loaded, 2000)
    assert len(coarse.faces) <= 5000
    assert silhouette_agreement(mesh, coarse) >= LEAST_IOU


def test_clusters():
    lump = lumpy_mesh(90_000)
    coarse = clustered(lump, 10_000)
    assert 5_000 < len(coarse.faces) < 20_000
    assert silhouette_agreement(lump, coarse) >= LEAST_IOU
    assert coarse.diameter == pytest.approx(lump.diameter, rel=0.02)


def test_a_mesh_that_clusters_would_wipe_out_is_left_alone():
    rng = np.random.default_rng(0)
    corners = (rng.uniform(size=(2000, 1, 3)) + 1e-6 * rng.uniform(size=(2000, 3, 3))).reshape(-1, 3)
    crumbs = Mesh("crumbs", corners, np.arange(6000).reshape(-1, 3))
    assert clustered(crumbs, 100) is crumbs
