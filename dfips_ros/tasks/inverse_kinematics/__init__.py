# SPDX-License-Identifier: Apache-2.0
"""Joint positions of a serial arm for a target pose of its tip."""

from .config import InverseKinematicsConfig, JointNetworkConfig
from .estimator import InverseKinematicsEstimator
from .solution import APPROXIMATE, NO_SOLUTION, SOLVED, STATUSES, TIMED_OUT, JointSolution

__all__ = [
    "APPROXIMATE",
    "NO_SOLUTION",
    "SOLVED",
    "STATUSES",
    "TIMED_OUT",
    "InverseKinematicsConfig",
    "InverseKinematicsEstimator",
    "JointNetworkConfig",
    "JointSolution",
]
