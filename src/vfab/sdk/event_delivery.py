"""How events reach a listener: a bounded queue of its own, emptied by a thread or by the listener's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from vfab.model.events import DriverEvent

__all__ = ["BUDGET", "Delivery", "Listener", "LoopDelivery"]

Listener = Callable[[DriverEvent], Any]

BUDGET = 64
"""Events that a listener gets in one turn while others wait."""

_log = logging.getLogger("vfab.events")


class Delivery:
    """One listener, its queue, and what became of its events.

    `offer` and `schedule` are called with the bus's lock held; the queue is emptied without it. A deque's append and
    popleft are atomic.

    Attributes:
        delivered: how many events the listener was called with.
        lost: events that were dropped, the oldest first, because the queue was full.
        failures: how often the listener raised.
        scheduled: somebody is emptying the queue, or will.
        closed: nothing is delivered any more.
    """

    def __init__(self, name: str, listener: Listener, max_queue: int, *, weak: bool) -> None:
        self.name = name
        self.delivered = self.lost = self.failures = 0
        self.reported = 0
        self.reported_at = float("-inf")
        self.closed = self.scheduled = False
        self.queue: deque[DriverEvent] = deque()
        self._max_queue = max_queue
        self._strong = None if weak else listener
        self._weak = _weak_reference(listener) if weak else None

    @property
    def listener(self) -> Listener | None:
        """The listener; None when it was held weakly and is gone."""
        return self._strong if self._weak is None else self._weak()

    def offer(self, event: DriverEvent) -> bool:
        """Queue `event`; False when an older one was lost for it."""
        kept = True
        if len(self.queue) >= self._max_queue:
            with contextlib.suppress(IndexError):  # whoever delivers may just have emptied it
                self.queue.popleft()
                self.lost += 1
                kept = False
        self.queue.append(event)
        if not self.scheduled:
            self.scheduled = True
            self.schedule()
        return kept

    def schedule(self) -> None:
        """See to it that the queue is emptied soon."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what runs for the listener, where that can be done."""

    def close(self) -> None:
        """Deliver nothing any more. A call that runs now is not interrupted."""
        self.closed = True
        self.queue.clear()

    def next(self) -> tuple[Listener, DriverEvent] | None:
        """The listener and its next event; None when there is no event, or nobody to tell."""
        listener = self.listener
        if listener is None or self.closed:
            self.close()
            return None
        try:
            event = self.queue.popleft()
        except IndexError:
            return None
        self.delivered += 1
        return listener, event

    def failed(self, event: DriverEvent) -> None:
        """The listener raised; called while that is handled. Told at first and at each doubling."""
        self.failures += 1
        if self.failures & (self.failures - 1) == 0:
            text = "listener %s failed on %s: failure %d in %d events"
            _log.exception(text, self.name, event.event_type, self.failures, self.delivered)


def _weak_reference(listener: Listener) -> Callable[[], Listener | None]:
    return weakref.WeakMethod(listener) if inspect.ismethod(listener) else weakref.ref(listener)


class LoopDelivery(Delivery):
    """Delivers on an event loop: to an `async` listener, or to a plain one that must run there.

    Args:
        loop: the loop.
        lock: the bus's.
        finished: called when the queue is empty.
    """

    def __init__(
        self,
        name: str,
        listener: Listener,
        max_queue: int,
        *,
        weak: bool,
        loop: asyncio.AbstractEventLoop,
        lock: threading.Condition,
        finished: Callable[[Delivery], None],
    ) -> None:
        super().__init__(name, listener, max_queue, weak=weak)
        self._loop = loop
        self._lock = lock
        self._finished = finished
        self._task: asyncio.Task[None] | None = None

    def offer(self, event: DriverEvent) -> bool:
        """Queue `event`. A loop that is closed ends the subscription."""
        if self._loop.is_closed():
            _log.warning("listener %s is removed: its event loop is closed", self.name)
            self.close()
            self.scheduled = False
            return True
        return super().offer(event)

    def schedule(self) -> None:
        """Have the loop empty the queue."""
        # a loop that closes just now is noticed at the next offer
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Cancel the listener's call, if one runs; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and what ran there is over
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._empty())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _empty(self) -> None:
        try:
            while self.scheduled:
                await self._turn()
                with self._lock:
                    self.scheduled = bool(self.queue)
        finally:
            if self.scheduled:  # the task was cancelled: the loop ends, or the subscription
                self.close()
                self.scheduled = False
            self._task = None
            self._finished(self)

    async def _turn(self) -> None:
        for _ in range(BUDGET):
            told = self.next()
            if told is None:
                return
            listener, event = told
            try:
                result = listener(event)
                if isinstance(result, Awaitable):
                    await result
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.failed(event)  # the listener's own cancellation is not this task's
            except Exception:
                self.failed(event)
            del listener, told  # or this frame would keep a weakly held listener alive
        await asyncio.sleep(0)  # others want the loop, too
