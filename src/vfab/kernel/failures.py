"""Which calls of a device's drivers failed lately, whoever made them: what a driver on probation is compared with."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vfab.model.errors import DriverError

__all__ = ["LATELY_S", "Failure", "Failures"]

LATELY_S = 60.0
"""How long what failed is remembered."""

_MOST = 256


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed, or a stream that did.

    Attributes:
        driver: process id of the host that it failed in.
        method: what was called; `stream NAME` for a stream.
        error: what the driver said.
        at_s: when, on the monotonic clock.
    """

    driver: int
    method: str
    error: DriverError
    at_s: float


class Failures:
    """Those of one device. Safe between threads: synchronous callers note theirs from their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: deque[Failure] = deque(maxlen=_MOST)
        self._lock = threading.Lock()

    def note(self, driver: int, method: str, error: DriverError) -> None:
        """`method` failed in the host `driver`."""
        with self._lock:
            self._noted.append(Failure(driver, method, error, self._clock()))

    def of(self, driver: int) -> tuple[Failure, ...]:
        """What failed lately in the host `driver`, oldest first."""
        return tuple(failure for failure in self._lately() if failure.driver == driver)

    def of_others(self, driver: int) -> tuple[Failure, ...]:
        """What failed lately in other hosts than `driver`, oldest first."""
        return tuple(failure for failure in self._lately() if failure.driver != driver)

    def forget(self, driver: int) -> None:
        """The host `driver` never had the device, as it turned out: nobody is compared with it."""
        with self._lock:
            kept = [failure for failure in self._noted if failure.driver != driver]
            self._noted.clear()
            self._noted.extend(kept)

    def _lately(self) -> list[Failure]:
        since_s = self._clock() - LATELY_S
        with self._lock:
            return [failure for failure in self._noted if failure.at_s >= since_s]
