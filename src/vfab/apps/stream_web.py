"""A stream for browsers: WebSocket, and a page that shows it. Each client reads the ring at its own pace.

A client gets one text message with what the stream is, `{"stream": {…}}`, then its records: as text, one JSON document
each, or, where a record is bytes, a text message with everything but the bytes (and their number as `size`) followed by
one binary message. With `?as=jpeg` pictures of any pixel format come as JPEG.

Who is slow misses records and sees it in `lost`; it slows neither the device nor the others. Only pages of this very
server may connect: a browser's `Origin` of another host is refused, and so is a `Host` that is not ours. Where it
listens on every address any numeric `Host` is ours: no foreign name can lead there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec.structs import replace
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from vfab.apps.stream_text import json_record
from vfab.model.errors import ConnectError, DeviceBusy, DriverError
from vfab.sdk.stream_ends import StreamReader, StreamRecord

__all__ = ["StreamServer", "let_in"]

BEHIND_MAX = 64
"""How many records a client may be behind before it goes on with the newest."""

QUEUED_BYTES = 1 << 20
_LOOK_S = 0.25
_PAUSE_S = 0.003


class StreamServer:
    """Serves one stream to any number of clients.

    Args:
        reader: makes a reader of the stream; called once for each client.
        title: for the page.
    """

    def __init__(self, reader: Callable[[], StreamReader], title: str) -> None:
        self._reader = reader
        self._title = title
        self._server: Server | None = None
        self._names: frozenset[str] = frozenset()
        self._everywhere = False
        self._news = asyncio.Event()
        self._over = threading.Event()
        self.clients = 0

    async def start(self, port: int, host: str = "127.0.0.1") -> tuple[str, int]:
        """Begin to serve; (host, port) that was taken. Port 0 lets the system choose.

        Raises DeviceBusy: the port is in use. ConnectError: it cannot be opened.
        """
        try:
            self._server = await serve(
                self._serve,
                host,
                port,
                process_request=self._answer,
                compression=None,
                write_limit=QUEUED_BYTES,
                max_size=4096,
            )
        except OSError as error:
            kind = DeviceBusy if error.errno in {98, 48} else ConnectError
            raise kind(
                f"cannot serve on {host}:{port}: {error.strerror}",
                context={"option": "--ws", "host": host, "port": port},
                remedy="Choose another port, or 0 for any that is free.",
                original_error=error,
            ) from error
        found = next(iter(self._server.sockets)).getsockname()[:2]
        hosts = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"}
        self._names = frozenset(f"{name}:{found[1]}" for name in hosts)
        self._everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 — asked for by --host
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(self._reader(), loop), name="vfab-stream-watch", daemon=True).start()
        return found[0], found[1]

    async def close(self) -> None:
        """Send every client home, and stop serving."""
        self._over.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _watch(self, reader: StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        """One thread that waits for all clients: a thread each would be too many."""
        while not self._over.is_set():
            if reader.wait(_LOOK_S):
                reader.seek(2**63)
                try:
                    loop.call_soon_threadsafe(self._tell)
                except RuntimeError:  # the loop was closed
                    return
                time.sleep(_PAUSE_S)  # ten thousand samples a second need no ten thousand wake-ups

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """None lets a WebSocket in; anything else is an ordinary answer."""
        origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
        if not let_in(host, origin, self._names, everywhere=self._everywhere):
            return connection.respond(HTTPStatus.FORBIDDEN, "This server answers to its own name and pages only.\n")
        if "upgrade" in request.headers.get("Connection", "").lower():
            return None
        if urlsplit(request.path).path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "There is only / here.\n")
        page = files("vfab.apps").joinpath("stream_page.html").read_text().replace("{{title}}", _escaped(self._title))
        body = page.encode()
        headers = Headers(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Length": str(len(body)),
                "Content-Security-Policy": "default-src 'self' 'unsafe-inline' blob:; connect-src 'self'",
                "Connection": "close",
            }
        )
        return Response(200, "OK", headers, body)

    async def _serve(self, connection: ServerConnection) -> None:
        self.clients += 1
        as_jpeg = "jpeg" in parse_qs(urlsplit(connection.request.path if connection.request else "").query).get(
            "as", []
        )
        try:
            reader = self._reader()
            await connection.send(json.dumps({"stream": msgspec.to_builtins(reader.info)}))
            await self._send_all(connection, reader, as_jpeg)
        except ConnectionClosed:
            pass  # it has seen enough
        except DriverError as error:
            await connection.send(json.dumps({"error": error.to_public()}, default=str))
        finally:
            self.clients -= 1

    async def _send_all(self, connection: ServerConnection, reader: StreamReader, as_jpeg: bool) -> None:
        about = dict(reader.info.about) if as_jpeg else None
        pictures = reader.info.stream_type == "video"
        gone = asyncio.ensure_future(connection.wait_closed())
        while True:
            news = self._news
            if not reader.waiting:
                await asyncio.wait({gone, asyncio.ensure_future(news.wait())}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                continue
            behind = reader.waiting > (1 if pictures else BEHIND_MAX)
            records = (
                [record] if behind and (record := reader.newest(0.0)) is not None else reader.read_many(BEHIND_MAX)
            )
            for record in records:
                await self._send(connection, record, about)

    async def _send(self, connection: ServerConnection, record: StreamRecord, about: dict[str, Any] | None) -> None:
        if not isinstance(record.data, bytes):
            await connection.send(json.dumps(json_record(record), ensure_ascii=False))
            return
        data = record.data
        said: dict[str, Any] = json_record(replace(record, data=None))
        del said["data"]
        if about is not None and ("pixel_format" in record.meta or "pixel_format" in about):
            data = await asyncio.to_thread(_jpeg, record, about)
        await connection.send(json.dumps({**said, "size": len(data)}, ensure_ascii=False))
        await connection.send(data)


def let_in(host: str, origin: str | None, names: frozenset[str], *, everywhere: bool) -> bool:
    """Whether a request may be answered.

    Args:
        host: its `Host`, such as `127.0.0.1:8090`.
        origin: its `Origin`, if a page sent it.
        names: what the server is called, with its port.
        everywhere: it listens on all addresses of the machine, too many to name.
    """
    ours = host in names or (everywhere and _is_number(host))
    return ours and (origin is None or urlsplit(origin).netloc in names | {host})


def _is_number(host: str) -> bool:
    """Whether `host:port` has an address and no name, which a foreign page could have made to lead here."""
    try:
        ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def _jpeg(record: StreamRecord, about: dict[str, Any]) -> bytes:
    from vfab.sdk.camera_data import ImageData

    return ImageData.from_record(record, about).to_jpeg(85)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
