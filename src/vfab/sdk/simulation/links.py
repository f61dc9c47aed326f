"""The simulator's end of the cable: a pseudo-terminal or a TCP port of this machine."""

from __future__ import annotations

import os
import socket
import tempfile
import tty
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vfab.model.errors import ConfigurationError, DeviceBusy

__all__ = ["Link", "PtyLink", "TcpLink", "raw_pty"]

CHUNK_BYTES = 65_536


class Link(Protocol):
    """What the simulator needs of a cable. No method blocks."""

    address: str
    """Where a client finds the device."""

    def plug_in(self) -> None:
        """Make the device appear at `address`."""

    def unplug(self) -> None:
        """Make the device vanish, as a pulled cable does."""

    def readers(self) -> list[int]:
        """Descriptors to wait for until there is something to read."""

    def writers(self) -> list[int]:
        """Descriptors to wait for until more can be written."""

    def read(self) -> bytes:
        """What has come; b"" when nothing has."""

    def write(self, data: bytes) -> None:
        """Send, now or when the client has taken what is on its way."""

    def flush(self) -> None:
        """Send what has not gone yet, as far as the client takes it."""


def raw_pty(*, blocking: bool = False) -> tuple[int, int, str]:
    """A pseudo-terminal in raw mode: the simulator's end, which blocks or not, the client's end, and its name.

    Whoever keeps the client's end open, too, hears nothing of clients that come and go.
    """
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, blocking)
    return master, slave, os.ttyname(slave)


class PtyLink:
    """A pseudo-terminal in raw mode. `address` is a link of its own name, so that it stays the same after a replug."""

    def __init__(self, prefix: str = "vfab-sim-") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=prefix)
        self.address = str(Path(self._folder.name) / "ttyACM0")
        self._master = self._slave = -1
        self._unsent = bytearray()

    def plug_in(self) -> None:
        """Open a pseudo-terminal; the simulator keeps its client's end open too, so clients may come and go."""
        if self._master >= 0:
            return
        self._master, self._slave, node = raw_pty()
        Path(self.address).unlink(missing_ok=True)
        Path(self.address).symlink_to(node)

    def unplug(self) -> None:
        """Close both ends: a client that reads gets an input/output error, or the end of the file."""
        if self._master < 0:
            return
        Path(self.address).unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._unsent.clear()

    def close(self) -> None:
        """Unplug for good."""
        self.unplug()
        self._folder.cleanup()

    def readers(self) -> list[int]:
        """The board's end."""
        return [self._master] if self._master >= 0 else []

    def writers(self) -> list[int]:
        """The board's end, while something is unsent."""
        return [self._master] if self._unsent and self._master >= 0 else []

    def read(self) -> bytes:
        """What clients have written."""
        with suppress(BlockingIOError, OSError):
            if self._master >= 0:
                return os.read(self._master, CHUNK_BYTES)
        return b""

    def write(self, data: bytes) -> None:
        """Send to whoever has the terminal open; without anybody it waits in the terminal, as stale answers do."""
        if self._master >= 0:
            self._unsent += data
            self.flush()

    def flush(self) -> None:
        """Send what has not gone yet."""
        while self._unsent:
            try:
                sent = os.write(self._master, self._unsent)
            except (BlockingIOError, OSError):
                return
            del self._unsent[:sent]


class TcpLink:
    """A TCP port on 127.0.0.1 that serves one client at a time; a second one is hung up on."""

    def __init__(self, port: int = 0) -> None:
        """Raises ConfigurationError: `port` is no TCP port."""
        if not 0 <= port <= 65_535:
            raise ConfigurationError(
                f"{port} is not a TCP port.", context={"value": port}, remedy="Give 1 to 65535, or 0 for any."
            )
        self._port = port
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._unsent = bytearray()
        self.address = ""

    def plug_in(self) -> None:
        """Listen; the port stays the same after a replug. Raises DeviceBusy: another program has the port."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
            listener.listen(8)
        except OSError as error:
            listener.close()
            raise DeviceBusy(
                f"TCP port {self._port} of 127.0.0.1 cannot be had: {error.strerror}.",
                context={"port": self._port},
                original_error=error,
                remedy="Give another port; 0 takes any that is free.",
            ) from error
        listener.setblocking(False)
        self._listener, self._port = listener, listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"

    def unplug(self) -> None:
        """Hang up and stop listening."""
        for end in (self._client, self._listener):
            if end is not None:
                end.close()
        self._client = self._listener = None
        self._unsent.clear()

    def close(self) -> None:
        """Unplug for good."""
        self.unplug()

    def readers(self) -> list[int]:
        """The listener and the client."""
        return [end.fileno() for end in (self._listener, self._client) if end is not None]

    def writers(self) -> list[int]:
        """The client, while something is unsent."""
        return [self._client.fileno()] if self._unsent and self._client is not None else []

    def read(self) -> bytes:
        """What the client has sent; takes a new client, too."""
        data = b""
        if self._client is not None:
            try:
                data = self._client.recv(CHUNK_BYTES)
                if not data:
                    self._hang_up()
            except BlockingIOError:
                pass
            except OSError:
                self._hang_up()
        if self._listener is not None:
            with suppress(BlockingIOError, OSError):
                self._accept(self._listener.accept()[0])
        return data

    def _accept(self, client: socket.socket) -> None:
        if self._client is not None:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        self._unsent.clear()

    def write(self, data: bytes) -> None:
        """Send to the client; without one it is lost."""
        if self._client is not None:
            self._unsent += data
            self.flush()

    def flush(self) -> None:
        """Send what has not gone yet."""
        while self._unsent and self._client is not None:
            try:
                sent = self._client.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self._hang_up()
                return
            del self._unsent[:sent]
