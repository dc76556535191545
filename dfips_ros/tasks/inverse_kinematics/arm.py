# SPDX-License-Identifier: Apache-2.0
"""An arm, its weights and a config as the arrays that the compiled search reads."""

from __future__ import annotations

import numpy as np

from ...geometry import invert_pose, make_pose
from ...processes.kinematics import SerialChain
from ...solver import Checkpoint
from . import search as jit
from .config import InverseKinematicsConfig
from .problem import ArmCore, full_turns
from .weights import flat_weights, restore_solver


def _row_pose(row: np.ndarray) -> np.ndarray:
    return make_pose(row[:9].reshape(3, 3), row[9:12])


def _pose_row(pose: np.ndarray) -> np.ndarray:
    return np.concatenate([pose[:3, :3].ravel(), pose[:3, 3]])


def core_transforms(chain: SerialChain, core: ArmCore) -> tuple[np.ndarray, np.ndarray]:
    """What takes a target of this arm to one of its core: ``T_core = first T_base_tip last``, (4, 4) each."""
    return invert_pose(_row_pose(chain.table[0])), invert_pose(_row_pose(chain.table[-1])) @ _row_pose(core.table[-1])


class ArmArrays:
    """Calls the compiled search.

    Args:
        chain: the arm.
        checkpoint: weights of the learned stages, or None.
        config: what counts as a solution.
    """

    def __init__(self, chain: SerialChain, checkpoint: Checkpoint | None, config: InverseKinematicsConfig) -> None:
        n = len(chain)
        config.check_posture(chain.names)
        self.lower = np.where(chain.wraps, -np.inf, chain.lower)
        self.upper = np.where(chain.wraps, np.inf, chain.upper)
        self._arm = (chain.table, np.stack([self.lower, self.upper, chain.lower, chain.upper, full_turns(chain)]))
        core = ArmCore.of(chain)
        self.reach, self.rotation_weight = core.reach, core.rotation_weight
        self._weights, self._shape = np.zeros(1, np.float32), np.zeros(5, np.int64)
        if checkpoint is not None:
            solver, core, network = restore_solver(checkpoint)
            self._weights, self._shape = flat_weights(solver, network, n)
        first, last = core_transforms(chain, core)
        self._core = (core.table, core.place, core.scale, _pose_row(first), _pose_row(last), core.sizes)
        self._middle = 0.5 * (chain.lower + chain.upper)
        self._posture = None if config.posture is None else np.array(config.posture, dtype=np.float64)
        self._unseeded = self._parameters(config)
        self._seeded = self._unseeded.copy()
        self._seeded[jit.HAS_SEED] = 1.0
        if config.posture is None:
            self._unseeded[jit.POSTURE_WEIGHT] = 0.0

    def _parameters(self, config: InverseKinematicsConfig) -> np.ndarray:
        params = np.zeros(jit.NUM_PARAMS)
        params[jit.TOLERANCE_P], params[jit.TOLERANCE_R] = config.position_tolerance, config.orientation_tolerance
        params[jit.ROTATION_WEIGHT] = 0.0 if config.position_only else self.rotation_weight
        params[jit.MAX_STEP] = np.inf if config.max_joint_step is None else config.max_joint_step
        params[jit.NUM_SEEDS], params[jit.POSTURE_WEIGHT] = config.num_seeds, config.posture_weight
        params[jit.RANDOM_SEED] = config.random_seed
        return params

    def resting(self, start: np.ndarray | None) -> np.ndarray:
        """The seed moved into the limits, or the middle of the limits."""
        return np.clip(self._middle if start is None else start, self.lower, self.upper)

    def search(self, matrix: np.ndarray, start: np.ndarray | None, todo: int, first: int, restarts: int) -> np.ndarray:
        """One target (4, 4) from a seed (n,) or None; returns (n + NUM_OUT,), see ``search.py``."""
        params = self._unseeded if start is None else self._seeded
        seed = self._middle if start is None else start
        posture = seed if self._posture is None else self._posture
        out = np.empty(len(seed) + jit.NUM_OUT)
        jit.search(
            matrix, seed, posture, self._arm, self._core, self._weights, self._shape, params, todo, first, restarts, out
        )
        return out

    def search_many(
        self, matrices: np.ndarray, starts: np.ndarray | None, todo: int, first: int, restarts: int
    ) -> np.ndarray:
        """As :meth:`search` for (B, 4, 4) and (B, n)."""
        params = self._unseeded if starts is None else self._seeded
        seeds = np.tile(self._middle, (len(matrices), 1)) if starts is None else starts
        postures = seeds if self._posture is None else np.tile(self._posture, (len(matrices), 1))
        outs = np.empty((len(matrices), seeds.shape[1] + jit.NUM_OUT))
        jit.search_many(
            matrices, seeds, postures, self._arm, self._core, self._weights, self._shape, params, todo, first, restarts,
            outs,
        )  # fmt: skip
        return outs
