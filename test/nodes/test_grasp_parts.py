# SPDX-License-Identifier: Apache-2.0
"""The parts of grasp_target that need no process: certainty, the camera's place in /tf, MoveIt's planning scene."""

from __future__ import annotations

import importlib
import sys
import types
from types import SimpleNamespace as Fields

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from geometry_msgs.msg import Pose  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from dfips_ros.errors import ConfigError, PoseError, ShapeError  # noqa: E402
from dfips_ros.geometry import make_pose, transform_points  # noqa: E402
from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes import grasp_target  # noqa: E402
from dfips_ros.nodes.conversions import pose_with_covariance  # noqa: E402
from dfips_ros.nodes.grasp_parameters import AXES, GraspTargetParameters  # noqa: E402
from dfips_ros.nodes.grasp_scene import SceneObject, SceneTypes, scene_types  # noqa: E402
from dfips_ros.nodes.grasp_target import grasp_deviations  # noqa: E402


def test_deviation_of_the_grasp_point_is_that_of_samples():
    rng = np.random.default_rng(3)
    for _ in range(5):
        factor = rng.normal(size=(6, 6)) * 0.01
        covariance, lever = factor @ factor.T, rng.normal(size=3) * 0.3
        samples = rng.multivariate_normal(np.zeros(6), covariance, 200_000)
        moved = samples[:, :3] + np.cross(samples[:, 3:], lever)
        worst = np.sqrt(np.linalg.eigvalsh(np.cov(moved.T))[-1])
        turn = np.sqrt(np.linalg.eigvalsh(np.cov(samples[:, 3:].T))[-1])
        np.testing.assert_allclose(grasp_deviations(covariance, lever), (worst, turn), rtol=0.01)
    with pytest.raises(PoseError, match="finite"):
        grasp_deviations(np.full((6, 6), np.nan), np.zeros(3))
    with pytest.raises(ShapeError, match=r"\(6, 6\)"):
        grasp_deviations(np.eye(5), np.zeros(3))


def test_a_certain_axis_makes_a_point_on_it_certain():
    """A bottle: its rotation about its own axis is not known, which does not matter for a grasp on that axis."""
    covariance = np.diag([1e-6, 1e-6, 1e-6, 0.0, 0.0, 1.0])
    assert grasp_deviations(covariance, np.array([0.0, 0.0, 0.2]))[0] == pytest.approx(1e-3)
    assert grasp_deviations(covariance, np.array([0.1, 0.0, 0.0]))[0] == pytest.approx(0.1, rel=1e-3)


def test_rotations_are_read_as_in_a_urdf_or_as_quaternions():
    for rpy in ((0.1, -0.4, 2.0), (-1.2, 0.3, 0.0)):
        turn = Rotation.from_euler("xyz", rpy)
        texts = (" ".join(map(str, rpy)), ", ".join(map(str, turn.as_quat())))
        for text in texts:
            table = GraspTargetParameters(base_frame="base", grasp_xyz="1 2 3", grasp_rotation=text)
            np.testing.assert_allclose(
                table.T_object_grasp, make_pose(turn.as_matrix(), np.array([1.0, 2, 3])), atol=1e-9
            )
    assert all(
        GraspTargetParameters(base_frame="b", approach_axis=axis).approach.sum() == (-1.0 if "-" in axis else 1.0)
        for axis in AXES
    )
    with pytest.raises(ConfigError, match="base_frame=''"):
        GraspTargetParameters()


class Frames:
    """Stand-in for OutputFrame: knows where 'camera' is."""

    open = 0

    def __init__(self, node, frame):
        Frames.open += 1

    def T_output_camera(self, header):
        if header.frame_id != "camera":
            raise PoseError(f"no transform from '{header.frame_id}' to 'base': it does not exist")
        return make_pose(Rotation.from_euler("x", np.pi).as_matrix(), np.array([0.0, 0.0, 1.0]))

    def close(self):
        Frames.open -= 1


@pytest.fixture
def make_node(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**values):
        given = [Parameter(name, value=value) for name, value in {"base_frame": "base", **values}.items()]
        nodes.append(grasp_target.GraspTargetNode(given, context))
        return nodes[-1]

    yield make
    for node in nodes:
        node.release()
        node.destroy_node()
    context.try_shutdown()


@pytest.mark.ros
def test_the_camera_is_looked_up_in_tf(make_node, monkeypatch):
    monkeypatch.setattr(grasp_target, "OutputFrame", Frames)
    node = make_node()
    assert node.autostart() and Frames.open == 1
    sent = []
    node._publishers_by_name = {name: Fields(publish=sent.append) for name in ("target_pose", "grasp_pose")}
    pose = make_pose(np.eye(3), np.array([0.1, 0.0, 0.6]))
    for frame, height in (("camera", 0.4), ("base", 0.6)):  # the tracker may give poses in the base frame itself
        message = TrackedObject(object_name="drill", state=TrackedObject.TRACKING, iou=0.9)
        message.header = Header(frame_id=frame, stamp=node.get_clock().now().to_msg())
        message.pose = pose_with_covariance(pose, np.eye(6) * 1e-8)
        node._on_object(message)
        assert sent[-1].pose.position.z == pytest.approx(height) and sent[-1].header.frame_id == "base"
    message.header = Header(frame_id="lamp", stamp=node.get_clock().now().to_msg())
    node._on_object(message)
    assert "no transform from 'lamp'" in node._health.reason and len(sent) == 4
    node._publishers_by_name = {}
    node.release()
    assert Frames.open == 0


