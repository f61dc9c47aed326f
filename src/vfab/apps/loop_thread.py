"""An event loop in a thread of its own, so that programs without one can use what runs on one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["LoopThread", "Workers"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Job = tuple["concurrent.futures.Future[Any]", Callable[[], Any]]
_KEPT = 4
"""How many idle workers wait for the next job; more of them end."""


class Workers(concurrent.futures.ThreadPoolExecutor):
    """Threads for calls that block: another one whenever none is idle.

    asyncio's own pool has four more threads than the machine has cores: six devices that take long to open would keep
    all others waiting. It also refuses work while the interpreter ends, which is when a manager may have to close.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)  # its own threads are never started; asyncio insists on the class
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._idle = self._alive = 0
        self._over = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> concurrent.futures.Future[_T]:
        """Call `fn` in one of the threads. Raises RuntimeError: there is none, and none can be started."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        with self._guard:
            if self._idle:
                self._idle -= 1
            else:
                self._grow()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _grow(self) -> None:
        try:
            threading.Thread(target=self._labour, name="vfab-worker", daemon=True).start()
        except RuntimeError:  # no more threads: those that there are will come to it
            if not self._alive:
                raise
        else:
            self._alive += 1

    def _labour(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del job, future, work
            with self._guard:
                if self._over or self._idle >= _KEPT:
                    self._alive -= 1
                    return
                self._idle += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; what runs is not waited for."""
        with self._guard:
            self._over = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)


class LoopThread:
    """An event loop that runs in a daemon thread from now until `finish`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._workers = Workers()
        self.loop.set_default_executor(self._workers)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._workers.shutdown()
            self.loop.close()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this very thread, where it must not wait for the loop."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Have the loop do `work`; cancelling the result cancels it."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(self._begin, work, future)
        return future

    def _begin(self, work: Coroutine[Any, Any, _T], future: concurrent.futures.Future[_T]) -> None:
        """As `asyncio.run_coroutine_threadsafe`, whose result takes one turn of the loop more to arrive."""
        task = self.loop.create_task(_settle(work, future))

        def ended(future: concurrent.futures.Future[_T]) -> None:
            if future.cancelled():
                with contextlib.suppress(RuntimeError):  # the loop is closed, and what ran there is over
                    self.loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(ended)

    def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the loop do `work` as the last thing, and end the thread. Does not wait: see `join`."""

        async def last() -> None:
            try:
                await work()
            finally:
                self.loop.stop()

        def begin() -> None:
            self._last = self.loop.create_task(last())

        with contextlib.suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(begin)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the thread has ended; whether it has. In the thread itself it has not, and nothing is waited."""
        if not self.is_current:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()


async def _settle(work: Coroutine[Any, Any, _T], future: concurrent.futures.Future[_T]) -> None:
    """Do `work`; what comes of it goes into `future`, unless somebody has cancelled that."""
    try:
        result = await work
    except asyncio.CancelledError:
        future.cancel()
        future.set_running_or_notify_cancel()
        raise
    except BaseException as error:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)
