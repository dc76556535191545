# SPDX-License-Identifier: Apache-2.0
"""Which pose belongs to which image: the nearest in time, that may come later than the image."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from .mask_stream import CLOCK_JUMP_SECONDS

I = TypeVar("I")  # noqa: E741
P = TypeVar("P")

MAX_IMAGES = 16  # half a second of a usual camera; more of them are thinned out
MAX_POSES = 200


@dataclass(frozen=True)
class Pair(Generic[I, P]):
    """An image, and the pose nearest in time.

    Attributes:
        pose: None when there is none at all.
        gap: stamp of the pose minus stamp of the image [s].
    """

    image: I
    pose: P | None
    gap: float


class PosePairing(Generic[I, P]):
    """Holds the last images and poses. Times are seconds: ``stamp`` of a message, ``now`` of a steady clock.

    An image is *settled* once a pose with its stamp or a later one has come, as the nearest is known then.
    """

    def __init__(self) -> None:
        self._images: deque[tuple[float, float, I]] = deque()
        self._poses: deque[tuple[float, P]] = deque(maxlen=MAX_POSES)
        self._last = {"image": float("-inf"), "pose": float("-inf")}

    def add_image(self, stamp: float, image: I, now: float) -> None:
        """Take note of an image."""
        self._follow_clock("image", stamp)
        self._images.append((stamp, now, image))
        if len(self._images) > MAX_IMAGES:
            self._thin_out()

    def add_pose(self, stamp: float, pose: P) -> None:
        """Take note of a pose."""
        self._follow_clock("pose", stamp)
        self._poses.append((stamp, pose))

    def clear(self) -> None:
        """Forget everything."""
        self._images.clear()
        self._poses.clear()
        self._last = dict.fromkeys(self._last, float("-inf"))

    def _follow_clock(self, kind: str, stamp: float) -> None:
        """Forget what lies in the future when the clock was set back, as by a bag that starts again."""
        if stamp < self._last[kind] - CLOCK_JUMP_SECONDS:
            past = stamp + CLOCK_JUMP_SECONDS
            self._images = deque(each for each in self._images if each[0] <= past)
            self._poses = deque((each for each in self._poses if each[0] <= past), MAX_POSES)
        self._last[kind] = stamp

    def _thin_out(self) -> None:
        """Drop the image whose neighbours came nearest to each other: the oldest has waited and is to be answered."""
        arrivals = [arrival for _, arrival, _ in self._images]
        spans = [after - before for before, after in zip(arrivals, arrivals[2:], strict=False)]
        del self._images[1 + spans.index(min(spans))]

    def take(self, now: float, tolerance: float, patience: float) -> Pair[I, P] | None:
        """The newest image that is settled with a pose within ``tolerance`` seconds; None: wait.

        Where there is none, the newest image that has waited for ``patience`` seconds, with whatever pose is nearest.
        That image and those before it are given up.
        """
        newest = max((stamp for stamp, _ in self._poses), default=float("-inf"))
        pairs = [self._nearest(stamp, image) for stamp, _, image in self._images]
        ready, waited = [], []
        for index, (stamp, arrival, _) in enumerate(self._images):
            if stamp <= newest and abs(pairs[index].gap) <= tolerance:
                ready.append(index)
            elif now - arrival >= patience:
                waited.append(index)
        if not ready and not waited:
            return None
        chosen = (ready or waited)[-1]
        for _ in range(chosen + 1):
            self._images.popleft()
        return pairs[chosen]

    def _nearest(self, stamp: float, image: I) -> Pair[I, P]:
        if not self._poses:
            return Pair(image, None, 0.0)
        nearest, pose = min(self._poses, key=lambda each: abs(each[0] - stamp))
        return Pair(image, pose, nearest - stamp)
