"""The kernel's end of a host's control socket, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vfab.kernel.fair import FairShare
from vfab.model.errors import (
    Cancelled,
    DriverError,
    DriverFailed,
    HostDied,
    ProtocolError,
    Refused,
    TimeoutExceeded,
    from_wire,
)
from vfab.protocols.hostwire import (
    HANDSHAKE_MAX,
    HEADER,
    Call,
    Cancel,
    Event,
    Failure,
    Handshake,
    Log,
    Message,
    Progress,
    Reply,
    decode,
    encode,
    parse_handshake,
    sizes,
)

__all__ = ["HostConnection", "HostListener"]

_SCRATCH = 256 * 1024
_shared = threading.local()
"""What an event loop's connections read into, one for all of them: it is emptied before the next one reads."""

_MAX_REQUESTS = 64
_log = logging.getLogger("vfab.connection")


class HostListener:
    """What a host says unasked. Every method may be left as it is."""

    async def on_request(self, method: str, args: list[Any]) -> Any:
        """The host asks the kernel for something; the result is its answer, a DriverError its refusal."""
        raise DriverFailed(f"the kernel has no request {method!r}")

    def on_event(self, event: Event) -> None:
        """The driver emitted an event."""

    def on_log(self, record: Log) -> None:
        """The driver logged something."""

    def on_failure(self, method: str, error: DriverError) -> None:
        """The driver answered a call of `method` with an error."""

    def on_closed(self, error: DriverError | None) -> None:
        """The connection ended: by the host's end, or because it broke the protocol (`error`)."""


@dataclass(slots=True)
class _Pending:
    method: str
    future: asyncio.Future[Any]
    on_progress: Callable[[Mapping[str, Any]], None] | None
    sent: bool = False


