# SPDX-License-Identifier: Apache-2.0
"""The objects that the node ``pose_tracker`` tracks: configured, added and removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..errors import ConfigError, DfipsError
from ..tasks.object_pose import ObjectPoseEstimator, PoseTracker, TrackResult, TrackState
from ..tasks.object_pose.multi_tracker import MultiTracker, shared_config
from .background_search import GRACE_SECONDS, BackgroundSearch
from .object_track import ObjectTrack
from .tracker_factory import tracker_config
from .tracker_parameters import ObjectParameters, PoseTrackerParameters, check_distinct

Loaded = tuple[ObjectPoseEstimator, PoseTracker]
TrackerFactory = Callable[[PoseTrackerParameters], Loaded]


class TrackedObjectSet:
    """Objects by name, in the order of adding.

    Args:
        factory: makes estimator and tracker of one object from its parameters.
    """

    def __init__(self, factory: TrackerFactory) -> None:
        self._factory = factory
        self._trackers: MultiTracker[PoseTracker] = MultiTracker()
        self._search = BackgroundSearch()
        self._tracks: dict[str, ObjectTrack] = {}
        self._reserved: dict[str, PoseTrackerParameters] = {}
        self._generation = 0

    @property
    def tracks(self) -> list[ObjectTrack]:
        """The objects, in the order of adding."""
        return list(self._tracks.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._tracks)

    @property
    def generation(self) -> int:
        """Changes when all objects are removed at once."""
        return self._generation

    def __getitem__(self, name: str) -> ObjectTrack:
        """The object of this name.

        Raises:
            ConfigError: there is none, or it is still being loaded.
        """
        if name in self._reserved:
            raise ConfigError(f"object '{name}': it is still being loaded; wait for the answer of ~/add_object.")
        _ = self._trackers[name]
        return self._tracks[name]

    def load(self, parameters: PoseTrackerParameters) -> Loaded:
        """Load one object; takes a second or so.

        Raises:
            DfipsError: it cannot be loaded.
        """
        return self._factory(parameters)

    def reserve(self, parameters: PoseTrackerParameters) -> None:
        """Keep name and label for an object that is being loaded; :meth:`release` gives them free.

        Raises:
            ConfigError: name, frame or label are taken.
        """
        if parameters.name in self._reserved:
            raise ConfigError(f"object '{parameters.name}': it is already being loaded.")
        check_distinct([*(track.parameters for track in self.tracks), *self._reserved.values(), parameters])
        self._reserved[parameters.name] = parameters

    def release(self, name: str) -> None:
        """The end of :meth:`reserve`."""
        self._reserved.pop(name, None)

    def add(self, parameters: PoseTrackerParameters, own: ObjectParameters | None, loaded: Loaded) -> ObjectTrack:
        """Add a loaded object.

        Args:
            parameters: of the node as if this were its single object.
            own: what was told of this object; None: it is the single one that the node's parameters describe.
            loaded: what :meth:`load` made.

        Raises:
            ConfigError: name, frame or label are taken.
        """
        check_distinct([*(track.parameters for track in self.tracks), parameters])
        estimator, tracker = loaded
        number = self._trackers.add(parameters.name, tracker)
        track = self._tracks[parameters.name] = ObjectTrack(parameters, own, estimator, tracker, number)
        track.settle = lambda: self._search.settle(parameters.name)
        self._share()
        return track

    def remove(self, name: str) -> None:
        """Remove an object.

        Raises:
            ConfigError: there is none of this name, or it is still being loaded.
        """
        self[name].settle()
        self._trackers.remove(name)
        del self._tracks[name]
        self._share()

    def clear(self) -> None:
        """Remove all objects; their numbers are not used again."""
        self._search.close()
        self._trackers.clear()
        self._tracks, self._reserved = {}, {}
        self._generation += 1

    def check(self, parameters: PoseTrackerParameters) -> None:
        """Raise unless the objects fit to changed parameters of the node.

        Raises:
            ConfigError: two objects could not be told apart any more.
        """
        check_distinct([*self._present(parameters).values(), *self._reserved.values()])

    def take(self, parameters: PoseTrackerParameters) -> None:
        """Take over changed parameters of the node."""
        for name, each in self._present(parameters).items():
            track = self._tracks[name]
            track.parameters = each
            if track.own is not None and track.configured:
                track.own = parameters.object_parameters[name]
        self._share()

    def _share(self) -> None:
        """Set every tracker up for the number of objects."""
        for track in self.tracks:
            track.tracker.config = shared_config(tracker_config(track.parameters), len(self._tracks))

    def _present(self, parameters: PoseTrackerParameters) -> dict[str, PoseTrackerParameters]:
        """Parameters of each object."""
        found = {}
        for track in self.tracks:
            own = parameters.object_parameters[track.name] if track.own and track.configured else track.own
            found[track.name] = parameters if own is None else parameters.of(track.name, own)
        return found

    def update(
        self, masks: Mapping[str, np.ndarray], camera_matrix: np.ndarray, stamp: float
    ) -> dict[str, TrackResult | Exception]:
        """Take the masks of one image; see :meth:`MultiTracker.update`.

        While one object is tracked, those that are lost are looked for in the background, one at a time. Their masks
        are left out meanwhile.
        """
        found: dict[str, TrackResult | Exception] = {}
        told = self._search.outcome()
        if told is not None and isinstance(told[1], Exception) and told[0] in masks:
            found[told[0]] = told[1]
        busy = self._search.name
        waiting = [name for name in masks if name not in found and self._waits(name, masks, busy)]
        chosen = busy
        if waiting and not busy:
            chosen = self._search.begin({name: self._trackers[name] for name in waiting}, masks, camera_matrix, stamp)
        now = {name: mask for name, mask in masks.items() if name not in found and name not in waiting}
        found |= self._trackers.update(now, camera_matrix, stamp)
        for name in waiting:
            why = "searching" if name == chosen else f"waiting until the search for '{chosen}' is through"
            found[name] = TrackResult(self._tracks[name].state, why, None, stamp)
        if waiting and not busy and (told := self._search.outcome(GRACE_SECONDS)) is not None:
            found[chosen] = told[1]
        return {name: found[name] for name in masks}

    def _waits(self, name: str, masks: Mapping[str, np.ndarray], busy: str) -> bool:
        """Whether an object is looked for in the background: it is now, or it is seen but lost, and another is not."""

        def tracked(other: str) -> bool:
            return other != busy and self._trackers[other].state == TrackState.TRACKING and bool(masks[other].any())

        return name == busy or (
            not tracked(name) and bool(masks[name].any()) and any(tracked(other) for other in masks)
        )  # fmt: skip


def in_words(error: Exception) -> str:
    """An error as the message of a service's answer."""
    return str(error) if isinstance(error, DfipsError) else f"{type(error).__name__}: {error}"
