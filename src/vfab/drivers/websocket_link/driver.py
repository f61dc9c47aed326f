"""The WebSocket driver: text and binary messages over one connection, kept alive by pings."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DriverError,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.sdk.async_channel import AsyncSocketDriver
from vfab.sdk.communication import Message
from vfab.sdk.driver import Environment, command

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["WebSocketLinkDriver"]


class WebSocketLinkDriver(AsyncSocketDriver):
    """Speaks over a WebSocket (RFC 6455). Messages have `kind` as meta: text or binary."""

    kind: ClassVar[str] = "websocket"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    # -- the channel ---------------------------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where the server is: the address, with tcp:// read as ws://, and the setting `path`."""
        where = self.address.replace("tcp://", "ws://", 1)
        path = str(self.config["path"] or "")
        return where.rstrip("/") + "/" + path.lstrip("/") if path else where

    async def open_async(self) -> None:
        """Shake hands."""
        from websockets.asyncio.client import connect

        assert self.connection is not None
        self.connection.setblocking(False)
        config = self.config
        beat_s = float(config["ping_s"]) or None
        try:
            self._socket = await connect(
                self.uri,
                sock=self.connection,
                ssl=self._tls() if self.uri.startswith("wss://") else None,
                subprotocols=list(config["subprotocols"]) or None,
                additional_headers=[
                    (name, value) for name, _, value in (str(h).partition(": ") for h in config["headers"])
                ],
                max_size=int(config["message_limit_bytes"]),
                ping_interval=beat_s,
                ping_timeout=beat_s,
                open_timeout=self.timeout_s,
                close_timeout=1,
                proxy=None,
            )
        except Exception as error:
            raise self.translated(error) from error
        if config["subprotocols"] and self._socket.subprotocol is None:
            offered = ", ".join(config["subprotocols"])
            raise ProtocolError(
                f"{self.uri} speaks none of the subprotocols {offered}",
                context={"address": self.address, "subprotocols": list(config["subprotocols"])},
                remedy="Correct the setting subprotocols, or leave it empty.",
            )
        self._reading = asyncio.create_task(self._read(self._socket))

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.config["ca_file"])
        except OSError as error:
            raise ConfigurationError(
                f"the certificates in {self.config['ca_file']} cannot be read: {error}",
                context={"field": "ca_file", "value": self.config["ca_file"]},
                remedy="Name a file of PEM certificates.",
            ) from error

    async def close_async(self) -> None:
        """Close with code 1000."""
        reading, self._reading = self._reading, None
        connection, self._socket = self._socket, None
        if reading is not None:
            reading.cancel()
        if connection is not None:
            await connection.close()

    async def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = await connection.recv()
                plain = data.encode() if isinstance(data, str) else data
                self.statistics.bytes_in += len(plain)
                self.came(Message(plain, meta={"kind": "text" if isinstance(data, str) else "binary"}))
        except Exception as error:
            self.broke(error)

    def translated(self, error: Exception) -> DriverError:
        """What an error of websockets means."""
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

        context: dict[str, Any] = {"address": self.address}
        match error:
            case DriverError():
                return error
            case ConnectionClosed():
                close = error.rcvd or error.sent
                context["code"] = close.code if close is not None else 1006
                why = f" ({close.code} {close.reason})".replace(" )", ")") if close is not None else ""
                return LinkLost(f"{self.address} closed the link{why}", context=context, original_error=error)
            case InvalidStatus():
                status = error.response.status_code
                kind = PermissionRefused if status in {401, 403} else ConnectError
                return kind(
                    f"{self.uri} answers with status {status} instead of a WebSocket",
                    context={**context, "status": status},
                    original_error=error,
                    remedy="Check the settings path and headers.",
                )
            case ssl.SSLError():
                return ConnectError(
                    f"{self.uri} has no certificate that is trusted: {error.reason}",
                    context=context,
                    original_error=error,
                    remedy="Name the authority's certificate in ca_file, or use ws:// where the network is trusted.",
                )
            case TimeoutError():
                return TimeoutExceeded(f"{self.uri} did not shake hands", context=context, original_error=error)
            case WebSocketException():
                return ProtocolError(
                    f"{self.uri} is no WebSocket: {error}",
                    context=context,
                    original_error=error,
                    remedy="Check address and path.",
                )
        return LinkLost(f"the link to {self.address} is lost: {error}", context=context, original_error=error)

    # -- commands ------------------------------------------------------------------------------------------------------

    def send_message(self, data: bytes) -> None:
        """Send a message: as text where it is UTF-8 and `send_as` is text, otherwise binary."""
        text: str | bytes = data
        if self.config["send_as"] == "text":
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = data
        self._send(text)
        self.statistics.bytes_out += len(data)

    @command
    def send_text(self, text: str) -> None:
        """Send a text message."""
        self._send(text)
        self.statistics.bytes_out += len(text.encode())
        self.statistics.messages_out += 1

    @command
    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._send(data)
        self.statistics.bytes_out += len(data)
        self.statistics.messages_out += 1

    def _send(self, message: str | bytes) -> None:
        async def call() -> None:
            assert self._socket is not None
            await self._socket.send(message)

        self._call(call(), "sending")

    @command
    def ping(self) -> float:
        """Ask for a sign of life; how long it took, seconds. Raises TimeoutExceeded: none came."""

        async def call() -> float:
            assert self._socket is not None
            return await (await self._socket.ping())

        return float(self._call(call(), f"the pong of {self.address}"))

    def _call(self, coroutine: Any, what: str) -> Any:
        try:
            return self.run(coroutine, what=what)
        except DriverError:
            raise
        except Exception as error:
            raise self.translated(error) from error

    def channel_details(self) -> dict[str, Any]:
        """Where, and what was agreed on."""
        agreed = self._socket.subprotocol if self._socket is not None else None
        return {"uri": self.uri, "subprotocol": agreed}
