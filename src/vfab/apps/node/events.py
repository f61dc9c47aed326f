"""The node's events: the bus of the SDK, with a number for each event, and WebSocket clients as its listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vfab.model.events import DriverEvent
from vfab.sdk.event_bus import EventManager, Subscription

__all__ = ["Follower", "NodeEvents", "NumberedEvent", "plain"]

KEPT_EVENTS = 2000
KEPT_LINES = 1000
"""Log lines are kept apart: a chatty driver must not push out the story of another."""
QUEUED = 1000
"""Events that a follower may be behind; then the oldest are lost, and it is told how many."""


@dataclass(frozen=True, slots=True)
class NumberedEvent(DriverEvent):
    """An event of the node.

    Attributes:
        number: how many there were up to it, since the node was started.
    """

    number: int = 0


class NodeEvents(EventManager):
    """What happened since the node was started, the newest of it, and who wants to know.

    Args:
        kept: events that are remembered.
        lines: log records that are remembered besides.
    """

    def __init__(self, kept: int = KEPT_EVENTS, lines: int = KEPT_LINES) -> None:
        super().__init__(kept, QUEUED, apart={"log": lines})
        self.last = 0

    def emit(self, event: DriverEvent) -> None:
        """Number `event`, remember it and tell whoever subscribed."""
        with self._lock:  # numbers must be in the order of the history
            self.last += 1
            e = event
            super().emit(
                NumberedEvent(
                    e.event_type, e.timestamp, e.driver_name, e.data, e.source, e.device_id, e.generation, self.last
                )
            )

    def select(
        self,
        *,
        after: int = 0,
        since: datetime | None = None,
        types: frozenset[str] = frozenset(),
        device: str = "",
        driver: str = "",
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """The newest `limit` events that fit, oldest first, as plain data. `after` is an event's number."""
        found = self.get_recent_events(types or None, since, device_id=device or None)
        newer = [event for event in found if _number(event) > after and driver in {"", event.driver_name}]
        return [plain(event) for event in newer[-limit:]] if limit else []


def _number(event: DriverEvent) -> int:
    return event.number if isinstance(event, NumberedEvent) else 0


def plain(event: DriverEvent) -> dict[str, Any]:
    """The event as the API has it."""
    return {
        "number": _number(event),
        "type": event.event_type,
        "time": event.timestamp.isoformat(),
        "device": event.device_id,
        "driver": event.driver_name,
        "generation": event.generation,
        "source": event.source,
        "data": event.data,
    }


class Follower:
    """One who is sent events: first those of the history, then each as it happens.

    It is a listener of the bus: however slow it is, it delays nobody, and loses the oldest of what waits for it.

    Args:
        send: sends one event, or `{"type": "lost", "count": N}` where some were dropped; raises when nobody is there
            any more.
        types, device, driver: only these; nothing means all.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        types: frozenset[str] = frozenset(),
        device: str = "",
        driver: str = "",
    ) -> None:
        self.gone = asyncio.Event()
        self._send = send
        self._types = types
        self._device = device
        self._driver = driver
        self._subscription: Subscription | None = None
        self._told_lost = 0
        self._caught_up = 0
        self._turn = asyncio.Lock()
        self.__qualname__ = f"follower of {device or driver or 'everything'}"

    @contextmanager
    def following(self, events: NodeEvents) -> Iterator[None]:
        """Be sent everything from now on that fits, to the end of the block."""
        self._subscription = events.subscribe(self._types or "*", self, max_queue=QUEUED)
        try:
            yield
        finally:
            self._subscription.close()

    async def catch_up(self, events: NodeEvents, after: int) -> None:
        """Be sent the events of the history with a higher number; those that happen meanwhile come afterwards."""
        async with self._turn:
            self._caught_up = events.last
            history = events.select(
                after=after, types=self._types, device=self._device, driver=self._driver, limit=5000
            )
            for event in history:
                self._caught_up = max(self._caught_up, event["number"])
                await self._send(event)

    async def __call__(self, event: DriverEvent) -> None:
        """Told of an event by the bus."""
        async with self._turn:
            try:
                await self._tell(event)
            except Exception:  # whatever a connection says that is no more
                self.gone.set()
                if self._subscription is not None:
                    self._subscription.close()

    async def _tell(self, event: DriverEvent) -> None:
        lost = self._subscription.lost if self._subscription is not None else 0
        if lost > self._told_lost:
            count, self._told_lost = lost - self._told_lost, lost
            await self._send({"type": "lost", "count": count})
        if _number(event) <= self._caught_up:
            return
        if self._device in {"", event.device_id} and self._driver in {"", event.driver_name}:
            await self._send(plain(event))
