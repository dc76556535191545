# SPDX-License-Identifier: Apache-2.0
"""Makes the tracker of the node ``pose_tracker`` from its parameters, and warms it up."""

from __future__ import annotations

import sys

import numba

from ..errors import ConfigError, MeshError
from ..processes.mesh import Mesh, load_mesh
from ..tasks.object_pose import (
    ObjectPoseEstimator,
    PoseTracker,
    Symmetries,
    TrackerConfig,
    tracking_estimator_config,
)
from ..tasks.object_pose.models_info import load_symmetries
from .tracker_parameters import PoseTrackerParameters


def tracker_config(parameters: PoseTrackerParameters) -> TrackerConfig:
    """The part of the parameters that the tracker itself takes."""
    return TrackerConfig(
        lost_iou=parameters.lost_iou,
        lost_frames=parameters.lost_frames,
        init_iou=parameters.init_iou,
        min_mask_pixels=parameters.min_mask_pixels,
    )


def load_tracked_mesh(parameters: PoseTrackerParameters) -> Mesh:
    """The mesh that the parameters name.

    Raises:
        MeshError: it cannot be used; the message names the parameters.
        ConfigError: the URI cannot be resolved.
    """
    path = parameters.mesh_path
    try:
        return load_mesh(path, parameters.mesh_scale)
    except MeshError as error:
        raise MeshError(
            f"parameters mesh={parameters.mesh!r}, mesh_scale={parameters.mesh_scale:g}: {error}"
        ) from error


def load_given_symmetries(parameters: PoseTrackerParameters) -> Symmetries | None:
    """The symmetries that the parameters name; None: they are to be found on the mesh.

    Raises:
        ConfigError: the file or its entry cannot be used; the message names the parameters.
    """
    path = parameters.models_info_path
    if path is None:
        return None
    try:
        return load_symmetries(path, parameters.mesh_path, parameters.models_info_key, parameters.mesh_scale)
    except ConfigError as error:
        raise ConfigError(
            f"parameters models_info={parameters.models_info!r}, models_info_key={parameters.models_info_key!r}: "
            f"{error}"
        ) from error


def use_threads(count: int) -> None:
    """Let the solver use so many CPU threads when it is called from the present thread."""
    if "torch" in sys.modules:  # the solver on the CPU does without
        sys.modules["torch"].set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def make_tracker(parameters: PoseTrackerParameters) -> tuple[ObjectPoseEstimator, PoseTracker]:
    """Load mesh and weights of one object, and compile and allocate what the first mask would wait for.

    Raises:
        MeshError: the mesh cannot be used.
        CheckpointError: the weights cannot be used.
        ConfigError: no such device, or the symmetries cannot be used.
    """
    estimator = ObjectPoseEstimator.from_mesh(
        load_tracked_mesh(parameters),
        device=parameters.device,
        weights=parameters.weights or None,
        config=tracking_estimator_config(tracker_config(parameters)),
        symmetries=load_given_symmetries(parameters),
    )
    estimator.warm_up()
    return estimator, PoseTracker(estimator, tracker_config(parameters))