class HostConnection(asyncio.BufferedProtocol):
    """Calls to one host, answered in any order.

    Use `open`. Thread: the event loop's only.
    """

    def __init__(self, listener: HostListener, name: str = "") -> None:
        self._listener = listener
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._calls: dict[int, _Pending] = {}
        self._unsettled: dict[int, float] = {}
        self._requests: set[asyncio.Task[None]] = set()
        if not hasattr(_shared, "scratch"):
            _shared.scratch = memoryview(bytearray(_SCRATCH))
        self._scratch: memoryview = _shared.scratch
        self._held = bytearray()
        self._burst: list[bytes | bytearray | memoryview] | None = None
        self._frame: bytes = b""
        self._bulk: bytearray | None = None
        self._bulk_filled = 0
        self._share = FairShare()
        self._handshake: asyncio.Future[Handshake] = self._loop.create_future()
        self._error: DriverError | None = None
        self._closed = False
        self._ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, sock: socket.socket, listener: HostListener, name: str = "") -> HostConnection:
        """A connection over `sock`, which it owns from now on."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(listener, name), sock=sock)
        return protocol

    async def handshake(self, timeout_s: float) -> Handshake:
        """What the host said first.

        Raises TimeoutExceeded: it said nothing for `timeout_s` seconds. HostDied: it ended before it spoke.
        Raises DriverError: what the host says kept it from loading the plugin.
        """
        try:
            shake = await asyncio.wait_for(asyncio.shield(self._handshake), timeout_s)
        except TimeoutError as error:
            raise TimeoutExceeded(
                f"the driver {self._name} was not loaded within {timeout_s:g} s",
                driver_name=self._name,
                context={"timeout_s": timeout_s},
                remedy="The plugin hangs while it is imported or constructed; its author must move that to connect().",
            ) from error
        if shake.error is not None:
            raise from_wire(shake.error)
        return shake

    # -- calling ------------------------------------------------------------------------------------------------------

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
        """Call the driver's `method` and wait for its result.

        Cancelling the task cancels the call in the host, too.

        Args:
            method: its name.
            args, kwargs: its arguments, whatever they are called.
            timeout_s: patience in seconds; 0 waits without end.
            on_progress: called with what the method reports meanwhile.

        Raises DriverError: what the method raised. TimeoutExceeded: no answer in time; the host was told to cancel.
        Raises HostDied: the host ended meanwhile. Refused: an argument cannot be sent; nothing was.
        """
        if self._closed:
            raise self._gone()
        number = next(self._ids)
        future: asyncio.Future[Any] = self._loop.create_future()
        pending = self._calls[number] = _Pending(method, future, on_progress)
        timer = None
        if timeout_s > 0:
            timer = self._loop.call_later(timeout_s, self._expire, number, method, timeout_s)
        try:
            if not self._writable.is_set():
                await self._until_writable(future)
            if not future.done():  # it may have expired, or been cancelled, while the host did not read
                self._send(Call(number, method, list(args), dict(kwargs), timeout_s))
                pending.sent = True
            return await future
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():  # else the answer came in the same moment
                self._give_up(number)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._calls.pop(number, None)

    async def _until_writable(self, future: asyncio.Future[Any]) -> None:
        """Wait until the host reads again, or the call is over before it began."""
        writable = asyncio.ensure_future(self._writable.wait())
        try:
            await asyncio.wait({writable, future}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writable.cancel()

    def cancel_all(self) -> None:
        """Cancel every call under way: each fails with Cancelled, at the latest when the host has answered."""
        for number, pending in self._calls.items():
            if pending.sent:
                self._give_up(number)
            elif not pending.future.done():
                pending.future.set_exception(Cancelled("the operation was cancelled", driver_name=self._name))

    @property
    def unsettled(self) -> int:
        """How many calls were given up or cancelled without an answer of the host so far."""
        return len(self._unsettled)

    @property
    def unsettled_s(self) -> float:
        """For how many seconds the oldest of them waits: a driver that lets one wait for long is deaf. 0 for none."""
        return self._loop.time() - min(self._unsettled.values()) if self._unsettled else 0.0

    @property
    def in_flight(self) -> int:
        """How many calls wait for an answer."""
        return len(self._calls)

    @property
    def closed(self) -> bool:
        """The connection has ended, or is about to."""
        return self._closed or self._transport is None or self._transport.is_closing()

    async def ended(self, timeout_s: float) -> None:
        """Wait until all that the host said was read and the connection has ended, at most `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), timeout_s)

    def close(self) -> None:
        """End the connection; the host sees it and ends itself."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _expire(self, number: int, method: str, timeout_s: float) -> None:
        pending = self._calls.get(number)
        if pending is not None and not pending.future.done():
            self._give_up(number)
            pending.future.set_exception(
                TimeoutExceeded(
                    f"{self._name}: {method} did not end within {timeout_s:g} s",
                    driver_name=self._name,
                    context={"method": method, "timeout_s": timeout_s},
                )
            )

    def _give_up(self, number: int) -> None:
        if not self._closed and self._calls[number].sent:
            self._unsettled.setdefault(number, self._loop.time())
            self._write(Cancel(number))

    def _send(self, call: Call) -> None:
        try:
            self._write(call)
        except (TypeError, ProtocolError) as error:
            raise Refused(
                f"{call.method}: {error}",
                driver_name=self._name,
                context={"method": call.method},
                original_error=error,
                remedy="Nothing was sent. Pass plain values, and large data as bytes.",
            ) from error

    def _write(self, message: Message) -> None:
        transport = self._transport
        if transport is None or self._closed:
            return
        buffers = encode(message)
        if self._burst is None:  # the first one since the event loop looked around goes out at once
            self._burst = []
            self._loop.call_soon(self._flush)
            for buffer in buffers:
                transport.write(buffer)
        else:
            self._burst += buffers

    def _flush(self) -> None:
        """Send in one piece what was written since the first message of this turn of the event loop."""
        burst, self._burst = self._burst, None
        if burst and self._transport is not None and not self._closed:
            self._transport.writelines(burst)

    def _gone(self) -> DriverError:
        return self._error or HostDied(f"the host of {self._name} has ended", driver_name=self._name)

    # -- asyncio's protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is ours."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        """Asyncio: the host does not read as fast as we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Asyncio: it caught up."""
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Asyncio: where to read to; straight into the bulk that is awaited, so that it is copied once only."""
        if self._bulk is not None:
            return memoryview(self._bulk)[self._bulk_filled :]
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio: `nbytes` were read."""
        if self._bulk is not None:
            self._bulk_filled += nbytes
        else:
            self._held += self._scratch[:nbytes]
        self._take_turn()

    def _take_turn(self) -> None:
        """Handle what was read. Of much, some is left for the next turn, and no more is read until then."""
        transport = self._transport
        if self._closed or transport is None:
            return
        self._share.begin()
        try:
            pause_s = self._cut()
        except DriverError as error:
            self._break_off(error)
            return
        if pause_s is None:
            transport.resume_reading()
        else:
            transport.pause_reading()
            self._loop.call_later(pause_s, self._take_turn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is closed."""
        self._closed = True
        self._ended.set()
        self._writable.set()
        for pending in self._calls.values():
            if not pending.future.done():
                pending.future.set_exception(self._gone())
        self._unsettled.clear()
        if not self._handshake.done():
            self._handshake.set_exception(self._gone())
            self._handshake.exception()  # it was looked at, or nobody wants it
        for task in self._requests:
            task.cancel()
        self._listener.on_closed(self._error)

    def _break_off(self, error: DriverError) -> None:
        """The host broke the protocol: nothing that it says counts any more."""
        error.driver_name = error.driver_name or self._name
        self._error = error
        if self._transport is not None:
            self._transport.abort()

    def _cut(self) -> float | None:
        """Handle whole messages; the seconds after which to go on where this host has had its share, None for all."""
        if not self._handshake.done() and not self._cut_handshake():
            return None
        pause_s = None
        while pause_s is None:
            if self._bulk is not None:
                if self._bulk_filled < len(self._bulk):
                    return None
                frame, bulk = self._frame, self._bulk
                self._bulk, self._frame = None, b""
                self._handle(decode(frame, bulk))
                pause_s = self._share.spent()
                continue
            held = self._held
            if len(held) < HEADER.size:
                return None
            frame_size, bulk_size = sizes(held)
            middle = HEADER.size + frame_size
            if len(held) < middle:
                return None
            frame = bytes(memoryview(held)[HEADER.size : middle])
            if bulk_size == 0:
                del held[:middle]
                self._handle(decode(frame))
                pause_s = self._share.spent()
                continue
            self._frame = frame
            self._bulk = bytearray(bulk_size)
            here = min(bulk_size, len(held) - middle)
            self._bulk[:here] = memoryview(held)[middle : middle + here]
            self._bulk_filled = here
            del held[: middle + here]
        return pause_s

    def _cut_handshake(self) -> bool:
        end = self._held.find(b"\n") + 1
        if not end:
            if len(self._held) > HANDSHAKE_MAX:
                raise ProtocolError("the host did not start with a handshake")
            return False
        line = bytes(self._held[:end])
        del self._held[:end]
        try:
            self._handshake.set_result(parse_handshake(line))
        except DriverError as error:
            self._handshake.set_exception(error)
            raise
        return True

    def _handle(self, message: Message) -> None:
        if isinstance(message, Reply):
            pending = self._calls.get(message.id)
            if pending is not None and not pending.future.done():
                pending.future.set_result(message.result)
            self._unsettled.pop(message.id, None)
        elif isinstance(message, Failure):
            pending = self._calls.get(message.id)
            if pending is not None and not pending.future.done():
                error = from_wire(message.error)
                pending.future.set_exception(error)
                self._listener.on_failure(pending.method, error)
            self._unsettled.pop(message.id, None)
        elif isinstance(message, Progress):
            pending = self._calls.get(message.id)
            if pending is not None and pending.on_progress is not None:
                self._tell_progress(pending.on_progress, message.data)
        elif isinstance(message, Event):
            self._listener.on_event(message)
        elif isinstance(message, Log):
            self._listener.on_log(message)
        elif isinstance(message, Call):
            self._take_request(message)

    def _tell_progress(self, listener: Callable[[Mapping[str, Any]], None], data: Mapping[str, Any]) -> None:
        try:
            listener(data)
        except Exception:  # the caller's defect; the driver and its other callers go on
            _log.exception("a listener failed on the progress of %s", self._name)

    def _take_request(self, call: Call) -> None:
        if len(self._requests) >= _MAX_REQUESTS:
            raise ProtocolError(f"the driver asks for more than {_MAX_REQUESTS} things at once")
        task = self._loop.create_task(self._answer(call, self._listener.on_request(call.method, call.args)))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, call: Call, work: Awaitable[Any]) -> None:
        try:
            self._write(Reply(call.id, await work))
        except DriverError as error:
            self._write(Failure(call.id, error.to_wire()))
        except asyncio.CancelledError:
            self._write(Failure(call.id, Cancelled("the kernel gave the request up").to_wire()))
            raise
        except Exception as error:
            failed = DriverFailed(f"the kernel failed: {error}", context={"request": call.method}, original_error=error)
            self._write(Failure(call.id, failed.to_wire()))
