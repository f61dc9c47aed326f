"""Whose turn it is: the calls of one driver that are not concurrent run one at a time, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

__all__ = ["Turns", "Work"]


class Work(Protocol):
    """One call that waits for its turn."""

    def run(self) -> None:
        """Do it and answer; never raises."""


class Turns:
    """Shared by every connection to one driver. The worker thread starts when it is first needed."""

    def __init__(self) -> None:
        self._queue: deque[Work] = deque()
        self._lock = threading.Lock()
        self._busy = False
        self._idle = threading.Condition(self._lock)
        self._watched = False
        self._work = threading.Semaphore(0)
        self._worker: threading.Thread | None = None

    def take(self, work: Work, *, at_once: bool) -> bool:
        """Ask for a turn.

        True: it is the caller's turn; it runs the work itself and then says `done`. False: the worker thread will.

        Args:
            at_once: the caller is willing to run it now; otherwise the worker does in any case.
        """
        with self._lock:
            if at_once and not self._busy:
                self._busy = True
                return True
            self._queue.append(work)
            if not self._busy:
                self._busy = True
                self._wake()
            return False

    def done(self) -> None:
        """The caller's turn is over: the worker goes on with what waits, if anything does."""
        with self._lock:
            if self._queue:
                self._wake()
            else:
                self._rest()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no call runs, at most `timeout_s` seconds. Returns whether it came to that."""
        with self._lock:
            self._watched = True
            return self._idle.wait_for(lambda: not self._busy, timeout_s)

    def _rest(self) -> None:
        self._busy = False
        if self._watched:
            self._idle.notify_all()

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._labour, name="vfab-worker", daemon=True)
            self._worker.start()
        self._work.release()

    def _labour(self) -> None:
        while True:
            self._work.acquire()
            while (work := self._next()) is not None:
                work.run()

    def _next(self) -> Work | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._rest()
            return None
