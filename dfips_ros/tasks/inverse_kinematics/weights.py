# SPDX-License-Identifier: Apache-2.0
"""Weights of the learned stages: files, which arm they are for, and the flat form that the compiled stages read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import CheckpointError
from ...processes.kinematics import SerialChain
from ...solver import Checkpoint, FeedbackSolver, load_checkpoint, save_checkpoint
from .config import JointNetworkConfig
from .problem import ArmCore, feature_count, make_solver

KIND = "inverse_kinematics"
SHIPPED = Path(__file__).resolve().parents[2] / "data" / "weights"
CORE_KEYS = ("table", "lower", "upper", "wraps")


def save_weights(
    path: str | Path, core: ArmCore, config: JointNetworkConfig, provenance: dict[str, Any], solver: FeedbackSolver
) -> None:
    """Write a weights file: half precision, with the arm in its header."""
    arm = {key: getattr(core, key).tolist() for key in CORE_KEYS}
    weights = {name: value.to(torch.float16) for name, value in solver.stages.state_dict().items()}
    save_checkpoint(path, Checkpoint(KIND, {"network": config.to_dict(), "arm": arm}, provenance, weights))


def core_of(checkpoint: Checkpoint) -> ArmCore:
    """The arm that a weights file was trained for."""
    try:
        arm = checkpoint.config["arm"]
        table, lower, upper = (np.array(arm[key], dtype=np.float64) for key in CORE_KEYS[:3])
        return ArmCore(table, lower, upper, np.array(arm["wraps"], dtype=bool))
    except (KeyError, TypeError, ValueError) as cause:
        raise CheckpointError(f"weights: the header does not describe an arm ({cause!r}). Train them again.") from cause


def find_weights(chain: SerialChain, folder: Path = SHIPPED) -> Checkpoint | None:
    """Shipped weights for this arm, on whatever stand and with whatever tool; None if there are none."""
    core = ArmCore.of(chain)
    for file in sorted(folder.glob("ik_*.safetensors")):
        checkpoint = load_checkpoint(file, KIND)
        if core_of(checkpoint).matches(core):
            return checkpoint
    return None


def load_weights(path: str | Path, chain: SerialChain) -> Checkpoint:
    """Read a weights file for this arm.

    Raises:
        CheckpointError: it cannot be read, or was trained for another arm.
    """
    checkpoint = load_checkpoint(path, KIND)
    if not core_of(checkpoint).matches(ArmCore.of(chain)):
        raise CheckpointError(
            f"weights '{path}': they were trained for another arm than {chain.base} -> {chain.tip} (joints, their "
            "placement or their limits differ). Train some: dfips train inverse_kinematics --urdf U --tip L"
        )
    return checkpoint


def restore_solver(checkpoint: Checkpoint) -> tuple[FeedbackSolver, ArmCore, JointNetworkConfig]:
    """The solver of a weights file, in single precision."""
    core = core_of(checkpoint)
    config = JointNetworkConfig.from_dict(checkpoint.config["network"])
    solver = make_solver(core, config)
    try:
        solver.stages.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    except RuntimeError as cause:
        raise CheckpointError(f"weights: they do not fit the network in their header ({cause}).") from cause
    solver.eval()
    return solver, core, config


def flat_weights(solver: FeedbackSolver, config: JointNetworkConfig, joints: int) -> tuple[np.ndarray, np.ndarray]:
    """All stages in one float32 array, and its layout as :func:`run_stages` reads it."""
    parts = []
    shape = [config.solver.num_stages, feature_count(joints), config.width, config.layers, joints]
    for t in range(config.solver.num_stages):
        shape += config.proposals(t)
        for layer in solver.stage(t).network:  # type: ignore[union-attr]
            if isinstance(layer, torch.nn.Linear):
                parts += [layer.weight.detach().reshape(-1), layer.bias.detach()]
    return torch.cat(parts).float().cpu().numpy(), np.array(shape, dtype=np.int64)
