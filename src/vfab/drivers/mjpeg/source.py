"""One request to a camera's web server, and the pictures of its answer."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from vfab.model.errors import (
    ConnectError,
    DeviceBusy,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.protocols.http_auth import Credentials, authorization, parse_challenges
from vfab.protocols.mjpeg import Ended, Message, Picture, Receiver, Response, Skipped, request_bytes
from vfab.sdk.camera_data import ImageData
from vfab.sdk.link import Link
from vfab.sdk.pixels import image_size, sniff

from .tls import TlsLink

__all__ = ["HttpPictures", "credentials_of"]


def credentials_of(address: str, user: str | None, password: str | None) -> Credentials | None:
    """User and password: those of the settings, else those that the address has; None: there are none."""
    parts = urlsplit(address)
    if user is None and parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
    return Credentials(user, password or "") if user is not None else None


class HttpPictures:
    """Pictures of one answer, as they come.

    Args:
        open_link: opens the connection; called again when the camera wants a password.
        close_link: closes one.
        address: `http://host:port` or https.
        target: path and query to ask for.
        credentials: who asks.
        verify_tls: as the setting.
        timeout_s: patience for the head of the answer.

    Raises ConnectError and its kind, PermissionRefused: it is not there, or does not let us in; nothing is open.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        close_link: Callable[[Link], None],
        *,
        address: str,
        target: str,
        credentials: Credentials | None,
        verify_tls: bool,
        timeout_s: float,
    ) -> None:
        self._open, self._close = open_link, close_link
        self._address, self._target = address, target
        self._verify_tls, self._timeout_s = verify_tls, timeout_s
        self._link: Link | None = None
        self._talk: Link | TlsLink | None = None
        self._receiver = Receiver()
        self._come: deque[Message] = deque()
        self._ended = False
        self._count = 0
        self.skipped = 0
        try:
            response = self._ask({})
            if response.status == 401 and credentials is not None:
                response = self._ask_again(response, credentials)
            if response.status != 200:
                self._refused(response, credentials is not None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; twice is fine."""
        link, self._link, self._talk = self._link, None, None
        if link is not None:
            self._close(link)

    def next_frame(self, timeout_s: float) -> ImageData:
        """The next picture. What is no picture, or is damaged before its size, is counted in `skipped`.

        Raises TimeoutExceeded: none came in time. LinkLost: the server ended. ProtocolError: it breaks the protocol.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            while self._come:
                image = self._read(self._come.popleft())
                if image is not None:
                    return image
            if self._ended:
                raise LinkLost(
                    f"{self._address} ended its stream",
                    context={"address": self._address, "skipped": self.skipped},
                    remedy="The camera restarted, or serves too many at once; set `path` if it sends no MJPEG there.",
                )
            self._receive(deadline, timeout_s)

    # -- the conversation ---------------------------------------------------------------------------------------------

    def _ask(self, headers: dict[str, str]) -> Response:
        self._link = self._open()
        parts = urlsplit(self._address)
        self._talk = self._link
        if parts.scheme == "https":
            self._talk = TlsLink(self._link, parts.hostname or "", verify=self._verify_tls, timeout_s=self._timeout_s)
        self._receiver, self._ended = Receiver(), False
        self._come.clear()
        try:
            request = request_bytes(parts.netloc.rpartition("@")[2], self._target, headers=headers)
        except ValueError as error:
            raise ConnectError(
                str(error), context={"field": "path"}, remedy="Write spaces in the path as %20.", retryable=False
            ) from error
        self._talk.write(request, timeout_s=self._timeout_s)
        deadline = time.monotonic() + self._timeout_s
        while not self._come:
            self._receive(deadline, self._timeout_s)
        response = self._come.popleft()
        assert isinstance(response, Response)
        return response

    def _ask_again(self, refusal: Response, credentials: Credentials) -> Response:
        """Once more, with what the challenge asks for; on a new connection, for most cameras closed this one."""
        challenges = parse_challenges(refusal.values("www-authenticate"))
        said = authorization(challenges, credentials, "GET", self._target, cnonce=secrets.token_hex(8))
        if said is None:
            return refusal
        self.close()
        return self._ask({"Authorization": said})

    def _receive(self, deadline: float, timeout_s: float) -> None:
        assert self._talk is not None
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutExceeded("")
            data = self._talk.read(1 << 18, timeout_s=left)
        except LinkLost as lost:
            self._ended = True
            try:
                self._come.extend(self._receiver.close())
            except ProtocolError as error:
                remedy = "The camera is starting, or serves too many at once: try again in a moment."
                raise LinkLost(error.message, context=error.context, original_error=lost, remedy=remedy) from lost
            return
        except TimeoutExceeded as error:
            raise TimeoutExceeded(
                f"{self._address} sent no picture for {timeout_s:g} s",
                context={"address": self._address, "timeout_s": timeout_s, "skipped": self.skipped},
                remedy="The camera hangs or is very slow: restart it, or raise timeout_s.",
            ) from error
        self._come.extend(self._receiver.receive(data))

    def _read(self, message: Message) -> ImageData | None:
        match message:
            case Picture(data=data, time_s=device_time_s):
                try:
                    width, height = image_size(data)
                except ProtocolError:
                    self.skipped += 1
                    return None
                self._count += 1
                return ImageData(
                    data=data, width_px=width, height_px=height, pixel_format=sniff(data), timestamp_s=time.time(),
                    device_timestamp_s=device_time_s, sequence=self._count,
                )  # fmt: skip
            case Skipped():
                self.skipped += 1
            case Ended():
                self._ended = True
        return None

    def _refused(self, response: Response, has_credentials: bool) -> NoReturn:
        said = f"{self._address}{self._target} answered {response.status} {response.reason}".rstrip()
        context: dict[str, Any] = {"address": self._address, "path": self._target, "status": response.status}
        if response.status in {401, 403}:
            remedy = "The camera wants a password: give --user, and the password as VFAB_MJPEG_PASSWORD."
            if has_credentials:
                remedy = "User or password is wrong, or this user may not see pictures."
            raise PermissionRefused(said, context=context, remedy=remedy)
        if response.status in {429, 503}:
            raise DeviceBusy(said, context=context, remedy="The camera serves others: end one of its other viewers.")
        remedy = "Set `path` to where this camera has its MJPEG stream; its manual, or its web page's source, tells."
        if "location" in response.headers:
            remedy = f"It sends us on to {response.headers['location']}: use that as address or `path`."
        raise ConnectError(said, context=context, remedy=remedy, retryable=response.status >= 500)
