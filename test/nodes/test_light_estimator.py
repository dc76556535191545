# SPDX-License-Identifier: Apache-2.0
"""The node light_estimator in a process of its own: one answer for each image, with a reason where it is refused."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from dfips_ros.geometry import make_pose  # noqa: E402
from dfips_ros.msg import LightEstimate  # noqa: E402
from dfips_ros.nodes.conversions import image_from_array, pose_from_matrix, stamp_from_seconds  # noqa: E402

SCRIPT = str(Path(__file__).with_name("light_process.py"))
NAME, FRAME = "/room/light_estimator", "camera_optical_frame"
WARN, ERROR = b"\x01", b"\x02"
HEIGHT, WIDTH, FOCAL = 60, 80, 90.0
DEFAULTS = {"kind": "directional", "rate": 100.0, "pose_tolerance": 0.05, "pose_timeout": 0.3, "distortion": "rectify"}


class Camera:
    """Publishes images, camera_info and poses for the node, with stamps that grow."""

    def __init__(self, client):
        node = client.node
        self.client, self.stamp = client, 100.0
        self.images = node.create_publisher(Image, f"{NAME}/image", QoSProfile(depth=5))
        self.infos = node.create_publisher(CameraInfo, f"{NAME}/camera_info", QoSProfile(depth=5))
        self.poses = node.create_publisher(PoseWithCovarianceStamped, f"{NAME}/pose", QoSProfile(depth=5))

    def header(self, later=0.1, frame=FRAME):
        self.stamp += later
        return Header(stamp=stamp_from_seconds(self.stamp), frame_id=frame)

    def image(self, colour=(180, 120, 60), encoding="rgb8", size=(HEIGHT, WIDTH), frame=FRAME):
        pixels = np.tile(np.array(colour, np.uint8), (*size, 1))
        return image_from_array(pixels[..., 0] if encoding == "mono8" else pixels, self.header(frame=frame), encoding)

    def info(self, **fields):
        message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
        message.k = [FOCAL, 0.0, WIDTH / 2, 0.0, FOCAL, HEIGHT / 2, 0.0, 0.0, 1.0]
        message.header.frame_id = FRAME
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def pose(self, header, centre=(0.0, 0.0, 0.5), shift=0.0, frame=FRAME):
        message = PoseWithCovarianceStamped()
        seconds = header.stamp.sec + 1e-9 * header.stamp.nanosec + shift
        message.header = Header(stamp=stamp_from_seconds(seconds), frame_id=frame)
        message.pose.pose = pose_from_matrix(make_pose(np.eye(3), np.array(centre)))
        return message


@pytest.fixture(scope="module")
def node(client, lifecycle_process, box_mesh):
    camera = Camera(client)
    topics = {
        "light": (LightEstimate, f"{NAME}/light"),
        "markers": (MarkerArray, f"{NAME}/markers"),
        "diagnostics": (DiagnosticArray, "/diagnostics"),
    }
    parameters = {"mesh": box_mesh, "object_name": "box", "diagnostics_period": 0.1, "autostart": False}
    process = lifecycle_process(client, [SCRIPT], NAME, parameters, topics)
    process.camera = camera
    yield process
    assert process.stop() == 0, process.output()


@pytest.fixture
def light(node):
    """Active, with DEFAULTS, and heard in both directions."""
    start(node)
    yield node


def start(node, **values):
    node.unconfigure()
    assert node.set_parameters(**{**DEFAULTS, **values}) == []
    assert node.change("configure") and node.change("activate"), node.output()
    camera = node.camera
    for publisher in (camera.images, camera.infos, camera.poses):
        node.discover(publisher)

    def answered():
        camera.infos.publish(camera.info())
        answer = send(node, camera.image(), seconds=0.5)
        return answer is not None and answer.status == LightEstimate.ESTIMATED

    node.client.wait(answered, f"the first estimate: {node.output()}", 60.0)
    node.client.forget()


def send(node, image, pose=None, seconds=10.0, with_pose=True):
    """Publish an image and its pose, again if they get lost; the answer of that stamp, None when it does not come."""

    def publish():
        node.camera.images.publish(image)
        if with_pose:
            node.camera.poses.publish(node.camera.pose(image.header) if pose is None else pose)

    def answer():
        return next((a for a in list(node.client.received["light"]) if a.header.stamp == image.header.stamp), None)

    try:
        return node.client.ask(publish, answer, "an answer", seconds)
    except AssertionError:
        return None


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_the_solver_gets_the_image_as_it_is_meant(light, encoding):
    answer = send(light, light.camera.image((180, 120, 60), encoding))
    assert (answer.status, answer.reason, answer.object_name) == (LightEstimate.ESTIMATED, "", "box")
    assert answer.header.frame_id == FRAME and answer.kind == LightEstimate.DIRECTIONAL
    first, last = {"rgb8": (180, 60), "bgr8": (60, 180), "mono8": (180, 180)}[encoding]
    assert (answer.intensity, answer.ambient) == pytest.approx((first, last))
    assert list(answer.residual_norms) == [FOCAL, 2.0 if encoding == "mono8" else 3.0]
    length = np.linalg.norm([answer.direction.x, answer.direction.y, answer.direction.z])
    assert length == pytest.approx(1.0) and answer.position.x == 0.0
    assert np.rad2deg(answer.direction_std) == pytest.approx(1.0)


def test_an_image_gets_the_pose_that_is_nearest_in_time(light):
    camera = light.camera
    image = camera.image()
    for shift, x in ((-0.04, -0.3), (-0.01, 0.2), (0.03, 0.4)):
        camera.poses.publish(camera.pose(image.header, (x, 0.0, 0.5), shift))
        if shift == -0.01:
            time.sleep(0.05)  # poses before the image and after it
    answer = send(light, image, with_pose=False)
    assert answer.direction.x == pytest.approx(0.2 / np.hypot(0.2, 0.5))


def test_a_point_light_and_its_markers(node):
    start(node, kind="point")
    answer = send(node, node.camera.image())
    assert (answer.status, answer.kind) == (LightEstimate.ESTIMATED, LightEstimate.POINT)
    expected = (answer.position.x, answer.position.y, answer.position.z)
    markers = node.client.wait(
        lambda: [m for array in list(node.client.received["markers"]) for m in array.markers
                 if m.header.stamp == answer.header.stamp], "markers",
    )  # fmt: skip
    assert [m.type for m in markers] == [Marker.ARROW, Marker.SPHERE]
    lamp = markers[1].pose.position
    assert (lamp.x, lamp.y, lamp.z) == pytest.approx(expected)
    assert markers[0].lifetime.sec >= 1 and markers[0].header.frame_id == FRAME


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda c: (c.image((1, 1, 1)), None), LightEstimate.REFUSED, "pixels are black"),
        (lambda c: (c.image((230, 230, 230)), None), LightEstimate.UNCERTAIN, "many pixels are saturated"),
        (lambda c: (c.image((255, 255, 255)), None), LightEstimate.REFUSED, "a defect that nobody expected"),
        (lambda c: (deep(c), None), LightEstimate.REFUSED, "'mono16': expected 8 bits a channel"),
        (lambda c: (odd(c, encoding="rainbow8"), None), LightEstimate.REFUSED, "'rainbow8'"),
        (lambda c: (odd(c, data=b"\x01\x02"), None), LightEstimate.REFUSED, "the message is truncated"),
        (lambda c: (c.image(size=(50, 90)), None), LightEstimate.REFUSED, "the image is 90x50, camera_info"),
        (lambda c: with_pose(c, frame="map"), LightEstimate.REFUSED, "the pose is in the frame 'map'"),
        (lambda c: with_pose(c, shift=0.2), LightEstimate.REFUSED, "the nearest is"),
        (lambda c: with_pose(c, centre=(0.0, float("nan"), 0.5)), LightEstimate.REFUSED, "expected finite numbers"),
    ],
)  # fmt: skip
def test_bad_input_has_a_state_and_a_reason_and_the_node_lives_on(light, change, status, reason):
    image, pose = change(light.camera)
    answer = send(light, image, pose)
    assert answer is not None and answer.status == status and reason in answer.reason, answer
    if status == LightEstimate.REFUSED:
        assert (answer.direction.x, answer.direction.y, answer.direction.z, answer.intensity) == (0.0, 0.0, 0.0, 0.0)
    light.status(lambda s: s.level == WARN and reason in s.message, reason)
    light.camera.stamp += 1.0  # away from poses of the future
    assert send(light, light.camera.image()).status == LightEstimate.ESTIMATED


def deep(camera):
    return image_from_array(np.full((HEIGHT, WIDTH), 3000, np.uint16), camera.header())


def odd(camera, **fields):
    image = camera.image()
    for name, value in fields.items():
        setattr(image, name, value)
    return image


def with_pose(camera, centre=(0.0, 0.0, 0.5), shift=0.0, frame=FRAME):
    image = camera.image()
    message = camera.pose(image.header, (0.0, 0.0, 0.5), shift, frame)
    message.pose.pose.position.y = centre[1]
    return image, message


def test_without_a_pose_the_image_is_refused_in_time(light):
    light.camera.stamp += 5.0
    started = time.monotonic()
    answer = send(light, light.camera.image(), with_pose=False)
    assert answer.status == LightEstimate.REFUSED and "the nearest is" in answer.reason and "older" in answer.reason
    assert time.monotonic() - started < 5.0
    assert send(light, light.camera.image()).status == LightEstimate.ESTIMATED


def test_a_clock_that_is_set_back_is_followed(light):
    light.camera.stamp -= 50.0
    assert send(light, light.camera.image()) is not None
    assert send(light, light.camera.image()).status == LightEstimate.ESTIMATED


def test_no_more_images_than_the_rate_are_worked_on(light):
    assert light.set_parameters(rate=5.0) == []
    camera, started = light.camera, time.monotonic()
    while time.monotonic() < started + 2.0:
        image = camera.image()
        camera.images.publish(image)
        camera.poses.publish(camera.pose(image.header))
        time.sleep(0.02)
    answers = len(light.client.received["light"])
    assert 2 <= answers <= 5.0 * (time.monotonic() - started) + 2


def test_camera_info_that_is_wrong_or_missing(node, light):
    light.status(
        lambda s: s.level == WARN and "camera_info refused, the previous one is used" in s.message, "refused",
        lambda: light.camera.infos.publish(light.camera.info(k=[0.0] * 9)),
    )  # fmt: skip
    assert send(light, light.camera.image()).status == LightEstimate.ESTIMATED
    node.unconfigure()
    assert node.change("configure") and node.change("activate")
    node.discover(node.camera.images)
    node.discover(node.camera.poses)
    node.client.wait(lambda: (answer := send(node, node.camera.image(), seconds=0.5)) is not None
                     and "no camera_info yet" in answer.reason, "a refusal without camera_info", 60.0)  # fmt: skip
    node.unconfigure()
    assert node.set_parameters(mesh="") == []
    assert not node.change("configure")
    node.status(lambda s: s.level == ERROR and "parameter mesh='': expected a mesh file" in s.message, "no mesh")
    (refused,) = node.set_parameters(kind="laser")
    assert "allowed is 'directional' | 'point'" in refused
