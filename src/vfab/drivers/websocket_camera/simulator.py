"""A camera that is not there: a WebSocket server that sends a moving picture by `vfab-camera`, or plain JPEGs.

In a test::

    with SocketSimulator(pixel_format="YUYV") as sim:
        ...  # talk to sim.address

As a program: `python simulator.py [--size WxH] [--fps N] [--format MJPG|PNG|RGB24|YUYV|GREY] [--plain]` prints one
JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from vfab.model.errors import ProtocolError
from vfab.protocols.camera_socket import SUBPROTOCOL, hello, message, read_request
from vfab.sdk.pixels_from_rgb import from_rgb
from vfab.sdk.simulation import serve_until_told
from vfab.sdk.testing.moving_picture import draw

__all__ = ["SIZES", "SocketSimulator", "main"]

SIZES = ((160, 120), (320, 240), (640, 480), (1280, 720))
EXPOSURES_S = (0.0001, 1.0)


class SocketSimulator:
    """The server.

    Args:
        width_px, height_px: one of `SIZES`.
        framerate_hz: pictures a second of a stream.
        pixel_format: `MJPG`, `PNG`, or any raw one that `vfab.sdk.pixels` knows.
        plain: no protocol: JPEGs as binary messages from the start.
        silent: it says hello and then nothing any more.
        port: TCP port, 0 for any that is free.

    Attributes:
        sent: pictures that were sent, over all conversations.
    """

    def __init__(
        self,
        *,
        width_px: int = 320,
        height_px: int = 240,
        framerate_hz: float = 20.0,
        pixel_format: str = "MJPG",
        plain: bool = False,
        silent: bool = False,
        port: int = 0,
    ) -> None:
        self._first = {"width": width_px, "height": height_px, "framerate_hz": framerate_hz, "exposure_s": 0.0}
        self.settings: dict[str, Any] = dict(self._first)
        self.pixel_format, self.plain, self.silent = pixel_format, plain, silent
        self.sent = 0
        self._port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._connections: set[Any] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where a client finds the camera; the same after a restart."""
        return f"ws://127.0.0.1:{self._port}/camera"

    def start(self) -> SocketSimulator:
        """Listen, and serve from now on; set as it was when it was new."""
        from websockets.sync.server import serve

        self._stop = threading.Event()
        self.settings = dict(self._first)
        self._server = serve(
            self._serve, "127.0.0.1", self._port, compression=None, subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            select_subprotocol=lambda connection, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,  # type: ignore[arg-type, return-value]
        )  # fmt: skip
        self._port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Let go of every client and of the port."""
        self._stop.set()
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.socket.shutdown(2)

    def restart(self) -> None:
        """As if the power had gone and come back, at the same address."""
        self.stop()
        self.start()

    def __enter__(self) -> SocketSimulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # the threads of the connections ----------------------------------------------------------------------------------

    def _serve(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        with self._lock:
            self._connections.add(connection)
        try:
            with suppress(ConnectionClosed, OSError):
                self._converse(connection, self._stop)
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _converse(self, connection: Any, stop: threading.Event) -> None:
        streaming = self.plain
        if not self.plain:
            connection.send(self._hello())
        due = time.monotonic()
        while not stop.is_set():
            wait_s = max(0.0, due - time.monotonic()) if streaming else 0.1
            try:
                text = connection.recv(timeout=wait_s)
            except TimeoutError:
                if streaming and not self.silent:
                    self._send(connection)
                    due = max(due + 1 / self.settings["framerate_hz"], time.monotonic())
                continue
            if not self.silent:
                streaming = self._obey(connection, text, streaming)

    def _obey(self, connection: Any, text: str | bytes, streaming: bool) -> bool:
        try:
            kind, fields = read_request(text)
        except ProtocolError as error:
            connection.send(message("error", message=error.message))
            return streaming
        if kind == "capture":
            self._send(connection)
        elif kind in {"start", "stop"}:
            return kind == "start"
        elif kind == "set":
            connection.send(self._setting(fields))
        else:
            connection.send(message("error", message=f"what is {kind!r}?"))
        return streaming

    def _setting(self, fields: dict[str, Any]) -> str:
        wanted = {**self.settings, **{key: value for key, value in fields.items() if key in self.settings}}
        if (wanted["width"], wanted["height"]) not in SIZES:
            return message("error", message=f"there are no pictures of {wanted['width']}x{wanted['height']}")
        if wanted["exposure_s"] and not EXPOSURES_S[0] <= wanted["exposure_s"] <= EXPOSURES_S[1]:
            return message("error", message=f"exposures go from {EXPOSURES_S[0]} to {EXPOSURES_S[1]} s")
        if not 0 < wanted["framerate_hz"] <= 1000:
            return message("error", message="rates go up to 1000 Hz")
        self.settings = wanted
        return message("settings", **wanted)

    def _hello(self) -> str:
        formats = [{"pixel_format": self.pixel_format, "sizes": SIZES}]
        return hello(
            name="Simulated camera", manufacturer="vfab", model="websocket-camera simulator", serial_number="1",
            formats=formats, pixel_format=self.pixel_format, can_set=["resolution", "framerate", "exposure"],
            exposure_range_s=EXPOSURES_S, **self.settings,
        )  # fmt: skip

    def _send(self, connection: Any) -> None:
        with self._lock:
            self.sent += 1
            number = self.sent
        width, height = self.settings["width"], self.settings["height"]
        data = from_rgb(draw(number, width, height), self.pixel_format, width, height)
        if not self.plain:
            connection.send(
                message("frame", sequence=number, pixel_format=self.pixel_format, width=width, height=height,
                        time_s=time.monotonic(), exposure_s=self.settings["exposure_s"] or None)
            )  # fmt: skip
        connection.send(data)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="vfab sim run websocket-camera", description="A simulated WebSocket camera.")
    sizes = [f"{width}x{height}" for width, height in SIZES]
    parser.add_argument("--size", choices=sizes, default="640x480", help="in pixels, default 640x480")
    parser.add_argument("--fps", type=float, default=10.0, help="pictures a second, default 10")
    parser.add_argument("--format", choices=["MJPG", "PNG", "RGB24", "YUYV", "GREY"], default="MJPG")
    parser.add_argument("--plain", action="store_true", help="only JPEGs as binary messages, no protocol")
    parser.add_argument("--port", type=int, default=0, help="TCP port, default any that is free")
    given = parser.parse_args(arguments)
    width, height = (int(side) for side in given.size.split("x"))
    simulator = SocketSimulator(
        width_px=width, height_px=height, framerate_hz=given.fps, pixel_format=given.format, plain=given.plain,
        port=given.port,
    )  # fmt: skip
    return serve_until_told("websocket-camera", simulator)


if __name__ == "__main__":
    sys.exit(main())
