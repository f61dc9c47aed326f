"""Coroutines in drivers that are written for threads: all of one driver's run in one event loop, in its own thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from functools import cache
from typing import Any

__all__ = ["settled"]

_starting = threading.Lock()


def settled(value: Any) -> Any:
    """`value`; of a coroutine or another awaitable, what comes of it. Not to be called within that loop."""
    if not inspect.isawaitable(value):
        return value
    return asyncio.run_coroutine_threadsafe(_await(value), _only_loop()).result()


async def _await(value: Any) -> Any:
    return await value


def _only_loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _loop()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this process's driver, started when it is first needed: what awaits belongs to one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="coroutines", daemon=True).start()
    return loop
