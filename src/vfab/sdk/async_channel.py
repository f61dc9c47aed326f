"""AsyncDriver: a CommunicationDriver whose library is asynchronous, run on an event loop of its own.

Commands stay plain methods, with deadlines and cancelling as everywhere; `self.run(coroutine)` is the bridge.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import socket
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from vfab.model.errors import DriverError, LinkLost, TimeoutExceeded
from vfab.sdk.cancel import current_token
from vfab.sdk.communication import CommunicationDriver, Message
from vfab.sdk.driver import Environment

__all__ = ["AsyncDriver", "AsyncSocketDriver", "EventLoop"]

_T = TypeVar("_T")
_LOOK_S = 0.05
_BATCH = 256


class EventLoop:
    """An event loop on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float, what: str) -> _T:
        """The result of `coroutine`.

        Raises TimeoutExceeded: it took longer than `timeout_s`; it was cancelled. Cancelled: the call that waits was.
        Whatever it raises comes through.
        """
        token = current_token.get()
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, timeout_s), self._loop)
        try:
            while True:
                if token is not None:
                    token.check()
                done, _ = concurrent.futures.wait([future], _LOOK_S)
                if done:
                    return future.result()
        except TimeoutError as error:
            raise TimeoutExceeded(
                f"{what} took longer than {timeout_s:g} s", context={"timeout_s": timeout_s}
            ) from error
        finally:
            future.cancel()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Have `coroutine` run beside everything else."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()
        self._loop.stop()


class AsyncDriver(CommunicationDriver):
    """Base of drivers with an asynchronous library: write `open_async` and `close_async`, call `came` and `broke`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._events: EventLoop | None = None
        self._came: queue.SimpleQueue[Message | Exception | None] = queue.SimpleQueue()

    # -- what an author overrides ---------------------------------------------------------------------------------

    async def open_async(self) -> None:
        """Open the channel, on the loop. Raises DriverError: nothing is left open."""
        raise NotImplementedError

    async def close_async(self) -> None:
        """Close the channel, on the loop; also when it is lost."""
        raise NotImplementedError

    @property
    def open_timeout_s(self) -> float:
        """How long opening may take."""
        return self.timeout_s

    # -- for the author, on the loop's thread or any other -----------------------------------------------------------

    def came(self, message: Message) -> None:
        """A message came."""
        self._came.put(message)

    def broke(self, error: Exception) -> None:
        """The link is lost, because of `error`."""
        self._came.put(error)

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float | None = None, what: str = "it") -> _T:
        """Run `coroutine` on the loop and wait for its result. Raises LinkLost: there is no connection."""
        events = self._events
        if events is None:
            coroutine.close()
            raise LinkLost(
                f"there is no connection to {self.address}",
                context={"address": self.address, "state": self._state},
                remedy="Wait until it is reconnected." if self._state == "reconnecting" else "Connect first.",
            )
        return events.run(coroutine, self.timeout_s if timeout_s is None else timeout_s, what)

    # -- the channel ------------------------------------------------------------------------------------------------

    def open_channel(self) -> None:
        """Start a loop and open the channel on it."""
        self._came = queue.SimpleQueue()
        events = EventLoop(f"vfab-{self.kind}-loop")
        self._events = events
        try:
            events.run(self.open_async(), self.open_timeout_s, f"connecting to {self.address}")
        except BaseException:
            self.close_channel()
            raise

    def close_channel(self) -> None:
        """Close the channel, then end the loop."""
        events, self._events = self._events, None
        if events is None:
            return
        closing = events.start(self.close_async())
        concurrent.futures.wait([closing], self.timeout_s)
        if closing.done() and not closing.cancelled() and closing.exception() is not None:
            self.log.debug("closing %s: %s", self.address, closing.exception())
        events.stop()

    def interrupt_channel(self) -> None:
        """Wake the thread that reads."""
        self._came.put(None)

    def receive_messages(self) -> Iterable[Message]:
        """Wait for a message; as many as are there."""
        found: list[Message] = []
        item = self._came.get()
        while True:
            if isinstance(item, Message):
                found.append(item)
            elif item is None:
                return found
            else:
                for message in found:
                    self.deliver(message)
                raise self.translated(item)
            if len(found) >= _BATCH:
                return found
            try:
                item = self._came.get_nowait()
            except queue.Empty:
                return found

    def translated(self, error: Exception) -> DriverError:
        """A library's error as one of vfab's; by custom the link is lost."""
        if isinstance(error, DriverError):
            return error
        return LinkLost(
            f"the link to {self.address} is lost: {error or type(error).__name__}",
            context={"address": self.address},
            original_error=error,
        )


class AsyncSocketDriver(AsyncDriver):
    """Base of those whose library takes a connected socket, for a session that cannot be taken over in its middle.

    Attributes:
        connection: the socket that `open_async` gives to the library; None while the channel is closed.
    """

    connection: socket.socket | None = None

    def open_channel(self) -> None:
        """Open a connection of our own, then the channel on it."""
        self.environment.ports.close_link(self.address)
        link = self.open_link(self.address, timeout_s=min(self.timeout_s, 60.0))
        self.connection = socket.socket(fileno=link.detach())
        super().open_channel()

    def close_channel(self) -> None:
        """Say good-bye and close the connection."""
        super().close_channel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
            self.environment.ports.close_link(self.address)
