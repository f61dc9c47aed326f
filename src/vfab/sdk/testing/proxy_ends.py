"""Where a `FaultProxy` is found by drivers, and how it reaches the peer: TCP, Unix sockets, pseudo-terminals."""

from __future__ import annotations

import os
import socket
import tempfile
import tty
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vfab.model.errors import ConfigurationError
from vfab.sdk.opening import TCP_SCHEMES, open_address

__all__ = ["Front", "front_for", "reach", "terminal_front", "why_no_stream"]

_CONNECT_S = 5.0


class Front(Protocol):
    """What drivers connect to. No method blocks."""

    address: str
    """Where a driver finds it: the same after it was gone."""

    def open(self) -> None:
        """Be there."""

    def gone(self) -> None:
        """Be not there; the address stays reserved."""

    def close(self) -> None:
        """Be gone for good."""

    def watch(self) -> int:
        """A descriptor that is readable when `take` has something; -1 for none."""

    def take(self) -> list[int]:
        """The descriptors of connections that are new; whoever takes one closes it."""


def why_no_stream(address: str) -> str:
    """Why no proxy can stand before `address`; "" when one can."""
    if address.startswith("/"):
        if _is_terminal(address):
            return ""
        return f"{address} is a device node, not a terminal or socket that a proxy could stand in for"
    scheme, found, rest = address.partition("://")
    if not found:
        return f"{address or 'a device without an address'} is not reached through a byte stream"
    if scheme == "unix":
        return ""
    if scheme not in TCP_SCHEMES:
        return f"{scheme}:// is not a byte stream"
    return "" if _host_and_port(address)[1] else f"{rest} names no port"


def _is_terminal(path: str) -> bool:
    try:
        return os.path.realpath(path).startswith("/dev/pts/")
    except OSError:
        return False


def _host_and_port(address: str) -> tuple[str, int]:
    """Host and port of a TCP address; port 0 when it names none."""
    try:
        parts = urlsplit(address)
        return parts.hostname or "", parts.port or 0
    except ValueError:
        return "", 0


def front_for(upstream: str) -> Front:
    """A front of the kind of `upstream`, the peer's address. Raises ConfigurationError: that is no byte stream."""
    why = why_no_stream(upstream)
    if why:
        raise ConfigurationError(
            f"no proxy can stand before {upstream}: {why}",
            context={"address": upstream},
            remedy="Name a pseudo-terminal, tcp://host:port (or a scheme over TCP, with the port), or unix:///path.",
        )
    if upstream.startswith("/"):
        return _Terminal()
    return _Unix() if upstream.startswith("unix://") else _Tcp(upstream)


def terminal_front() -> Front:
    """A pseudo-terminal, for a peer on any serial port."""
    return _Terminal()


def reach(upstream: str) -> int:
    """A new connection to the peer; its descriptor, not blocking. Raises OSError, DriverError: it cannot be reached."""
    if upstream.startswith("/"):
        fd = open_address(upstream)
    elif upstream.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_CONNECT_S)
            peer.connect(upstream.removeprefix("unix://"))
            fd = peer.detach()
    else:
        with socket.create_connection(_host_and_port(upstream), _CONNECT_S) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = peer.detach()
    os.set_blocking(fd, False)
    return fd


class _Terminal:
    """A pseudo-terminal behind a link of its own name, which outlives it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vfab-proxy-")
        self.address = str(Path(self._folder.name) / "tty")
        self._slave = -1
        self._new: list[int] = []

    def open(self) -> None:
        if self._slave >= 0:
            return
        master, self._slave = os.openpty()  # the driver's end stays open here, too: drivers come and go
        tty.setraw(self._slave)
        os.set_blocking(master, False)
        Path(self.address).symlink_to(os.ttyname(self._slave))
        self._new.append(master)

    def gone(self) -> None:
        if self._slave < 0:
            return
        Path(self.address).unlink(missing_ok=True)
        os.close(self._slave)
        self._slave = -1
        while self._new:
            os.close(self._new.pop())

    def close(self) -> None:
        self.gone()
        self._folder.cleanup()

    def watch(self) -> int:
        return -1

    def take(self) -> list[int]:
        new, self._new = self._new, []
        return new


class _Listening:
    """What TCP and Unix sockets have in common."""

    _listener: socket.socket | None = None

    def _listen(self) -> socket.socket:
        raise NotImplementedError

    def open(self) -> None:
        if self._listener is None:
            self._listener = self._listen()
            self._listener.setblocking(False)

    def gone(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def watch(self) -> int:
        return self._listener.fileno() if self._listener is not None else -1

    def take(self) -> list[int]:
        found: list[int] = []
        with suppress(BlockingIOError):
            while self._listener is not None:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                if connection.family != socket.AF_UNIX:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                found.append(connection.detach())
        return found


class _Tcp(_Listening):
    """A port of 127.0.0.1; a socket that never listens keeps it ours while nobody is there."""

    def __init__(self, upstream: str) -> None:
        self._keeper = _bound(0)
        self._port = int(self._keeper.getsockname()[1])
        parts = urlsplit(upstream)
        user = parts.netloc.rpartition("@")[0]
        where = f"{user}@127.0.0.1:{self._port}" if user else f"127.0.0.1:{self._port}"
        self.address = parts._replace(netloc=where).geturl()

    def _listen(self) -> socket.socket:
        listener = _bound(self._port)
        listener.listen(16)
        return listener

    def close(self) -> None:
        self.gone()
        self._keeper.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


class _Unix(_Listening):
    """A socket in a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vfab-proxy-")
        self._path = str(Path(self._folder.name) / "socket")
        self.address = f"unix://{self._path}"

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self._path)
        listener.listen(16)
        return listener

    def gone(self) -> None:
        super().gone()
        Path(self._path).unlink(missing_ok=True)

    def close(self) -> None:
        self.gone()
        self._folder.cleanup()
