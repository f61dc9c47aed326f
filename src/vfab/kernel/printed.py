"""What a driver prints, as lines for the log, at a bearable rate."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LINES_PER_S", "Printed"]

LINES_PER_S = 200
"""Lines that a driver may print in a second; more are counted, not told."""


class Printed:
    """Passes on what a driver prints, at most `LINES_PER_S`.

    Args:
        tell: is told each line that is passed on, and how many were not.
        clock: seconds that only grow.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._second = -1
        self._count = 0

    def take(self, line: str) -> bool:
        """The driver printed `line`. False: it was only counted, and so will others be for a while."""
        second = int(self._clock())
        if second != self._second:
            dropped, self._second, self._count = self._count - LINES_PER_S, second, 0
            if dropped > 0:
                self._tell(f"{dropped} lines dropped: the driver prints too many")
        self._count += 1
        if self._count > LINES_PER_S:
            return False
        self._tell(line)
        return True

    def skip(self, count: int) -> None:
        """So many lines were printed that nobody looked at."""
        self._count += count
