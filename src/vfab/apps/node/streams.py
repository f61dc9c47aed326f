"""Streams of devices that a node keeps, for clients: `WebSocket /v1/streams`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from vfab.apps.node.service import Node
from vfab.apps.streaming import StreamRequest, follow_stream
from vfab.model.errors import ConfigurationError, DriverError, DriverFailed
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

__all__ = ["add_streams", "packed", "unpacked"]

_encode = msgspec.msgpack.Encoder().encode


def packed(records: Sequence[StreamRecord]) -> bytes:
    """Records as one binary message: a msgpack list of [sequence, time_s, device_time_s, data, meta, lost]."""
    return _encode([[r.sequence, r.time_s, r.device_time_s, r.data, r.meta, r.lost] for r in records])


def unpacked(message: bytes) -> list[StreamRecord]:
    """The records of one binary message."""
    return [StreamRecord(*fields) for fields in msgspec.msgpack.decode(message)]


def add_streams(app: FastAPI, node: Node) -> None:
    """Serve streams of `node`'s devices."""

    @app.websocket("/v1/streams")
    async def streams(socket: WebSocket) -> None:
        """One stream to one client.

        The client sends one JSON text: `{"device", "driver", "overrides", "name", "options", "oldest", "count",
        "duration_s"}`, all but the first optional. It gets `{"stream": {…}, "device", "driver"}`, then binary messages
        of records (see `packed`), and last `{"ended": {…}}` or `{"error": {…}, "type"}`. Any further text ends it.
        """
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await _Sending(node, socket).run()
            await socket.close()


class _Sending:
    """One client."""

    def __init__(self, node: Node, socket: WebSocket) -> None:
        self._node = node
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()

    async def run(self) -> None:
        """From the request to the end."""
        try:
            asked = msgspec.json.decode((await self._socket.receive_text()).encode(), type=_Asked)
        except msgspec.DecodeError as error:
            await self._say_error(ConfigurationError(f"the request for a stream: {error}"))
            return
        heard = asyncio.ensure_future(self._until_told())
        nodes = asyncio.ensure_future(self._until_over())
        try:
            await self._stream(asked)
        except DriverError as error:
            await self._say_error(error)
        except WebSocketDisconnect:
            raise
        except Exception as error:
            await self._say_error(DriverFailed(f"{type(error).__name__}: {error}"))
            raise
        finally:
            heard.cancel()
            nodes.cancel()

    async def _stream(self, asked: _Asked) -> None:
        done = await self._node.use.act("connect", asked.device, asked.driver, asked.overrides)
        kept = self._node.session.kept[done["device"]]
        assert kept.managed is not None
        request = StreamRequest(asked.name, asked.options, asked.oldest, asked.count, asked.duration_s)
        said = {"device": done["device"], "driver": done["driver"]}
        counted = await follow_stream(
            kept.managed, request, self._take, self._stop, lambda info, counted: self._began(info, said)
        )
        await self._socket.send_text(json.dumps({"ended": {**said, **counted.to_dict()}}))

    def _began(self, info: StreamInfo, said: dict[str, Any]) -> None:
        text = json.dumps({"stream": msgspec.to_builtins(info), **said})
        asyncio.ensure_future(self._socket.send_text(text))  # noqa: RUF006 — on the loop, before the first record

    def _take(self, records: Sequence[StreamRecord]) -> None:
        """On the reading thread: waits until the client has taken it, so that only its own reader falls behind."""
        sending = asyncio.run_coroutine_threadsafe(self._socket.send_bytes(packed(records)), self._loop)
        try:
            sending.result()
        except Exception:
            self._stop.set()

    async def _until_told(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
            await self._socket.receive_text()
        self._stop.set()

    async def _until_over(self) -> None:
        await self._node.stopping.wait()
        self._stop.set()

    async def _say_error(self, error: DriverError) -> None:
        document = {"error": error.to_public(), "type": error.error_type.value}
        await self._socket.send_text(json.dumps(document, default=str))


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    device: str
    driver: str | None = None
    overrides: dict[str, Any] = {}
    name: str | None = None
    options: dict[str, Any] = {}
    oldest: bool = False
    count: int = 0
    duration_s: float = 0.0
