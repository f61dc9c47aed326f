"""One device with its driver, as the kernel's users see it: request changes of state, call methods, watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from vfab.kernel.channel import BlockingChannel
from vfab.kernel.replacing import ReplaceableShell
from vfab.kernel.shell import REST
from vfab.model.confinement import Confinement
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DriverError,
    DriverFailed,
    HandedOver,
    HostDied,
    LimitExceeded,
    LinkLost,
    TimeoutExceeded,
)
from vfab.model.lifecycle import DriverState, Event

__all__ = ["ManagedDevice"]

S = DriverState
_DEAD = frozenset({S.ERROR, S.INITIALIZING, S.DISCONNECTED, S.SHUTTING_DOWN, S.SHUTDOWN})


class ManagedDevice(ReplaceableShell):
    """A device with its driver. Made by `Supervisor.adopt`. Use it from the event loop only."""

    async def initialize(self) -> None:
        """Start the driver. Raises DriverError: it could not be started."""
        await self.replaced()
        await self._find_again()
        await self._request(Event.INITIALIZE, reach={S.READY, S.CONNECTED})

    async def connect(self) -> None:
        """Connect, starting the driver first where that is still to do. Raises DriverError."""
        await self.replaced()
        if self.state in {S.UNINITIALIZED, S.SHUTDOWN, S.DISCONNECTED}:
            await self.initialize()
        else:
            await self._find_again()
        await self._request(Event.CONNECT, reach={S.CONNECTED})

    async def disconnect(self) -> None:
        """Let go of the device; the driver leaves it safe first. Raises DriverError."""
        await self.replaced(at_once=True)
        await self._dead_for_good()
        await self._request(Event.DISCONNECT, reach={S.DISCONNECTED})

    async def reset(self) -> None:
        """Reset the device, or start its driver again after an error. Raises DriverError.

        One that was unplugged and is plugged in elsewhere by now is found there, by its id.
        """
        await self.replaced(at_once=True)
        await self._dead_for_good()
        await self._find_again()
        await self._request(Event.RESET, reach={S.READY, S.CONNECTED})

    async def close(self) -> None:
        """Leave the device safe and end its driver's process, whatever state it is in."""
        await self.replaced(at_once=True)
        if self.state is not S.SHUTDOWN:
            await self._request(Event.CLOSE, reach={S.SHUTDOWN})
        if self._retry is not None:
            self._retry.cancel()
        self.hosts.forgive_never()
        while self._tasks and self.state is S.SHUTDOWN:
            await asyncio.wait(self._tasks)
        if self.state is S.SHUTDOWN:
            self.links.close()
            self.streams.close()

    async def ready_again(self, timeout_s: float = 60.0) -> None:
        """Wait until the driver works again: READY, CONNECTED or BUSY.

        Raises DriverError: it gave up, somebody disconnected or closed it, or `timeout_s` seconds passed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.state not in {S.READY, S.CONNECTED, S.BUSY}:
                    if self.state in REST and self.life.wanted is None:
                        raise self._trouble()
                    await self._next_change()
        except TimeoutError as error:
            raise TimeoutExceeded(f"{self.id} did not recover within {timeout_s:g} s", **self.where()) from error

    def operate(
        self,
        method: str,
        /,
        *args: Any,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """`operate_with` with arguments as in Python; none of them can be called `timeout_s` or `on_progress`."""
        return self.operate_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)

    async def operate_with(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Run `method` as an operation: the device is BUSY meanwhile, and in ERROR when it fails.

        What was refused or cancelled leaves the device as it was.

        Raises IllegalTransition: the device is not connected. DriverError: what the method raised.
        """
        await self._gate.wait()
        if self.state is not S.BUSY:
            self._ask(Event.BEGIN)
        generation = self.life.generation
        self._operations[generation] += 1
        try:
            while True:
                try:
                    result = await self.call_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)
                    break
                except HandedOver as over:  # the driver is being replaced: the next one goes on with it
                    args, kwargs = _goes_on_with(over, args, kwargs)
                    await self._gate.wait()
                    generation = self._carried_over(generation)
        except (ConfigurationError, Cancelled, asyncio.CancelledError):
            raise
        except LinkLost as error:
            self.fail(error, generation, Event.LINK_LOST)
            raise
        except DriverError as error:
            if not isinstance(error, HostDied):
                self.fail(error, generation)
            raise
        finally:
            self._operations[generation] -= 1
            if not self._operations[generation]:
                del self._operations[generation]
                # the last of all may have begun on a host that has the device no more: it was taken back from it
                self.signal(Event.FINISHED, generation if self._operations else self.life.generation)
        return result

    def call(
        self,
        method: str,
        /,
        *args: Any,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """`call_with` with arguments as in Python; none of them can be called `timeout_s` or `on_progress`."""
        return self.call_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)

    async def call_with(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Call `method` without changing the device's state: for queries, pause, cancel.

        Raises DriverError: what the method raised; IllegalTransition: there is no driver process.
        """
        if not self._gate.is_set():
            await self._until_replaced(method, timeout_s)
        connection = self._connection
        if connection is None:
            raise self._no_driver()
        self._under_way += 1
        self.calls_made += 1
        try:
            return await connection.call_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)
        except HostDied as error:
            raise await self._obituary(error) from error
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
            self.hosts.end_if_deaf(connection)

    def end_host(self, pid: int, why: DriverError) -> bool:
        """End the host `pid` at once because of `why`, which is then its cause of death; False: it is not the host.

        What follows is what follows every death: the device is left safe, and its driver started again; but to stay
        over a limit again and again is not forgiven because each host lived long until then.
        """
        process = self._process
        if process is None or process.pid != pid or process.exited.done():
            return False
        why.driver_name = why.driver_name or self.manifest.name
        why.context.update({"device": self.id, "pid": pid, "last_lines": list(process.last_lines)})
        known, process.why = process.why, why
        if known is None and isinstance(why, LimitExceeded):
            self.signal(Event.OVER_LIMIT, self.life.generation)
        process.kill()
        return True

    @property
    def confinement(self) -> Confinement | None:
        """How far the driver's process is confined; None while there is none, or before it has said so."""
        return self._process.confinement if self._process is not None else None

    @property
    def state_dir(self) -> Path | None:
        """The driver's own folder for this device, which lasts; None where it has none. It may not be there yet."""
        return self.hosts.folder()

    async def open_channel(self) -> BlockingChannel:
        """A connection of its own for a synchronous caller, to be used from any other thread.

        Raises IllegalTransition: there is no driver process.
        """
        await self._gate.wait()
        channel = BlockingChannel(await self._new_socket(self.host()), on_failure=self._channel_failed)
        self._channels.add(channel)
        return channel

    def _channel_failed(self, method: str, error: DriverError) -> None:
        """A synchronous call failed; told on its caller's thread, while no channel can be moved to another host."""
        process = self._process
        if process is not None:
            self.failures.note(process.pid, method, error)

    async def _until_replaced(self, method: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s or None):
                await self._gate.wait()
        except TimeoutError as error:
            raise TimeoutExceeded(
                f"{self.id}: {method} was not begun within {timeout_s:g} s: its driver is being replaced",
                **self.where(),
            ) from error

    def _carried_over(self, generation: int) -> int:
        """An operation that began under `generation` goes on under the one that is now."""
        now = self.life.generation
        self._operations[generation] -= 1
        if not self._operations[generation]:
            del self._operations[generation]
        self._operations[now] += 1
        return now

    async def _obituary(self, error: HostDied) -> DriverError:
        """The error for a call whose host died: with the cause of death, once it is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while self.pid is not None or self.state not in _DEAD:
                    await self._next_change()
        return self.last_error if isinstance(self.last_error, HostDied) else error

    async def _dead_for_good(self) -> None:
        """In ERROR, wait for the end of a host that is about to end: it takes no more requests."""
        while self.state is S.ERROR and self.life.host_alive:
            connection = self._connection
            if connection is not None and connection is not self.hosts.unfit and not connection.closed:
                return
            await self._next_change()


def _goes_on_with(
    over: HandedOver, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """What the method is called with in the next process. Raises DriverFailed: what was handed over makes no sense."""
    more, instead = over.context.get("kwargs", {}), over.context.get("args", args)
    if not isinstance(more, Mapping) or not isinstance(instead, list | tuple):
        raise DriverFailed(
            "an operation was handed over with something that is no arguments, or too large",
            driver_name=over.driver_name,
            original_error=over,
        )
    return tuple(instead), {**kwargs, **more}