@pytest.mark.ros
def test_without_tf2_ros_it_is_said_what_to_do(make_node, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    node = make_node()
    assert not node.autostart()
    assert "needs the package tf2_ros" in node.problem and "or give camera_xyz" in node.problem


def stand_ins():
    """Classes with the fields of moveit_msgs and shape_msgs that are used."""

    def collision_object(**fields):
        empty = {"primitives": [], "primitive_poses": [], "meshes": [], "mesh_poses": [], "pose": Pose()}
        return Fields(**{**empty, **fields})

    collision_object.ADD, collision_object.REMOVE = b"\x00", b"\x01"

    def scene(is_diff):
        return Fields(is_diff=is_diff, robot_state=Fields(is_diff=False), world=Fields(collision_objects=[]))

    def primitive(type, dimensions):  # noqa: A002
        return Fields(type=type, dimensions=dimensions)

    primitive.BOX = 1
    return SceneTypes(scene, collision_object, Fields, Fields, primitive)


@pytest.fixture(params=["stand-ins", "moveit_msgs"])
def scene_classes(request):
    found = stand_ins() if request.param == "stand-ins" else scene_types()
    if found is None:
        pytest.skip("moveit_msgs is not installed")
    return found


def test_the_object_in_the_planning_scene(scene_classes, bracket):
    pose, header = Pose(), Header(frame_id="base_link")
    pose.position.x = 0.4
    for shape in ("mesh", "box"):
        item = SceneObject(scene_classes, bracket, "bracket", shape)
        scene = item.at(pose, header)
        assert scene.is_diff and scene.robot_state.is_diff
        (found,) = scene.world.collision_objects
        assert (found.id, found.header.frame_id, found.operation) == (
            "bracket",
            "base_link",
            scene_classes.CollisionObject.ADD,
        )
        assert found.pose.position.x == 0.4
        (gone,) = item.removed(header).world.collision_objects
        assert (gone.id, gone.operation) == ("bracket", scene_classes.CollisionObject.REMOVE)
    np.testing.assert_allclose(found.primitives[0].dimensions, np.ptp(bracket.vertices, axis=0), atol=1e-6)
    centre = found.primitive_poses[0].position
    np.testing.assert_allclose(
        (centre.x, centre.y, centre.z), bracket.vertices.min(0) / 2 + bracket.vertices.max(0) / 2
    )
    (mesh,) = SceneObject(scene_classes, bracket, "bracket").at(pose, header).world.collision_objects[0].meshes
    points = np.array([(p.x, p.y, p.z) for p in mesh.vertices])
    faces = np.array([triangle.vertex_indices for triangle in mesh.triangles])
    np.testing.assert_allclose(transform_points(np.eye(4), points), bracket.vertices, atol=1e-6)
    assert (faces == bracket.faces).all()


@pytest.mark.ros
def test_the_node_keeps_the_planning_scene(make_node, monkeypatch, box_mesh):
    """The whole object every scene_period while somebody listens, and away with it on deactivate."""
    monkeypatch.setattr(grasp_target, "scene_types", stand_ins)
    monkeypatch.setattr(grasp_target.GRASP_ENDPOINTS["planning_scene"].__class__, "publisher", lambda *_: Publisher())
    node = make_node(camera_xyz="0 0 1", camera_rotation="0 0 0", mesh=box_mesh, scene_period=60.0)
    assert node.autostart(), node.problem
    publisher = node._publishers_by_name["planning_scene"]

    def see():
        message = TrackedObject(object_name="box", state=TrackedObject.TRACKING, iou=0.9)
        message.header = Header(frame_id="camera", stamp=node.get_clock().now().to_msg())
        message.pose = pose_with_covariance(make_pose(np.eye(3), np.array([0.1, 0.0, 0.6])), np.eye(6) * 1e-8)
        node._on_object(message)
        return [scene.world.collision_objects[0] for scene in publisher.sent]

    publisher.listeners = 0
    assert see() == []
    publisher.listeners = 1
    (found,) = see()
    assert (found.id, found.operation, found.pose.position.z) == ("box", b"\x00", pytest.approx(1.6))
    assert len(see()) == 1  # not yet due
    node.deactivate()
    assert [scene.world.collision_objects[0].operation for scene in publisher.sent] == [b"\x00", b"\x01"]
    node._publishers_by_name = {}


class Publisher:
    """Keeps what is published."""

    def __init__(self):
        self.sent, self.listeners = [], 1
        self.publish = self.sent.append

    def get_subscription_count(self):
        return self.listeners


def test_scene_types_are_found_where_moveit_msgs_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "moveit_msgs.msg", None)
    assert scene_types() is None
    monkeypatch.setitem(sys.modules, "moveit_msgs", types.ModuleType("moveit_msgs"))
    module = types.ModuleType("moveit_msgs.msg")
    module.PlanningScene, module.CollisionObject = object(), object()
    monkeypatch.setitem(sys.modules, "moveit_msgs.msg", module)
    shapes = pytest.importorskip("shape_msgs.msg")
    found = scene_types()
    assert found.PlanningScene is module.PlanningScene and found.Mesh is shapes.Mesh
    assert importlib.import_module("moveit_msgs.msg") is module
