# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker with the real solver and the shipped weights, on rendered masks of a box."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from scipy.spatial.transform import Rotation  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from dfips_ros.geometry import make_pose, so3_log  # noqa: E402
from dfips_ros.msg import TrackedObject  # noqa: E402
from dfips_ros.nodes.conversions import matrix_from_pose, pose_from_matrix  # noqa: E402
from dfips_ros.processes.mesh import load_mesh  # noqa: E402
from dfips_ros.processes.silhouette import RasterRenderer  # noqa: E402
from dfips_ros.srv import AddObject, RemoveObject, SetPose  # noqa: E402
from dfips_ros.tasks.object_pose import mask_iou  # noqa: E402

SIZE = (480, 640)
CAMERA_MATRIX = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def render(box_mesh):
    import torch

    renderer = RasterRenderer(load_mesh(box_mesh))
    camera = torch.from_numpy(CAMERA_MATRIX).float()

    def render(pose):
        return (renderer.render(torch.from_numpy(pose).float()[None], camera, SIZE)[0] > 0).numpy()

    return render


@pytest.fixture(scope="module")
def solver_node(client, node_process, box_mesh):
    parameters = {"mesh": box_mesh, "autostart": False, "diagnostics_period": 0.1}
    node = node_process(client, ["-m", "dfips_ros.nodes.pose_tracker"], "/solver", parameters)
    yield node
    assert node.stop() == 0, node.output()


@pytest.fixture
def tracker(solver_node):
    if solver_node.state() == "unconfigured":
        assert solver_node.change("configure"), solver_node.output()
    assert solver_node.change("activate")
    solver_node.handshake()
    yield solver_node
    assert solver_node.change("deactivate")


def pose_at(step):
    """A box that turns and drifts: 1 degree and 3 mm a frame."""
    rotation = Rotation.from_euler("xyz", [35 + step, -25 + 0.5 * step, 10], degrees=True).as_matrix()
    return make_pose(rotation, np.array([-0.03 + 0.003 * step, 0.02, 0.6]))


def send(tracker, mask):
    message = tracker.mask(size=SIZE, half=0)
    message.data = (mask.astype(np.uint8) * 255).tobytes()
    info = tracker.camera_info(width=640, height=480, k=CAMERA_MATRIX.ravel().tolist())
    return tracker.send(message, info, timeout=20.0)


def test_weights_that_cannot_be_read_refuse_configuration(solver_node, tmp_path):
    corrupt = tmp_path / "corrupt.safetensors"
    corrupt.write_bytes(b"not a weights file")
    for path in (str(corrupt), "/nowhere/weights.safetensors"):
        assert solver_node.set_parameters(weights=path) == []
        assert not solver_node.change("configure")
        solver_node.status(lambda s, path=path: s.level == b"\x02" and path in s.message, path)
    assert solver_node.set_parameters(weights="") == []


def test_tracks_a_moving_box(tracker, render):
    for step in range(20):
        truth = pose_at(step)
        mask = render(truth)
        answer = send(tracker, mask)
        assert answer.state == TrackedObject.TRACKING, answer.reason
        pose = matrix_from_pose(answer.pose.pose)
        assert mask_iou(render(pose), mask) > 0.9
        assert np.linalg.norm(pose[:3, 3] - truth[:3, 3]) < 0.02
    covariance = answer.pose.covariance.reshape(6, 6)
    assert np.allclose(covariance, covariance.T) and (np.linalg.eigvalsh(covariance) > 0).all()
    assert len(answer.residual_norms) >= 2
    assert 0 < answer.solve_time < 1
    poses = tracker.client.received["pose"]  # the first may come before this side has been discovered
    tracker.client.wait(lambda: poses and poses[-1].header.stamp == answer.header.stamp, "the last pose")
    assert 15 <= len(poses) <= 20


def test_loses_the_box_and_finds_it_again(tracker, render):
    mask = render(pose_at(0))
    assert send(tracker, mask).state == TrackedObject.TRACKING
    states = [send(tracker, np.zeros(SIZE, bool)).state for _ in range(3)]
    assert states == [TrackedObject.TRACKING, TrackedObject.TRACKING, TrackedObject.LOST]
    assert send(tracker, render(pose_at(3))).state == TrackedObject.TRACKING


