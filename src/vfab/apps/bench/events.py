"""Events a second through the event bus, to one listener and to a hundred, every one of them delivered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from time import perf_counter

from vfab.apps.bench.findings import Session
from vfab.model.events import DriverEvent
from vfab.sdk.event_bus import EventManager

__all__ = ["KEYS", "run"]

KEYS = ("events_per_s_1", "events_per_s_100")
_PEER = "a queue and a thread a listener"
_EVENT = DriverEvent("state_changed", datetime.now(UTC), "bench", {"from": "ready", "to": "connecting"})
_PATIENCE_S = 60.0


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`; the peer is what one would write with the standard library in ten lines."""
    for key, listeners in zip(KEYS, (1, 100), strict=True):
        if key not in session.wanted:
            continue
        session.say(f"{key}: from emit to the last listener")
        count = session.many(20_000, 100_000) // (1 if listeners == 1 else 20)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(session.many(3, 7)):
            ours.append(_rate(_bus, listeners, count))
            theirs.append(_rate(_queues, listeners, count))
        session.findings.number(key, ours)
        session.findings.number(key, theirs, _PEER)
        session.findings.notes[key] = f"{count} events in a row to {listeners} listeners that do nothing; none lost"


def _rate(way: Callable[[int, int], float], listeners: int, count: int) -> float:
    return count / way(listeners, count)


def _ignore(event: DriverEvent) -> None:
    """A listener."""


def _bus(listeners: int, count: int) -> float:
    """Seconds for `count` events. Raises RuntimeError: not all arrived."""
    bus = EventManager(max_queue=count)
    subscriptions = [bus.subscribe("state_changed", _ignore) for _ in range(listeners)]
    begun = perf_counter()
    for _ in range(count):
        bus.emit(_EVENT)
    arrived = bus.flush(_PATIENCE_S)
    elapsed_s = perf_counter() - begun
    bus.close()
    if not arrived or any(subscription.delivered != count for subscription in subscriptions):
        raise RuntimeError("the event bus did not deliver every event")
    return elapsed_s


def _queues(listeners: int, count: int) -> float:
    """The same without a bus: no history, no bound, no order among listeners, a thread for each."""
    queues: list[SimpleQueue[DriverEvent | None]] = [SimpleQueue() for _ in range(listeners)]

    def listen(queue: SimpleQueue[DriverEvent | None]) -> None:
        while (event := queue.get()) is not None:
            _ignore(event)

    threads = [threading.Thread(target=listen, args=(queue,), daemon=True) for queue in queues]
    for thread in threads:
        thread.start()
    begun = perf_counter()
    for _ in range(count):
        for queue in queues:
            queue.put(_EVENT)
    for queue in queues:
        queue.put(None)
    for thread in threads:
        thread.join()
    return perf_counter() - begun
