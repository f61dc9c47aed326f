"""One conversation with a camera over a WebSocket."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from vfab.model.errors import ConnectError, LinkLost, PermissionRefused, ProtocolError, Refused, TimeoutExceeded
from vfab.protocols.camera_socket import SUBPROTOCOL, Frame, Hello, Receiver, Refusal, Settings, message
from vfab.sdk.camera_data import ImageData
from vfab.sdk.link import Link
from vfab.sdk.pixels import image_size, sniff

__all__ = ["SocketPictures"]

_SLICE_S = 0.1
_MOST_BYTES = 128 << 20


class SocketPictures:
    """A WebSocket over a link of the broker.

    Args:
        link: the connection; `close_link` is called with it at the end.
        close_link: closes it.
        address: `ws://host:port/path` or wss.
        checkpoint: raises when nobody waits any more; called every tenth of a second.
        verify_tls, hello_s, timeout_s: as the settings.

    Attributes:
        about: what the camera said in its hello; None: it said none, and only sends pictures.

    Raises ConnectError, PermissionRefused, TimeoutExceeded: no WebSocket came to be; the link is closed.
    """

    def __init__(
        self,
        link: Link,
        close_link: Callable[[Link], None],
        *,
        address: str,
        checkpoint: Callable[[], None],
        verify_tls: bool,
        hello_s: float,
        timeout_s: float,
    ) -> None:
        self._link, self._close_link = link, close_link
        self._address, self._checkpoint, self._timeout_s = address, checkpoint, timeout_s
        self._receiver = Receiver()
        self._early: Frame | None = None
        self._count = 0
        self._started = False
        self._socket: Any = None
        self._open = ExitStack()
        self.about: dict[str, Any] | None = None
        try:
            self._socket = self._upgrade(verify_tls)
            self._greet(hello_s)
        except BaseException:
            self.close()
            raise

    def _upgrade(self, verify_tls: bool) -> Any:
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        secure: dict[str, Any] = {}
        if urlsplit(self._address).scheme == "wss":
            context = ssl.create_default_context()
            if not verify_tls:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            secure = {"ssl": context}
        connection = self._link.socket()

        def open_it() -> Any:
            opening = connect(
                self._address, sock=connection, open_timeout=self._timeout_s, close_timeout=1.0,
                max_size=_MOST_BYTES, compression=None, subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None, **secure,
            )  # fmt: skip
            return self._open.enter_context(opening)

        try:
            return self._unless_cancelled(connection, open_it)
        except InvalidStatus as error:
            status = error.response.status_code
            kind = PermissionRefused if status in {401, 403} else ConnectError
            raise kind(
                f"{self._address} answered {status} {error.response.reason_phrase}", original_error=error,
                context={"address": self._address, "status": status}, retryable=status >= 500,
                remedy="Write the path of the camera's WebSocket in the address: ws://host:port/path.",
            ) from error  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(
                f"the certificate of {self._address} is refused: {error.verify_message}", original_error=error,
                remedy="Install the camera's certificate, or trust this one address: --verify-tls false.",
                retryable=False,
            ) from error  # fmt: skip
        except TimeoutError as error:
            raise TimeoutExceeded(
                f"{self._address} did not answer for {self._timeout_s:g} s", context={"address": self._address},
                original_error=error, remedy="Restart the camera, or raise timeout_s.",
            ) from error  # fmt: skip
        except AssertionError as error:
            # websockets holds that nothing comes before its request has gone out (`send_context`, the close deadline)
            raise ProtocolError(
                f"{self._address} does not speak WebSocket: it sent bytes before it was asked for anything",
                original_error=error,
                remedy="Check host, port and path: something else than a camera's WebSocket listens there.",
            ) from error
        except (WebSocketException, EOFError, ValueError) as error:
            raise ProtocolError(
                f"{self._address} does not speak WebSocket: {error}", original_error=error,
                remedy="Check host, port and path: something else than a camera's WebSocket listens there.",
            ) from error  # fmt: skip
        except OSError as error:
            raise LinkLost(
                f"{self._address} closed the connection: {error}", context={"address": self._address},
                original_error=error, remedy="Restart the camera; it may serve too many others.",
            ) from error  # fmt: skip

    def _unless_cancelled(self, connection: socket.socket, function: Callable[[], Any]) -> Any:
        """The result of `function`, which blocks on `connection`: when nobody waits any more, that is shut down."""
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=run, name="vfab-websocket", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                self._checkpoint()
                thread.join(_SLICE_S / 2)
        except BaseException:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
            raise
        return outcome.result()

    def _greet(self, hello_s: float) -> None:
        try:
            came = self._next_message(time.monotonic() + hello_s, hello_s)
        except TimeoutExceeded:
            return
        if isinstance(came, Hello):
            self.about = dict(came.about)
        elif isinstance(came, Frame):
            self._early = came

    def close(self) -> None:
        """Say goodbye and close the link; twice is fine."""
        self._socket = None
        with suppress(Exception):  # the other side may be gone, in any of its ways
            self._open.close()
        self._close_link(self._link)

    def ask_one(self) -> None:
        """Ask for a single picture, of a camera that waits to be asked."""
        self._started = True
        if self.about is not None:
            self._send(message("capture"))

    def set(self, **values: Any) -> dict[str, Any]:
        """Have the camera set as `values` say; returns its settings then.

        Raises Refused: it does not take them. TimeoutExceeded: it does not answer.
        """
        self._send(message("set", **values))
        deadline = time.monotonic() + self._timeout_s
        while True:
            match self._next_message(deadline, self._timeout_s):
                case Settings(values=now):
                    return dict(now)
                case Refusal(message=why):
                    raise Refused(
                        f"the camera does not take {_shown(values)}: {why}", context={"wanted": values},
                        remedy="`capabilities` lists what it takes.",
                    )  # fmt: skip

    def next_frame(self, timeout_s: float) -> ImageData:
        """The next picture; of a camera that waits to be asked, it is asked for a stream first."""
        if not self._started:
            self._started = True
            if self.about is not None:
                self._send(message("start"))
        deadline = time.monotonic() + timeout_s
        while True:
            frame, self._early = self._early, None
            came = frame or self._next_message(deadline, timeout_s)
            if isinstance(came, Frame):
                return self._image(came)
            if isinstance(came, Refusal):
                raise ConnectError(
                    f"the camera sends no pictures: {came.message}", context={"address": self._address},
                    remedy="Its own documentation, or its log, says why.",
                )  # fmt: skip

    def _image(self, frame: Frame) -> ImageData:
        said = frame.header
        name = sniff(frame.data) or str(said.get("pixel_format") or "")
        width, height = int(said.get("width") or 0), int(said.get("height") or 0)
        if sniff(frame.data):
            width, height = image_size(frame.data)
        elif not (name and width and height):
            raise ProtocolError(
                f"the camera sent {len(frame.data)} bytes that are no JPEG, PNG or WebP, and did not say what they are",
                context={"header": dict(said)},
                remedy="Before raw pixels it must send a `frame` message; see docs/drivers/websocket-camera.md.",
            )
        self._count += 1
        return ImageData(
            data=frame.data, width_px=width, height_px=height, pixel_format=name,
            stride_bytes=int(said.get("stride") or 0), timestamp_s=time.time(), device_timestamp_s=said.get("time_s"),
            sequence=int(said.get("sequence", self._count)), exposure_s=said.get("exposure_s"),
        )  # fmt: skip

    def _next_message(self, deadline: float, timeout_s: float) -> Hello | Settings | Refusal | Frame | None:
        from websockets.exceptions import ConnectionClosed

        while True:
            self._checkpoint()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutExceeded(
                    f"{self._address} sent nothing for {timeout_s:g} s", context={"address": self._address},
                    remedy="Restart the camera, or raise timeout_s: a long exposure takes its time.",
                )  # fmt: skip
            try:
                data = self._socket.recv(timeout=min(left, _SLICE_S))
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                raise LinkLost(
                    f"{self._address} closed the connection", context={"address": self._address, "said": str(error)},
                    original_error=error, remedy="Restart the camera; it may serve too many others.",
                ) from error  # fmt: skip
            return self._receiver.receive(data)

    def _send(self, text: str) -> None:
        """Send; that the camera closed is told by the next message, behind what it said before."""
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed):
            self._socket.send(text)


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
