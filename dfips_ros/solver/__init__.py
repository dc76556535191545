# SPDX-License-Identifier: Apache-2.0
"""The closed-loop solver: tensors and protocols only, no renderer, robot or image knowledge.

Method: Ma et al., "Deep Feedback Inverse Problem Solver", ECCV 2020.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import SolverConfig
from .device import device_name, pick_device
from .protocols import EstimateSpace, Estimator, Feedback, FeedbackFeatures, ForwardProcess, Solution

if TYPE_CHECKING:
    from .feedback import FeedbackSolver
    from .spaces import ImageSpace, JointBoxSpace, Se3ImageSpace, SphereSpace, VectorSpace
    from .stage import ResidualFeedback, StageNetwork
    from .training import StageTrainer, TrainingConfig

_NEEDS_TORCH = {  # imported when they are asked for: who solves with compiled stages alone does without torch
    "FeedbackSolver": "feedback", "ImageSpace": "spaces", "JointBoxSpace": "spaces", "Se3ImageSpace": "spaces",
    "SphereSpace": "spaces", "VectorSpace": "spaces", "ResidualFeedback": "stage", "StageNetwork": "stage",
    "StageTrainer": "training", "TrainingConfig": "training",
}  # fmt: skip

__all__ = [
    "Checkpoint",
    "Estimator",
    "EstimateSpace",
    "Feedback",
    "FeedbackFeatures",
    "FeedbackSolver",
    "ForwardProcess",
    "ImageSpace",
    "JointBoxSpace",
    "ResidualFeedback",
    "Se3ImageSpace",
    "Solution",
    "SolverConfig",
    "SphereSpace",
    "StageNetwork",
    "StageTrainer",
    "TrainingConfig",
    "VectorSpace",
    "device_name",
    "load_checkpoint",
    "pick_device",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
