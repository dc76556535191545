# SPDX-License-Identifier: Apache-2.0
"""Illumination: where the light comes from, told by how it falls on an object of known shape and pose.

>>> from dfips_ros.tasks.illumination import IlluminationEstimator
>>> estimator = IlluminationEstimator.from_mesh("mug.obj", kind="directional")  # doctest: +SKIP
>>> solution = estimator.estimate(image, camera_matrix, T_camera_object)  # doctest: +SKIP
>>> solution.direction  # unit vector from the object towards the light, optical frame  # doctest: +SKIP
"""

from .config import KINDS, IlluminationConfig, LightDataConfig
from .estimator import PROCESSES, IlluminationEstimator
from .solution import IlluminationSolution, chrome_sphere

__all__ = [
    "KINDS",
    "PROCESSES",
    "IlluminationConfig",
    "IlluminationEstimator",
    "IlluminationSolution",
    "LightDataConfig",
    "chrome_sphere",
]
