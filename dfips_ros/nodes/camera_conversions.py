# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CameraInfo -> the pinhole camera of a mask; it lives in :mod:`dfips_ros.messages`, which knows no ROS."""

from __future__ import annotations

from ..messages.camera import DISTORTION_MODELS, DISTORTION_MODES, CameraModel, CameraView, camera_key

__all__ = ["DISTORTION_MODELS", "DISTORTION_MODES", "CameraModel", "CameraView", "camera_key"]
