# SPDX-License-Identifier: Apache-2.0
"""Masks of several objects from one message, and what is optional: LabelInfo, DetectionArray, Detection3DArray.

The optional packages' messages are stood in for by classes with the fields of their definitions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Pose, PoseWithCovariance, Vector3  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from dfips_ros.errors import EncodingError, MaskError, MissingDependencyError  # noqa: E402
from dfips_ros.geometry import make_pose  # noqa: E402
from dfips_ros.messages.labels import LabelTable, masks_from_image  # noqa: E402
from dfips_ros.nodes import conversions  # noqa: E402
from dfips_ros.nodes.detections import detection_array  # noqa: E402
from dfips_ros.nodes.label_info import vision_message_type  # noqa: E402
from dfips_ros.nodes.mask_sources import InstanceMasks, detections_type  # noqa: E402
from dfips_ros.nodes.object_track import ObjectTrack  # noqa: E402
from dfips_ros.nodes.symmetry_text import symmetries_text  # noqa: E402
from dfips_ros.nodes.tracker_parameters import ObjectParameters, PoseTrackerParameters  # noqa: E402
from dfips_ros.tasks.object_pose import ObjectPoseSolution, Symmetries, TrackResult, TrackState  # noqa: E402
from dfips_ros.tasks.object_pose.models_info import load_symmetries  # noqa: E402

HEADER = Header(frame_id="camera")


@dataclass
class VisionClass:
    class_id: int = 0
    class_name: str = ""


@dataclass
class LabelInfo:
    header: Header = field(default_factory=Header)
    class_map: list[VisionClass] = field(default_factory=list)
    threshold: float = 0.0


@dataclass
class Point2D:
    x: float = 0.0
    y: float = 0.0


@dataclass
class Mask:
    height: int = 0
    width: int = 0
    data: list[Point2D] = field(default_factory=list)


@dataclass
class Detection:
    class_id: int = 0
    class_name: str = ""
    score: float = 0.0
    id: str = ""
    mask: Mask = field(default_factory=Mask)


@dataclass
class DetectionArray:
    header: Header = field(default_factory=Header)
    detections: list[Detection] = field(default_factory=list)


def table(**classes):
    labels = LabelTable("/info")
    labels.take(LabelInfo(class_map=[VisionClass(label, name) for name, label in classes.items()]))
    return labels


def objects(**given):
    base = PoseTrackerParameters(mesh="part.stl")
    return [base.of(name, ObjectParameters(mesh=f"{name}.stl", **own)) for name, own in given.items()]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_every_object_gets_its_own_pixels(kind):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, (20, 30)).astype(kind)
    wanted = objects(a={"label_value": 1}, cup={"class_name": "cup"}, c={"label_value": 4})
    masks = masks_from_image(conversions.image_from_array(labels, HEADER), wanted, table(cup=3, dish=2))
    assert list(masks) == ["a", "cup", "c"]
    for name, value in (("a", 1), ("cup", 3), ("c", 4)):
        np.testing.assert_array_equal(masks[name], labels == value)


def test_one_without_a_label_leaves_the_others_theirs():
    labels = np.full((20, 30), 3, np.uint8)
    wanted = objects(
        a={"label_value": 3}, cup={"class_name": "cup"}, far={"label_value": 700}, twin={"class_name": "three"}
    )
    masks = masks_from_image(conversions.image_from_array(labels, HEADER), wanted, table(three=3))
    assert masks["a"].all()
    assert isinstance(masks["cup"], MaskError) and "/info does not list it; it lists 'three'" in str(masks["cup"])
    assert isinstance(masks["far"], EncodingError) and "label_value=700" in str(masks["far"])
    assert isinstance(masks["twin"], MaskError) and "its label 3 is also that of 'a'" in str(masks["twin"])


def test_label_info():
    labels = LabelTable("/info")
    with pytest.raises(MaskError, match="class_name='cup': waiting for its label on /info"):
        labels.label_of("cup")
    labels.take(LabelInfo(class_map=[VisionClass(2, "cup"), VisionClass(255, "UNLABELED"), VisionClass(2, "cup")]))
    assert labels.label_of("cup") == 2
    with pytest.raises(MaskError, match="lists 'cup'"):
        labels.label_of("UNLABELED")
    with pytest.raises(MaskError, match="class 'cup' has the labels 1 and 2"):
        labels.take(LabelInfo(class_map=[VisionClass(1, "cup"), VisionClass(2, "cup")]))
    assert labels.label_of("cup") == 2
    with pytest.raises(MaskError, match="install vision_msgs"):
        LabelTable().label_of("cup")


def square(name, left, score=0.5, number="", size=(60, 80), side=20):
    corners = [(left, 10), (left + side, 10), (left + side, 10 + side), (left, 10 + side)]
    return Detection(0, name, score, number, Mask(*size, [Point2D(float(x), float(y)) for x, y in corners]))


def test_instances_become_masks():
    found = InstanceMasks().masks(
        DetectionArray(detections=[square("cup", 5), square("drill", 40), square("dish", 20)]),
        objects(cup={}, tool={"class_name": "drill"}, fork={"label_value": 3}),
        (1, 1),
    )
    for name, left in (("cup", 5), ("tool", 40)):
        expected = np.zeros((60, 80), bool)
        expected[10:31, left : left + 21] = True
        np.testing.assert_array_equal(found[name], expected)
    assert found["fork"].shape == (60, 80) and not found["fork"].any()
    nothing = InstanceMasks().masks(DetectionArray(), objects(cup={}), (60, 80))
    assert nothing["cup"].shape == (60, 80) and not nothing["cup"].any()


def test_the_instance_that_was_followed_is_followed_on():
    def left_of(source, *detections):
        mask = source.masks(DetectionArray(detections=list(detections)), objects(cup={}), (60, 80))["cup"]
        return int(np.flatnonzero(mask.any(axis=0))[0])

    source = InstanceMasks()
    assert left_of(source, square("cup", 5, 0.9, "7"), square("cup", 40, 0.8, "8")) == 5
    assert left_of(source, square("cup", 6, 0.3, "7"), square("cup", 40, 0.8, "8")) == 6
    assert left_of(source, square("cup", 40, 0.8, "8"), square("cup", 50, 0.7, "9")) == 40  # 7 is gone
    source.forget("cup")
    assert left_of(source, square("cup", 40, 0.6, "8"), square("cup", 50, 0.7, "9")) == 50


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        (Detection(0, "cup", 0.5, "", Mask(60, 80)), "it has no mask"),
        (square("cup", float("nan")), "finite points"),
        (Detection(0, "cup", 0.5, "", Mask(60, 80, [Point2D(1, 1), Point2D(2, 2)])), "three finite points or more"),
    ],
)
def test_a_detection_that_tells_no_area(detection, reason):
    found = InstanceMasks().masks(DetectionArray(detections=[detection, square("dish", 40)]), objects(cup={}), (9, 9))
    assert isinstance(found["cup"], MaskError) and reason in str(found["cup"])


@pytest.mark.parametrize(
    ("detections", "reason"),
    [
        ([square("cup", 5), square("cup", 5, size=(30, 40))], "masks of one size"),
        ([square("cup", 5, size=(60, 10**6))], "sides to be 1 to"),
        ([square("cup", 5, size=(-1, 80))], "sides to be 1 to"),
    ],
)
def test_impossible_sizes(detections, reason):
    with pytest.raises(MaskError, match=reason):
        InstanceMasks().masks(DetectionArray(detections=detections), objects(cup={}), (60, 80))


def test_what_is_not_installed_is_said_or_left_out():
    if vision_message_type("LabelInfo") is not None:
        assert vision_message_type("NoSuchMessage") is None
    try:
        import yolo_msgs.msg  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="mask_source='detections' needs the package yolo_msgs"):
            detections_type()


def vision_messages():
    """Classes with the fields of vision_msgs 4."""

    def make(**fields: Any) -> type:
        return type("Message", (), {"__init__": lambda self: self.__dict__.update({k: v() for k, v in fields.items()})})

    hypothesis = make(class_id=str, score=float)
    box = make(center=Pose, size=Vector3)
    return SimpleNamespace(
        Detection3DArray=make(header=Header, detections=list),
        Detection3D=make(header=Header, results=list, bbox=box, id=str),
        ObjectHypothesisWithPose=make(hypothesis=hypothesis, pose=PoseWithCovariance),
    )


class StillTracker:
    def reset(self):
        pass


def track_of(mesh, name="part", number=5, **own):
    parameters = PoseTrackerParameters(mesh="part.stl", **own.pop("node", {})).of(
        name, ObjectParameters(mesh="part.stl", label_value=1, **own)
    )
    estimator = SimpleNamespace(mesh=mesh, symmetries=Symmetries.none())
    return ObjectTrack(parameters, None, estimator, StillTracker(), number)


def result_of(pose, stamp=1.0):
    solution = ObjectPoseSolution(
        T_camera_object=pose, covariance=np.diag([1.0, 2, 3, 4, 5, 6]) * 1e-6, iou=0.75, history=(pose,),
        residual_norms=np.array([0.3]), solve_time=0.01,
    )  # fmt: skip
    return TrackResult(TrackState.TRACKING, "tracking", solution, stamp)


TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_detections_carry_what_is_seen_and_nothing_else(bracket):
    seen, unseen = track_of(bracket, class_name="holder"), track_of(bracket, "gone", 6)
    answers = [
        seen.answer(result_of(make_pose(TURN, [0.1, 0.2, 0.9])), False, HEADER),
        unseen.answer(TrackResult(TrackState.LOST, "the mask is empty", None, 1.0), False, HEADER),
    ]
    array = detection_array(vision_messages(), HEADER, answers)
    (found,) = array.detections
    assert array.header is HEADER and found.header is HEADER and found.id == "5"
    (result,) = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("holder", 0.75)
    assert result.pose.pose.position.z == 0.9 and result.pose.covariance[0] == 1e-6
    size = bracket.vertices.max(axis=0) - bracket.vertices.min(axis=0)
    np.testing.assert_allclose([found.bbox.size.x, found.bbox.size.y, found.bbox.size.z], size, rtol=1e-6)
    centre = conversions.matrix_from_pose(found.bbox.center)
    np.testing.assert_allclose(centre[:3, 3], TURN @ bracket.center + [0.1, 0.2, 0.9], atol=1e-7)
    assert detection_array(vision_messages(), HEADER, answers[1:]).detections == []


def test_answers_in_another_frame(bracket):
    track = track_of(bracket)
    T_output_camera = make_pose(TURN, [1.0, 0.0, 0.0])
    message = track.answer(result_of(make_pose(np.eye(3), [0.1, 0.2, 0.9])), False, HEADER, T_output_camera).message
    place = message.pose.pose.position
    np.testing.assert_allclose([place.x, place.y, place.z], [0.8, 0.1, 0.9])
    np.testing.assert_allclose(np.diag(message.pose.covariance.reshape(6, 6)) * 1e6, [2, 1, 3, 5, 4, 6])
    lost = track.answer(result_of(np.eye(4)), False, HEADER, None, "no transform from 'camera' to 'map'")
    assert not lost.tracking and lost.message.reason.startswith("no transform")
    assert lost.message.pose.covariance[0] == -1.0 and lost.message.pose.pose.position.x == place.x


def test_prediction_is_ahead_in_pose_and_stamp_and_less_sure(bracket):
    track = track_of(bracket, node={"prediction": 0.1})
    answers = []
    for i, x in enumerate((0.10, 0.12, 0.14)):
        stamp = 10.0 + 0.05 * i
        header = conversions.make_header(conversions.stamp_from_seconds(stamp), "camera")
        answers.append(track.answer(result_of(make_pose(np.eye(3), [x, 0.0, 0.9]), stamp), False, header))
    first, _, last = answers
    assert first.controlled == (first.message.pose, first.message.header)  # no velocity yet
    pose, header = last.controlled
    assert pose.pose.position.x == pytest.approx(0.14 + 2 * 0.02)
    assert conversions.seconds_from_stamp(header.stamp) == pytest.approx(10.2)
    assert pose.covariance[0] == pytest.approx(13e-6)
    assert last.message.pose.pose.position.x == pytest.approx(0.14)  # as measured
    assert conversions.seconds_from_stamp(last.message.header.stamp) == pytest.approx(10.1)


def test_symmetries_can_be_read_back(tmp_path):
    turn = make_pose(np.diag([-1.0, -1.0, 1.0]), np.array([0.01, 0.0, 0.0]))
    given = Symmetries(np.stack([np.eye(4), turn]), np.array([[0.0, 1, 0]]), np.array([[0.0, 0, 0.02]]))
    text = symmetries_text({"cup": given, "part": Symmetries.none()})
    assert set(json.loads(text)) == {"cup", "part"}
    (tmp_path / "models_info.json").write_text(text)
    found = load_symmetries(tmp_path / "models_info.json", "cup.stl", scale=1.0)
    for name in ("discrete", "axes", "offsets"):
        np.testing.assert_allclose(getattr(found, name), getattr(given, name))
    assert load_symmetries(tmp_path / "models_info.json", "part.stl", scale=1.0).is_trivial
