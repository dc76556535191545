# SPDX-License-Identifier: Apache-2.0
"""A moving target that an arm can follow, and how well it was followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import rotation_angle
from ..processes.kinematics import SerialChain

REACH = 0.3  # of half the range between the limits
CENTRE = 0.1
PERIODS = (3.0, 9.0)  # seconds
RAMP_SECONDS = 1.5
MAX_SPEED = 0.8  # rad/s or m/s, of the joints behind the path
POSITION_LIMIT, ANGLE_LIMIT = 1e-3, np.deg2rad(0.1)  # what counts as solved: 1 mm and 0.1 degrees


@dataclass(frozen=True)
class TargetPath:
    """Poses of the tip at a fixed rate.

    Attributes:
        poses: (N, 4, 4) T_base_tip.
        start: (n,) joint positions of the first one.
        rate: poses per second.
    """

    poses: np.ndarray
    start: np.ndarray
    rate: float


def moving_target(chain: SerialChain, seconds: float, rate: float, seed: int = 0) -> TargetPath:
    """A smooth path of the tip within reach: forward kinematics of joints that swing with random periods and phases.

    It starts at rest near the middle of the joints' limits and stays well inside them. Nobody but the forward
    kinematics sees the joints behind it.

    Args:
        chain: the arm.
        seconds: length.
        rate: poses per second.
        seed: of periods and phases.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate))[:, None] / rate
    half = 0.5 * (chain.upper - chain.lower)
    swing = REACH * half
    period = rng.uniform(*PERIODS, len(half))
    period = np.maximum(period, 2 * np.pi * swing / MAX_SPEED)
    phase = rng.uniform(0.0, 2 * np.pi, len(half))
    ramp = np.clip(time / RAMP_SECONDS, 0.0, 1.0)
    ramp = ramp * ramp * (3.0 - 2.0 * ramp)
    waves = np.sin(2 * np.pi * time / period + phase) - np.sin(phase)
    joints = 0.5 * (chain.lower + chain.upper) + CENTRE * half + 0.5 * swing * ramp * waves
    return TargetPath(chain.forward(joints), joints[0], rate)


def pose_errors(reached: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances [m] and angles [rad] between poses (B, 4, 4), (B,) each."""
    distance = np.linalg.norm(reached[:, :3, 3] - targets[:, :3, 3], axis=1)
    return distance, np.asarray(rotation_angle(reached[:, :3, :3], targets[:, :3, :3]))
