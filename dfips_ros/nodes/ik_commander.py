# SPDX-License-Identifier: Apache-2.0
"""Joint states by name, and joint commands that follow a goal within speed limits. No ROS in here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


class JointMemory:
    """The last position of each joint of an arm, from messages that may hold other joints, or only some.

    Args:
        names: the joints of interest.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._seen: dict[str, tuple[float, float]] = {}

    def note(self, names: Iterable[str], positions: Iterable[float], now: float) -> None:
        """Take over what is known and finite; ``now`` in seconds of a steady clock."""
        for name, position in zip(names, positions, strict=False):
            if name in self.names and math.isfinite(position):
                self._seen[name] = (float(position), now)

    def missing(self, now: float, timeout: float) -> list[str]:
        """Joints without a position younger than ``timeout`` seconds."""
        return [n for n in self.names if n not in self._seen or now - self._seen[n][1] > timeout]

    def known(self) -> dict[str, float]:
        """Positions of the joints that were ever seen."""
        return {name: position for name, (position, _) in self._seen.items()}

    def age(self, now: float) -> float | None:
        """Age [s] of the oldest position; None while one is missing."""
        if not self.names or len(self._seen) < len(self.names):
            return None
        return max(now - when for _, when in self._seen.values())


class JointCommander:
    """A command that moves in a straight line of joint space to a goal, no joint faster than its limit.

    Args:
        speeds: (n,) largest speeds, rad/s or m/s.
        wraps: (n,) bool, joints that turn without end: they take the short way round.
    """

    def __init__(self, speeds: np.ndarray, wraps: np.ndarray) -> None:
        self.speeds = np.asarray(speeds, dtype=np.float64)
        self._wraps = np.asarray(wraps, dtype=bool)
        self.command: np.ndarray | None = None
        self.goal: np.ndarray | None = None

    @property
    def moving(self) -> bool:
        """There is a command that has not reached its goal."""
        return self.command is not None and self.goal is not None and bool(np.any(self.command != self.goal))

    def stop(self) -> None:
        """Forget command and goal."""
        self.command = self.goal = None

    def start(self, positions: np.ndarray) -> None:
        """Begin at the joints' present positions (n,)."""
        self.command = np.array(positions, dtype=np.float64)

    def head_for(self, positions: np.ndarray) -> None:
        """Set the goal (n,); :meth:`start` comes first."""
        assert self.command is not None
        goal = np.array(positions, dtype=np.float64)
        self.goal = np.where(self._wraps, self.command + self.way(self.command, goal), goal)

    def way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """How far and in which direction each joint has to go, (n,) each, rad or m."""
        way = np.asarray(end, dtype=np.float64) - np.asarray(start, dtype=np.float64)
        return np.where(self._wraps, np.remainder(way + np.pi, 2 * np.pi) - np.pi, way)

    def step(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Go on for one period. -> positions and mean velocities of the period, (n,) each."""
        assert self.command is not None and self.goal is not None
        way = self.goal - self.command
        needed = float(np.max(np.abs(way) / self.speeds, initial=0.0))
        before = self.command
        self.command = self.goal if needed <= seconds else before + way * (seconds / needed)
        return self.command, (self.command - before) / seconds
