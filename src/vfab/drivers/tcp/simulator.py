"""A device that is not there, on a TCP port: it answers lines, and ticks when it is told to.

Lines that it knows: `ECHO text` gives `text`; `*IDN?` names it; `COUNT n` answers `OK` and sends `n` lines `tick 1` …;
`LATER s text` answers `OK`, and sends `text` after `s` seconds unasked; `BYE` hangs up; `MUTE` is not answered;
anything else is `ERR unknown`. With `--mode echo` every byte comes back as it went in.

As a program: `python simulator.py [--mode lines|echo] [--port N]` prints one JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from vfab.protocols.framing import Lines
from vfab.sdk.simulation import serve_until_told

__all__ = ["TcpSimulator", "main"]

IDENTITY = "vfab,TCP simulator,0,1.0"
COUNT_MAX = 100_000


class TcpSimulator:
    """The device, served by threads of its own; use it as a context.

    Args:
        mode: lines or echo.
        port: TCP port of 127.0.0.1; 0 for any that is free.

    Attributes:
        address: where a driver finds it.
    """

    def __init__(self, mode: str = "lines", port: int = 0) -> None:
        self.mode = mode
        self._connections: set[socket.socket] = set()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self.port = int(self._server.server_address[1])
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> TcpSimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; every connection is closed."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()
        self._thread.join()

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        for connection in list(self._connections):
            _shut(connection)

    def say(self, line: str) -> None:
        """Send `line` unasked on every connection."""
        for connection in list(self._connections):
            connection.sendall(line.encode() + b"\n")

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection until it ends."""
        self._connections.add(connection)
        lines = Lines()
        try:
            while data := connection.recv(65536):
                if self.mode == "echo":
                    connection.sendall(data)
                    continue
                for line in lines.feed(data):
                    self._answer(connection, line.decode("utf-8", "replace"))
        except OSError:
            pass  # it was hung up
        finally:
            self._connections.discard(connection)

    def _answer(self, connection: socket.socket, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        reply = ["ERR unknown"]
        match word.upper():
            case "ECHO":
                reply = [rest]
            case "*IDN?":
                reply = [IDENTITY]
            case "COUNT" if rest.isdecimal():
                reply = ["OK", *(f"tick {number}" for number in range(1, min(int(rest), COUNT_MAX) + 1))]
            case "LATER" if (seconds := rest.partition(" ")[0]).replace(".", "", 1).isdecimal():
                text = rest.partition(" ")[2]
                threading.Thread(target=self._say_later, args=(float(seconds), text), daemon=True).start()
                reply = ["OK"]
            case "MUTE":
                return
            case "BYE":
                _shut(connection)
                return
        connection.sendall("".join(f"{text}\n" for text in reply).encode())

    def _say_later(self, seconds: float, text: str) -> None:
        if not self._closing.wait(seconds):
            self.say(text)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, where: tuple[str, int], simulator: TcpSimulator) -> None:
        self.simulator = simulator
        super().__init__(where, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.simulator.serve(self.request)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # the peer may be quicker
        connection.shutdown(socket.SHUT_RDWR)


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run tcp", description="A simulated device on a TCP port.")
    parser.add_argument("--mode", choices=["lines", "echo"], default="lines", help="what it does with what it hears")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 = any")
    options = parser.parse_args(list(argv))
    return serve_until_told("tcp", TcpSimulator(options.mode, options.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
