# SPDX-License-Identifier: Apache-2.0
"""What the order of incoming masks tells: rate, dropped, late and stale frames, a clock set back."""

from __future__ import annotations

import math
from typing import Any

from ..messages.stream import CLOCK_JUMP_SECONDS, MAX_SEQUENCE_GAP, Arrival, MaskStream

__all__ = [
    "CLOCK_JUMP_SECONDS", "MAX_LAG_SECONDS", "MAX_SEQUENCE_GAP", "Arrival", "MaskStream", "ResetBarrier",
    "sequence_number",
]  # fmt: skip

# A stamp that is further behind the node's clock than this is of another clock.
MAX_LAG_SECONDS = 1.0
# No mask waits longer than this for its turn; one that seems to was stamped by a clock that has been set back since.
MAX_WAIT_SECONDS = 10.0


def sequence_number(info: dict[str, Any]) -> int | None:
    """The publisher's message counter in what rclpy says of a message; None where the middleware does not count."""
    number = info.get("publication_sequence_number")
    return number if isinstance(number, int) and 0 < number < 2**63 else None


class ResetBarrier:
    """Tells the masks that were taken before a reset: no result of theirs is to be published after it.

    Where the masks' stamps are on the node's clock, the stamp tells; else the time at which the middleware received
    them does.
    """

    def __init__(self) -> None:
        self.lift()

    def lift(self) -> None:
        """Every mask counts again."""
        self._clock = self._system = -math.inf

    def set(self, clock: float, system: float) -> None:
        """A reset. ``clock``: now on the node's clock; ``system``: now on the computer's; seconds."""
        self._clock, self._system = clock, system

    def is_before(self, stamp: float | None, clock: float, received: float | None) -> bool:
        """True for a mask from before the reset.

        Args:
            stamp: of the mask, None where it has none.
            clock: now on the node's clock.
            received: on the computer's clock, None where unknown.
        """
        if stamp is not None and 0.0 <= clock - stamp <= MAX_LAG_SECONDS and _just_before(stamp, self._clock):
            return True
        return received is not None and _just_before(received, self._system)


def _just_before(time: float, reset: float) -> bool:
    return 0.0 < reset - time <= MAX_WAIT_SECONDS
