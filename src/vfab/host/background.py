"""The event loop on which a host runs its driver's `async` methods: one for all connections, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from vfab.sdk.cancel import CancelToken

__all__ = ["Background"]

_log = logging.getLogger("vfab.host")


@dataclass(slots=True)
class _Raised:
    """What would end an event loop if it came through a task: SystemExit, KeyboardInterrupt."""

    error: BaseException


class Background:
    """An event loop that starts when it is first needed and never stops.

    There is one only: what a driver made in `connect` (locks, streams, tasks) belongs to the loop it was made on.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def run(self, awaitable: Awaitable[Any], token: CancelToken) -> Any:
        """Run `awaitable` and return its result; a cancel of `token` cancels its task, once.

        Raises Cancelled, TimeoutExceeded: as the token says. Whatever else the awaitable raises.
        """
        result = asyncio.run_coroutine_threadsafe(_watched(awaitable, token), self._running()).result()
        if isinstance(result, _Raised):
            raise result.error
        return result

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="vfab-loop", daemon=True).start()
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except BaseException as error:  # a background task of the driver raised SystemExit: the others go on
            _log.error("a task of the driver raised %s", type(error).__name__)


async def _contained(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


async def _watched(awaitable: Awaitable[Any], token: CancelToken) -> Any:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_contained(awaitable))
    token.when_cancelled(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await asyncio.wait_for(task, token.remaining_s())
    except asyncio.CancelledError:
        token.check()
        raise
