"""The books of a connection pool: who has what, who waits for what. Decides with its lock held and touches no device.

Every connection is in one place at any time: idle, lent, or in *work* (being made, checked or closed, by whoever holds
an `Order` for it). The three together are never more than the limit.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from vfab.model.errors import ConfigurationError, ConnectError, Refused

__all__ = ["Create", "Ledger", "Member", "Order", "Place", "Reuse"]


@dataclass(slots=True, eq=False)
class Member:
    """A connection of the pool; `key` says what it was made for, `idle_since` since when nobody has it (seconds)."""

    connection: Any
    key: Hashable
    idle_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Reuse:
    """Check this one and take it."""

    member: Member


@dataclass(frozen=True, slots=True)
class Create:
    """Make one; close `evicted` first, which is in its place."""

    evicted: Member | None = None


Order = Reuse | Create


@dataclass(slots=True, eq=False)
class Place:
    """A place in the queue. `notify` is called, with the lock held, when `order` or `refused` has been set."""

    key: Hashable
    notify: Callable[[], object]
    order: Order | None = None
    refused: bool = False


class Ledger:
    """The books.

    Args:
        limit: how many connections there may be.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.closed = False
        self.idle: list[Member] = []  # the one used last is at the end
        self.lent: dict[int, Member] = {}
        self.working = 0
        self.waiting: deque[Place] = deque()
        self._limit = limit
        self._clock = clock
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], object]] = []

    @property
    def total(self) -> int:
        """How many connections there are, those being made included."""
        return len(self.idle) + len(self.lent) + self.working

    def ask(self, key: Hashable, notify: Callable[[], object]) -> Place:
        """A place that has its order already, or will be given it. First come, first served.

        Raises ConnectError: the pool is closed.
        """
        with self._lock:
            if self.closed:
                raise closed_error()
            place = Place(key, notify)
            if not self.waiting:
                place.order = self._order_for(key)
            if place.order is None:
                self.waiting.append(place)
            return place

    def withdraw(self, place: Place) -> None:
        """Whoever had `place` does not wait any more and does not carry out its order."""
        with self._lock:
            if place in self.waiting:
                self.waiting.remove(place)
                return
            order, place.order = place.order, None
            if order is not None:
                self._undo(order)
                self._serve()

    def check_new(self, member: Member) -> None:
        """Raise ConfigurationError when the factory made a connection that the pool has already."""
        with self._lock:
            known = [*self.idle, *self.lent.values()]
            if any(other.connection is member.connection for other in known):
                raise ConfigurationError(
                    "the pool's factory returned a connection that it had returned before",
                    remedy="Let the factory make a new object at each call.",
                )

    def lend(self, member: Member) -> None:
        """The order was carried out: its owner has `member` now."""
        with self._lock:
            self.working -= 1
            self.lent[id(member.connection)] = member
            self._tell()

    def take_lent(self, connection: object) -> Member:
        """`connection` comes back and is checked now.

        Raises Refused: nobody has it.
        """
        with self._lock:
            member = self.lent.pop(id(connection), None)
            if member is None:
                raise Refused(
                    "this connection is not lent out by this pool",
                    remedy="Give each connection back once, to the pool that it came from.",
                )
            self.working += 1
            return member

    def keep(self, member: Member) -> None:
        """The work on `member` is done; it waits for the next one."""
        with self._lock:
            self.working -= 1
            member.idle_since = self._clock()
            self.idle.append(member)
            self._serve()

    def gone(self) -> None:
        """What was worked on is closed, or was never made."""
        with self._lock:
            self.working -= 1
            self._serve()

    def expired(self, max_idle_s: float) -> list[Member]:
        """Those that nobody wanted for so long, to be closed; each is then `gone`."""
        with self._lock:
            since = self._clock() - max_idle_s
            return self._take_idle([member for member in self.idle if member.idle_since <= since])

    def leftovers(self) -> list[Member]:
        """After `shut`: all that are idle, to be closed; each is then `gone`."""
        with self._lock:
            return self._take_idle(list(self.idle))

    def shut(self) -> None:
        """Lend nothing any more; whoever waits is refused."""
        with self._lock:
            self.closed = True
            while self.waiting:
                place = self.waiting.popleft()
                place.refused = True
                with contextlib.suppress(RuntimeError):  # its event loop is closed
                    place.notify()

    def watch(self, notify: Callable[[], object]) -> None:
        """Call `notify` once, with the lock held: at the next change, or now if there is nothing to wait for."""
        with self._lock:
            if self.idle or not self.total:
                notify()
            else:
                self._watchers.append(notify)

    # -- with the lock held -------------------------------------------------------------------------------------------

    def _take_idle(self, members: list[Member]) -> list[Member]:
        self.idle = [member for member in self.idle if member not in members]
        self.working += len(members)
        return members

    def _order_for(self, key: Hashable) -> Order | None:
        order: Order | None = None
        for member in reversed(self.idle):
            if member.key == key:
                self.idle.remove(member)
                order = Reuse(member)
                break
        else:
            if self.total < self._limit:
                order = Create()
            elif self.idle:
                order = Create(self.idle.pop(0))
        if order is not None:
            self.working += 1
        return order

    def _serve(self) -> None:
        """Give the first in the queue what there is now."""
        while self.waiting:
            order = self._order_for(self.waiting[0].key)
            if order is None:
                break
            place = self.waiting.popleft()
            place.order = order
            try:
                place.notify()
            except RuntimeError:  # its event loop is closed
                place.order = None
                self._undo(order)
        self._tell()

    def _undo(self, order: Order) -> None:
        """Nothing has been done for `order` yet: as it was."""
        self.working -= 1
        member = order.member if isinstance(order, Reuse) else order.evicted
        if member is not None:
            self.idle.insert(0, member)

    def _tell(self) -> None:
        watchers, self._watchers = self._watchers, []
        for notify in watchers:
            with contextlib.suppress(RuntimeError):
                notify()


def closed_error() -> ConnectError:
    """What those get who ask a closed pool."""
    return ConnectError(
        "the connection pool is closed", remedy="Ask before the program closes its pools.", retryable=False
    )
