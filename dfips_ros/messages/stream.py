# SPDX-License-Identifier: Apache-2.0
"""What the order of incoming masks tells: rate, dropped frames, late frames, a clock set back."""

from __future__ import annotations

import enum
import statistics
from collections import deque

# A stamp that lies further back than this is a clock set back (a bag that starts again), not a late frame.
CLOCK_JUMP_SECONDS = 0.5

# A larger gap in the publisher's counter is another publisher, not lost frames.
MAX_SEQUENCE_GAP = 1000

WINDOW = 60


class Arrival(enum.Enum):
    """How a mask stands to the one before."""

    NEW = "new"
    LATE = "late"
    CLOCK_SET_BACK = "clock set back"


class MaskStream:
    """Counts masks. Times are seconds; ``arrival`` is of a steady clock, ``stamp`` of the message.

    Dropped frames are exact where the middleware numbers a publisher's messages, else they are estimated from
    gaps between stamps.
    """

    def __init__(self) -> None:
        self.received = 0
        self.dropped = 0
        self.late = 0
        self.set_back = 0
        self._stamp: float | None = None
        self._sequence: int | None = None
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._periods: deque[float] = deque(maxlen=WINDOW)

    def receive(self, stamp: float | None, arrival: float, sequence: int | None = None) -> Arrival:
        """Take note of a mask; one without a stamp (None) is never late.

        ``sequence``: the publisher's message counter, None where unknown.
        """
        self.received += 1
        self._arrivals.append(arrival)
        gap = None if stamp is None or self._stamp is None else stamp - self._stamp
        missing = self._missing(gap, sequence)
        self.dropped += missing
        self._sequence = sequence
        if gap is not None and -CLOCK_JUMP_SECONDS < gap <= 0.0:
            self.late += 1
            return Arrival.LATE
        self._stamp = self._stamp if stamp is None else stamp
        if gap is not None and gap <= 0.0:
            self._periods.clear()
            self.set_back += 1
            return Arrival.CLOCK_SET_BACK
        if gap is not None:
            self._periods.append(gap / (1 + missing))
        return Arrival.NEW

    @property
    def period(self) -> float | None:
        """Seconds between two masks as they were taken, dropped ones too: the median; None until five have come."""
        return statistics.median(self._periods) if len(self._periods) >= 5 else None

    def _missing(self, gap: float | None, sequence: int | None) -> int:
        if sequence is not None and self._sequence is not None:
            missing = sequence - self._sequence - 1
            return missing if 0 < missing <= MAX_SEQUENCE_GAP else 0
        if sequence is not None or gap is None or len(self._periods) < 5:
            return 0
        period = sorted(self._periods)[len(self._periods) // 5]
        return max(0, round(gap / period) - 1) if 0.0 < gap < MAX_SEQUENCE_GAP * period else 0

    def rate(self, now: float) -> float:
        """Masks per second over the last ones, 0 when none came for two seconds."""
        if len(self._arrivals) < 2 or now - self._arrivals[-1] > 2.0:
            return 0.0
        span = self._arrivals[-1] - self._arrivals[0]
        return (len(self._arrivals) - 1) / span if span > 0.0 else 0.0

    def silence(self, now: float) -> float | None:
        """Seconds since the last mask; None when there was none."""
        return now - self._arrivals[-1] if self._arrivals else None
