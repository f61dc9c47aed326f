"""How much of what one host says is handled before the others have their turn: a flood delays its own host only."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["AT_ONCE", "A_SECOND", "FairShare"]

AT_ONCE = 128
"""Messages of one host that are handled in one turn of the event loop: about a millisecond."""

A_SECOND = 20_000
"""Messages of one host in a second. An honest one cannot send so many unasked: its own gates hold them back."""


class FairShare:
    """Counts the messages of one host.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = 0
        self._second = 0
        self._ends_s = 0.0

    def begin(self) -> None:
        """Another turn of the event loop."""
        self._turn = 0

    def spent(self) -> float | None:
        """One more message was handled. None: the next one may be; else the seconds after which it may."""
        self._turn += 1
        self._second += 1
        if self._turn < AT_ONCE:
            return None
        now_s = self._clock()
        if now_s >= self._ends_s:
            self._second, self._ends_s = self._turn, now_s + 1.0
        return self._ends_s - now_s if self._second >= A_SECOND else 0.0
