"""A camera that is not there: an HTTP server that sends a moving picture as MJPEG, as well or as oddly as asked.

In a test::

    with MjpegSimulator(width_px=320, quirk="ffmpeg") as sim:
        ...  # talk to sim.address
        sim.restart()

As a program: `python simulator.py [--size WxH] [--fps N] [--quirk NAME] [--auth SCHEME --user U --password P]`
prints one JSON line and serves until SIGTERM. `/` and `/stream` are the stream, `/snapshot` is one picture; both take
`?resolution=WxH&fps=N`.
"""

from __future__ import annotations

import argparse
import io
import socket
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vfab.protocols.http_auth import Credentials, Gate
from vfab.protocols.mjpeg import Quirks, Request, Streamer, read_request
from vfab.sdk.simulation import serve_until_told
from vfab.sdk.testing.moving_picture import LEAST_PX, draw

__all__ = ["QUIRKS", "MjpegSimulator", "main"]

QUIRKS = {
    "none": Quirks(),
    "ffmpeg": Quirks(content_type="application/octet-stream"),
    "no-length": Quirks(length=False),
    "wrong-length": Quirks(length="wrong"),
    "quoted": Quirks(content_type='multipart/x-mixed-replace; boundary="{boundary}"'),
    "dashes": Quirks(content_type="multipart/x-mixed-replace; boundary=--{boundary}"),
    "no-dashes": Quirks(line="{boundary}", length=False),
    "chunked": Quirks(chunked=True),
    "newlines": Quirks(line_end="\n"),
    "bare": Quirks(content_type="video/x-motion-jpeg", bare=True),
}
"""What servers do otherwise than they should, by name."""


