# SPDX-License-Identifier: Apache-2.0
"""Track several objects over a sequence of images: one tracker for each, solved in one batch, without ROS."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from ...checks import check_camera_matrix, check_mask
from ...errors import ConfigError, DfipsError
from ...processes.threads import for_each_alone
from .mask_solve import MaskRequest, ObjectPoseSolution, solve_masks
from .tracker import PoseTracker, TrackerConfig, TrackResult

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
        """Take the masks of one image, on as many threads as numba may use.

        Objects that are tracked and seen are solved in one batch. One that is not (it is searched for), or that its
        solve leaves in doubt, takes a path of its own beside the others.

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
        solved = solve_ordinary(trackers, masks, camera_matrix, stamp)

        def solve(name: str) -> None:
            try:
                tracker, mask = trackers[name], masks[name]
                if isinstance(tracker, PoseTracker):
                    found[name] = tracker.update(mask, camera_matrix, stamp, solved.get(name))
                else:
                    found[name] = tracker.update(mask, camera_matrix, stamp)
            except Exception as error:
                found[name] = error

        # What is solved, or out of sight, takes no time: the threads are shared among the rest.
        rest = [name for name in masks if name not in solved and np.asarray(masks[name]).any()]
        for name in set(masks) - set(rest):
            solve(name)
        for_each_alone(len(rest), lambda i: solve(rest[i]))
        return {name: found[name] for name in masks}


def solve_ordinary(
    trackers: Mapping[str, Tracker], masks: Mapping[str, np.ndarray], camera_matrix: np.ndarray, stamp: float
) -> dict[str, ObjectPoseSolution | Exception]:
    """Solve the masks of those objects that are just followed, in one batch; nothing where it would be one alone."""
    requests: dict[str, MaskRequest] = {}
    for name, tracker in trackers.items():
        solver = getattr(getattr(tracker, "estimator", None), "object_solver", None)
        if not isinstance(tracker, PoseTracker) or solver is None or not solver.is_compiled:
            continue
        with contextlib.suppress(DfipsError):  # the tracker itself tells what is wrong
            mask, matrix = check_mask(masks[name]), check_camera_matrix(camera_matrix)
            starts = tracker.ordinary_starts(mask, stamp)
            if starts is not None:
                requests[name] = MaskRequest(solver, mask, starts)
    if len(requests) < 2:
        return {}
    return dict(zip(requests, solve_masks(list(requests.values()), matrix), strict=True))
