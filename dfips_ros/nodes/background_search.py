# SPDX-License-Identifier: Apache-2.0
"""Looks for a lost object in a thread of its own, so that the objects that are tracked need not wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from ..processes.threads import one_compiled_thread
from ..tasks.object_pose import PoseTracker, TrackResult

# A search that is through so soon after the others [s] answers its own mask.
GRACE_SECONDS = 0.005


class BackgroundSearch:
    """One search at a time. The tracker belongs to it until the search is through: call :meth:`settle` before a change.

    A pose that it finds is of a mask that is old by then: it is not given to anyone, but the tracker goes on from it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._search: tuple[str, Future[TrackResult]] | None = None
        self._turns: list[str] = []  # who was looked for, the last one last

    @property
    def name(self) -> str:
        """Who is looked for now; empty: nobody."""
        return self._search[0] if self._search is not None and not self._search[1].done() else ""

    def begin(
        self, trackers: Mapping[str, PoseTracker], masks: Mapping[str, np.ndarray], camera_matrix: np.ndarray,
        stamp: float,
    ) -> str:  # fmt: skip
        """Look for the one of ``trackers`` that waits longest, in its mask; nobody else is looked for. -> its name."""
        chosen = min(trackers, key=lambda name: self._turns.index(name) if name in self._turns else -1)
        self._turns = [*(name for name in self._turns if name != chosen), chosen]

        def search() -> TrackResult:
            with one_compiled_thread():
                return trackers[chosen].update(masks[chosen], camera_matrix, stamp)

        self._pool = self._pool or ThreadPoolExecutor(1, "search")
        self._search = chosen, self._pool.submit(search)
        return chosen

    def outcome(self, patience: float = 0.0) -> tuple[str, TrackResult | Exception] | None:
        """Who was looked for, and what came of it, told once; None: nothing, or it takes more than ``patience`` [s]."""
        if self._search is None or not wait([self._search[1]], patience).done:
            return None
        (name, future), self._search = self._search, None
        error = future.exception()
        return name, error if isinstance(error, Exception) else future.result()

    def settle(self, name: str) -> None:
        """Wait until no search for this one is under way."""
        if self.name == name and self._search is not None:
            wait([self._search[1]])

    def close(self) -> None:
        """Wait for the search that is under way, and forget all."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._search = None
        self._turns = []
