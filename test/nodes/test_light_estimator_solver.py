# SPDX-License-Identifier: Apache-2.0
"""The node light_estimator with the weights that ship: a picture drawn by pyrender in, its light out."""

from __future__ import annotations

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("pyrender")
pytestmark = pytest.mark.ros

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from dfips_ros.geometry import make_pose  # noqa: E402
from dfips_ros.msg import LightEstimate  # noqa: E402
from dfips_ros.nodes.conversions import image_from_array, pose_from_matrix, stamp_from_seconds  # noqa: E402
from dfips_ros.processes.shading_geometry import shading_mesh  # noqa: E402
from dfips_ros.processes.shading_pyrender import PyrenderShading  # noqa: E402
from dfips_ros.tasks.object_pose.demo_data import demo_mesh, demo_mesh_path  # noqa: E402

NAME, FRAME, SIZE = "/lamp/light_estimator", "camera", (240, 320)
CAMERA = np.array([[350.0, 0.0, 159.5], [0.0, 350.0, 119.5], [0.0, 0.0, 1.0]])
LIGHT = np.array([0.5, -0.6, -0.7]) / np.linalg.norm([0.5, -0.6, -0.7])


@pytest.fixture(scope="module")
def picture():
    """The drill under LIGHT, and its pose."""
    mesh = demo_mesh("drill")
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_euler("xyz", (0.8, 0.5, 0.3)).as_matrix()
    center = np.array([0.02, -0.01, 2.4 * mesh.diameter])
    scene = PyrenderShading(shading_mesh(mesh), make_pose(rotation, center / mesh.diameter), CAMERA, SIZE)
    image = scene.render(LIGHT, False, 3.0, np.array([0.7, 0.6, 0.5]), 0.0, 0.5, 0.08)
    return image, make_pose(rotation, center - rotation @ mesh.center)


def test_the_light_of_a_picture_and_the_sphere(client, lifecycle_process, picture):
    image, pose = picture
    node = client.node
    images = node.create_publisher(Image, f"{NAME}/image", QoSProfile(depth=5))
    infos = node.create_publisher(CameraInfo, f"{NAME}/camera_info", QoSProfile(depth=5))
    poses = node.create_publisher(PoseWithCovarianceStamped, f"{NAME}/pose", QoSProfile(depth=5))
    topics = {
        "light": (LightEstimate, f"{NAME}/light"),
        "sphere": (Image, f"{NAME}/chrome_sphere"),
        "diagnostics": (DiagnosticArray, "/diagnostics"),
    }
    parameters = {"mesh": demo_mesh_path("drill"), "device": "cpu", "sphere_size": 64, "diagnostics_period": 0.1}
    process = lifecycle_process(client, ["-m", "dfips_ros.nodes.light_estimator"], NAME, parameters, topics)
    try:
        for publisher in (images, infos, poses):
            process.discover(publisher)
        stamp = 100.0

        def show(pixels, wanted):
            """Publish until an answer of the wanted status comes."""
            nonlocal stamp
            client.forget()

            def answered():
                nonlocal stamp
                stamp += 0.1
                header = Header(stamp=stamp_from_seconds(stamp), frame_id=FRAME)
                info = CameraInfo(header=header, width=SIZE[1], height=SIZE[0], k=CAMERA.ravel().tolist())
                found = PoseWithCovarianceStamped(header=header)
                found.pose.pose = pose_from_matrix(pose)
                infos.publish(info)
                poses.publish(found)
                images.publish(image_from_array(pixels, header, "rgb8"))
                time.sleep(0.2)
                return [m for m in list(client.received["light"]) if m.status == wanted]

            return client.wait(answered, f"an answer of status {wanted}: {process.output()}", 60.0)[-1]

        answer = show(image, LightEstimate.ESTIMATED)
        direction = np.array([answer.direction.x, answer.direction.y, answer.direction.z])
        assert np.degrees(np.arccos(direction @ LIGHT)) < 6.0
        assert answer.residual_norms[-1] < 0.03 and len(answer.residual_norms) > 3
        sphere = client.wait(lambda: list(client.received["sphere"]), "a sphere")[-1]
        pixels = np.frombuffer(bytes(sphere.data), np.uint8).reshape(64, 64, 3)
        y, x = np.unravel_index(pixels[..., 0].argmax(), (64, 64))
        assert (sphere.encoding, pixels[0, 0].max()) == ("rgb8", 0)
        assert x > 36 and y < 28  # the light comes from the right and from above
        for dark, reason in ((np.zeros_like(image), "black"), (np.full_like(image, 255), "saturated")):
            assert reason in show(dark, LightEstimate.REFUSED).reason
        assert show(image, LightEstimate.ESTIMATED).reason == ""
    finally:
        assert process.stop() == 0, process.output()
    assert "Traceback" not in process.output()
