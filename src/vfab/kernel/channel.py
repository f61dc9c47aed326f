"""A blocking channel to a host, for synchronous callers: the fastest way to call a driver."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from vfab.model.errors import DriverError, HostDied, ProtocolError, Refused, TimeoutExceeded, from_wire
from vfab.protocols.hostwire import Call, Cancel, Failure, Handshake, Progress, Reply, parse_handshake
from vfab.sdk.transport import FrameReader, FrameWriter, LinkClosed

__all__ = ["BlockingChannel"]


class BlockingChannel:
    """Calls one at a time over a socket of its own; other threads wait their turn.

    Args:
        sock: a connected stream socket to a host; the channel owns it.
        expect_handshake: the host says its handshake on this socket first.
        on_failure: told of the method and the error whenever the driver answers a call with one.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        expect_handshake: bool = False,
        on_failure: Callable[[str, DriverError], None] = lambda method, error: None,
    ) -> None:
        self._sock = sock
        self._on_failure = on_failure
        self._reader = FrameReader(sock)
        self._writer = FrameWriter(sock)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._timeout_s: float | None = None
        self._broken = False
        self._closed = False
        self._held = False
        self.handshake: Handshake | None = None
        if expect_handshake:
            self.handshake = parse_handshake(self._reader.read_line())

    def call(
        self,
        method: str,
        /,
        *args: Any,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
        **kwargs: Any,
    ) -> Any:
        """`call_with` with arguments as in Python; none of them can be called `timeout_s` or `on_progress`."""
        return self.call_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)

    def call_with(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout_s: float = 30.0,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Call the driver's `method` and wait for its result.

        Args:
            method: its name.
            args, kwargs: its arguments, whatever they are called.
            timeout_s: longest silence of the host, in seconds; 0 waits without end.
            on_progress: called with what the method reports meanwhile.

        Raises DriverError: what the method raised; TimeoutExceeded; HostDied. Refused: an argument cannot be sent.
        """
        with self._lock:
            if self._broken:
                raise HostDied("the channel is closed", context={"method": method})
            number = next(self._ids)
            self._set_timeout(timeout_s or None)
            try:
                self._send(Call(number, method, list(args), dict(kwargs), timeout_s))
                while True:
                    message = self._reader.read()
                    if isinstance(message, Reply) and message.id == number:
                        return message.result
                    if isinstance(message, Failure) and message.id == number:
                        failed = from_wire(message.error)
                        self._on_failure(method, failed)
                        raise failed
                    if isinstance(message, Progress) and message.id == number and on_progress is not None:
                        on_progress(message.data)
            except LinkClosed as error:
                if isinstance(error.__cause__, BlockingIOError):
                    self._give_up(number)
                    raise TimeoutExceeded(
                        f"{method} did not end within {timeout_s:g} s", context={"method": method}
                    ) from error
                self._break()
                raise HostDied("the host has ended", context={"method": method}) from error
            except ProtocolError:
                self._break()
                raise

    def _send(self, call: Call) -> None:
        try:
            self._writer.write(call)
        except (TypeError, ProtocolError) as error:
            raise Refused(
                f"{call.method}: {error}",
                context={"method": call.method},
                original_error=error,
                remedy="Nothing was sent. Pass plain values, and large data as bytes.",
            ) from error

    def _give_up(self, number: int) -> None:
        try:
            self._writer.write(Cancel(number))
        except LinkClosed:
            self._break()

    def _break(self) -> None:
        """What comes next on this socket cannot be told from rubbish, or nothing comes: it is over."""
        self._broken = True
        self._shut()

    def _set_timeout(self, timeout_s: float | None) -> None:
        if timeout_s != self._timeout_s:
            # not settimeout(): with it Python polls before every read, which doubles the system calls
            self._timeout_s = timeout_s
            seconds, fraction = divmod(timeout_s or 0.0, 1)
            micros = max(int(fraction * 1e6), 1 if timeout_s and not seconds else 0)  # 0 would wait without end
            timeval = struct.pack("ll", int(seconds), micros)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    @property
    def closed(self) -> bool:
        """Whoever has it closed it."""
        return self._closed

    def hold(self, timeout_s: float) -> bool:
        """Have callers wait after the present call; False: that takes longer than `timeout_s` seconds."""
        self._held = self._lock.acquire(timeout=timeout_s) if timeout_s else self._lock.acquire(blocking=False)
        return self._held

    def move(self, sock: socket.socket) -> None:
        """Go on over `sock`, which leads to another host, after `hold`; one that was closed meanwhile stays so."""
        self._sock.close()
        if self._closed:
            sock.close()
        else:
            self._sock, self._timeout_s, self._broken = sock, None, False
            self._reader, self._writer = FrameReader(sock), FrameWriter(sock)
        self.let_go()

    def let_go(self) -> None:
        """Let callers go on after `hold`."""
        if self._held:
            self._held = False
            self._lock.release()

    def close(self) -> None:
        """Close the channel; the host goes on. A call of another thread that waits on it ends with HostDied."""
        self._closed = self._broken = True
        self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def __enter__(self) -> BlockingChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
