"""The RTSP driver: a session for each picture and each stream, decoded by FFmpeg."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlsplit

from vfab.sdk.camera import CameraCapabilities, CameraDriver, CameraInfo, FrameSource
from vfab.sdk.driver import Environment, command

from .source import RtspPictures

__all__ = ["RtspCamera"]


class RtspCamera(CameraDriver):
    """A camera that speaks RTSP. FFmpeg opens its own sockets: the manifest asks for the host's network."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._about: dict[str, Any] = {}

    def open_source(self) -> FrameSource:
        """Begin a session. Raises ConnectError and its kind, PermissionRefused, ProtocolError, TimeoutExceeded."""
        made = RtspPictures(
            self._url(),
            address=self._plain(),
            transport=str(self.config["transport"]),
            pixel_format=str(self.config["pixel_format"]),
            timeout_s=self.timeout_s,
            checkpoint=self.checkpoint,
        )
        self._about = made.about
        return made

    def _plain(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.device.address)
        host = parts.netloc.rpartition("@")[2]
        scheme = parts.scheme if parts.scheme in {"rtsp", "rtsps"} else "rtsp"
        path = parts.path if parts.path not in {"", "/"} else f"/{str(self.config['path']).lstrip('/')}"
        return f"{scheme}://{host}{path}{'?' + parts.query if parts.query else ''}"

    def _url(self) -> str:
        parts, plain = urlsplit(self.device.address), self._plain()
        user, password = self.config["user"], self.config["password"]
        if user is None and parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
        if user is None:
            return plain
        scheme, _, rest = plain.partition("://")
        return f"{scheme}://{quote(user, safe='')}:{quote(password or '', safe='')}@{rest}"

    @command(concurrent=True)
    def get_device_info(self) -> CameraInfo:
        """The address, and what the last session told of its stream."""
        return CameraInfo(
            name=self.device.name or self._plain(), driver=self.manifest.name, bus="rtsp", address=self._plain(),
            details=dict(self._about),
        )  # fmt: skip

    @command(concurrent=True)
    def get_capabilities(self) -> CameraCapabilities:
        """As its last picture was: RTSP has no words for what else a camera could do."""
        known = super().get_capabilities()
        return CameraCapabilities(
            formats=known.formats, width_px=known.width_px, height_px=known.height_px, pixel_format=known.pixel_format,
            framerate_hz=float(self._about.get("framerate_hz", 0.0)),
        )  # fmt: skip
