# SPDX-License-Identifier: Apache-2.0
"""``dfips replay`` answers what the node pose_tracker answers to the same masks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from scipy.spatial.transform import Rotation  # noqa: E402

from dfips_ros.geometry import make_pose  # noqa: E402
from dfips_ros.processes.mesh import load_mesh  # noqa: E402
from dfips_ros.processes.silhouette import RasterRenderer  # noqa: E402

SIZE = (480, 640)
CAMERA_MATRIX = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def masks(box_mesh):
    """A box that moves, is hidden for five frames, and comes back at the border of the image."""
    import torch

    renderer, found = RasterRenderer(load_mesh(box_mesh)), []
    for k in range(20):
        turn = Rotation.from_euler("xyz", [35 + k, -25 + 0.5 * k, 10], degrees=True).as_matrix()
        pose = make_pose(turn, np.array([-0.03 + 0.003 * k if k < 14 else 0.29, 0.02, 0.6]))
        camera = torch.from_numpy(CAMERA_MATRIX).float()
        found.append((renderer.render(torch.from_numpy(pose).float()[None], camera, SIZE)[0] > 0).numpy())
        if 7 <= k < 12:
            found[-1][:] = False
    assert found[-1][:, -1].any()
    return found


def test_answers_are_those_of_the_node(client, node_process, box_mesh, masks, tmp_path):
    from dfips_ros.bags.reader import Bag
    from dfips_ros.bags.types import make, make_header
    from dfips_ros.bags.writer import BagWriter
    from dfips_ros.cli.main import main
    from dfips_ros.messages.image import image_fields

    parameters = {"mesh": box_mesh, "diagnostics_period": 0.1, "object_name": "part"}
    node = node_process(client, ["-m", "dfips_ros.nodes.pose_tracker"], "/parity", parameters)
    try:
        node.handshake()
        info = node.camera_info(width=640, height=480, k=CAMERA_MATRIX.ravel().tolist())
        answers = []
        with BagWriter(tmp_path / "in.mcap") as writer:
            for k, mask in enumerate(masks):
                message = node.mask(size=SIZE, half=0, encoding="mono8")
                message.data = (mask.astype(np.uint8) * 255).tobytes()
                message.encoding = "rgb8" if k == 5 else "mono8"
                answers.append(node.send(message, info, timeout=30.0))
                time = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                header = make_header(time, message.header.frame_id)
                fields = {**image_fields(mask), "encoding": message.encoding}
                writer.write("/mask", make("sensor_msgs/msg/Image", header=header, **fields), time)
                camera = make(
                    "sensor_msgs/msg/CameraInfo", header=header, height=480, width=640, distortion_model="plumb_bob",
                    d=np.zeros(5), k=CAMERA_MATRIX.ravel(), r=np.eye(3).ravel(), p=np.zeros(12), binning_x=0,
                    binning_y=0, roi=make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0,
                                          width=0, do_rectify=False),
                )  # fmt: skip
                writer.write("/camera_info", camera, time - 1)
    finally:
        assert node.stop() == 0, node.output()
    words = ["replay", "object_pose", str(tmp_path / "in.mcap"), str(tmp_path / "out.mcap"), "--mesh", box_mesh]
    assert main([*words, "--name", "part", "--no-overlay", "--quiet"]) == 0
    with Bag(tmp_path / "out.mcap") as bag:
        offline = [bag.decode(raw) for raw in bag.messages(["/pose_tracker/tracked_object"])]
    assert len(offline) == len(answers) == len(masks)
    assert {1, 2} <= {answer.state for answer in answers} and any("border" in answer.reason for answer in answers)
    for online, replayed in zip(answers, offline, strict=True):
        stamp = replayed.header.stamp
        assert (online.header.stamp.sec, online.header.stamp.nanosec) == (stamp.sec, stamp.nanosec)
        for name in ("object_name", "id", "state", "reason"):
            assert getattr(online, name) == getattr(replayed, name), name
        assert online.header.frame_id == replayed.header.frame_id
        # Two processes: the last digits depend on how a matrix product is shared among threads, and every step of the
        # solver multiplies them.
        assert online.iou == pytest.approx(replayed.iou, abs=1e-3)
        assert np.allclose(online.residual_norms, replayed.residual_norms, rtol=1e-3)
        assert np.allclose(online.pose.covariance, replayed.pose.covariance, rtol=1e-2, atol=1e-9)
        for part, names in (("position", "xyz"), ("orientation", "xyzw")):
            for axis in names:
                values = [getattr(getattr(each.pose.pose, part), axis) for each in (online, replayed)]
                assert values[0] == pytest.approx(values[1], abs=1e-4)
