# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker with several objects, in a process of its own, with a stand-in for the solver."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")
pytestmark = pytest.mark.ros

from geometry_msgs.msg import PoseStamped  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from dfips_ros.msg import TrackedObject, TrackedObjectArray  # noqa: E402
from dfips_ros.nodes.label_info import vision_message_type  # noqa: E402
from dfips_ros.nodes.tracked_object_set import TrackedObjectSet  # noqa: E402
from dfips_ros.nodes.tracker_parameters import ObjectParameters, PoseTrackerParameters  # noqa: E402
from dfips_ros.processes.mesh import load_mesh  # noqa: E402
from dfips_ros.srv import AddObject, RemoveObject, SetPose  # noqa: E402

from .ros_client import WAIT  # noqa: E402

SCRIPT = str(Path(__file__).with_name("tracker_process.py"))
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LEFT, RIGHT, MIDDLE = (40, 60), (120, 60), (80, 60)


def listed(objects, mesh):
    parameters = {"objects": objects, "autostart": False, "diagnostics_period": 0.1}
    for label, name in enumerate(objects, start=1):
        parameters |= {f"objects.{name}.mesh": mesh, f"objects.{name}.label_value": label}
    return parameters


@pytest.fixture(scope="module")
def pair_process(client, node_process, box_mesh):
    node = node_process(client, [SCRIPT], "/pair", listed(["left", "right"], box_mesh))
    for name, kind, qos in (("tracked_objects", TrackedObjectArray, 10), ("symmetries", String, LATCHED)):
        node.subscriptions.append(client.listen(name, kind, f"{node.name}/{name}", qos))
    yield node
    assert node.stop() == 0, node.output()
    assert "Traceback" not in node.output()


@pytest.fixture
def pair(pair_process):
    pair_process.unconfigure()
    assert pair_process.change("configure") and pair_process.change("activate"), pair_process.output()
    pair_process.handshake()
    yield pair_process
    pair_process.unconfigure()


def labels(node, places, stamp=None):
    """A label image with squares: label -> centre."""
    message = node.mask(half=0, stamp=stamp)
    pixels = np.zeros((message.height, message.width), np.uint8)
    for label, (x, y) in places.items():
        pixels[y - 15 : y + 15, x - 15 : x + 15] = label
    message.data = pixels.tobytes()
    return message


def send(node, places, timeout=WAIT):
    """Publish a label image. -> its TrackedObjectArray, objects by name."""
    message = labels(node, places)

    def find():
        arrays = list(node.client.received["tracked_objects"])
        return next((each for each in arrays if each.header == message.header), None)

    def publish():
        node.info_publisher.publish(node.camera_info())
        node.mask_publisher.publish(message)

    return {each.object_name: each for each in node.client.ask(publish, find, "tracked_objects", timeout).objects}


def until_tracking(node, places, name):
    """Send label images until an object that was lost beside others is found: the search for it may outlast a mask."""

    def found():
        answers = send(node, places)
        return answers if answers[name].state == TrackedObject.TRACKING else None

    return node.client.wait(found, f"'{name}' is tracked")


def add(node, mesh, name="third", **fields):
    request = AddObject.Request(name=name, mesh=mesh, **fields)
    answer = node.client.call(AddObject, f"{node.name}/add_object", request, resend=False)
    assert answer is not None, "no answer of add_object"
    return answer


def remove(node, name):
    request = RemoveObject.Request(name=name)
    return node.client.call(RemoveObject, f"{node.name}/remove_object", request, resend=False)


def test_two_objects_in_one_label_image(pair):
    subscription = pair.client.listen("markers", MarkerArray, f"{pair.name}/markers", LATCHED)
    try:
        found = send(pair, {1: LEFT, 2: RIGHT})
        assert [each.state for each in found.values()] == [TrackedObject.TRACKING] * 2
        assert found["left"].id < found["right"].id
        columns = {name: each.pose.pose.position.x for name, each in found.items()}
        assert columns["left"] == pytest.approx(-columns["right"], abs=0.01) and columns["left"] < -0.1
        header = found["left"].header
        poses = pair.client.wait(lambda: list(pair.client.received["pose"]), "pose")
        assert [pose.pose.pose.position.x for pose in poses] == [columns["left"]]  # of the first object alone
        transforms = pair.client.wait(lambda: list(pair.client.received["tf"]), "tf")[-1].transforms
        assert {each.child_frame_id: each.transform.translation.x for each in transforms} == columns

        def singles():
            return [each.object_name for each in list(pair.client.received["object"]) if each.header == header]

        pair.client.wait(lambda: len(singles()) == 2, "both on ~/tracked_object")
        assert singles() == ["left", "right"]

        def marked():
            send(pair, {1: LEFT, 2: RIGHT})
            return [each for each in pair.client.received["markers"] if len(each.markers) == 2]

        shown = pair.client.wait(marked, "both markers in one message")[0].markers
        assert {(each.ns, each.action) for each in shown} == {("left", Marker.ADD), ("right", Marker.ADD)}
    finally:
        pair.client.node.destroy_subscription(subscription)
    pair.status(lambda s: s.message == "TRACKING" and s.hardware_id == "left, right", "both are tracked")


