# SPDX-License-Identifier: Apache-2.0
"""All translation between ROS messages and plain numpy; poses and transforms are here, the rest beside.

Every name of the neighbouring ``*_conversions`` modules that a node needs can be imported from here.
Messages are never changed.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseWithCovariance, PoseWithCovarianceStamped, TransformStamped
from std_msgs.msg import Header

from ..checks import check_pose
from ..errors import MissingDependencyError, PoseError, ShapeError
from ..geometry import quaternion_xyzw_from_matrix
from ..messages.pose import matrix_from_pose
from .camera_conversions import DISTORTION_MODES, CameraModel, CameraView, camera_key
from .image_conversions import (
    MASK_MODES,
    colour_from_image,
    image_from_array,
    labels_from_image,
    mask_from_image,
    mask_of_labels,
)
from .marker_conversions import MeshMarker, deleted_marker

__all__ = [
    "DISTORTION_MODES",
    "MASK_MODES",
    "CameraModel",
    "CameraView",
    "MeshMarker",
    "camera_key",
    "colour_from_image",
    "deleted_marker",
    "image_from_array",
    "labels_from_image",
    "make_header",
    "mask_from_image",
    "mask_of_labels",
    "matrix_from_pose",
    "pose_from_matrix",
    "pose_with_covariance",
    "pose_with_covariance_stamped",
    "seconds_from_stamp",
    "stamp_from_seconds",
    "tf_from_transform",
    "transform_from_pose",
    "unknown_pose_with_covariance",
]


def seconds_from_stamp(stamp: Time) -> float:
    """Time of a message in seconds; float64 keeps it to under a microsecond."""
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def stamp_from_seconds(seconds: float) -> Time:
    """Time message of a time in seconds."""
    nanoseconds = round(float(seconds) * 1e9)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def make_header(stamp: Time, frame_id: str) -> Header:
    """Header with this stamp and frame."""
    return Header(stamp=stamp, frame_id=frame_id)


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    """Pose message of a rigid transform (4, 4); the quaternion has unit length and w >= 0.

    Raises:
        PoseError: the matrix is not a finite rigid transform.
    """
    matrix = check_pose(matrix, "T_camera_object")
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in matrix[:3, 3])
    x, y, z, w = (float(v) for v in quaternion_xyzw_from_matrix(matrix[:3, :3]))
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = x, y, z, w
    return pose


def pose_with_covariance(matrix: np.ndarray, covariance: np.ndarray) -> PoseWithCovariance:
    """Pose and its 6x6 covariance over (x, y, z, rotation about x, y, z), in m^2, m rad and rad^2.

    Raises:
        PoseError: the pose is not rigid, or the covariance is not finite.
        ShapeError: the covariance is not 6x6.
    """
    values = np.asarray(covariance, dtype=np.float64)
    if values.shape != (6, 6):
        raise ShapeError(f"covariance: expected shape (6, 6), got {values.shape}.")
    if not np.isfinite(values).all():
        raise PoseError("covariance: expected finite numbers, got NaN or infinity.")
    return PoseWithCovariance(pose=pose_from_matrix(matrix), covariance=values.ravel())


def unknown_pose_with_covariance(matrix: np.ndarray | None = None) -> PoseWithCovariance:
    """The last known pose (or the identity) marked as unknown: covariance[0] is -1."""
    covariance = np.zeros(36)
    covariance[0] = -1.0
    pose = Pose() if matrix is None else pose_from_matrix(matrix)
    return PoseWithCovariance(pose=pose, covariance=covariance)


def pose_with_covariance_stamped(pose: PoseWithCovariance, header: Header) -> PoseWithCovarianceStamped:
    """The pose with stamp and frame."""
    return PoseWithCovarianceStamped(header=header, pose=pose)


def transform_from_pose(pose: Pose, header: Header, child_frame: str) -> TransformStamped:
    """Transform header.frame_id -> child_frame with the values of a pose."""
    transform = TransformStamped(header=header, child_frame_id=child_frame)
    translation = transform.transform.translation
    translation.x, translation.y, translation.z = pose.position.x, pose.position.y, pose.position.z
    transform.transform.rotation = pose.orientation
    return transform


def tf_message_type() -> Any:
    """The class tf2_msgs/msg/TFMessage.

    Raises:
        MissingDependencyError: tf2_msgs is not installed; the message says what to do.
    """
    try:
        return importlib.import_module("tf2_msgs.msg").TFMessage
    except ImportError as cause:
        raise MissingDependencyError(
            "publish_tf=true needs the package tf2_msgs, which cannot be imported. Install it "
            "(apt-get install ros-jazzy-tf2-msgs, or ./run setup), or set publish_tf to false."
        ) from cause


def tf_from_transform(transform: TransformStamped) -> Any:
    """TFMessage with one transform.

    Raises:
        MissingDependencyError: tf2_msgs is not installed.
    """
    return tf_message_type()(transforms=[transform])