def test_set_pose_chooses_among_symmetric_poses(tracker, render):
    """The silhouette of a box allows four poses; the one that was set is kept."""
    truth = pose_at(0)
    mask = render(truth)
    for turn in (np.eye(3), np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, -1.0])):
        wanted = make_pose(truth[:3, :3] @ turn, truth[:3, 3])
        request = SetPose.Request()
        request.pose.pose = pose_from_matrix(wanted)
        response = tracker.client.call(SetPose, f"{tracker.name}/set_pose", request)
        assert response.success, response.message
        answer = send(tracker, mask)
        assert answer.state == TrackedObject.TRACKING
        found = matrix_from_pose(answer.pose.pose)
        assert np.linalg.norm(so3_log(found[:3, :3] @ wanted[:3, :3].T)) < np.deg2rad(20)


def test_tracks_two_boxes_in_one_label_image(tracker, render, box_mesh):
    """The second one is added while the first is tracked; each is where it was rendered."""
    assert tracker.set_parameters(mask_mode="label", label_value=1) == []
    try:
        add = AddObject.Request(name="twin", mesh=box_mesh, mesh_scale=0.8, label_value=2)
        answer = tracker.client.call(AddObject, f"{tracker.name}/add_object", add, resend=False)
        assert answer is not None and answer.success, answer
        shrunk = np.diag([0.8, 0.8, 0.8, 1.0])
        for step in range(6):
            truth = {"box": pose_at(step), "twin": pose_at(-step)}
            truth["box"][0, 3] += 0.12
            truth["twin"][0, 3] -= 0.1
            masks = {"box": render(truth["box"]), "twin": render(truth["twin"] @ shrunk)}
            labels = np.where(masks["box"], 1, np.where(masks["twin"], 2, 0)).astype(np.uint8)
            message = tracker.mask(size=SIZE, half=0)
            message.data = labels.tobytes()
            tracker.send(message, tracker.camera_info(width=640, height=480, k=CAMERA_MATRIX.ravel().tolist()))

            def both(stamp=message.header.stamp):
                found = {o.object_name: o for o in list(tracker.client.received["object"]) if o.header.stamp == stamp}
                return found if len(found) == 2 else None

            for name, found in tracker.client.wait(both, "answers for both").items():
                assert found.state == TrackedObject.TRACKING, (name, found.reason)
                pose = matrix_from_pose(found.pose.pose) @ (shrunk if name == "twin" else np.eye(4))
                assert mask_iou(render(pose), masks[name]) > 0.9
                assert np.linalg.norm(pose[:3, 3] - truth[name][:3, 3]) < 0.02
    finally:
        remove = RemoveObject.Request(name="twin")
        assert tracker.client.call(RemoveObject, f"{tracker.name}/remove_object", remove, resend=False).success
        assert tracker.set_parameters(mask_mode="binary") == []


def test_stages_are_shown_as_ghosts(tracker, render):
    found = tracker.client.received.setdefault("stages", [])
    listener = tracker.client.listen("stages", MarkerArray, f"{tracker.name}/stages")
    tracker.client.wait(lambda: listener.get_publisher_count() > 0, "publisher of the ghosts")
    assert tracker.set_parameters(publish_stages=True) == []
    pose = pose_at(0)
    answers = []

    def shown():
        answers.append(send(tracker, render(pose)))
        return found

    tracker.client.wait(shown, "ghosts")
    ghosts = found[-1].markers
    assert len(ghosts) in {len(answer.residual_norms) for answer in answers}
    last = matrix_from_pose(ghosts[-1].pose)
    assert np.linalg.norm(last[:3, 3] - pose[:3, 3]) < 0.02  # before the polish
    assert tracker.set_parameters(publish_stages=False) == []
    found.clear()
    send(tracker, render(pose))
    assert not found
    tracker.client.node.destroy_subscription(listener)
