"""Cancelling: one token a call, looked at by whatever waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

from vfab.model.errors import Cancelled, TimeoutExceeded

__all__ = ["CancelToken", "check_token", "current_token"]


class CancelToken:
    """Says whether the call that runs now is still wanted.

    Waiting code polls `fileno()` beside its own descriptor, so that a cancel wakes it at once. Once the call is over
    the token is inert: what the call left running in the background (a task that reads a link) is not bound by it.

    Args:
        timeout_s: the caller's patience in seconds; 0 means endless.
    """

    __slots__ = ("_cancelled", "_closed", "_deadline", "_lock", "_pipe", "_when_cancelled")

    def __init__(self, timeout_s: float = 0.0) -> None:
        self._deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        self._cancelled = False
        self._pipe: tuple[int, int] | None = None
        self._when_cancelled: Callable[[], object] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        """Somebody cancelled the call."""
        return self._cancelled

    @property
    def closed(self) -> bool:
        """The call is over: nothing cancels it any more, and no deadline counts."""
        return self._closed

    def remaining_s(self, at_most_s: float | None = None) -> float | None:
        """Seconds until the caller gives up, at most `at_most_s`; None when neither sets a limit."""
        if self._deadline is None:
            return at_most_s
        left = max(0.0, self._deadline - time.monotonic())
        return left if at_most_s is None else min(left, at_most_s)

    def check(self) -> None:
        """Raise Cancelled when the call was cancelled, TimeoutExceeded when its time is up."""
        if self._cancelled:
            raise Cancelled("the operation was cancelled")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimeoutExceeded("the caller's time is up")

    def cancel(self) -> None:
        """Cancel the call; whoever waits on `fileno()` wakes."""
        with self._lock:
            if self._closed or self._cancelled:
                return
            self._cancelled = True
            if self._pipe is not None:
                os.write(self._pipe[1], b"x")
            if self._when_cancelled is not None:
                self._when_cancelled()

    def when_cancelled(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once, from whatever thread cancels; at once when that has happened."""
        with self._lock:
            self._when_cancelled = callback
            if self._cancelled:
                callback()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the call is cancelled; -1 once the call is over."""
        with self._lock:
            if self._closed:
                return -1
            if self._pipe is None:
                self._pipe = os.pipe()
                if self._cancelled:
                    os.write(self._pipe[1], b"x")
            return self._pipe[0]

    def close(self) -> None:
        """Give the descriptors back; the call is over."""
        with self._lock:
            self._closed = True
            self._cancelled = False
            self._deadline = self._when_cancelled = None
            if self._pipe is not None:
                for fd in self._pipe:
                    os.close(fd)
                self._pipe = None


current_token: ContextVar[CancelToken | None] = ContextVar("vfab_current_token", default=None)
"""The token of the call that this thread or task runs for."""


def check_token() -> None:
    """For long computations: raise Cancelled, or TimeoutExceeded, when nobody waits for the running call any more."""
    token = current_token.get()
    if token is not None:
        token.check()
