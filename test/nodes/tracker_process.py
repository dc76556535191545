# SPDX-License-Identifier: Apache-2.0
"""The node pose_tracker in a process of its own, with a stand-in for the solver, for the ROS tests.

The stand-in puts the object's origin on the ray through the middle of the mask. It raises RuntimeError for a
mask of exactly CRASH_PIXELS pixels, and takes ``--solve-time`` seconds for each mask. It cannot render an object
above the row CRASH_ROW. Some objects take LOAD_SECONDS to load.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from dfips_ros.checks import check_pose_in_view
from dfips_ros.nodes.managed_node import run_node
from dfips_ros.nodes.pose_tracker import PoseTrackerNode
from dfips_ros.nodes.tracker_factory import load_tracked_mesh, tracker_config
from dfips_ros.nodes.tracker_parameters import PoseTrackerParameters
from dfips_ros.tasks.object_pose import ObjectPoseSolution, Symmetries, TrackerConfig, TrackResult, TrackState

CRASH_PIXELS = 777
CRASH_ROW = 30
DEPTH = 0.5
LOAD_SECONDS = {"third": 1.0, "glacier": 5.0}


class StandInEstimator:
    def __init__(self, mesh):
        self.mesh = mesh
        self.symmetries = Symmetries.none()

    def render_mask(self, T_camera_object, camera_matrix, size):
        mask = np.zeros(size, dtype=bool)
        pixel = camera_matrix @ T_camera_object[:3, 3]
        x, y = (pixel[:2] / pixel[2]).astype(int)
        if y < CRASH_ROW:
            raise RuntimeError("a defect in the renderer")
        mask[max(y - 20, 0) : y + 20, max(x - 20, 0) : x + 20] = True
        return mask


class StandInTracker:
    def __init__(self, config: TrackerConfig, solve_time: float):
        self.config = config
        self.solve_time = solve_time
        self.reset()

    def reset(self):
        self.state = TrackState.INITIALISING
        self.missed = 0
        self.start = None

    def set_pose(self, T_camera_object):
        self.start = check_pose_in_view(T_camera_object)

    def update(self, mask, camera_matrix, stamp):
        time.sleep(self.solve_time)
        count = int(mask.sum())
        if count == CRASH_PIXELS:
            raise RuntimeError("a defect that nobody expected")
        if count < self.config.min_mask_pixels:
            self.missed += 1
            if self.state == TrackState.TRACKING and self.missed >= self.config.lost_frames:
                self.state = TrackState.LOST
            return TrackResult(state=self.state, reason="mask is empty", solution=None, stamp=stamp)
        self.missed = 0
        self.state = TrackState.TRACKING
        rows, columns = np.nonzero(mask)
        ray = np.linalg.inv(camera_matrix) @ np.array([columns.mean(), rows.mean(), 1.0])
        pose = np.eye(4)
        if self.start is not None:
            pose[:3, :3] = self.start[:3, :3]
        pose[:3, 3] = DEPTH * ray
        solution = ObjectPoseSolution(
            T_camera_object=pose,
            covariance=np.eye(6) * 1e-6,
            iou=0.95,
            history=(pose, pose),
            residual_norms=np.array([0.5, 0.25]),
            solve_time=self.solve_time,
        )
        return TrackResult(state=self.state, reason="tracking", solution=solution, stamp=stamp)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--solve-time", type=float, default=0.0)
    options, ros_arguments = parser.parse_known_args()

    def make(parameters: PoseTrackerParameters):
        time.sleep(LOAD_SECONDS.get(parameters.name, 0.0))
        estimator = StandInEstimator(load_tracked_mesh(parameters))
        return estimator, StandInTracker(tracker_config(parameters), options.solve_time)

    return run_node(lambda: PoseTrackerNode(make), [sys.argv[0], *ros_arguments])


if __name__ == "__main__":
    raise SystemExit(main())
