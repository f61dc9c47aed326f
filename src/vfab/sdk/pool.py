"""ConnectionPool: few connections for many users, none lost, none handed out dead (seed 001 §9).

The books are `pool_ledger`'s; this file does the work: makes connections, checks them, closes them. Work that a task
began is finished even when that task is cancelled: then its result goes back into the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from vfab.model.errors import ConfigurationError, ConnectError, TimeoutExceeded
from vfab.sdk.pool_ledger import Create, Ledger, Member, Order, Place, Reuse, closed_error
from vfab.sdk.pool_work import Handover, Work, frozen, in_loop, run, run_async, waker

__all__ = ["ConnectionPool"]

M = TypeVar("M")
_T = TypeVar("_T")
_Made = Callable[..., M | Awaitable[M]]
_log = logging.getLogger("vfab.drivers.pool")


class ConnectionPool(Generic[M]):
    """Lends connections, at most `max_connections` at a time, in the order in which they are asked for.

    A connection fits a request when it was made with equal arguments. Before it is handed out and when it comes back it
    is checked; one that fails is closed and another one made. When all places are taken by idle ones that do not fit,
    the one that was not used for longest is closed.

    From asyncio use the `…_async` methods; with `blocking` managers they work on threads of the pool, at most one for
    each connection.

    Args:
        manager_factory: makes a connection; called with the arguments of the request.
        max_connections: how many there may be.
        timeout_s: how long a request waits for a place, when it does not say; seconds.
        max_idle_s: those that nobody wanted for so long are closed at the next request or return, or by `evict_idle`.
        connect: connects a new one that fails its check; False means it could not. Default: its `connect()`.
        check: whether one works. Default: its `is_connected()`.
        disconnect: closes one. Default: its `disconnect()`.
        blocking: False when factory and methods are `async` or quick: then they run on the caller's event loop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        manager_factory: _Made[M],
        max_connections: int = 5,
        *,
        timeout_s: float = 30.0,
        max_idle_s: float = 300.0,
        connect: Callable[[M], Any] = lambda manager: manager.connect(),  # type: ignore[attr-defined]
        check: Callable[[M], Any] = lambda manager: manager.is_connected(),  # type: ignore[attr-defined]
        disconnect: Callable[[M], Any] = lambda manager: manager.disconnect(),  # type: ignore[attr-defined]
        blocking: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_connections < 1:
            raise ConfigurationError(
                "a pool needs at least one connection", context={"max_connections": max_connections}
            )
        self.manager_factory = manager_factory
        self.max_connections = max_connections
        self._timeout_s = timeout_s
        self._max_idle_s = max_idle_s
        self._connect = connect
        self._check = check
        self._disconnect = disconnect
        self._blocking = blocking
        self._ledger = Ledger(max_connections, clock)
        self._executor: ThreadPoolExecutor | None = None
        self._executor_lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def available(self) -> list[M]:
        """The idle connections."""
        return [member.connection for member in list(self._ledger.idle)]

    @property
    def in_use(self) -> list[M]:
        """The connections that somebody has."""
        return [member.connection for member in list(self._ledger.lent.values())]

    @property
    def total_created(self) -> int:
        """How many connections there are, those being made or checked just now included."""
        return self._ledger.total

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._ledger.waiting)

    # -- for threads --------------------------------------------------------------------------------------------------

    def get_connection(self, *, timeout_s: float | None = None, **kwargs: Any) -> M:
        """A connection made with `kwargs`; give it back with `release_connection`.

        Raises:
            TimeoutExceeded: none became free within `timeout_s` seconds.
            ConnectError: the pool is closed, or a new connection could not connect.
            Whatever else the factory raises.
        """
        self._only_blocking()
        self.evict_idle()
        granted = threading.Event()
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        place = self._ledger.ask(frozen(kwargs), granted.set)
        if place.order is None:
            try:
                granted.wait(max(0.0, patience_s))
                order = self._granted(place, patience_s)
            except BaseException:
                self._ledger.withdraw(place)
                raise
        else:
            order = place.order
        connection: M = run(self._fulfil(order, place.key, kwargs))
        return connection

    def release_connection(self, manager: M, *, discard: bool = False) -> None:
        """Give `manager` back. It is checked and kept, or closed: when it fails, or with `discard`.

        Raises Refused: it is not lent out.
        """
        self._only_blocking()
        run(self._give_back(self._ledger.take_lent(manager), discard))
        self.evict_idle()

    @contextlib.contextmanager
    def connection(self, *, timeout_s: float | None = None, **kwargs: Any) -> Iterator[M]:
        """A connection for a `with` block. Raises as `get_connection`."""
        manager = self.get_connection(timeout_s=timeout_s, **kwargs)
        try:
            yield manager
        finally:
            self.release_connection(manager)

    def evict_idle(self) -> int:
        """Close those that nobody wanted for `max_idle_s`; how many."""
        self._only_blocking()
        members = self._ledger.expired(self._max_idle_s)
        run(self._close_members(members))
        return len(members)

    def close(self, timeout_s: float = 30.0) -> None:
        """Refuse whoever waits and whoever asks from now on, and close connections as they come back.

        Raises TimeoutExceeded: some were not given back within `timeout_s` seconds; they are closed when they are.
        """
        self._only_blocking()
        self._ledger.shut()
        deadline = time.monotonic() + timeout_s
        while True:
            run(self._close_members(self._ledger.leftovers()))
            if not self._ledger.total:
                return self._drained()
            changed = threading.Event()
            self._ledger.watch(changed.set)
            if not changed.wait(max(0.0, deadline - time.monotonic())):
                raise self._not_drained(timeout_s)

    def __enter__(self) -> ConnectionPool[M]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- for tasks ----------------------------------------------------------------------------------------------------

    async def get_connection_async(self, *, timeout_s: float | None = None, **kwargs: Any) -> M:
        """As `get_connection`; the deadline is for making and checking the connection, too."""
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = asyncio.timeout(patience_s)
        try:
            async with deadline:
                await self.evict_idle_async()
                return await self._get(kwargs)
        except TimeoutError as error:
            if deadline.expired():
                raise self._too_late(patience_s) from error
            raise  # the factory's own

    async def _get(self, kwargs: Mapping[str, Any]) -> M:
        granted = asyncio.get_running_loop().create_future()
        place = self._ledger.ask(frozen(kwargs), waker(granted))
        if place.order is None:
            try:
                await granted
                order = self._granted(place, 0.0)
            except BaseException:
                self._ledger.withdraw(place)
                raise
        else:
            order = place.order
        handover = Handover(self._ledger)
        try:
            return await self._do(self._fulfil(order, place.key, kwargs), handover.deliver)
        except asyncio.CancelledError:
            handover.abandon()
            raise

    async def release_connection_async(self, manager: M, *, discard: bool = False) -> None:
        """As `release_connection`. The connection is given back even if this is cancelled."""
        await self._do(self._give_back(self._ledger.take_lent(manager), discard))
        await self.evict_idle_async()

    @contextlib.asynccontextmanager
    async def connection_async(self, *, timeout_s: float | None = None, **kwargs: Any) -> AsyncIterator[M]:
        """A connection for an `async with` block. Raises as `get_connection`."""
        manager = await self.get_connection_async(timeout_s=timeout_s, **kwargs)
        try:
            yield manager
        finally:
            await self.release_connection_async(manager)

    async def close_async(self, timeout_s: float = 30.0) -> None:
        """As `close`."""
        self._ledger.shut()
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                while True:
                    await self._do(self._close_members(self._ledger.leftovers()))
                    if not self._ledger.total:
                        return self._drained()
                    changed = asyncio.get_running_loop().create_future()
                    self._ledger.watch(waker(changed))
                    await changed
        except TimeoutError as error:
            raise self._not_drained(timeout_s) from error

    async def __aenter__(self) -> ConnectionPool[M]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async()

    async def evict_idle_async(self) -> int:
        """As `evict_idle`."""
        members = self._ledger.expired(self._max_idle_s)
        if members:
            await self._do(self._close_members(members))
        return len(members)

    async def _do(self, work: Work[_T], deliver: Callable[[_T], object] = lambda result: None) -> _T:
        """Have `work` done to its end, whatever becomes of the caller. `deliver` gets the result, wherever that is."""
        if self._blocking:
            return await asyncio.shield(in_loop(self._submit(work, deliver)))

        async def finish(call: Callable[[], Any]) -> _T:
            result = await run_async(work, call)
            deliver(result)
            return result

        try:
            task = asyncio.create_task(finish(next(work)))
        except StopIteration as stop:  # there was nothing to do
            return stop.value  # type: ignore[no-any-return]

        def done(_: object) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # known: whoever still waits gets it, and nobody else wants to
            work.close()  # a loop that ends cancels tasks before they began: the work must know, or a place is lost

        self._tasks.add(task)
        task.add_done_callback(done)
        return await asyncio.shield(task)

    def _submit(self, work: Work[_T], deliver: Callable[[_T], object]) -> Future[_T]:
        def finish() -> _T:
            result = run(work)
            deliver(result)
            return result

        with self._executor_lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.max_connections, "vfab-pool")
            return self._executor.submit(finish)

    # -- the work -----------------------------------------------------------------------------------------------------

    def _fulfil(self, order: Order, key: Hashable, kwargs: Mapping[str, Any]) -> Work[Any]:
        """Carry out `order`; the connection, lent. When that fails the place is free again."""
        member = order.member if isinstance(order, Reuse) else None
        try:
            if member is not None and not (yield from self._is_healthy(member)):
                yield from self._close(member)
                member = None
            elif isinstance(order, Create) and order.evicted is not None:
                member = order.evicted
                yield from self._close(member)
                member = None
            if member is None:
                made = Member((yield lambda: self.manager_factory(**kwargs)), key)
                self._ledger.check_new(made)
                member = made
                yield from self._ensure_connected(made)
        except GeneratorExit:
            self._put_back(member)
            raise
        except BaseException:
            try:
                if member is not None:
                    yield from self._close(member)
            finally:
                self._ledger.gone()
            raise
        self._ledger.lend(member)
        return member.connection

    def _ensure_connected(self, member: Member) -> Work[None]:
        if not (yield from self._is_healthy(member)):
            connected = yield lambda: self._connect(member.connection)
            if connected is False:
                raise ConnectError("a new connection of the pool could not connect")

    def _give_back(self, member: Member, discard: bool) -> Work[None]:
        try:
            keep = not discard and (yield from self._is_healthy(member))
        except BaseException:
            self._put_back(member)
            raise
        if keep and not self._ledger.closed:
            self._ledger.keep(member)
        else:
            yield from self._close_members([member])

    def _close_members(self, members: list[Member]) -> Work[None]:
        left = list(members)
        try:
            while left:
                yield from self._close(left[0])
                left.pop(0)
                self._ledger.gone()
        except BaseException:
            for member in left:
                self._put_back(member)
            raise

    def _put_back(self, member: Member | None) -> None:
        """The work ends before its time: what it was about stays in the pool and is checked before anybody gets it."""
        if member is None:
            self._ledger.gone()
        else:
            self._ledger.keep(member)

    def _is_healthy(self, member: Member) -> Work[bool]:
        try:
            return bool((yield lambda: self._check(member.connection)))
        except Exception as error:
            _log.info("a connection failed its check: %s", error)
            return False

    def _close(self, member: Member) -> Work[None]:
        try:
            yield lambda: self._disconnect(member.connection)
        except Exception as error:
            _log.warning("a connection could not be closed: %s: %s", type(error).__name__, error)

    # -- words --------------------------------------------------------------------------------------------------------

    def _granted(self, place: Place, patience_s: float) -> Order:
        if place.refused:
            raise closed_error()
        if place.order is None:
            raise self._too_late(patience_s)
        return place.order

    def _too_late(self, patience_s: float) -> TimeoutExceeded:
        return TimeoutExceeded(
            f"no connection of the pool became free within {patience_s:g} s: connection pool exhausted",
            context={"max_connections": self.max_connections, "in_use": len(self.in_use), "waiting": self.waiting},
            remedy="Give connections back sooner, wait longer (timeout_s), or allow more (max_connections).",
        )

    def _not_drained(self, timeout_s: float) -> TimeoutExceeded:
        return TimeoutExceeded(
            f"{self._ledger.total} connections were not given back within {timeout_s:g} s",
            context={"in_use": len(self.in_use)},
            remedy="Find who holds them; each is closed when it comes back.",
        )

    def _drained(self) -> None:
        with self._executor_lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None

    def _only_blocking(self) -> None:
        if not self._blocking:
            raise ConfigurationError(
                "this pool's connections belong to an event loop", remedy="Use the methods whose names end in _async."
            )