class MjpegSimulator:
    """The server; each client is served by a thread of its own.

    Args:
        width_px, height_px: size of the pictures, at least 64 × 48.
        framerate_hz: pictures a second; 0 as fast as they are taken.
        quirk: one of `QUIRKS`.
        gate: who may come in; None: everybody.
        port: TCP port, 0 for any that is free.
        frames: each connection ends after so many pictures; 0: never.
        stalls: no more pictures come on a connection after so many; 0: never.
        damaged: every n-th picture is cut in half; 0: none.

    Attributes:
        address: where a client finds the camera; the same after a restart.
        sent: pictures that were sent, over all connections.
        requests: what was asked, oldest first.
    """

    def __init__(
        self,
        *,
        width_px: int = 320,
        height_px: int = 240,
        framerate_hz: float = 20.0,
        quirk: str = "none",
        gate: Gate | None = None,
        port: int = 0,
        frames: int = 0,
        stalls: int = 0,
        damaged: int = 0,
    ) -> None:
        self.width_px, self.height_px, self.framerate_hz = width_px, height_px, framerate_hz
        self.quirks, self.gate = QUIRKS[quirk], gate
        self.frames, self.stalls, self.damaged = frames, stalls, damaged
        self.sent = 0
        self.requests: list[Request] = []
        self._port = port
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where a client finds the camera."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def clients(self) -> int:
        """How many connections are served now."""
        with self._lock:
            return len(self._clients)

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._port

    def start(self) -> MjpegSimulator:
        """Listen, and serve from now on."""
        self._stop = threading.Event()
        listener = socket.create_server(("127.0.0.1", self._port))
        self._listener, self._port = listener, listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, args=(listener, self._stop), daemon=True)]
        self._threads[0].start()
        return self

    def stop(self) -> None:
        """Let go of every client and of the port."""
        self._stop.set()
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        listener.close()
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def restart(self) -> None:
        """As if the power had gone and come back, at the same address."""
        self.stop()
        self.start()

    def __enter__(self) -> MjpegSimulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # the threads -----------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._clients.add(client)
            thread = threading.Thread(target=self._serve, args=(client, stop), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, stop: threading.Event) -> None:
        try:
            with client, suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = self._read(client)
                if request is not None:
                    self.requests.append(request)
                    self._answer(client, request, stop)
        finally:
            with self._lock:
                self._clients.discard(client)

    def _read(self, client: socket.socket) -> Request | None:
        held = bytearray()
        while True:
            data = client.recv(65536)
            if not data:
                return None
            held += data
            found = read_request(held)
            if found is not None:
                return found[0]

    def _answer(self, client: socket.socket, request: Request, stop: threading.Event) -> None:
        streamer = Streamer(quirks=self.quirks)
        if self.gate is not None and not self.gate.admits(request.headers.get("authorization", ""), request.method):
            client.sendall(streamer.error(401, "Unauthorized", {"WWW-Authenticate": self.gate.challenge()}))
            return
        parts = urlsplit(request.target)
        try:
            width, height, framerate_hz = self._wanted(parse_qs(parts.query))
        except ValueError:
            client.sendall(streamer.error(400, "Bad Request"))
            return
        if parts.path == "/snapshot":
            client.sendall(streamer.snapshot(self._picture(width, height)))
        elif parts.path in {"/", "/stream"}:
            self._stream(client, streamer, stop, (width, height), framerate_hz)
        else:
            client.sendall(streamer.error(404, "Not Found"))

    def _wanted(self, query: dict[str, list[str]]) -> tuple[int, int, float]:
        """(width, height, rate) that a request asks for, as far as this camera has them."""
        width, height, framerate_hz = self.width_px, self.height_px, self.framerate_hz
        if "resolution" in query:
            width, height = (int(side) for side in query["resolution"][0].split("x"))
            width, height = max(LEAST_PX[0], min(1920, width)), max(LEAST_PX[1], min(1080, height))
        if "fps" in query:
            framerate_hz = max(0.1, min(1000.0, float(query["fps"][0])))
        return width, height, framerate_hz

    def _stream(
        self, client: socket.socket, streamer: Streamer, stop: threading.Event, size: tuple[int, int], rate_hz: float
    ) -> None:
        client.sendall(streamer.begin())
        began, count = time.monotonic(), 0
        while not stop.is_set() and not (self.frames and count >= self.frames):
            if self.stalls and count >= self.stalls:
                stop.wait()
                return
            data = self._picture(*size)
            count += 1
            if self.damaged and count % self.damaged == 0:
                data = data[: len(data) // 2]
            client.sendall(streamer.picture(data, time_s=time.monotonic()))
            if rate_hz:
                stop.wait(max(0.0, began + count / rate_hz - time.monotonic()))
        client.sendall(streamer.end())

    def _picture(self, width_px: int, height_px: int) -> bytes:
        from PIL import Image

        with self._lock:
            self.sent += 1
            number = self.sent
        made = io.BytesIO()
        Image.frombytes("RGB", (width_px, height_px), draw(number, width_px, height_px)).save(made, "JPEG", quality=85)
        return made.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="vfab sim run mjpeg", description="A simulated MJPEG camera.")
    parser.add_argument("--size", default="640x480", help="WxH in pixels, default 640x480")
    parser.add_argument("--fps", type=float, default=10.0, help="pictures a second, default 10")
    parser.add_argument("--quirk", choices=sorted(QUIRKS), default="none", help="what it does otherwise than it should")
    parser.add_argument("--auth", choices=["basic", "digest", "digest-old", "digest-sha256"], help="ask for a password")
    parser.add_argument("--user", default="user")
    parser.add_argument("--password", default="password")
    parser.add_argument("--port", type=int, default=0, help="TCP port, default any that is free")
    given: Any = parser.parse_args(arguments)
    width, _, height = given.size.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) >= LEAST_PX[0] and int(height) >= LEAST_PX[1]):
        parser.error(f"--size: {given.size!r} is no size; write 640x480, at least {LEAST_PX[0]}x{LEAST_PX[1]}")
    gate = Gate(Credentials(given.user, given.password), given.auth) if given.auth else None
    simulator = MjpegSimulator(
        width_px=int(width), height_px=int(height), framerate_hz=given.fps, quirk=given.quirk, gate=gate,
        port=given.port,
    )  # fmt: skip
    return serve_until_told("mjpeg", simulator)


if __name__ == "__main__":
    sys.exit(main())
