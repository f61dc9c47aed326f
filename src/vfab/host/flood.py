"""A limit on what a driver may say unasked: more than so much in a second is counted, not sent."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["FloodGate"]


class FloodGate:
    """Lets `per_s` messages through in each second.

    Args:
        per_s: how many.
        clock: seconds that only grow.
    """

    def __init__(self, per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._second = -1
        self._passed = 0
        self._dropped = 0

    def passes(self) -> bool:
        """Whether one more may be sent; otherwise it is counted as dropped."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._passed = second, 0
        self._passed += 1
        if self._passed > self._per_s:
            self._dropped += 1
            return False
        return True

    def take_dropped(self) -> int:
        """How many were dropped since the last call, once some may pass again; else 0."""
        if not self._dropped or int(self._clock()) == self._second:
            return 0
        dropped, self._dropped = self._dropped, 0
        return dropped
