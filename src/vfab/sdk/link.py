"""A link: the open descriptor of a serial port, socket, pseudo-terminal or device node, with deadlines.

The kernel's broker opens links and hands them to drivers; `sdk.opening` is what it opens them with, and what tests
use to run a driver without a kernel.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from types import TracebackType

from vfab.model.errors import ConnectError, LinkLost, ProtocolError, TimeoutExceeded
from vfab.sdk.cancel import current_token
from vfab.sdk.opening import make_raw, open_address, open_error, split_address

__all__ = ["DISCARD_MAX", "Link", "make_raw", "open_address", "open_error", "split_address"]

_GONE = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ENOTCONN}
_READ_SIZE = 65536
DISCARD_MAX = 8 << 20
"""Bytes that are thrown away at once: more than a socket buffers (tcp_rmem has 6 MiB)."""


class Link:
    """An open link. Closing it closes the descriptor here; the kernel keeps its own until the device is released.

    Args:
        fd: the open descriptor; the link owns it.
        address: where it leads, for messages.

    Attributes:
        was_given_on: a library has the connection, too: what it knows of it cannot be handed to another driver.
    """

    def __init__(self, fd: int, address: str = "") -> None:
        self._fd = fd
        self.address = address
        self._held = b""
        self.was_given_on = False
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor, for select; -1 once closed."""
        return self._fd

    @property
    def closed(self) -> bool:
        """The link was closed here."""
        return self._fd < 0

    def close(self) -> None:
        """Close the descriptor; closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def detach(self) -> int:
        """The descriptor, for a library that wants to own it; the link is closed by it."""
        fd, self._fd = self._open_fd(), -1
        self.was_given_on = True
        return fd

    def socket(self) -> socket.socket:
        """A socket object of the same connection, blocking, for a library that wants one; the link keeps its own.

        Raises ConnectError: the link is no socket.
        """
        try:
            made = socket.socket(fileno=os.dup(self._open_fd()))
        except OSError as error:
            raise ConnectError(f"{self.address} is no network connection", context={"address": self.address}) from error
        made.setblocking(True)
        self.was_given_on = True
        return made

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes | bytearray | memoryview, *, timeout_s: float | None = 5.0) -> None:
        """Write all of `data`.

        Raises TimeoutExceeded: the peer took no more bytes for `timeout_s`; part of `data` may have been sent.
        Raises LinkLost: the peer is gone. Raises Cancelled: the call was cancelled.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._open_fd(), view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, timeout_s, "would not take more bytes")
            except OSError as error:
                raise self._lost(error) from error

    def read(self, size: int = _READ_SIZE, *, timeout_s: float | None = 5.0) -> bytes:
        """What has come, at least one byte and at most `size`; waits for the first byte.

        Raises TimeoutExceeded: nothing came for `timeout_s` seconds (None: waits until cancelled).
        Raises LinkLost: the peer is gone. Raises Cancelled: the call was cancelled.
        """
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
            return data
        while True:
            data = self._read_now(size)
            if data:
                return data
            self._wait(select.POLLIN, timeout_s, "sent nothing")

    def read_available(self, size: int = _READ_SIZE) -> bytes:
        """What has come by now, maybe nothing.

        Raises LinkLost: the peer is gone.
        """
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
            return data
        return self._read_now(size)

    def read_until(self, end: bytes = b"\n", *, timeout_s: float = 5.0, limit: int = _READ_SIZE) -> bytes:
        """Bytes up to and with `end`.

        Raises TimeoutExceeded: `end` did not come within `timeout_s`; what came is kept for the next read.
        Raises ProtocolError: `limit` bytes came without it.
        """
        deadline = time.monotonic() + timeout_s
        held = self._held
        self._held = b""
        try:
            while end not in held:
                if len(held) > limit:
                    raise ProtocolError(f"{self.address} sent {len(held)} bytes without {end!r}")
                held += self.read(timeout_s=max(0.0, deadline - time.monotonic()))
        finally:
            self._held = held
        line, sep, self._held = held.partition(end)
        return line + sep

    def wait_readable(self, timeout_s: float | None) -> bool:
        """Whether something can be read within `timeout_s` seconds. A closed peer counts as readable.

        Raises Cancelled: the call was cancelled.
        """
        if self._held:
            return True
        try:
            self._wait(select.POLLIN, timeout_s, "")
        except TimeoutExceeded:
            return False
        return True

    def put_back(self, data: bytes) -> None:
        """Put `data` back: the next read gets it first, whatever has come since after it."""
        self._held = data + self._held

    def take_unread(self) -> bytes:
        """What was received and not read by anybody; it is another reader's from now on."""
        data, self._held = self._held, b""
        return data

    def discard_input(self) -> bytes:
        """Throw away, and return, what has come by now: stale replies of an earlier program.

        Of a peer that never stops sending only `DISCARD_MAX` bytes are taken: what is beyond came meanwhile.
        """
        gone = bytearray()
        while len(gone) < DISCARD_MAX and (data := self.read_available()):
            gone += data
        return bytes(gone)

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise LinkLost(f"the link to {self.address} is closed")
        return self._fd

    def _read_now(self, size: int) -> bytes:
        try:
            data = os.read(self._open_fd(), size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from error
        if not data and not self._quiet_tty():
            raise LinkLost(f"{self.address} closed the link", context={"address": self.address})
        return data

    def _quiet_tty(self) -> bool:
        """A terminal with VMIN 0 reads nothing where another descriptor would block; it is not at its end."""
        if not os.isatty(self._fd):
            return False
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return not any(mask & (select.POLLHUP | select.POLLERR) for _, mask in poller.poll(0))

    def _wait(self, mask: int, timeout_s: float | None, what: str) -> None:
        token = current_token.get()
        poller = select.poll()
        poller.register(self._open_fd(), mask)
        limit = timeout_s
        if token is not None:
            token.check()
            wake = token.fileno()
            if wake >= 0:
                poller.register(wake, select.POLLIN)
            limit = token.remaining_s(timeout_s)
        ready = poller.poll(None if limit is None else max(0, int(limit * 1000 + 0.999)))
        if token is not None:
            token.check()
        if not ready:
            raise TimeoutExceeded(
                f"{self.address} {what} for {limit:g} s", context={"address": self.address, "timeout_s": limit}
            )

    def _lost(self, error: OSError) -> LinkLost | ConnectError:
        kind = LinkLost if error.errno in _GONE else ConnectError
        return kind(
            f"the link to {self.address} broke: {error.strerror}",
            context={"address": self.address},
            original_error=error,
        )
