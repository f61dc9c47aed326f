"""The simulated receiver's cable: a pseudo-terminal, or a TCP port of 127.0.0.1. It speaks whether anybody listens."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

from vfab.model.errors import DeviceBusy, ProtocolError
from vfab.protocols.gpsd import encode_report, parse_command
from vfab.sdk.simulation import PtyLink

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
        self._clients: dict[socket.socket, bool] = {}
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

    def write(self, data: bytes) -> None:
        """Speak to who listens; one that takes nothing is hung up on."""
        with self._lock:
            for client in [client for client, wants in self._clients.items() if wants]:
                try:
                    client.sendall(data)
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
            with self._lock:
                self._clients[client] = not self._gpsd
            if self._gpsd:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(encode_report("VERSION", release="simulated", proto_major=3, proto_minor=14))
            client.settimeout(None)
            for line in client.makefile("rb"):
                try:
                    name, arguments = parse_command(line)
                except ProtocolError as error:
                    client.sendall(encode_report("ERROR", message=error.message))
                    continue
                if name == "WATCH":
                    receivers = [{"class": "DEVICE", "path": "/dev/sim"}]
                    client.sendall(encode_report("DEVICES", devices=receivers))
                    with self._lock:
                        if client in self._clients:
                            self._clients[client] = bool(arguments.get("enable", True))
