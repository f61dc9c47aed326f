"""How a connection pool's work is done, on a thread or on an event loop, and what becomes of a late result.

A piece of work is a generator that yields what to call next and is sent what came of it, so that threads and tasks run
the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from vfab.model.errors import ConfigurationError
from vfab.sdk.pool_ledger import Ledger

__all__ = ["Handover", "Work", "frozen", "in_loop", "run", "run_async", "waker"]

_T = TypeVar("_T")
Work = Generator[Callable[[], Any], Any, _T]


def in_loop(future: Future[_T]) -> asyncio.Future[_T]:
    """`future` for the loop that runs now. Unlike `asyncio.wrap_future` it does not mind a loop that is closed."""
    loop = asyncio.get_running_loop()
    ours: asyncio.Future[_T] = loop.create_future()

    def tell() -> None:
        error = future.exception()
        if ours.done():
            return  # whoever waited was cancelled
        if error is None:
            ours.set_result(future.result())
        else:
            if isinstance(error, StopIteration):  # no task can raise it
                error = RuntimeError(f"StopIteration: {error}")
            ours.set_exception(error)
            ours.exception()  # known: whoever still waits gets it, and nobody else wants to

    def done(_: object) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)

    future.add_done_callback(done)
    return ours


class Handover:
    """A result that may come too late: then it goes back into the pool."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._delivered: Any = None
        self._abandoned = False

    def deliver(self, connection: Any) -> None:
        """The work is done."""
        with self._lock:
            self._delivered = connection
            if self._abandoned:
                self._return()

    def abandon(self) -> None:
        """Nobody waits for the result any more."""
        with self._lock:
            self._abandoned = True
            if self._delivered is not None:
                self._return()

    def _return(self) -> None:
        self._ledger.keep(self._ledger.take_lent(self._delivered))


def frozen(value: Any) -> Hashable:
    """`value` as something that can be compared and hashed."""
    if isinstance(value, Mapping):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(frozen(item) for item in value)
    try:
        hash(value)
    except TypeError:
        raise ConfigurationError(
            f"a connection cannot be asked for with a {type(value).__name__}: it cannot be compared",
            remedy="Use numbers, text, lists and dicts as arguments.",
        ) from None
    return (type(value), value)


def waker(future: asyncio.Future[None]) -> Callable[[], object]:
    """What resolves `future` from any thread. Raises RuntimeError: its loop is closed."""
    loop = future.get_loop()
    return lambda: loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))


def run(work: Work[_T]) -> _T:
    """Do `work` on this thread."""
    try:
        call = next(work)
        while True:
            try:
                value = call()
                if inspect.iscoroutine(value):
                    value.close()
                    raise ConfigurationError(
                        "the pool's factory or managers are asynchronous",
                        remedy="Make the pool with blocking=False and use the methods whose names end in _async.",
                    )
            except BaseException as error:
                call = work.throw(error)
            else:
                call = work.send(value)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def run_async(work: Work[_T], call: Callable[[], Any]) -> _T:
    """Do `work` on this event loop, from `call` on, which it has asked for already."""
    try:
        while True:
            try:
                value = call()
                if isinstance(value, Awaitable):
                    value = await value
            except BaseException as error:
                call = work.throw(error)
            else:
                call = work.send(value)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