def test_the_overlay_shows_all(pair):
    subscription = pair.client.listen("overlay", Image, f"{pair.name}/overlay", 1)
    try:
        pair.client.wait(
            lambda: send(pair, {1: LEFT, 2: RIGHT}) and list(pair.client.received["overlay"]), "overlay of both"
        )
        shown = pair.client.received["overlay"][-1]
    finally:
        pair.client.node.destroy_subscription(subscription)
    pixels = np.frombuffer(shown.data, np.uint8).reshape(shown.height, shown.width, 3)
    for x, y in (LEFT, RIGHT):
        around = pixels[y - 25 : y + 25, x - 25 : x + 25].reshape(-1, 3)
        assert len(np.unique(around, axis=0)) > 3  # mask, contour, axes


def test_one_is_lost_and_the_other_is_none_the_worse(pair):
    send(pair, {1: LEFT, 2: RIGHT})
    for _ in range(3):
        found = send(pair, {1: LEFT})
    assert (found["left"].state, found["right"].state) == (TrackedObject.TRACKING, TrackedObject.LOST)
    assert found["left"].pose.covariance[0] >= 0.0 > found["right"].pose.covariance[0]
    pair.status(lambda s: s.message == "1 of 2 objects TRACKING: right LOST (mask is empty)", "one is lost")
    until_tracking(pair, {1: LEFT, 2: MIDDLE}, "right")


def test_objects_come_and_go_while_the_others_are_tracked(pair, box_mesh):
    before = send(pair, {1: LEFT, 2: RIGHT})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(add(pair, box_mesh, label_value=3)))
    thread.start()
    meanwhile = 0
    while thread.is_alive():
        found = send(pair, {1: LEFT, 2: RIGHT})
        assert [each.state for each in found.values() if each.object_name != "third"] == [TrackedObject.TRACKING] * 2
        meanwhile += not answers and "third" not in found
    thread.join()
    assert answers[0].success and answers[0].id == before["right"].id + 1, answers
    assert "'third' loaded from" in answers[0].message
    assert meanwhile >= 5  # of some 30 in the time that it takes to load
    found = until_tracking(pair, {1: LEFT, 2: RIGHT, 3: MIDDLE}, "third")
    assert list(found) == ["left", "right", "third"]
    symmetries = pair.client.wait(lambda: list(pair.client.received["symmetries"]), "symmetries")
    assert set(json.loads(symmetries[-1].data)) == {"left", "right", "third"}
    gone = remove(pair, "left")
    assert gone.success and gone.message == "'left' removed; objects: right, third"
    pair.client.received["pose"].clear()
    found = send(pair, {1: LEFT, 2: RIGHT, 3: MIDDLE})
    assert list(found) == ["right", "third"]
    poses = pair.client.wait(lambda: list(pair.client.received["pose"]), "pose")
    assert poses[-1].pose.pose.position.x == found["right"].pose.pose.position.x  # now the first object
    again = add(pair, box_mesh, "left", label_value=1)
    assert again.success and again.id == answers[0].id + 1  # a number is never used twice
    for name in ("left", "right", "third"):
        assert remove(pair, name).success
    assert send(pair, {1: LEFT}) == {}
    pair.status(lambda s: s.message == "no objects: add one with ~/add_object", "no objects")


def test_an_object_that_cannot_be_added_is_refused_with_a_reason(pair, box_mesh):
    cases = [
        ({"name": "left", "label_value": 3}, "there is another one of this name"),
        ({"name": "  "}, "expected the name of the object"),
        ({"name": "/new", "label_value": 3}, "must not start with '/'"),
        ({"label_value": 2}, "label_value=2 is also 'right'"),
        ({}, "every non-zero pixel is taken for it, so there is no room for 'left'"),
        ({"label_value": 3, "mesh": "/nowhere/part.stl"}, "/nowhere/part.stl"),
        ({"label_value": 3, "mesh": ""}, "expected a mesh file"),
        ({"label_value": 3, "mesh": "package://surely_not_installed/a.stl"}, "surely_not_installed"),
        ({"label_value": 3, "mesh_scale": -1.0}, "mesh_scale=-1.0: allowed is 1e-06 to 1e+06"),
        ({"label_value": 3, "mesh_scale": 1000.0}, "mesh_scale=1000"),
        ({"label_value": 3, "models_info_key": "5"}, "models_info_key='5'"),
    ]
    for fields, reason in cases:
        answer = add(pair, **{"name": "new", "mesh": box_mesh, **fields})
        assert not answer.success and answer.id == 0
        assert reason in answer.message, answer.message
    assert list(send(pair, {1: LEFT, 2: RIGHT})) == ["left", "right"]
    assert add(pair, box_mesh, "new", label_value=3).success  # nothing is left behind of the refused one


