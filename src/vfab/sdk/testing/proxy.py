"""FaultProxy: stands between a driver and its peer, and is as bad a peer as a test wants, whatever they speak.

It passes bytes on until it is told otherwise. Serial lines are pseudo-terminals here, TCP and Unix sockets what they
are. It knows no protocol: it cuts, delays, changes and invents bytes.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

from vfab.model.errors import DriverError
from vfab.sdk.testing.proxy_ends import Front, front_for, reach, why_no_stream

__all__ = ["FaultProxy", "why_no_stream"]

Tap = Callable[[int, str, bytes], None]

_CHUNK = 65536
_ROOM = 256 * 1024
_KEPT = 1 << 20
_FLOOD = bytes(128 + number * 37 % 128 for number in range(4096))
"""No line ends, no ASCII: what no protocol says."""


class _Mode(Enum):
    PASS = "pass"  # noqa: S105
    HOLD = "hold"
    SILENT = "silent"
    GARBLE = "garble"
    TRICKLE = "trickle"
    FLOOD = "flood"


class FaultProxy:
    """Something that looks to a driver like the peer at `upstream`, and misbehaves on demand.

    Use it as a context; it runs on a thread of its own. Every method may be called from any thread; none waits, but
    those that say so.

    Args:
        upstream: the peer's address: a pseudo-terminal's path, `tcp://host:port` (or another scheme over TCP, with
            its port), `unix:///path`.
        tap: told, on the proxy's thread, of all that passes: the connection's number, `connected`, `client`, `device`
            or `closed`, and the bytes, before they go on.
        front, reach_peer: what drivers connect to, and what reaches the peer, where the address does not say it.

    Attributes:
        address: where a driver finds the proxy; it stays the same when the peer goes and comes back.
        heard: how many bytes drivers have sent so far.
        said: how many bytes drivers were given so far.
        connections: how many connections drivers have made so far; a terminal counts as one from the beginning.

    Raises ConfigurationError: `upstream` is no byte stream.
    """

    def __init__(
        self,
        upstream: str,
        *,
        tap: Tap | None = None,
        front: Front | None = None,
        reach_peer: Callable[[], int] | None = None,
    ) -> None:
        self.upstream = upstream
        self._tap: Tap = tap or (lambda connection, what, data: None)
        self._reach = reach_peer or (lambda: reach(upstream))
        self.heard = 0
        self.said = 0
        self.connections = 0
        self._front = front or front_for(upstream)
        self.address = self._front.address
        self._mode = _Mode.PASS
        self._pause_s = 0.0
        self._piece = 1
        self._wanted = True
        self._cut = False
        self._asked = self._answered = 0
        self._ending = False
        self._record = bytearray()
        self._pipes: list[_Pipe] = []
        self._changed = threading.Condition()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, and be there no more. Closing twice is fine."""
        with self._changed:
            if self._ending:
                return
            self._ending = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._front.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- what the peer is like ----------------------------------------------------------------------------------------

    def pass_on(self) -> None:
        """Be the peer as it is; what was held back is delivered now. Does not bring back a peer that left."""
        self._be(_Mode.PASS)

    def hold(self) -> None:
        """The peer hears and works, but its bytes are kept back until `pass_on`: late answers."""
        self._be(_Mode.HOLD)

    def silence(self) -> None:
        """Nothing passes either way, and what is said is lost: the line is there, and nobody on it."""
        self._be(_Mode.SILENT)

    def garble(self) -> None:
        """Every byte of the peer but line ends is changed, to one that is no ASCII."""
        self._be(_Mode.GARBLE)

    def trickle(self, pause_s: float = 0.001, piece: int = 1) -> None:
        """The peer's bytes come `piece` at a time, with `pause_s` seconds in between."""
        self._pause_s, self._piece = pause_s, piece
        self._be(_Mode.TRICKLE)

    def flood(self) -> None:
        """Instead of what the peer says, bytes without meaning or end come, as fast as the driver takes them."""
        self._be(_Mode.FLOOD)

    def hang_up(self) -> None:
        """Break every connection; the peer is there for new ones."""
        with self._changed:
            self._cut = True
            self._settle()

    def leave(self) -> None:
        """Break every connection and be there no more: unplugged, switched off."""
        with self._changed:
            self._wanted = False
            self._settle()

    def come_back(self) -> None:
        """Be there again, at the same address, as a peer that behaves."""
        with self._changed:
            self._wanted = True
            self._mode = _Mode.PASS
            self._settle()

    def _be(self, mode: _Mode) -> None:
        with self._changed:
            self._mode = mode
            self._wake()

    def _settle(self) -> None:
        """Wait until the thread has done what was asked; the lock is held."""
        self._asked += 1
        mine = self._asked
        self._wake()
        self._changed.wait_for(lambda: self._ending or self._answered >= mine)

    # -- what was heard -----------------------------------------------------------------------------------------------

    @property
    def recorded(self) -> bytes:
        """What drivers sent since `forget`, the last megabyte of it, of all connections."""
        with self._changed:
            return bytes(self._record)

    def forget(self) -> None:
        """Begin `recorded` anew."""
        with self._changed:
            self._record.clear()

    def wait_heard(self, text: bytes | None = None, *, more_than: int = 0, timeout_s: float = 5.0) -> bool:
        """Wait until drivers have sent `text` since `forget`, or more than `more_than` bytes; False: not in time."""

        def came() -> bool:
            return text in self._record if text is not None else self.heard > more_than

        with self._changed:
            return self._changed.wait_for(lambda: came() or self._ending, timeout_s) and came()

    def wait_drained(self, timeout_s: float = 5.0) -> bool:
        """Wait until drivers have been given all that the peer said; False: not in time."""

        def drained() -> bool:
            return not any(pipe.to_driver for pipe in self._pipes)

        with self._changed:
            return self._changed.wait_for(lambda: self._ending or drained(), timeout_s) and drained()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        os.write(self._wake_write, b"x")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._obey()
                self._changed.notify_all()
                if self._ending:
                    return
                poller, wait_s = self._prepared()
            ready = poller.poll(None if wait_s is None else max(0, int(wait_s * 1000 + 0.999)))
            if any(fd == self._wake_read for fd, _ in ready):
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            with self._changed:
                self._move(time.monotonic())

    def _obey(self) -> None:
        """Be there, or not, as was asked."""
        if self._cut or self._ending or not self._wanted:
            self._drop_all()
            self._front.gone()
            self._cut = False
        if self._wanted and not self._ending:
            if self._asked > self._answered:
                self._front.open()
            for fd in self._front.take():
                self._begin(fd)
        self._answered = self._asked

    def _begin(self, fd: int) -> None:
        self.connections += 1
        try:
            self._pipes.append(_Pipe(fd, self._reach(), self.connections))
            self._tap(self.connections, "connected", b"")
        except (OSError, DriverError):  # nobody is behind us: the driver is hung up on
            os.close(fd)
            if self._front.watch() < 0:
                self._front.gone()

    def _drop_all(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    def _prepared(self) -> tuple[select.poll, float | None]:
        """What to wait for, and how long at most."""
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if self._front.watch() >= 0:
            poller.register(self._front.watch(), select.POLLIN)
        wait_s: float | None = None
        for pipe in self._pipes:
            for fd, mask in self._masks(pipe):
                if mask:  # without one it would still report a closed end, for ever
                    poller.register(fd, mask)
            if self._mode is _Mode.TRICKLE and pipe.to_driver:
                left_s = max(0.0, pipe.next_s - time.monotonic())
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
        return poller, wait_s

    def _masks(self, pipe: _Pipe) -> tuple[tuple[int, int], tuple[int, int]]:
        """What to wait for on the driver's descriptor and on the peer's."""
        driver = select.POLLOUT if self._due(pipe) else 0
        peer = select.POLLOUT if pipe.to_peer else 0
        if not pipe.driver_ended and len(pipe.to_peer) < _ROOM:
            driver |= select.POLLIN
        if not pipe.peer_ended and len(pipe.to_driver) < _ROOM:
            peer |= select.POLLIN
        return (pipe.driver, driver), (pipe.peer, peer)

    def _due(self, pipe: _Pipe) -> bool:
        """There is something that the driver may be given now."""
        if self._mode in {_Mode.HOLD, _Mode.SILENT}:
            return False
        if self._mode is _Mode.FLOOD:
            return True
        return bool(pipe.to_driver) and (self._mode is not _Mode.TRICKLE or time.monotonic() >= pipe.next_s)

    def _move(self, now_s: float) -> None:
        """Move bytes as far as they go now."""
        for pipe in list(self._pipes):
            try:
                self._from_driver(pipe)
                self._from_peer(pipe)
                pipe.flush_to_peer()
                if self._due(pipe):
                    self._to_driver(pipe, now_s)
                over = pipe.over(kept=self._mode is _Mode.HOLD)
            except OSError:
                over = True
            if over:  # one of the two has gone: the other is told
                self._tap(pipe.number, "closed", b"")
                pipe.close()
                self._pipes.remove(pipe)
                if self._front.watch() < 0:
                    self._front.gone()
        self._changed.notify_all()

    def _from_driver(self, pipe: _Pipe) -> None:
        if pipe.driver_ended or len(pipe.to_peer) >= _ROOM:
            return
        data = _read(pipe.driver)
        if data is None:
            pipe.driver_ended = True
            return
        if data:
            self._tap(pipe.number, "client", data)
        self.heard += len(data)
        self._record += data
        del self._record[:-_KEPT]
        if self._mode is not _Mode.SILENT:
            pipe.to_peer += data

    def _from_peer(self, pipe: _Pipe) -> None:
        if pipe.peer_ended or len(pipe.to_driver) >= _ROOM:
            return
        data = _read(pipe.peer)
        if data is None:
            pipe.peer_ended = True
            return
        if data:
            self._tap(pipe.number, "device", data)
        if self._mode is _Mode.GARBLE:
            data = garbled(data)
        if self._mode not in {_Mode.SILENT, _Mode.FLOOD}:
            pipe.to_driver += data

    def _to_driver(self, pipe: _Pipe, now_s: float) -> None:
        if self._mode is _Mode.FLOOD and len(pipe.to_driver) < len(_FLOOD):
            pipe.to_driver += _FLOOD
        most = self._piece if self._mode is _Mode.TRICKLE else len(pipe.to_driver)
        with suppress(BlockingIOError):
            sent = os.write(pipe.driver, pipe.to_driver[:most])
            self.said += sent
            del pipe.to_driver[:sent]
        pipe.next_s = now_s + self._pause_s


class _Pipe:
    """One connection of a driver, and ours to the peer on its behalf."""

    def __init__(self, driver: int, peer: int, number: int = 1) -> None:
        self.number = number
        self.driver = driver
        self.peer = peer
        self.to_driver = bytearray()
        self.to_peer = bytearray()
        self.next_s = 0.0
        self.driver_ended = False
        self.peer_ended = False

    def over(self, *, kept: bool) -> bool:
        """One end has gone, and the other has got all that was said; `kept`: what the peer said is held back."""
        return (self.driver_ended and not self.to_peer) or (self.peer_ended and not (self.to_driver or kept))

    def flush_to_peer(self) -> None:
        """Raises OSError: the peer is gone."""
        with suppress(BlockingIOError):
            if self.to_peer:
                del self.to_peer[: os.write(self.peer, self.to_peer)]

    def close(self) -> None:
        for fd in (self.driver, self.peer):
            with suppress(OSError):
                os.close(fd)


def _read(fd: int) -> bytes | None:
    """What has come, maybe nothing; None: the other end is gone."""
    try:
        data = os.read(fd, _CHUNK)
    except BlockingIOError:
        return b""
    except OSError:
        return None
    return data if data or _is_quiet_terminal(fd) else None


def _is_quiet_terminal(fd: int) -> bool:
    """A terminal with VMIN 0 reads nothing where another descriptor would block; it is not at its end."""
    if not os.isatty(fd):
        return False
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return not any(mask & (select.POLLHUP | select.POLLERR) for _, mask in poller.poll(0))


def garbled(data: bytes) -> bytes:
    """`data` with every byte but line ends changed to another one, ASCII to what is none."""
    return bytes(byte if byte in b"\r\n" else byte ^ 0xA5 for byte in data)
