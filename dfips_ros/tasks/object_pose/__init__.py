# SPDX-License-Identifier: Apache-2.0
"""6-DoF pose of a known mesh from its silhouette."""

from .config import ObjectPoseConfig, PoseDataConfig
from .estimator import ObjectPoseEstimator, ObjectPoseSolution
from .hypotheses import EstimatorConfig
from .metrics import mask_iou, rotation_error_deg, translation_error
from .symmetry import Symmetries
from .tracker import PoseTracker, TrackerConfig, TrackResult, TrackState, tracking_estimator_config

__all__ = [
    "EstimatorConfig",
    "ObjectPoseConfig",
    "ObjectPoseEstimator",
    "ObjectPoseSolution",
    "PoseDataConfig",
    "PoseTracker",
    "Symmetries",
    "TrackResult",
    "TrackState",
    "TrackerConfig",
    "mask_iou",
    "rotation_error_deg",
    "tracking_estimator_config",
    "translation_error",
]