def test_an_object_is_loaded_once_and_not_at_all_after_cleanup(pair, box_mesh):
    service = pair.client.node.create_client(AddObject, f"{pair.name}/add_object")
    try:
        add(pair, box_mesh, "left")  # refused; now this side and the node know each other
        assert service.wait_for_service(60.0)
        request = AddObject.Request(name="glacier", mesh=box_mesh, label_value=3)
        first, second = service.call_async(request), service.call_async(request)
        pair.client.wait(second.done, "answer to the second request")
        assert not second.result().success and "'glacier': it is already being loaded" in second.result().message
        gone = remove(pair, "glacier")
        assert not gone.success and "it is still being loaded" in gone.message
        pair.unconfigure()
        pair.client.wait(first.done, "answer to the first request")
        assert not first.result().success
        assert first.result().message == "object 'glacier': the node was cleaned up while it was loaded."
    finally:
        pair.client.node.destroy_client(service)


def test_unknown_names_are_refused_with_those_that_there_are(pair, box_mesh):
    gone = remove(pair, "cup")
    assert not gone.success
    assert gone.message == "object 'cup': there is none of this name; there are: 'left', 'right'."
    for name, reason in (("cup", "there are: 'left', 'right'"), ("", "expected the name of an object")):
        request = SetPose.Request(object_name=name)
        request.pose.pose.position.z = 0.5
        answer = pair.client.call(SetPose, f"{pair.name}/set_pose", request)
        assert not answer.success and reason in answer.message
    pair.unconfigure()
    for answer in (add(pair, box_mesh, label_value=3), remove(pair, "left")):
        assert not answer.success and answer.message == "the node is unconfigured: configure it first"


def turned(z=0.5):
    """The pose half a turn about z."""
    stamped = PoseStamped()
    stamped.pose.position.z = z
    stamped.pose.orientation.z, stamped.pose.orientation.w = 1.0, 0.0
    return stamped


def test_a_pose_is_set_for_one_object(pair):
    send(pair, {1: LEFT, 2: RIGHT})
    request = SetPose.Request(object_name="right", pose=turned())
    assert pair.client.call(SetPose, f"{pair.name}/set_pose", request).success
    found = send(pair, {1: LEFT, 2: RIGHT})
    assert abs(found["right"].pose.pose.orientation.z) == pytest.approx(1.0)
    assert found["left"].pose.pose.orientation.z == 0.0
    assert pair.client.call(Trigger, f"{pair.name}/reset", Trigger.Request()).success
    assert {each.state for each in send(pair, {}).values()} == {TrackedObject.INITIALISING}


def test_a_hint_is_for_the_one_object_without_a_pose(pair):
    hints = pair.client.node.create_publisher(PoseStamped, f"{pair.name}/initial_pose", 1)
    try:
        pair.discover(hints)

        def refused():  # again and again: the first may come before the node has discovered this publisher
            hints.publish(turned())
            time.sleep(0.2)
            statuses = [s for each in list(pair.client.received["diagnostics"])[-5:] for s in each.status]
            own = [{v.key: v.value for v in s.values} for s in statuses if s.name == pair.name]
            return any(values["last error"] == REFUSED_HINT for values in own)

        pair.client.wait(refused, "which one is meant?", 60.0)

        def taken():
            send(pair, {1: LEFT})
            hints.publish(turned())
            return abs(send(pair, {1: LEFT, 2: RIGHT})["right"].pose.pose.orientation.z) > 0.99 or remiss()

        def remiss():  # the hint came after the mask: lose the object again
            for _ in range(3):
                send(pair, {1: LEFT})

        pair.client.wait(taken, "the hint is taken")
        assert send(pair, {1: LEFT, 2: RIGHT})["left"].pose.pose.orientation.z == 0.0
    finally:
        pair.client.node.destroy_publisher(hints)


REFUSED_HINT = (
    "initial_pose: several objects have no pose ('left', 'right'): call ~/set_pose with object_name instead."
)


