# SPDX-License-Identifier: Apache-2.0
"""Poses, transforms, stamps and markers."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

pytest.importorskip("geometry_msgs.msg")

from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import Point, Pose  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from visualization_msgs.msg import Marker  # noqa: E402

from dfips_ros.errors import MissingDependencyError, PoseError, ShapeError  # noqa: E402
from dfips_ros.geometry import make_pose, random_rotations  # noqa: E402
from dfips_ros.nodes import conversions  # noqa: E402
from dfips_ros.nodes.marker_conversions import MAX_TRIANGLES  # noqa: E402
from dfips_ros.processes.mesh import load_mesh  # noqa: E402

METRES = st.floats(-100, 100)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), position=st.tuples(METRES, METRES, METRES))
def test_pose_round_trip(seed, position):
    matrix = make_pose(random_rotations(1, np.random.default_rng(seed))[0], np.array(position))
    before = matrix.copy()
    pose = conversions.pose_from_matrix(matrix)
    q = pose.orientation
    assert math.isclose(q.x**2 + q.y**2 + q.z**2 + q.w**2, 1.0, abs_tol=1e-12) and q.w >= 0
    np.testing.assert_allclose(conversions.matrix_from_pose(pose), matrix, atol=1e-9)
    assert (matrix == before).all()


def test_quaternion_order_is_x_y_z_w():
    """A quarter turn about z takes x to y."""
    pose = Pose()
    pose.orientation.z = pose.orientation.w = math.sqrt(0.5)
    np.testing.assert_allclose(conversions.matrix_from_pose(pose)[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("quaternion", "position", "expected"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0), "unit quaternion"),
        ((0.0, 0.0, 0.0, 1.1), (0.0, 0.0, 1.0), "length 1.1"),
        ((0.0, math.nan, 0.0, 1.0), (0.0, 0.0, 1.0), "finite"),
        ((0.0, 0.0, 0.0, 1.0), (math.inf, 0.0, 1.0), "finite"),
    ],
)
def test_bad_poses_are_refused(quaternion, position, expected):
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = position
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = quaternion
    with pytest.raises(PoseError, match=expected):
        conversions.matrix_from_pose(pose)


def test_a_quaternion_that_is_nearly_normalised_is_accepted():
    pose = Pose()
    pose.orientation.w = 1.004
    np.testing.assert_allclose(conversions.matrix_from_pose(pose), np.eye(4), atol=1e-12)


def test_covariance_is_row_major_and_checked():
    covariance = np.arange(36.0).reshape(6, 6)
    message = conversions.pose_with_covariance(np.eye(4), covariance)
    assert message.covariance[1] == 1.0 and message.covariance[6] == 6.0
    with pytest.raises(ShapeError, match=r"\(6, 6\), got \(3, 3\)"):
        conversions.pose_with_covariance(np.eye(4), np.eye(3))
    with pytest.raises(PoseError, match="finite"):
        conversions.pose_with_covariance(np.eye(4), np.full((6, 6), np.nan))
    with pytest.raises(PoseError):
        conversions.pose_with_covariance(np.eye(4) * 2, np.eye(6))


def test_unknown_poses_say_so():
    assert conversions.unknown_pose_with_covariance().covariance[0] == -1.0
    last = make_pose(np.eye(3), np.array([0.0, 0.0, 2.0]))
    assert conversions.unknown_pose_with_covariance(last).pose.position.z == 2.0


@settings(max_examples=100, deadline=None)
@given(sec=st.integers(0, 2**31 - 1), nanosec=st.integers(0, 999_999_999))
def test_stamps_keep_a_microsecond(sec, nanosec):
    seconds = conversions.seconds_from_stamp(Time(sec=sec, nanosec=nanosec))
    back = conversions.stamp_from_seconds(seconds)
    assert abs((back.sec - sec) * 10**9 + back.nanosec - nanosec) < 1000


def test_transform_has_the_pose_and_both_frames():
    pose = conversions.pose_from_matrix(make_pose(np.eye(3), np.array([1.0, 2.0, 3.0])))
    header = Header(frame_id="camera")
    transform = conversions.transform_from_pose(pose, header, "box")
    assert (transform.header.frame_id, transform.child_frame_id) == ("camera", "box")
    assert (transform.transform.translation.x, transform.transform.rotation.w) == (1.0, 1.0)


def test_missing_tf2_msgs_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    with pytest.raises(MissingDependencyError, match="publish_tf=true needs the package tf2_msgs"):
        conversions.tf_message_type()


def test_marker_of_a_format_that_rviz_reads(box_mesh):
    mesh = load_mesh(box_mesh, 0.5)
    marker = conversions.MeshMarker(mesh, "box").at(Pose(), Header(frame_id="camera"))
    assert (marker.type, marker.scale.x) == (Marker.MESH_RESOURCE, 0.5)
    assert marker.mesh_resource.startswith("file:///") and not marker.points


def test_path_with_spaces_becomes_a_valid_uri(box_mesh, tmp_path):
    folder = tmp_path / "my parts"
    folder.mkdir()
    (folder / "box #1.stl").write_bytes(open(box_mesh, "rb").read())
    marker = conversions.MeshMarker(load_mesh(folder / "box #1.stl"), "box").at(Pose(), Header())
    assert marker.mesh_resource.endswith("my%20parts/box%20%231.stl")


def test_marker_of_another_format_is_a_small_triangle_list(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    sphere.export(tmp_path / "sphere.ply")
    maker = conversions.MeshMarker(load_mesh(tmp_path / "sphere.ply", max_faces=20_000), "sphere")
    assert not maker.is_resource
    marker = maker.at(Pose(), Header())
    assert (marker.type, marker.scale.x) == (Marker.TRIANGLE_LIST, 1.0)
    assert len(marker.points) % 3 == 0 and 0 < len(marker.points) <= 3.3 * MAX_TRIANGLES
    radius = [math.hypot(p.x, p.y, p.z) for p in marker.points]
    assert 0.09 < min(radius) and max(radius) < 0.11


def test_deletion_names_the_same_marker(box_mesh):
    shown = conversions.MeshMarker(load_mesh(box_mesh), "box").at(Pose(), Header())
    gone = conversions.deleted_marker(Header(), "box")
    assert (gone.ns, gone.id, gone.action) == (shown.ns, shown.id, Marker.DELETE)


def test_ghosts_of_the_stages_fade_in_and_vanish(box_mesh):
    maker = conversions.MeshMarker(load_mesh(box_mesh), "box", (0.1, 0.8, 0.3, 0.6))
    poses = [Pose(position=Point(z=float(i))) for i in range(4)]
    ghosts = maker.ghosts(poses, Header(frame_id="camera"))
    assert [g.pose for g in ghosts] == poses and len({(g.ns, g.id) for g in ghosts}) == 4
    assert all(g.ns != "box" and g.lifetime.nanosec > 0 for g in ghosts)
    alphas, reds = [g.color.a for g in ghosts], [g.color.r for g in ghosts]
    assert alphas == sorted(alphas) and 0 < alphas[0] < alphas[-1] < 0.6 and reds == sorted(reds, reverse=True)
    assert maker.ghosts([], Header()) == []
