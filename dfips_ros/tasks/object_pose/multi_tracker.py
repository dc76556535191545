# SPDX-License-Identifier: Apache-2.0
"""Track several objects over a sequence of images: one tracker for each, solved side by side, without ROS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numba as nb
import numpy as np

from ...errors import ConfigError
from ...processes.threads import for_each
from .tracker import TrackerConfig, TrackResult

SHARED_SEARCH_INTERVAL = 5  # masks


def shared_config(config: TrackerConfig, objects: int) -> TrackerConfig:
    """The configuration of a tracker that works beside others: its searches should hold them up as little as may be."""
    if objects < 2:
        return config
    return replace(config, reinit_interval=SHARED_SEARCH_INTERVAL, search_at_loss=False)


class Tracker(Protocol):
    """What is needed of the tracker of one object; see :class:`PoseTracker`."""

    def update(self, mask: np.ndarray, camera_matrix: np.ndarray, stamp: float) -> TrackResult:
        """Take one mask."""
        ...


T = TypeVar("T", bound=Tracker)


class MultiTracker(Generic[T]):
    """Several objects, each with a name and a number: 1 and up in the order of adding, never used twice."""

    def __init__(self) -> None:
        self._trackers: dict[str, T] = {}
        self._numbers: dict[str, int] = {}
        self._next_number = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The objects, in the order of adding."""
        return tuple(self._trackers)

    def __len__(self) -> int:
        return len(self._trackers)

    def add(self, name: str, tracker: T) -> int:
        """Add an object. -> its number.

        Args:
            name: unique.
            tracker: of this object alone: one solver must not work for two at a time.

        Raises:
            ConfigError: there is an object of that name, or the tracker is in use.
        """
        if name in self._trackers:
            raise ConfigError(f"object '{name}': there is another one of this name; choose a unique one.")
        if any(tracker is other for other in self._trackers.values()):
            raise ConfigError(f"object '{name}': its tracker is in use for another object; make one for each.")
        self._trackers[name] = tracker
        self._numbers[name] = self._next_number
        self._next_number += 1
        return self._numbers[name]

    def remove(self, name: str) -> T:
        """Remove an object. -> its tracker.

        Raises:
            ConfigError: there is none of that name.
        """
        tracker = self[name]
        del self._trackers[name], self._numbers[name]
        return tracker

    def __getitem__(self, name: str) -> T:
        if name not in self._trackers:
            known = ", ".join(repr(each) for each in self._trackers) or "none"
            raise ConfigError(f"object '{name}': there is none of this name; there are: {known}.")
        return self._trackers[name]

    def number(self, name: str) -> int:
        """Number of an object.

        Raises:
            ConfigError: there is none of that name.
        """
        _ = self[name]
        return self._numbers[name]

    def clear(self) -> None:
        """Remove all objects; numbers go on."""
        self._trackers, self._numbers = {}, {}

    def update(
        self, masks: Mapping[str, np.ndarray], camera_matrix: np.ndarray, stamp: float
    ) -> dict[str, TrackResult | Exception]:
        """Take the masks of one image. Objects are solved on as many threads as numba may use.

        Args:
            masks: (H, W) for each object that this image tells about.
            camera_matrix: (3, 3).
            stamp: time of the image, seconds.

        Returns:
            For each of ``masks`` what its tracker returned or raised: one object's error is none of the others'.

        Raises:
            ConfigError: there is no object of a name in ``masks``.
        """
        trackers = {name: self[name] for name in masks}
        found: dict[str, TrackResult | Exception] = {}

        def solve(name: str) -> None:
            try:
                found[name] = trackers[name].update(masks[name], camera_matrix, stamp)
            except Exception as error:
                found[name] = error

        # An object that is out of sight takes no time: what is seen is all that the threads are shared among.
        seen = [name for name in masks if np.asarray(masks[name]).any()]
        for name in set(masks) - set(seen) if len(seen) > 1 else masks:
            solve(name)
        if len(seen) > 1:

            def solve_alone(i: int) -> None:
                with one_compiled_thread():
                    solve(seen[i])

            for_each(len(seen), solve_alone)
        return {name: found[name] for name in masks}


@contextlib.contextmanager
def one_compiled_thread() -> Iterator[None]:
    """Keep compiled code that is called from the present thread on it: the others have work of their own."""
    threads: Any = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        yield
    finally:
        nb.set_num_threads(threads)
