"""A Modbus device that is not there, on a TCP port or a pseudo-terminal (RTU).

As a program: `python simulator.py [--rtu] [--unit N] [--port N]` prints one JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from vfab.sdk.simulation import raw_pty, serve_until_told

if TYPE_CHECKING or __package__:
    from .device import ModbusDevice, RtuServer, TcpServer
else:
    from device import ModbusDevice, RtuServer, TcpServer

__all__ = ["ModbusSimulator", "main"]

_SILENCE_S = 0.02
"""Silence that ends a frame on the pseudo-terminal. The standard's 3.5 characters (2 ms at 19200 baud) cannot be told
there from a client that had to wait for the processor between two writes."""


class ModbusSimulator:
    """The device, served by a thread of its own; use it as a context.

    Args:
        rtu: on a pseudo-terminal instead of a TCP port.
        unit: its number.
        port: TCP port of 127.0.0.1; 0 for any that is free.

    Attributes:
        address: where a driver finds it.
        device: its tables; look at them while nothing is being asked.
    """

    def __init__(self, *, rtu: bool = False, unit: int = 1, port: int = 0) -> None:
        self.device = ModbusDevice(unit)
        self._wake_read, self._wake_write = os.pipe()
        self._closing = False
        self._hang_up = False
        self._server: socket.socket | None = None
        self._clients: dict[socket.socket, TcpServer] = {}
        self._pty: list[int] = []
        self._rtu = RtuServer(self.device)
        if rtu:
            *self._pty, self.address = raw_pty(blocking=True)
        else:
            self._server = socket.create_server(("127.0.0.1", port))
            self.address = f"modbus://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="modbus-simulator", daemon=True)

    def __enter__(self) -> ModbusSimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        for end in (*self._clients, self._server):
            if end is not None:
                end.close()
        for fd in (*self._pty, self._wake_read, self._wake_write):
            os.close(fd)

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        self._hang_up = True
        os.write(self._wake_write, b"x")

    def _serve(self) -> None:
        while not self._closing:
            ends: list[socket.socket | int] = [self._wake_read, *self._clients]
            ends += [self._pty[0]] if self._pty else []
            ends += [self._server] if self._server else []
            ready = select.select(ends, [], [], _SILENCE_S if self._rtu.waits else None)[0]
            for end in ready:
                self._turn(end)
            if not ready:
                self._say(self._rtu.silence())

    def _turn(self, end: socket.socket | int) -> None:
        if end == self._wake_read:
            os.read(self._wake_read, 4096)
            for client in list(self._clients) if self._hang_up else []:
                self._drop(client)
            self._hang_up = False
        elif isinstance(end, int):
            with suppress(OSError):  # nobody has the other end open
                self._say(self._rtu.feed(os.read(end, 65536)))
        elif end is self._server:
            self._clients[end.accept()[0]] = TcpServer(self.device)
        elif end in self._clients:
            try:
                data = end.recv(65536)
                for answer in self._clients[end].feed(data):
                    end.sendall(answer)
            except OSError:
                data = b""
            if not data:
                self._drop(end)

    def _say(self, answers: Iterable[bytes]) -> None:
        for answer in answers:
            os.write(self._pty[0], answer)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        client.close()


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run modbus", description="A simulated Modbus device.")
    parser.add_argument("--rtu", action="store_true", help="on a pseudo-terminal instead of a TCP port")
    parser.add_argument("--unit", type=int, default=1, help="its number")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 = any")
    options = parser.parse_args(list(argv))
    return serve_until_told("modbus", ModbusSimulator(rtu=options.rtu, unit=options.unit, port=options.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
