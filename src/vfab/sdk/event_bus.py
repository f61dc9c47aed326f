"""EventManager: who wants to know is told, and can harm nobody by being slow or wrong (seed 001 §8)."""

from __future__ import annotations

import asyncio
import fnmatch
import heapq
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from types import TracebackType

from vfab.model.errors import ConfigurationError
from vfab.model.events import DriverEvent
from vfab.sdk.event_delivery import Delivery, Listener, LoopDelivery
from vfab.sdk.event_threads import ThreadDelivery, Workers

__all__ = ["EVENTS_LOST", "EventManager", "Subscription"]

EVENTS_LOST = "events_lost"
"""Type of the event that tells of losses: data has `listener`, `lost` since the last report, and `lost_in_all`."""

_REPORT_S = 1.0
_ROUTES_MAX = 1024
_log = logging.getLogger("vfab.events")


class Subscription:
    """What `subscribe` returns: what became of the listener's events, and the way to end it. Works in a `with`."""

    def __init__(self, bus: EventManager, types: Iterable[str], delivery: Delivery) -> None:
        self._bus = bus
        self._delivery = delivery
        self.event_types = frozenset(types)

    @property
    def delivered(self) -> int:
        """How many events the listener was called with."""
        return self._delivery.delivered

    @property
    def lost(self) -> int:
        """How many events were dropped because the listener was too slow, the oldest first."""
        return self._delivery.lost

    @property
    def failures(self) -> int:
        """How often the listener raised."""
        return self._delivery.failures

    @property
    def closed(self) -> bool:
        """Whether nothing is delivered any more."""
        return self._delivery.closed

    def close(self) -> None:
        """End the subscription: no call begins after this; one that runs is not interrupted."""
        self._bus._end(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _matches(self, event_type: str) -> bool:
        return any(fnmatch.fnmatchcase(event_type, pattern) for pattern in self.event_types)


class EventManager:
    """Tells listeners of events and remembers the latest.

    `emit` returns at once and may be called from any thread, task or listener. Every listener has a bounded queue of
    its own and gets its events one at a time, in the order in which they were emitted. When its queue is full the
    oldest event is dropped and counted; the count is logged and told to everybody as an `events_lost` event, at most
    once a second while that lasts and once when the listener has caught up.

    Args:
        max_history: how many events `get_recent_events` remembers.
        max_queue: how many events wait for one listener.
        apart: types of events that are remembered apart from the others, with how many of each: those that come in
            masses must not push out the rest.
        clock: monotonic seconds.
        now: the time for events of its own, timezone-aware.
    """

    def __init__(
        self,
        max_history: int = 1000,
        max_queue: int = 1000,
        *,
        apart: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if max_history < 0 or max_queue < 1:
            raise ConfigurationError(
                "max_history must be at least 0, max_queue at least 1",
                context={"max_history": max_history, "max_queue": max_queue},
            )
        self._max_queue = max_queue
        self._clock = clock
        self._now = now
        # reentrant: a finalizer that emits may run at any point of this thread, here too
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        self._history: deque[tuple[int, DriverEvent]] = deque(maxlen=max_history)
        self._apart: dict[str, deque[tuple[int, DriverEvent]]] = {
            event_type: deque(maxlen=count) for event_type, count in (apart or {}).items()
        }
        self._emitted = 0
        self._subscriptions: list[Subscription] = []
        self._routes: dict[str, tuple[Delivery, ...]] = {}
        self._workers = Workers(self._lock, self._finished, clock)
        self._closed = False

    # -- listening ----------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        event_type: str | Iterable[str],
        listener: Listener,
        *,
        max_queue: int | None = None,
        weak: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Subscription:
        """Have `listener(event)` called for every event of a type.

        A plain listener runs on a thread of the bus, an `async` one as a task of the loop that runs now.

        Args:
            event_type: one type or several; `*`, `?` and `[…]` match as in file names, so `"*"` is every event.
            listener: a function or method, plain or `async`.
            max_queue: how many events may wait for it; default is the bus's.
            weak: do not keep the listener alive; when it is gone, so is the subscription.
            loop: the event loop to call it on, a plain one too.

        Raises ConfigurationError: `async` listener and no loop, no type, or a queue for no event; the bus is closed.
        """
        types = frozenset([event_type] if isinstance(event_type, str) else event_type)
        size = self._max_queue if max_queue is None else max_queue
        if not types or size < 1:
            raise ConfigurationError("a subscription needs a type, and a queue for at least one event")
        delivery = self._delivery(listener, size, weak, loop)
        subscription = Subscription(self, types, delivery)
        with self._lock:
            if self._closed:
                raise ConfigurationError("the event bus is closed", remedy="Subscribe before closing it.")
            self._subscriptions.append(subscription)
            self._routes.clear()
        return subscription

    def _delivery(self, listener: Listener, size: int, weak: bool, loop: asyncio.AbstractEventLoop | None) -> Delivery:
        name = getattr(listener, "__qualname__", None) or repr(listener)
        call = getattr(listener, "__call__", None)  # noqa: B004 - an object's `async def __call__` counts, too
        if loop is None and (inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(call)):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise ConfigurationError(
                    f"{name} is asynchronous and no event loop runs here", remedy="Give subscribe() its `loop`."
                ) from None
        if loop is None:
            return ThreadDelivery(name, listener, size, weak=weak, workers=self._workers)
        return LoopDelivery(name, listener, size, weak=weak, loop=loop, lock=self._settled, finished=self._finished)

    def unsubscribe(self, event_type: str, listener: Listener) -> None:
        """End the oldest subscription of `listener` to `event_type`; none is fine. Its other types stay."""
        with self._lock:
            for subscription in self._subscriptions:
                if event_type in subscription.event_types and subscription._delivery.listener == listener:
                    subscription.event_types -= {event_type}
                    self._routes.clear()
                    if not subscription.event_types:
                        self._end(subscription)
                    return

    def _end(self, subscription: Subscription) -> None:
        with self._lock:
            subscription._delivery.close()
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
            self._routes.clear()
            self._settled.notify_all()

    # -- telling ------------------------------------------------------------------------------------------------------

    def emit(self, event: DriverEvent) -> None:
        """Remember `event` and tell whoever subscribed. Never blocks, never raises what a listener raises."""
        slow: list[Delivery] = []
        with self._lock:
            self._emitted += 1
            self._apart.get(event.event_type, self._history).append((self._emitted, event))
            if self._closed:
                return
            targets = self._routes.get(event.event_type)
            if targets is None:
                targets = self._route(event.event_type)
            for delivery in targets:
                if not delivery.offer(event):
                    slow.append(delivery)
                elif delivery.closed:
                    self._forget_closed()
            # decided with the lock held: of two threads only one reports
            slow = [delivery for delivery in slow if self._is_due(delivery)]
        for delivery in slow:
            self._report(delivery)

    def _route(self, event_type: str) -> tuple[Delivery, ...]:
        targets = tuple(s._delivery for s in self._subscriptions if s._matches(event_type))
        if len(self._routes) >= _ROUTES_MAX:  # types are drivers' own words: they may be without end
            self._routes.clear()
        self._routes[event_type] = targets
        return targets

    def _is_due(self, delivery: Delivery) -> bool:
        now = self._clock()
        if now - delivery.reported_at < _REPORT_S:
            return False
        delivery.reported_at = now
        return True

    def _report(self, delivery: Delivery) -> None:
        with self._lock:
            lost, delivery.reported = delivery.lost - delivery.reported, delivery.lost
        if lost:
            _log.warning("listener %s is too slow: %d events lost, %d in all", delivery.name, lost, delivery.lost)
            data = {"listener": delivery.name, "lost": lost, "lost_in_all": delivery.lost}
            self.emit(DriverEvent(EVENTS_LOST, self._now(), "", data, "kernel"))

    def _finished(self, delivery: Delivery) -> None:
        """A queue has been emptied: tell what was lost and not told yet, and whoever waits for that."""
        self._report(delivery)
        with self._lock:
            if delivery.closed:
                self._forget_closed()
            self._settled.notify_all()

    def _forget_closed(self) -> None:
        self._subscriptions = [s for s in self._subscriptions if not s.closed]
        self._routes.clear()

    # -- remembering --------------------------------------------------------------------------------------------------

    @property
    def max_history(self) -> int:
        """How many events are remembered, those kept apart besides. May be set; fewer forgets the oldest."""
        return self._history.maxlen or 0

    @max_history.setter
    def max_history(self, count: int) -> None:
        with self._lock:
            self._history = deque(self._history, maxlen=count)

    @property
    def event_history(self) -> list[DriverEvent]:
        """Every event that is remembered, the oldest first."""
        with self._lock:
            if not self._apart:
                return [event for _, event in self._history]
            histories = [list(history) for history in (self._history, *self._apart.values())]
        return [event for _, event in heapq.merge(*histories, key=itemgetter(0))]

    def get_recent_events(
        self,
        event_type: str | Iterable[str] | None = None,
        since: datetime | None = None,
        *,
        until: datetime | None = None,
        device_id: str | None = None,
        limit: int | None = None,
    ) -> list[DriverEvent]:
        """The events that are remembered and fit, the oldest first.

        Args:
            event_type: one type or several, patterns as in `subscribe`; None: all.
            since: not those before this time.
            until: not those at or after this time.
            device_id: only this device's.
            limit: only the latest so many.
        """
        events = self.event_history
        if event_type is not None:
            patterns = [event_type] if isinstance(event_type, str) else list(event_type)
            events = [e for e in events if any(fnmatch.fnmatchcase(e.event_type, pattern) for pattern in patterns)]
        if since is not None:
            events = [e for e in events if e.timestamp >= since]
        if until is not None:
            events = [e for e in events if e.timestamp < until]
        if device_id is not None:
            events = [e for e in events if e.device_id == device_id]
        return events if limit is None else events[max(0, len(events) - limit) :]

    # -- the end ------------------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until every listener has been told everything; False when that took longer than `timeout_s` seconds.

        Not from a listener, and not from a loop that `async` listeners run on: there await `settled`.
        """
        with self._settled:
            return self._settled.wait_for(
                lambda: not any(s._delivery.scheduled for s in self._subscriptions), timeout_s
            )

    async def settled(self, timeout_s: float = 5.0) -> bool:
        """`flush` without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout_s)

    def close(self, timeout_s: float = 1.0) -> bool:
        """End every subscription and thread. What was emitted stays in the history, and what is emitted goes there.

        Returns:
            False when a listener still ran after `timeout_s` seconds; its thread ends with its call.
        """
        with self._lock:
            self._closed = True
            for subscription in list(self._subscriptions):
                self._end(subscription)
                subscription._delivery.stop()
            threads = [thread for thread in self._workers.close() if thread is not threading.current_thread()]
        deadline = self._clock() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in threads)
