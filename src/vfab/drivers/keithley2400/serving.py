"""How the simulated instrument is reached: a TCP port of 127.0.0.1, or a pseudo-terminal."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from vfab.sdk.simulation import raw_pty

__all__ = ["PtyServing", "TcpServing"]

_CHUNK = 65536


class TcpServing:
    """A TCP port. Several may connect to the one instrument; each is answered what it asked.

    Args:
        port: 0 for any that is free.
    """

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self._peers: list[socket.socket] = []
        self._speaker: socket.socket | None = None
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def fds(self) -> list[int]:
        """What to wait for."""
        return [self._listener.fileno(), *(peer.fileno() for peer in self._peers)]

    def read(self) -> bytes:
        """What came; new peers are let in."""
        with suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers.append(peer)
        for peer in list(self._peers):
            try:
                data = peer.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                self._speaker = peer
                return data
            self._drop(peer)
        return b""

    @property
    def speaker(self) -> object:
        """Who spoke last."""
        return self._speaker

    def write(self, data: bytes, to: object = None) -> None:
        """Answer whoever spoke last, or `to`."""
        peer = next((known for known in self._peers if known is to), None) if to is not None else self._speaker
        if peer is not None:
            peer.setblocking(True)
            try:
                peer.sendall(data)
                peer.setblocking(False)
            except OSError:
                self._drop(peer)

    def hang_up(self) -> None:
        """Close every connection; new ones are let in."""
        for peer in list(self._peers):
            self._drop(peer)

    def close(self) -> None:
        """Close everything."""
        self.hang_up()
        self._listener.close()

    def _drop(self, peer: socket.socket) -> None:
        self._peers.remove(peer)
        peer.close()
        if self._speaker is peer:
            self._speaker = None


class PtyServing:
    """A pseudo-terminal, in place of the RS-232 port."""

    def __init__(self) -> None:
        self._master, self._slave, self.address = raw_pty()

    def fds(self) -> list[int]:
        """What to wait for."""
        return [self._master]

    def read(self) -> bytes:
        """What came."""
        try:
            return os.read(self._master, _CHUNK)
        except OSError:
            return b""

    @property
    def speaker(self) -> object:
        """There is one end only."""
        return None

    def write(self, data: bytes, to: object = None) -> None:
        """Answer; what nobody reads is lost, as on a line without handshake."""
        with suppress(OSError):
            os.write(self._master, data)

    def hang_up(self) -> None:
        """Pull the cable and plug another one in: the address changes."""
        self.close()
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """Close both ends; twice is fine."""
        for fd in (self._master, self._slave):
            with suppress(OSError):
                os.close(fd)
        self._master = self._slave = -1
