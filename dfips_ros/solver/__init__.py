# SPDX-License-Identifier: Apache-2.0
"""The closed-loop solver: tensors and protocols only, no renderer, robot or image knowledge.

Method: Ma et al., "Deep Feedback Inverse Problem Solver", ECCV 2020.
"""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .device import pick_device
from .feedback import FeedbackSolver, SolverConfig
from .protocols import EstimateSpace, Estimator, Feedback, FeedbackFeatures, ForwardProcess, Solution
from .spaces import ImageSpace, JointBoxSpace, Se3ImageSpace, SphereSpace, VectorSpace
from .stage import ResidualFeedback, StageNetwork
from .training import StageTrainer, TrainingConfig

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
    "load_checkpoint",
    "pick_device",
    "save_checkpoint",
]