def test_labels_change_at_run_time(pair):
    send(pair, {1: LEFT, 2: RIGHT})
    reasons = pair.set_parameters(**{"objects.left.label_value": 2})
    assert len(reasons) == 1 and "label_value=2 is also" in reasons[0]
    reasons = pair.set_parameters(**{"objects.left.mesh": "/other.stl"})
    assert len(reasons) == 1 and "while the node is configured" in reasons[0]
    assert pair.set_parameters(**{"objects.left.label_value": 7}) == []
    try:
        found = send(pair, {7: MIDDLE, 2: RIGHT})
        assert found["left"].pose.pose.position.x == pytest.approx(0.0, abs=0.01)
    finally:
        assert pair.set_parameters(**{"objects.left.label_value": 1}) == []


@pytest.mark.skipif(vision_message_type("LabelInfo") is not None, reason="vision_msgs is installed")
def test_a_class_without_a_label_says_what_is_missing(pair, box_mesh):
    assert add(pair, box_mesh, "cup", class_name="cup").success
    found = send(pair, {1: LEFT, 2: RIGHT, 3: MIDDLE})
    assert found["left"].state == found["right"].state == TrackedObject.TRACKING
    assert found["cup"].state == TrackedObject.INITIALISING
    assert "install vision_msgs" in found["cup"].reason and "class_name='cup'" in found["cup"].reason


def test_lists_that_do_not_fit_refuse_configuration(pair_process, box_mesh):
    node = pair_process
    node.unconfigure()
    cases = [
        ({"mesh": box_mesh}, "expected one of the two", {"mesh": ""}),
        ({"objects.right.label_value": 1}, "label_value=1 is also 'left'", {"objects.right.label_value": 2}),
        ({"objects.left.mesh": ""}, "objects.left.mesh=''", {"objects.left.mesh": box_mesh}),
        ({"objects.left.mesh": "/nowhere/a.stl"}, "object 'left': ", {"objects.left.mesh": box_mesh}),
        ({"objects": ["left", "cup"]}, "objects.cup.mesh=''", {"objects": ["left", "right"]}),
        ({"objects": ["left", "left"]}, "another one of this name", {"objects": ["left", "right"]}),
    ]
    for wrong, reason, right in cases:
        assert node.set_parameters(**wrong) == []
        assert not node.change("configure")
        node.status(lambda s, reason=reason: s.level == b"\x02" and reason in s.message, reason)
        assert node.set_parameters(**right) == []
    assert node.change("configure")


def test_a_second_object_beside_a_single_mesh(tracker, box_mesh):
    """With mask_mode binary there is no room for it; with labels there is."""
    refused = add(tracker, box_mesh, label_value=2)
    assert not refused.success and "every non-zero pixel is taken for it" in refused.message
    assert tracker.set_parameters(mask_mode="label") == []
    assert add(tracker, box_mesh, label_value=2).success
    reasons = tracker.set_parameters(mask_mode="binary")
    assert len(reasons) == 1 and "every non-zero pixel is taken for it" in reasons[0]
    subscription = tracker.client.listen("tracked_objects", TrackedObjectArray, f"{tracker.name}/tracked_objects")
    try:
        tracker.client.wait(lambda: subscription.get_publisher_count() > 0, "publisher of tracked_objects")
        tracker.client.wait(
            lambda: send_quietly(tracker, {1: LEFT, 2: RIGHT}) == {"box": 1, "third": 1}, "both are tracked"
        )
    finally:
        tracker.client.node.destroy_subscription(subscription)


def send_quietly(node, places):
    """As send, for a subscription that may be too new to hear the first answers. -> states by name."""
    try:
        return {name: each.state for name, each in send(node, places, 2.0).items()}
    except AssertionError:
        return {}


def test_a_search_does_not_slow_the_others_at_every_mask(box_mesh):
    """Alone an object is searched in every mask, beside others in every fifth."""
    objects = TrackedObjectSet(lambda parameters: (SimpleNamespace(mesh=load_mesh(box_mesh)), Still()))
    node = PoseTrackerParameters(mesh=box_mesh, mask_mode="label", lost_frames=7)
    objects.add(node, None, objects.load(node))
    assert objects["box"].tracker.config.reinit_interval == 1
    own = ObjectParameters(mesh=box_mesh, label_value=2)
    objects.add(node.of("cup", own), own, objects.load(node))
    configs = [track.tracker.config for track in objects.tracks]
    assert [(config.reinit_interval, config.lost_frames) for config in configs] == [(5, 7)] * 2
    objects.take(replace(node, lost_frames=4))
    assert [track.tracker.config.lost_frames for track in objects.tracks] == [4, 4]
    objects.remove("box")
    assert objects["cup"].tracker.config.reinit_interval == 1


class Still:
    """Stand-in of a tracker."""

    def reset(self):
        pass
