# SPDX-License-Identifier: Apache-2.0
"""Joint positions for a target pose of the tip, numpy in and numpy out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...checks import check_pose, check_range
from ...errors import ConfigError, PoseError, ShapeError
from ...processes.kinematics import SerialChain
from ...processes.rasterizer import parallel_lock
from ...solver import Checkpoint, pick_device
from . import search as jit
from .arm import ArmArrays
from .batch import BatchStages
from .collision import SelfCollision
from .config import InverseKinematicsConfig
from .solution import APPROXIMATE, NO_SOLUTION, SOLVED, TIMED_OUT, JointSolution
from .weights import find_weights, load_weights

logger = logging.getLogger(__name__)

Seed = np.ndarray | Sequence[float] | Mapping[str, float]
CHUNK = 16  # restarts between two looks at the clock: less than a millisecond
LIMIT_SLACK = 1e-9


class InverseKinematicsEstimator:
    """Learned feedback solver for the inverse kinematics of one serial arm; may be shared between threads.

    Args:
        chain: the arm.
        checkpoint: weights of the learned stages; None to do without.
        config: what counts as a solution.
        collision: rejects solutions in which the robot touches itself.
        device: where the stages of a batch run: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        chain: SerialChain,
        checkpoint: Checkpoint | None = None,
        config: InverseKinematicsConfig | None = None,
        collision: SelfCollision | None = None,
        device: str = "auto",
    ) -> None:
        self.chain, self.collision = chain, collision
        self.config = config or InverseKinematicsConfig()
        self.device = pick_device(device)
        self.joint_names = chain.names
        self.lower, self.upper, self.wraps = chain.lower, chain.upper, chain.wraps
        self.base, self.tip = chain.base, chain.tip
        self.has_weights = checkpoint is not None
        self.provenance = checkpoint.provenance if checkpoint else {}
        self._arrays = ArmArrays(chain, checkpoint, self.config)
        self._stages = BatchStages(chain, checkpoint, self.device) if checkpoint is not None else None
        # Compiled code is loaded now (the first time ever it is compiled), not when the first deadline runs.
        self._arrays.search(np.eye(4), None, jit.TRY_SEED | jit.TRY_STAGES, 0, 1)

    @classmethod
    def from_urdf(
        cls,
        path_or_xml: str | Path,
        tip: str,
        base: str | None = None,
        device: str = "auto",
        weights: str | Path | None = None,
        config: InverseKinematicsConfig | None = None,
        srdf: str | Path | None = None,
    ) -> InverseKinematicsEstimator:
        """Build an estimator from a robot description.

        Args:
            path_or_xml: a URDF file, or its text.
            tip: link to bring to the target.
            base: link in whose frame targets are given; the root of the robot by default.
            device: where the stages of a batch run: ``auto``, ``cpu`` or ``cuda``.
            weights: safetensors file; by default shipped ones, where there are some for this arm. An arm without
                weights is solved by Levenberg-Marquardt with restarts alone.
            config: what counts as a solution.
            srdf: an SRDF file or its text; solutions in which the robot touches itself are rejected then. The URDF's
                meshes must be found.

        Raises:
            ConfigError: the URDF or SRDF cannot be used, no such link or device.
            CheckpointError: the weights file cannot be read, or was trained for another arm.
        """
        chain = SerialChain.from_urdf(path_or_xml, tip, base)
        for note in chain.notes:
            logger.warning("%s", note)
        checkpoint = load_weights(weights, chain) if weights is not None else find_weights(chain)
        if checkpoint is None:
            logger.warning(
                "no weights for the arm %s -> %s: it is solved by Levenberg-Marquardt with random restarts. "
                "Train some: dfips train inverse_kinematics --urdf U --tip %s", chain.base, chain.tip, tip
            )  # fmt: skip
        collision = SelfCollision(chain, path_or_xml, srdf) if srdf is not None else None
        return cls(chain, checkpoint, config, collision, device)

    def forward(self, q: object) -> np.ndarray:
        """T_base_tip (4, 4) of joint positions (n,), or (B, 4, 4) of (B, n)."""
        positions, n = np.asarray(q, dtype=np.float64), len(self.chain)
        if positions.ndim not in (1, 2) or positions.shape[-1] != n:
            raise ShapeError(f"q: expected shape ({n},) or (B, {n}), got {positions.shape}.")
        poses = self.chain.forward(positions.reshape(-1, n))
        return poses if positions.ndim == 2 else poses[0]

    def solve(self, T_base_tip: object, seed: Seed | None = None, timeout: float = 0.05) -> JointSolution:
        """Find joint positions that bring the tip to the target.

        Args:
            T_base_tip: (4, 4) target pose of the tip in the base link's frame, metres.
            seed: where the arm is: (n,) in the order of ``joint_names``, or name -> position (others are ignored). A
                seed beyond the limits is moved into them. Without one the search starts anywhere.
            timeout: seconds, on the steady clock. At zero only the seed itself is looked at.

        Raises:
            PoseError: the target is not a rigid transform.
            ShapeError: the seed has another size, lacks a joint, or is not finite.
            ConfigError: the timeout is negative, or ``max_joint_step`` is set and there is no seed.
        """
        began = time.perf_counter()
        if not timeout >= 0.0:
            raise ConfigError(f"timeout={timeout!r}: expected seconds, at least 0.")
        matrix = np.ascontiguousarray(T_base_tip, dtype=np.float64)
        if matrix.shape != (4, 4):
            check_pose(T_base_tip, "T_base_tip")
        start = self._seed(seed)
        if timeout == 0.0:
            found = self._arrays.search(matrix, start, 0, 0, 0)
        else:
            found = self._arrays.search(matrix, start, jit.TRY_SEED | jit.TRY_STAGES, 0, self._chunk(0))
        self._check(found, matrix)
        spent = int(found[-jit.NUM_OUT + jit.RESTARTS])
        while self._unsolved(found) and timeout > 0.0 and not self._hopeless(matrix):
            if time.perf_counter() - began >= timeout or spent >= self.config.max_restarts:
                break
            more = self._arrays.search(matrix, start, 0, spent, self._chunk(spent))
            spent += int(more[-jit.NUM_OUT + jit.RESTARTS])
            found = self._better(found, more)
        return self._answer(found, matrix, start, time.perf_counter() - began, spent)

    def solve_batch(self, T_base_tip: object, seeds: object | None = None, timeout: float = 1.0) -> list[JointSolution]:
        """Solve many targets at once, on all processor cores.

        Args:
            T_base_tip: (B, 4, 4).
            seeds: (B, n), or (n,) for all.
            timeout: seconds for the whole batch.

        Raises:
            PoseError, ShapeError, ConfigError: as for :meth:`solve`.
        """
        began = time.perf_counter()
        if not timeout > 0.0:
            raise ConfigError(f"timeout={timeout!r}: expected seconds, more than 0.")
        matrices = np.ascontiguousarray(T_base_tip, dtype=np.float64)
        if matrices.ndim != 3 or matrices.shape[1:] != (4, 4):
            raise ShapeError(f"T_base_tip: expected shape (B, 4, 4), got {matrices.shape}.")
        starts = None if seeds is None else self._seeds(seeds, len(matrices))
        if starts is None:
            self._seed(None)
        free = self.config.max_joint_step is None and not self.config.position_only
        if self._stages is not None and self.device.type == "cuda" and free:
            found = self._stages_elsewhere(matrices, starts, self._stages)
        else:
            found = self._search_many(matrices, starts, jit.TRY_SEED | jit.TRY_STAGES, 0, self._chunk(0))
        for row, matrix in zip(found, matrices, strict=True):
            self._check(row, matrix)
        spent = np.zeros(len(matrices), dtype=int)
        spent[:] = found[:, -jit.NUM_OUT + jit.RESTARTS]
        waiting = [b for b in range(len(matrices)) if self._unsolved(found[b]) and not self._hopeless(matrices[b])]
        while waiting and time.perf_counter() - began < timeout:
            first = int(spent[waiting].max())
            if first >= self.config.max_restarts:
                break
            more = self._search_many(
                matrices[waiting], None if starts is None else starts[waiting], 0, first, self._chunk(first)
            )  # fmt: skip
            for b, row in zip(waiting, more, strict=True):
                spent[b] += int(row[-jit.NUM_OUT + jit.RESTARTS])
                found[b] = self._better(found[b], row)
            waiting = [b for b in waiting if self._unsolved(found[b])]
        share = (time.perf_counter() - began) / max(len(matrices), 1)
        return [
            self._answer(found[b], matrices[b], None if starts is None else starts[b], share, int(spent[b]))
            for b in range(len(matrices))
        ]

    def _stages_elsewhere(self, matrices: np.ndarray, starts: np.ndarray | None, stages: BatchStages) -> np.ndarray:
        """The first tries of a batch, with the stages in torch for all that the seeds alone did not solve."""
        found = self._search_many(matrices, starts, jit.TRY_SEED, 0, 0)
        left = np.flatnonzero(found[:, -jit.NUM_OUT] == 0.0)
        if len(left) > 0 and not (found[:, -jit.NUM_OUT + jit.BAD_POSE] > 0).any():
            seeds = None if starts is None else starts[left]
            proposed = stages.history(matrices[left], seeds, min(self.config.num_seeds, stages.most))[-1]
            more = self._search_many(matrices[left], proposed, jit.TRY_SEED, 0, self._chunk(0))
            more[:, -jit.NUM_OUT + jit.STAGES] = stages.count
            found[left] = [self._better(found[b], row) for b, row in zip(left, more, strict=True)]
        return found

    def unroll(self, T_base_tip: np.ndarray, seeds: np.ndarray, follow: int = 1) -> np.ndarray:
        """What the learned stages alone do with seeds, without polish.

        Args:
            T_base_tip: (B, 4, 4).
            seeds: (B, n).
            follow: so many of the first stage's proposals are followed up, each for itself, and the one that ends
                nearest to the target is returned; 1 is the plain solver.

        Returns:
            (T + 1, B, n) joint positions, the start (within the limits) first.

        Raises:
            ConfigError: this arm has no weights, or its first stage does not make so many proposals.
        """
        if self._stages is None:
            raise ConfigError("unroll: this arm has no weights. Train some: dfips train inverse_kinematics")
        check_range("follow", follow, 1, self._stages.most)
        return self._stages.history(np.asarray(T_base_tip, np.float64), self._seeds(seeds, len(T_base_tip)), follow)

    def _search_many(
        self, matrices: np.ndarray, starts: np.ndarray | None, todo: int, first: int, restarts: int
    ) -> np.ndarray:
        with parallel_lock:
            return self._arrays.search_many(matrices, starts, todo, first, restarts)

    def _chunk(self, spent: int) -> int:
        return min(CHUNK, self.config.max_restarts - spent)

    def _check(self, found: np.ndarray, matrix: np.ndarray) -> None:
        if found[-jit.NUM_OUT + jit.BAD_POSE] > 0:
            check_pose(matrix, "T_base_tip")
            raise PoseError(f"T_base_tip: expected a rigid transform, got {matrix.tolist()}.")

    def _unsolved(self, found: np.ndarray) -> bool:
        """Nothing was found, or the robot would touch itself; in that case the finding is taken back."""
        if found[-jit.NUM_OUT] > 0 and self.collision is not None and self.collision(found[: -jit.NUM_OUT]):
            found[-jit.NUM_OUT] = 0.0
            found[-jit.NUM_OUT + jit.POSITION_ERROR : -jit.NUM_OUT + jit.ORIENTATION_ERROR + 1] = np.inf
        return bool(found[-jit.NUM_OUT] == 0.0)

    def _better(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The better one of two findings, with the efforts of both."""
        self._unsolved(new)
        best = new if new[-jit.NUM_OUT] > 0 or self._cost(new) < self._cost(old) else old
        other = old if best is new else new
        for counter in (jit.STAGES, jit.ITERATIONS):
            best[-jit.NUM_OUT + counter] += other[-jit.NUM_OUT + counter]
        return best

    def _cost(self, found: np.ndarray) -> float:
        stats = found[-jit.NUM_OUT :]
        return float(stats[jit.POSITION_ERROR] + self._arrays.rotation_weight * stats[jit.ORIENTATION_ERROR])

    def _hopeless(self, matrix: np.ndarray) -> bool:
        """The target is farther from the first joint than the arm is long."""
        return math.dist(matrix[:3, 3], self.chain.table[0, 9:12]) > self._arrays.reach + self.config.position_tolerance

    def _answer(
        self, found: np.ndarray, matrix: np.ndarray, start: np.ndarray | None, seconds: float, restarts: int
    ) -> JointSolution:
        stats, positions = found[-jit.NUM_OUT :], found[: -jit.NUM_OUT]
        c = self.config
        errors = float(stats[jit.POSITION_ERROR]), float(stats[jit.ORIENTATION_ERROR])
        success, status, reason = stats[jit.FOUND] > 0, SOLVED, ""
        if not success:
            reason = self._reason(matrix, errors, restarts)
            near = errors[0] <= c.approximate_position and (
                c.position_only or errors[1] <= c.approximate_orientation
            )  # fmt: skip
            if c.return_approximate and near:
                success, status = True, APPROXIMATE
            else:
                hopeless = self._hopeless(matrix) or restarts >= c.max_restarts
                status = NO_SOLUTION if hopeless else TIMED_OUT
                positions = self._arrays.resting(start)
                errors = jit.tip_errors(self.chain.table, matrix, positions)
        low, high = self._arrays.lower, self._arrays.upper
        inside = bool(((positions >= low - LIMIT_SLACK) & (positions <= high + LIMIT_SLACK)).all())
        jump = math.nan if start is None else float(np.abs(positions - start).max())
        return JointSolution(
            self.joint_names, positions, bool(success), errors[0], errors[1], int(stats[jit.STAGES]),
            int(stats[jit.ITERATIONS]), restarts, jump, inside, status, reason, seconds,
        )  # fmt: skip

    def _reason(self, matrix: np.ndarray, errors: tuple[float, float], restarts: int) -> str:
        if self._hopeless(matrix):
            distance = math.dist(matrix[:3, 3], self.chain.table[0, 9:12])
            return f"the target is {distance:.3f} m from the first joint, the arm reaches {self._arrays.reach:.3f} m"
        if not math.isfinite(errors[0]):
            return f"the robot would touch itself in every solution that {restarts} restarts found"
        return (
            f"no solution within the limits after {restarts} restarts; the nearest pose is {1e3 * errors[0]:.2f} mm "
            f"and {math.degrees(errors[1]):.2f} degrees off"
        )

    def _seed(self, seed: Seed | None) -> np.ndarray | None:
        if seed is None:
            if self.config.max_joint_step is not None:
                raise ConfigError(f"seed=None: max_joint_step={self.config.max_joint_step} needs a seed.")
            return None
        if isinstance(seed, Mapping):
            missing = [name for name in self.joint_names if name not in seed]
            if missing:
                raise ShapeError(f"seed: positions are missing for {', '.join(missing)}; got {', '.join(seed)}.")
            seed = [seed[name] for name in self.joint_names]
        try:
            values = np.array(seed, dtype=np.float64)
        except (TypeError, ValueError) as cause:
            raise ShapeError(f"seed: expected numbers, got {seed!r}.") from cause
        if values.shape != (len(self.joint_names),):
            names = ", ".join(self.joint_names)
            raise ShapeError(f"seed: expected {len(self.joint_names)} positions ({names}), got shape {values.shape}.")
        if not math.isfinite(values.sum()):
            raise ShapeError(f"seed: expected finite numbers, got {values.tolist()}.")
        return values

    def _seeds(self, seeds: object, count: int) -> np.ndarray:
        try:
            rows = np.array(seeds, dtype=np.float64)
        except (TypeError, ValueError) as cause:
            raise ShapeError(f"seeds: expected numbers, got {seeds!r}.") from cause
        if rows.ndim == 1:
            rows = np.tile(rows, (count, 1))
        if rows.shape != (count, len(self.joint_names)) or not np.isfinite(rows).all():
            raise ShapeError(f"seeds: expected finite numbers ({count}, {len(self.joint_names)}), got {rows.shape}.")
        return rows
