# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker with messages of other packages, where they are installed: classes and detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402

from dfips_ros.msg import TrackedObject, TrackedObjectArray  # noqa: E402

SCRIPT = str(Path(__file__).with_name("tracker_process.py"))
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SIZE = (120, 160)
PLACES = {"cup": (40, 60), "drill": (120, 60)}


@pytest.fixture
def started(client, node_process, box_mesh):
    """Starts a node for both classes, with more parameters."""
    nodes = []

    def start(name, **more):
        parameters = {"objects": list(PLACES), "autostart": False, "diagnostics_period": 0.1, **more}
        for each in PLACES:
            parameters |= {f"objects.{each}.mesh": box_mesh, f"objects.{each}.class_name": f"a {each}"}
        node = node_process(client, [SCRIPT], name, parameters)
        nodes.append(node)
        array = f"{node.name}/tracked_objects"
        node.subscriptions.append(client.listen("tracked_objects", TrackedObjectArray, array))
        return node

    yield start
    for node in nodes:
        assert node.stop() == 0, node.output()
        assert "Traceback" not in node.output()


def answers(node, publish, header):
    """What the node says of the mask with this header: TrackedObject by name."""

    def find():
        return next((each for each in list(node.client.received["tracked_objects"]) if each.header == header), None)

    return {each.object_name: each for each in node.client.ask(publish, find, "tracked_objects").objects}


def test_classes_by_latched_label_info_and_detections(client, started):
    """The labels were published before the node was there, as a segmentation does when it starts."""
    messages = pytest.importorskip("vision_msgs.msg")
    node = started("/classes")
    told = client.node.create_publisher(messages.LabelInfo, f"{node.name}/label_info", LATCHED)
    classes = [messages.VisionClass(class_id=k, class_name=f"a {name}") for k, name in ((7, "drill"), (3, "cup"))]
    told.publish(messages.LabelInfo(class_map=classes))
    assert node.change("configure") and node.change("activate"), node.output()
    node.handshake()
    node.subscriptions.append(client.listen("detections", messages.Detection3DArray, f"{node.name}/detections"))

    def send(labels):
        message = node.mask(half=0)
        pixels = np.zeros((message.height, message.width), np.uint8)
        for label, (x, y) in labels.items():
            pixels[y - 15 : y + 15, x - 15 : x + 15] = label
        message.data = pixels.tobytes()

        def publish():
            node.info_publisher.publish(node.camera_info())
            node.mask_publisher.publish(message)

        def detected():
            return next((each for each in list(client.received["detections"]) if each.header == message.header), None)

        found = answers(node, publish, message.header)
        return found, client.ask(publish, detected, "detections").detections

    places = {3: PLACES["cup"], 7: PLACES["drill"]}

    def named():
        found, _ = send(places)
        return found if not any("waiting for its label" in each.reason for each in found.values()) else None

    found = client.wait(named, "the labels of the classes")
    assert {each.state for each in found.values()} == {TrackedObject.TRACKING}, found
    assert found["cup"].pose.pose.position.x < 0 < found["drill"].pose.pose.position.x
    _, detections = send(places)
    assert [each.results[0].hypothesis.class_id for each in detections] == ["a cup", "a drill"]
    assert [each.id for each in detections] == ["1", "2"]
    for each, name in zip(detections, PLACES, strict=True):
        assert each.results[0].hypothesis.score > 0.8 and each.bbox.size.x > 0
        assert np.sign(each.results[0].pose.pose.position.x) == (-1 if name == "cup" else 1)
    assert send({})[1] == []  # nothing is seen: an empty array


def test_instances_of_a_detector(client, started):
    messages = pytest.importorskip("yolo_msgs.msg")
    node = started("/instances", mask_source="detections")
    assert node.change("configure") and node.change("activate"), node.output()
    array = client.node.create_publisher(messages.DetectionArray, f"{node.name}/instance_masks", 10)

    def detection(name):
        x, y = PLACES[name]
        corners = [(x - 15, y - 15), (x + 15, y - 15), (x + 15, y + 15), (x - 15, y + 15)]
        data = [messages.Point2D(x=float(u), y=float(v)) for u, v in corners]
        mask = messages.Mask(height=SIZE[0], width=SIZE[1], data=data)
        return messages.Detection(class_name=f"a {name}", score=0.9, id="4", mask=mask)

    def send(*names):
        message = messages.DetectionArray(header=node.mask().header, detections=[detection(name) for name in names])

        def publish():
            node.info_publisher.publish(node.camera_info())
            array.publish(message)

        return answers(node, publish, message.header)

    found = send("drill", "cup")
    assert {each.state for each in found.values()} == {TrackedObject.TRACKING}, found
    assert found["cup"].pose.pose.position.x < 0 < found["drill"].pose.pose.position.x
    found = send("drill")
    assert found["drill"].pose.covariance[0] >= 0 > found["cup"].pose.covariance[0]
