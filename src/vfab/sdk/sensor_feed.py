"""Sensors that speak by themselves: a thread takes what comes, and whoever wants samples reads them from the feed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from vfab.model.errors import Cancelled, DriverError, LinkLost
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.sensor_data import Sample

__all__ = ["Pump", "SampleFeed"]

_LOOK_S = 0.1


class SampleFeed:
    """The latest samples, numbered from 1, for any number of readers. The oldest go first, and readers see how many.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._samples: deque[Sample] = deque(maxlen=capacity)
        self._count = 0
        self._error: DriverError | None = None
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """The number of the latest sample; 0 before the first."""
        return self._count

    @property
    def error(self) -> DriverError | None:
        """What the feed failed with."""
        return self._error

    def latest(self) -> Sample | None:
        """The latest sample."""
        with self._changed:
            return self._samples[-1] if self._samples else None

    def publish(self, sample: Sample) -> None:
        """Add a sample and wake who waits."""
        with self._changed:
            self._samples.append(sample)
            self._count += 1
            self._changed.notify_all()

    def fail(self, error: DriverError) -> None:
        """No more samples come: every reader gets `error` once it has read what there is."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wake(self) -> None:
        """Wake who waits, so that it looks whether it is still wanted."""
        with self._changed:
            self._changed.notify_all()

    def after(
        self, number: int, timeout_s: float, *, wanted: Callable[[], bool] = lambda: True
    ) -> tuple[int, Sample | None, int]:
        """The next sample after the one numbered `number`.

        Returns:
            (its number, the sample, how many before it were lost); (number, None, 0) when none came in time, or the
            reader is not wanted any more.

        Raises DriverError: what the feed failed with. Cancelled: the call was cancelled.
        """
        token = current_token.get()
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if token is not None:
                    token.check()
                if self._count > number:
                    oldest = self._count - len(self._samples) + 1
                    chosen = max(number + 1, oldest)
                    return chosen, self._samples[chosen - oldest], chosen - number - 1
                if self._error is not None:
                    raise self._error
                left = deadline - time.monotonic()
                if left <= 0 or not wanted():
                    return number, None, 0
                self._changed.wait(min(left, _LOOK_S))  # a cancelled call wakes nobody here


class Pump:
    """A thread that feeds: calls `work` until it is stopped; what `work` raises ends the feed.

    `work` runs with a token of its own, so that every wait on a link ends when the pump is stopped.
    """

    def __init__(self, name: str, feed: SampleFeed, work: Callable[[], None]) -> None:
        self._feed = feed
        self._work = work
        self._token = CancelToken()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """It feeds."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread; waits for it, unless it is the caller."""
        self._token.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._token.close()

    def _run(self) -> None:
        current_token.set(self._token)
        try:
            while not self._token.cancelled:
                self._work()
        except Cancelled:
            self._feed.fail(LinkLost("the sensor was disconnected"))
        except DriverError as error:
            self._feed.fail(error)
        else:
            self._feed.fail(LinkLost("the sensor was disconnected"))
