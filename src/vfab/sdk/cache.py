"""DriverCache: values that stay true for a while, asked for once however many want them (seed 001 §9).

cachetools keeps and forgets the values; what is here is the single flight: of those who want the same missing value,
one loads it and the others wait for that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Hashable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from vfab.model.errors import Cancelled, ConfigurationError, Refused, TimeoutExceeded
from vfab.sdk.pool_work import in_loop

if TYPE_CHECKING:
    from cachetools import TTLCache

__all__ = ["DriverCache"]

_T = TypeVar("_T")


class _Flight:
    """One loading of a value.

    Attributes:
        future: the value, or what the loader raised.
        waiting: how many wait for it, whoever began it included.
        task: loads it, on `loop`; None when a thread does.
    """

    __slots__ = ("future", "loop", "task", "waiting")

    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.waiting = 0
        self.task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None


class _Abandoned(Exception):
    """Whoever loaded the value was interrupted or cancelled; another one's loader may fare better."""


_loading: ContextVar[tuple[_Flight, ...]] = ContextVar("vfab_cache_loading", default=())
"""The loadings that the running code is part of: it must not wait for them."""


class DriverCache:
    """A bounded cache whose values expire; for threads and tasks alike, at the same time.

    Args:
        ttl: how long a value stays, from the moment it is there; seconds.
        max_entries: how many there may be; the one used longest ago goes first.
        clock: monotonic seconds.
    """

    def __init__(
        self, ttl: float = 300, max_entries: int = 1024, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from cachetools import TTLCache

        if ttl < 0 or max_entries < 1:
            raise ConfigurationError(
                "a cache needs a ttl of at least 0 s and room for at least one entry",
                context={"ttl": ttl, "max_entries": max_entries},
            )
        self.ttl = ttl
        self._values: TTLCache[Hashable, Any] = TTLCache(max_entries, ttl, timer=clock)
        self._flights: dict[Hashable, _Flight] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value, or `default` when there is none any more."""
        with self._lock:
            return self._values.get(key, default)

    def set(self, key: Hashable, value: Any) -> None:
        """Keep `value`. A loading of the same key that is on its way does not replace it."""
        with self._lock:
            self._flights.pop(key, None)
            self._values[key] = value

    def invalidate(self, key: Hashable = None) -> None:
        """Forget the value of `key`, or every value.

        A loading that is on its way answers those who wait for it already, and is not kept: for who asks from now on
        the value is loaded anew.
        """
        with self._lock:
            if key is None:
                self._values.clear()
                self._flights.clear()
            else:
                self._values.pop(key, None)
                self._flights.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    # -- loading ------------------------------------------------------------------------------------------------------

    def get_or_load(self, key: Hashable, loader: Callable[[], _T], *, timeout_s: float | None = None) -> _T:
        """The value; when there is none, `loader()`, called by one of those who ask at the same time.

        What the loader raises is raised to all of them and not kept. None is a value.

        Args:
            key: what it is kept by.
            loader: makes the value, on the thread of whoever came first.
            timeout_s: how long to wait for another one's loading; None: as long as it takes.

        Raises:
            TimeoutExceeded: another one's loading took longer.
            Refused: the loader asks for what it loads, or the event loop of this thread loads it.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            value, flight, begins = self._board(key)
            if flight is None:
                return value  # type: ignore[no-any-return]
            try:
                if begins:
                    loaded: _T = self._load(key, flight, loader)
                    return loaded
                if flight.loop is not None and flight.loop is asyncio._get_running_loop():
                    raise _refused(key, "the event loop of this thread loads it", "Await get_or_load_async() instead.")
                with contextlib.suppress(_Abandoned):
                    return _waited(key, flight, None if deadline is None else deadline - time.monotonic())  # type: ignore[no-any-return]
            finally:
                self._leave(key, flight)

    async def get_or_load_async(self, key: Hashable, loader: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The same for tasks. The loading is a task of its own, and cancelled when nobody waits for it any more.

        One of those who wait may be cancelled without harm to the others.

        Raises:
            Refused: the loader asks for what it loads.
            Cancelled: the loader cancelled itself.
        """
        while True:
            value, flight, begins = self._board(key)
            if flight is None:
                return value  # type: ignore[no-any-return]
            try:
                if begins:
                    self._start(key, flight, loader)
                return await in_loop(flight.future)
            except _Abandoned:
                if begins:
                    raise Cancelled(f"the loading of {key!r} was cancelled") from None
            finally:
                self._leave(key, flight)

    def _board(self, key: Hashable) -> tuple[Any, _Flight | None, bool]:
        """(the value, None, False), or (None, the flight to wait for, whether it is the caller's to begin)."""
        with self._lock:
            found = self._values.get(key, self)
            if found is not self:
                return found, None, False
            flight = self._flights.get(key)
            begins = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
            elif flight in _loading.get():
                raise _refused(key, "its loader asks for it", "Load it without asking the cache for the same key.")
            flight.waiting += 1
            return None, flight, begins

    def _leave(self, key: Hashable, flight: _Flight) -> None:
        """One waits no more. What nobody waits for is not loaded to its end by a task."""
        with self._lock:
            flight.waiting -= 1
            if flight.waiting or flight.future.done() or flight.task is None or flight.loop is None:
                return
            if self._flights.get(key) is flight:
                del self._flights[key]
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
            flight.loop.call_soon_threadsafe(flight.task.cancel)

    def _load(self, key: Hashable, flight: _Flight, loader: Callable[[], _T]) -> _T:
        try:
            with _part_of(flight):
                value = loader()
        except BaseException as error:
            self._land(key, flight, error=error if isinstance(error, Exception) else _Abandoned())
            raise
        self._land(key, flight, value)
        return value

    def _start(self, key: Hashable, flight: _Flight, loader: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        async def load() -> None:
            try:
                with _part_of(flight):
                    value = await loader()
            except Exception as error:
                self._land(key, flight, error=error)
            else:
                self._land(key, flight, value)

        def ended(_: object) -> None:
            if not flight.future.done():  # it was cancelled, maybe before it began
                self._land(key, flight, error=_Abandoned())

        flight.loop = asyncio.get_running_loop()
        flight.task = flight.loop.create_task(load())
        flight.task.add_done_callback(ended)

    def _land(self, key: Hashable, flight: _Flight, value: Any = None, error: Exception | None = None) -> None:
        """Tell those who wait, and keep the value, unless it was invalidated or set meanwhile."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                if error is None:
                    self._values[key] = value
        if error is None:
            flight.future.set_result(value)
        else:
            flight.future.set_exception(error)


@contextlib.contextmanager
def _part_of(flight: _Flight) -> Iterator[None]:
    token = _loading.set((*_loading.get(), flight))
    try:
        yield
    finally:
        _loading.reset(token)


def _waited(key: Hashable, flight: _Flight, left_s: float | None) -> Any:
    try:
        return flight.future.result(None if left_s is None else max(0.0, left_s))
    except TimeoutError:
        if flight.future.done():
            raise  # the loader's own
        raise TimeoutExceeded(
            f"the loading of {key!r} by somebody else took too long",
            remedy="Wait longer (timeout_s), or find out why the device is slow.",
        ) from None


def _refused(key: Hashable, why: str, remedy: str) -> Refused:
    return Refused(f"waiting for {key!r} would never end: {why}", remedy=remedy)
