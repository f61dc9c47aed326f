"""The simulated receiver's cable: a pseudo-terminal, or a TCP port of 127.0.0.1. It speaks whether anybody listens."""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vfab.model.errors import DeviceBusy
from vfab.sdk.simulation import PtyLink

if TYPE_CHECKING or __package__:
    from .conversation import GpsdConversation
else:
    from conversation import GpsdConversation

__all__ = ["PtyCable", "TcpCable"]


class PtyCable(PtyLink):
    """A pseudo-terminal, spoken to and plugged from several threads."""

    def __init__(self) -> None:
        super().__init__("vfab-gps-")
        self._lock = threading.Lock()

    def plug_in(self) -> None:
        """Open a pseudo-terminal; the client's end is kept open here, too, so that clients may come and go."""
        with self._lock:
            super().plug_in()

    def unplug(self) -> None:
        """Close both ends."""
        with self._lock:
            super().unplug()

    def write(self, data: bytes) -> None:
        """Speak. What nobody reads is lost once the terminal is full, as on a serial line."""
        with self._lock, suppress(OSError):
            if self._master >= 0:
                os.write(self._master, data)


class TcpCable:
    """A TCP port, for any number of clients. With `gpsd`, each is greeted, and told nothing until it asks."""

    def __init__(self, port: int = 0, *, gpsd: bool = False) -> None:
        self._port = port
        self._gpsd = gpsd
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._clients: dict[socket.socket, GpsdConversation | None] = {}
        self.address = ""

    def plug_in(self) -> None:
        """Listen. Raises DeviceBusy: another program has the port."""
        with self._lock:
            if self._listener is not None:
                return
            try:
                self._listener = socket.create_server(("127.0.0.1", self._port))
            except OSError as error:
                raise DeviceBusy(
                    f"TCP port {self._port} of 127.0.0.1 cannot be had: {error.strerror}.",
                    context={"port": self._port},
                    original_error=error,
                    remedy="Give another port; 0 takes any that is free.",
                ) from error
            self._port = self._listener.getsockname()[1]
            self.address = f"tcp://127.0.0.1:{self._port}"
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def unplug(self) -> None:
        """Hang up and stop listening."""
        with self._lock:
            for end in (*self._clients, self._listener):
                if end is not None:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                    end.close()
            self._clients, self._listener = {}, None

    close = unplug

    def write(self, sentences: bytes, reports: dict[str, dict[str, Any]] | None = None) -> None:
        """Speak to who listens; one that takes nothing is hung up on.

        Args:
            sentences: as the receiver says them.
            reports: what gpsd makes of them, by class.
        """
        with self._lock:
            for client, talk in list(self._clients.items()):
                said = sentences if talk is None else talk.tell(reports or {}, sentences)
                try:
                    if said:
                        client.sendall(said)
                except OSError:
                    del self._clients[client]
                    client.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            client.settimeout(1.0)
            talk = GpsdConversation() if self._gpsd else None
            with self._lock, suppress(OSError):
                if talk is not None:
                    client.sendall(talk.greet())
                self._clients[client] = talk
            if talk is not None:
                threading.Thread(target=self._serve, args=(client, talk), daemon=True).start()

    def _serve(self, client: socket.socket, talk: GpsdConversation) -> None:
        with suppress(OSError, ValueError):  # the cable was pulled
            while True:
                select.select([client], [], [])
                data = client.recv(65536)
                if not data:
                    return
                with self._lock:
                    client.sendall(talk.hear(data))
