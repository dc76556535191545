# SPDX-License-Identifier: Apache-2.0
"""Tracked objects as ``vision_msgs/msg/Detection3DArray``; used by its field names alone, as it is optional."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from std_msgs.msg import Header

from ..processes.mesh import Mesh
from . import conversions
from .object_track import Answer


def detection_array(messages: Any, header: Header, answers: Iterable[Answer]) -> Any:
    """The objects that this mask gave a pose of; an empty array when it gave none.

    Args:
        messages: the module ``vision_msgs.msg``, or what has its classes.
        header: of the outputs.
        answers: to the mask.

    Returns:
        Detection3DArray: ``id`` is the object's number, ``class_id`` its class or else its name, ``score`` the IoU,
        ``bbox`` the mesh's bounding box, along the object's axes.
    """
    array = messages.Detection3DArray()
    array.header = header
    array.detections = [_detection(messages, header, each) for each in answers if each.tracking]
    return array


def _detection(messages: Any, header: Header, answer: Answer) -> Any:
    track, told = answer.track, answer.message
    result = messages.ObjectHypothesisWithPose()
    result.hypothesis.class_id = track.parameters.detected_class
    result.hypothesis.score = float(told.iou)
    result.pose = told.pose
    detection = messages.Detection3D()
    detection.header, detection.id, detection.results = header, str(track.number), [result]
    mesh: Mesh = track.estimator.mesh
    box = conversions.matrix_from_pose(told.pose.pose)
    box[:3, 3] += box[:3, :3] @ mesh.center
    detection.bbox.center = conversions.pose_from_matrix(box)
    size = detection.bbox.size
    size.x, size.y, size.z = (float(v) for v in mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0))
    return detection
