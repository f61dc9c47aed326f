"""The threads that call plain listeners: few, however many listeners there are, and none can be taken by one of them.

One thread *leads*: it gives each listener with waiting events a turn. A listener that takes longer than `SLOW_S` keeps
that thread until it returns, and another thread leads. From then on its turns run beside the leader, until it is quick
again. So there are two threads, and one more for each listener that is slow just now; one that hangs delays the
others once, by `SLOW_S`.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable

from vfab.model.errors import ConfigurationError
from vfab.sdk.event_delivery import BUDGET, Delivery, Listener

__all__ = ["IDLE_S", "SLOW_S", "ThreadDelivery", "Workers"]

SLOW_S = 0.02
"""How long a listener may keep the leading thread."""

IDLE_S = 5.0
"""How long a thread without work waits before it ends."""


class ThreadDelivery(Delivery):
    """Delivers to a plain listener on a thread of `workers`."""

    def __init__(self, name: str, listener: Listener, max_queue: int, *, weak: bool, workers: Workers) -> None:
        super().__init__(name, listener, max_queue, weak=weak)
        self.slow = False
        self._workers = workers

    def schedule(self) -> None:
        """Wait for a turn."""
        self._workers.add(self)

    def turn(self, leads: Callable[[], bool]) -> None:
        """Call the listener with what waits: all of it, or `BUDGET` events while this thread `leads`."""
        while True:
            listener = self.listener
            if listener is None:
                self.close()
                return
            if not self._batch(listener):
                return
            del listener  # or this frame would keep a weakly held one alive
            if leads():
                return

    def _batch(self, listener: Listener) -> bool:
        """Call `listener` with at most `BUDGET` events; whether there may be more."""
        take = self.queue.popleft
        for _ in range(BUDGET):
            if self.closed:
                self.queue.clear()
                return False
            try:
                event = take()
            except IndexError:
                return False
            self.delivered += 1
            try:
                result = listener(event)
                if result is not None and inspect.iscoroutine(result):
                    result.close()
                    raise ConfigurationError(
                        f"{self.name} returns a coroutine, but is not an `async` function",
                        remedy="Subscribe the `async` function itself, or give subscribe() its loop.",
                    )
            except BaseException:  # SystemExit in one listener must not end the thread of the others
                self.failed(event)
        return True


class Workers:
    """The threads of one bus.

    Args:
        lock: the bus's lock; everything here is decided with it held.
        finished: called without the lock when a queue has been emptied.
        clock: monotonic seconds.
    """

    def __init__(self, lock: threading.RLock, finished: Callable[[Delivery], None], clock: Callable[[], float]) -> None:
        self.threads: set[threading.Thread] = set()
        self._changed = threading.Condition(lock)
        self._finished = finished
        self._clock = clock
        self._ready: deque[ThreadDelivery] = deque()
        self._leading: ThreadDelivery | None = None
        self._overdue_at = 0.0
        self._free = 0  # threads that are in no turn
        self._timing = False  # one of them waits for the leader to be overdue
        self._closed = False

    def add(self, delivery: ThreadDelivery) -> None:
        """Give `delivery` a turn soon. The lock is held."""
        if not self._closed:
            self._ready.append(delivery)
            self._attend()

    def close(self) -> list[threading.Thread]:
        """Let every thread end after the call that it is in. The lock is held. Returns those that there are."""
        self._closed = True
        self._ready.clear()
        self._changed.notify_all()
        return list(self.threads)

    def _attend(self) -> None:
        """Have a free thread look at what is ready, now or when the leader is overdue."""
        if self._free == 0:
            thread = threading.Thread(target=self._run, name="vfab-events", daemon=True)
            self.threads.add(thread)
            self._free += 1
            thread.start()
        elif self._leading is None or not self._timing:
            self._changed.notify()

    def _run(self) -> None:
        delivery: ThreadDelivery | None = None
        while (delivery := self._next()) is not None:
            began = self._clock()
            delivery.turn(lambda mine=delivery: self._leading is mine)  # type: ignore[misc]
            if self._end(delivery, began):
                self._finished(delivery)

    def _next(self) -> ThreadDelivery | None:
        """Wait for a turn to give; None when this thread is not needed any more. It is then not free, either way."""
        with self._changed:
            while not self._closed:
                if self._ready and (self._leading is None or self._clock() >= self._overdue_at):
                    return self._begin(self._ready.popleft())
                if self._free > 1 or not self._wait():
                    break
            self._free -= 1
            self.threads.discard(threading.current_thread())
            return None

    def _begin(self, delivery: ThreadDelivery) -> ThreadDelivery:
        self._free -= 1
        self._leading = None if delivery.slow else delivery
        self._overdue_at = self._clock() + SLOW_S
        if self._ready:
            self._attend()
        return delivery

    def _wait(self) -> bool:
        """Wait; whether it is worth looking again."""
        timing = bool(self._ready)
        self._timing = timing
        timeout_s = max(0.0, self._overdue_at - self._clock()) if timing else IDLE_S
        woken = self._changed.wait(timeout_s)
        self._timing = False
        return woken or bool(self._ready)

    def _end(self, delivery: ThreadDelivery, began: float) -> bool:
        """The turn is over; whether the queue is empty."""
        with self._changed:
            self._free += 1
            delivery.slow = self._clock() - began >= SLOW_S
            if self._leading is delivery:
                self._leading = None
            if delivery.queue and not self._closed:
                self._ready.append(delivery)
                return False
            delivery.scheduled = False
            return True
