"""A manager of this process, as seed 001 writes them, seen as a device that can be operated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from vfab.model.errors import ConnectError, UnknownCommand
from vfab.model.lifecycle import DriverState
from vfab.sdk.lifecycle import DriverLifecycle, StateListener

__all__ = ["PlainManager"]

OnThread = Callable[[Callable[..., Any], tuple[Any, ...]], Awaitable[Any]]


class PlainManager:
    """Leads a manager with `connect`, `disconnect` and whatever else through the states; its methods run on threads.

    Args:
        manager: the manager.
        on_thread: runs a function with its arguments on a thread.
    """

    def __init__(self, manager: Any, on_thread: OnThread) -> None:
        self._manager = manager
        self._on_thread = on_thread
        self._life = DriverLifecycle(manager)

    @property
    def id(self) -> str:
        """The name of the manager's class."""
        return type(self._manager).__name__

    @property
    def state(self) -> DriverState:
        """Where the manager stands."""
        return self._life.state

    async def connect(self) -> None:
        """Initialise and connect. Raises DriverError: it failed."""
        await self._on_thread(self._connect, ())

    async def disconnect(self) -> None:
        """Let go of the device. Raises DriverError: it failed."""
        await self._on_thread(self._disconnect, ())

    async def operate(self, method: str, *args: Any, timeout_s: float = 5.0) -> Any:
        """Run a method of the manager.

        Raises UnknownCommand: it has none of that name. TimeoutError: it took longer; its thread goes on.
        """
        function = getattr(self._manager, method, None)
        if not callable(function) or method.startswith("_"):
            raise UnknownCommand(f"{self.id} has no method {method!r}", context={"method": method})
        async with asyncio.timeout(timeout_s):
            return await self._on_thread(function, args)

    def add_state_listener(self, listener: StateListener) -> Callable[[], None]:
        """Tell `listener` of changes; returns what removes it."""
        return self._life.add_state_listener(listener)

    def _connect(self) -> None:
        if self._life.state is DriverState.CONNECTED:
            return
        if self._life.state is DriverState.ERROR and not self._life.reset():
            raise self._why("reset")
        if self._life.state is not DriverState.READY and not self._life.initialize():
            raise self._why("initialise")
        if not self._life.connect():
            raise self._why("connect")

    def _disconnect(self) -> None:
        if not self._life.disconnect():
            raise self._why("disconnect")

    def _why(self, what: str) -> Exception:
        return self._life.last_error or ConnectError(f"{self.id} could not {what}", context={"manager": self.id})
