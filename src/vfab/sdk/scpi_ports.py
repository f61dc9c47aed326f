"""What carries SCPI messages: a socket or serial line, or the kernel's USBTMC node. VISA is in `vfab.sdk.visa_port`."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections import deque
from typing import Protocol

from vfab.model.errors import LinkLost, TimeoutExceeded
from vfab.protocols.scpi import Framer
from vfab.sdk.cancel import current_token
from vfab.sdk.link import Link

__all__ = ["LinkPort", "MessagePort", "UsbtmcPort"]

_POLL_S = 0.005
_MESSAGE_AVAILABLE = 0x10


class MessagePort(Protocol):
    """Carries messages. Every method raises LinkLost when the peer is gone, Cancelled when the call was cancelled."""

    address: str
    queues: bool
    """What is sent while an answer is awaited waits its turn; elsewhere it would interrupt the answer."""

    @property
    def closed(self) -> bool:
        """It was closed here."""

    def send(self, message: bytes) -> None:
        """Send one message, given without its line end. Raises TimeoutExceeded."""

    def receive(self, timeout_s: float) -> bytes:
        """One message, without its line end. Raises TimeoutExceeded: it did not come within `timeout_s`."""

    def clear(self) -> None:
        """Forget what is on its way, here and, where there is a way to say so, in the instrument."""

    def close(self) -> None:
        """Let go; twice is fine."""


class LinkPort:
    """Messages on a socket or a serial line.

    Args:
        link: the open link.
        write_end: what ends a message that is sent.
        read_end: what ends one that comes. A line feed inside a binary block does not.
    """

    queues = True

    def __init__(self, link: Link, *, write_end: bytes = b"\n", read_end: bytes = b"\n") -> None:
        self.link = link
        self.address = link.address
        self._write_end = write_end
        self._read_end = read_end
        self._framer = Framer()
        self._came: deque[bytes] = deque()

    @property
    def closed(self) -> bool:
        """See `MessagePort`."""
        return self.link.closed

    def send(self, message: bytes) -> None:
        """See `MessagePort`."""
        self.link.write(message + self._write_end)

    def receive(self, timeout_s: float) -> bytes:
        """See `MessagePort`. Raises ProtocolError: no end within a million bytes."""
        if self._read_end != b"\n":
            line = self.link.read_until(self._read_end, timeout_s=timeout_s)
            return line.removesuffix(self._read_end).strip(b"\r\n")
        deadline = time.monotonic() + timeout_s
        while not self._came:
            data = self.link.read(timeout_s=max(0.0, deadline - time.monotonic()))
            self._came.extend(self._framer.receive(data))
        return self._came.popleft()

    def clear(self) -> None:
        """Forget what came."""
        self._framer.clear()
        self._came.clear()
        self.link.discard_input()

    def close(self) -> None:
        """See `MessagePort`."""
        self.link.close()


_SET_TIMEOUT = 0x40045B0A
_READ_STATUS = 0x80015B12
_CLEAR = 0x5B02
"""From <linux/usb/tmc.h>: _IOW(91, 10, __u32), _IOR(91, 18, unsigned char), _IO(91, 2)."""


class UsbtmcPort:
    """Messages on `/dev/usbtmcN`, the kernel's own driver of USB test and measurement instruments.

    The kernel's read does not end when a call is cancelled; so the instrument is asked by its status byte whether an
    answer is there, and only then is read. One that has no status byte is read with the whole timeout.

    Args:
        link: the open node.
        ioctl: `fcntl.ioctl`, unless a test says otherwise.
    """

    queues = False

    def __init__(self, link: Link, ioctl: object = fcntl.ioctl) -> None:
        self.link = link
        self.address = link.address
        self._ioctl = ioctl
        self._has_status = True

    @property
    def closed(self) -> bool:
        """See `MessagePort`."""
        return self.link.closed

    def send(self, message: bytes) -> None:
        """See `MessagePort`."""
        try:
            os.write(self.link.fileno(), message + b"\n")
        except OSError as error:
            raise self._translated(error, 0.0) from error

    def receive(self, timeout_s: float) -> bytes:
        """See `MessagePort`."""
        deadline = time.monotonic() + timeout_s
        self._await_message(deadline, timeout_s)
        left_ms = max(100, int((deadline - time.monotonic()) * 1000))
        self._control(_SET_TIMEOUT, struct.pack("I", left_ms))
        message = bytearray()
        framer = Framer()
        while True:
            try:
                data = os.read(self.link.fileno(), 65536)
            except OSError as error:
                raise self._translated(error, timeout_s) from error
            message += data
            if framer.receive(data) or len(data) < 65536:
                return bytes(message).removesuffix(b"\n").removesuffix(b"\r")

    def _await_message(self, deadline: float, timeout_s: float) -> None:
        while self._has_status:
            token = current_token.get()
            if token is not None:
                token.check()
            status = self._control(_READ_STATUS, b"\0")
            if status is None:
                self._has_status = False
                return
            if status[0] & _MESSAGE_AVAILABLE:
                return
            if time.monotonic() > deadline:
                raise TimeoutExceeded(f"{self.address} sent nothing for {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _control(self, request: int, data: bytes) -> bytes | None:
        """What the kernel answers; None when it, or the instrument, does not know the request."""
        try:
            answer = self._ioctl(self.link.fileno(), request, data)  # type: ignore[operator]
        except OSError as error:
            if error.errno in {errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.EPIPE}:
                return None
            raise self._translated(error, 0.0) from error
        return answer if isinstance(answer, bytes) else b""

    def clear(self) -> None:
        """A device clear, by the USBTMC request of that name."""
        self._control(_CLEAR, b"")

    def close(self) -> None:
        """See `MessagePort`."""
        self.link.close()

    def _translated(self, error: OSError, timeout_s: float) -> LinkLost | TimeoutExceeded:
        context = {"address": self.address}
        if error.errno in {errno.ETIMEDOUT, errno.EAGAIN}:
            return TimeoutExceeded(f"{self.address} sent nothing for {timeout_s:g} s", context=context)
        return LinkLost(f"the link to {self.address} broke: {error.strerror}", context=context, original_error=error)
