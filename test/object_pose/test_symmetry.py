# SPDX-License-Identifier: Apache-2.0
"""Symmetries found on meshes and read from BOP files; poses and covariances that respect them."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from dfips_ros.errors import ConfigError
from dfips_ros.geometry import make_pose, random_rotations, rotation_angle
from dfips_ros.processes.mesh import Mesh
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, Symmetries, rotation_error_deg

SOLIDS = {
    "box": (trimesh.creation.box(extents=(0.3, 0.2, 0.1)), 4, 0),
    "square box": (trimesh.creation.box(extents=(0.2, 0.2, 0.1)), 8, 0),
    "cube": (trimesh.creation.box(extents=(0.2, 0.2, 0.2)), 24, 0),
    "cylinder": (trimesh.creation.cylinder(radius=0.1, height=0.3), 2, 1),
    "cone": (trimesh.creation.cone(radius=0.1, height=0.3), 1, 1),
    "sphere": (trimesh.creation.icosphere(subdivisions=3, radius=0.1), 1, 3),
    "triangular prism": (trimesh.creation.cylinder(radius=0.15, height=0.15, sections=3), 6, 0),
    "hexagonal prism": (trimesh.creation.cylinder(radius=0.15, height=0.1, sections=6), 12, 0),
}


def turned(solid, seed=0):
    """The solid at some other place, in some other direction."""
    moved = solid.copy()
    moved.apply_transform(make_pose(random_rotations(1, np.random.default_rng(seed))[0], np.array([0.1, -0.2, 0.3])))
    return Mesh("solid", moved.vertices, moved.faces)


@pytest.mark.parametrize("name", SOLIDS)
def test_group_of_a_solid(name):
    solid, discrete, continuous = SOLIDS[name]
    found = Symmetries.from_mesh(turned(solid))
    assert (len(found.discrete), len(found.axes)) == (discrete, continuous)


@pytest.mark.parametrize("name", ["box", "square box", "cylinder", "triangular prism"])
def test_members_map_the_solid_onto_itself(name):
    mesh = turned(SOLIDS[name][0])
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces)
    points = trimesh.sample.sample_surface(surface, 300, seed=1)[0]
    tree = cKDTree(trimesh.sample.sample_surface(surface, 20000, seed=2)[0])
    for member in Symmetries.from_mesh(mesh).members(12):
        moved = points @ member[:3, :3].T + member[:3, 3]
        assert tree.query(moved)[0].mean() < 0.012 * mesh.diameter


def test_an_asymmetric_part_has_none(bracket):
    assert Symmetries.from_mesh(bracket).is_trivial
    assert np.array_equal(Symmetries.none().members(), np.eye(4)[None])


@pytest.mark.parametrize("name", ["cylinder", "cone"])
def test_the_best_angle_about_a_free_axis_is_found(name):
    found = Symmetries.from_mesh(turned(SOLIDS[name][0]))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pose, reference = make_pose(random_rotations(2, rng), rng.normal(size=(2, 3)))
        near = found.nearest(pose, reference)
        sampled = pose @ found.members(720)
        best = rotation_angle(sampled[:, :3, :3], reference[None, :3, :3]).min()
        assert rotation_angle(near[:3, :3], reference[:3, :3]) <= best + 1e-4
        point = np.append(found.offsets[0], 1.0)
        assert np.allclose(near @ point, pose @ point, atol=1e-6)


def test_nearest_member_is_taken():
    found = Symmetries.from_mesh(Mesh("box", SOLIDS["box"][0].vertices, SOLIDS["box"][0].faces))
    pose = make_pose(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), np.array([0.0, 0.0, 1.0]))
    flipped = pose @ make_pose(np.diag([1.0, -1.0, -1.0]), np.zeros(3))
    assert np.allclose(found.nearest(flipped, pose), pose, atol=1e-6)
    assert rotation_error_deg(flipped, pose) > 170 and rotation_error_deg(flipped, pose, found.members()) < 1e-3


def test_bop_entries():
    entry = {
        "symmetries_discrete": [[-1, 0, 0, 20, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]],
        "symmetries_continuous": [{"axis": [0, 0, 2], "offset": [10, 0, 0]}],
    }
    read = Symmetries.from_models_info(entry)
    assert np.allclose(read.discrete[1][:3, 3], (0.02, 0, 0))
    assert np.allclose(read.axes, [[0, 0, 1]]) and np.allclose(read.offsets, [[0.01, 0, 0]])
    point = np.array([0.01, 0.0, 0.5, 1.0])  # on the axis: it stays
    assert np.allclose(read.members(8)[:8] @ point, point, atol=1e-9)
    assert Symmetries.from_models_info({"diameter": 100}).is_trivial


@pytest.mark.parametrize(
    "entry",
    [
        {"symmetries_discrete": [[1, 2, 3]]}, {"symmetries_discrete": [[2.0] * 16]},
        {"symmetries_discrete": [np.diag([-1.0, 1.0, 1.0, 1.0]).ravel().tolist()]},
        {"symmetries_continuous": [{"axis": [0, 0, 0]}]},
    ],
)  # fmt: skip
def test_bad_bop_entries(entry):
    with pytest.raises(ConfigError, match="symmetries_"):
        Symmetries.from_models_info(entry)


def test_a_cylinder_does_not_spin(camera_matrix):
    """The angle about its axis cannot be seen: it stays near the initial one, and the covariance says so."""
    solid = SOLIDS["cylinder"][0]
    estimator = ObjectPoseEstimator.from_mesh(Mesh("can", solid.vertices, solid.faces), device="cpu")
    turn = Rotation.from_rotvec([0.9, 0.3, 0.0]).as_matrix()
    true = make_pose(turn, np.array([0.05, 0.0, 1.0]))
    start = make_pose(Rotation.from_rotvec([0.1, -0.1, 0.1]).as_matrix() @ turn, np.array([0.06, 0.0, 1.05]))
    solution = estimator.estimate(estimator.render_mask(true, camera_matrix, (480, 640)), camera_matrix, start)
    members = estimator.symmetries.members()
    assert rotation_error_deg(solution.T_camera_object, true, members) < 2.0
    assert rotation_angle(solution.T_camera_object[:3, :3], start[:3, :3]) < np.deg2rad(12)
    axis = solution.T_camera_object[:3, 2]
    about, across = axis @ solution.covariance[3:, 3:] @ axis, np.linalg.eigvalsh(solution.covariance[3:, 3:])[0]
    assert about > 3.0 > 100 * across


def test_a_sphere_has_a_defined_answer(camera_matrix):
    solid = SOLIDS["sphere"][0]
    estimator = ObjectPoseEstimator.from_mesh(Mesh("ball", solid.vertices, solid.faces), device="cpu")
    true = make_pose(np.eye(3), np.array([0.05, -0.05, 0.8]))
    solution = estimator.estimate(estimator.render_mask(true, camera_matrix, (480, 640)), camera_matrix)
    assert np.allclose(solution.T_camera_object[:3, 3], true[:3, 3], atol=0.01)
    assert np.diag(solution.covariance)[3:].min() > 3.0 and solution.alternatives == ()


def test_a_thin_plate_is_seen_edge_on_and_face_on(camera_matrix):
    solid = trimesh.creation.box(extents=(0.3, 0.2, 0.002))
    estimator = ObjectPoseEstimator.from_mesh(Mesh("plate", solid.vertices, solid.faces), device="cpu")
    for angle in (0.3, 1.45):
        true = make_pose(Rotation.from_rotvec([angle, 0.0, 0.0]).as_matrix(), np.array([0.0, 0.0, 1.0]))
        mask = estimator.render_mask(true, camera_matrix, (480, 640))
        solution = estimator.estimate(mask, camera_matrix, true)
        assert solution.iou > 0.8 and np.isfinite(solution.covariance).all()
