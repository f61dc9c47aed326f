"""A WebSocket device that is not there: it echoes what it hears, text as text and binary as binary.

The text `ticks N` makes it send `N` texts `tick 1` …; `bye` makes it close with code 1001; of subprotocols it speaks
`echo`. The path `/secret` it refuses with status 403.

As a program: `python simulator.py [--port N]` prints one JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from vfab.sdk.simulation import serve_until_told

__all__ = ["WebSocketSimulator", "main"]

TICKS_MAX = 100_000


class WebSocketSimulator:
    """The device, served by threads of its own; use it as a context.

    Args:
        port: TCP port of 127.0.0.1; 0 for any that is free.

    Attributes:
        address: where a driver finds it.
    """

    def __init__(self, port: int = 0) -> None:
        self._connections: set[ServerConnection] = set()
        self._server = serve(
            self._serve, "127.0.0.1", port, subprotocols=[Subprotocol("echo")], process_request=_gate,
            select_subprotocol=_choose,
        )  # fmt: skip
        self.port = int(self._server.socket.getsockname()[1])
        self.address = f"ws://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> WebSocketSimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        self._server.shutdown()
        self._thread.join()

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        for connection in list(self._connections):
            connection.close(1001, "the device restarts")

    def say(self, message: str | bytes) -> None:
        """Send `message` unasked on every connection."""
        for connection in list(self._connections):
            connection.send(message)

    def _serve(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        try:
            for message in connection:
                words = message.split() if isinstance(message, str) else []
                if words[:1] == ["bye"]:
                    connection.close(1001, "bye")
                elif words[:1] == ["ticks"] and words[1:] and words[1].isdigit():
                    for number in range(1, min(int(words[1]), TICKS_MAX) + 1):
                        connection.send(f"tick {number}")
                else:
                    connection.send(message)
        except ConnectionClosed:
            pass  # the peer left
        finally:
            self._connections.discard(connection)


def _choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Its own, or none: it leaves it to the peer to take offence."""
    return Subprotocol("echo") if "echo" in offered else None


def _gate(connection: ServerConnection, request: Request) -> Response | None:
    if request.path.startswith("/secret"):
        return connection.respond(HTTPStatus.FORBIDDEN, "not for you\n")
    return None


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run websocket-link", description="A simulated WebSocket device.")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 = any")
    options = parser.parse_args(list(argv))
    return serve_until_told("websocket-link", WebSocketSimulator(options.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
