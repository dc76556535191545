# SPDX-License-Identifier: Apache-2.0
"""The node light_estimator in a process of its own, with a stand-in for the solver, for the ROS tests.

The stand-in answers with what it was given: the direction is that of the object, the intensity the mean of red, the
ambient light the mean of blue, the residuals the focal length and the number of channels. An image whose mean is below
BLACK is refused as the real one does, one above DEFECT raises RuntimeError, one above DOUBTFUL is uncertain.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from dfips_ros.errors import PoseError
from dfips_ros.nodes.light_estimator import LightEstimatorNode
from dfips_ros.nodes.light_parameters import LightEstimatorParameters
from dfips_ros.nodes.managed_node import run_node
from dfips_ros.tasks.illumination import IlluminationSolution

BLACK, DOUBTFUL, DEFECT = 5.0, 220.0, 250.0
LAMP = np.array([0.3, -0.4, 0.2])


class StandInEstimator:
    def __init__(self, kind: str, solve_time: float) -> None:
        self.kind, self.solve_time = kind, solve_time

    def estimate(self, image, camera_matrix, T_camera_object, mask=None):
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        mean = float(image.mean())
        if mean < BLACK:
            raise PoseError("100 % of the object's pixels are black")
        if mean > DEFECT:
            raise RuntimeError("a defect that nobody expected")
        time.sleep(self.solve_time)
        red, blue = (image, image) if image.ndim == 2 else (image[..., 0], image[..., 2])
        centre = T_camera_object[:3, 3]
        return IlluminationSolution(
            kind=self.kind, direction=centre / np.linalg.norm(centre),
            position=centre + LAMP if self.kind == "point" else None, intensity=float(red.mean()),
            ambient=float(blue.mean()), albedo=np.ones(3), roughness=0.5, metallic=0.0,
            residual_norms=(float(camera_matrix[0, 0]), float(image.ndim)), history=np.tile(centre, (2, 1)),
            object_center=centre, object_diameter=0.2, direction_std_deg=1.0, pixels=100,
            reason="many pixels are saturated" if mean > DOUBTFUL else "", solve_time=self.solve_time,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--solve-time", type=float, default=0.01)
    options, ros_arguments = parser.parse_known_args()

    def make(parameters: LightEstimatorParameters):
        return StandInEstimator(parameters.kind, options.solve_time)

    return run_node(lambda: LightEstimatorNode(make), [sys.argv[0], *ros_arguments])


if __name__ == "__main__":
    raise SystemExit(main())
