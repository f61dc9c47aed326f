"""The MJPEG driver: a camera's web server, asked for its pictures."""

from __future__ import annotations

from urllib.parse import urlsplit

from vfab.model.errors import DriverError, Refused
from vfab.sdk.camera import CameraCapabilities, CameraDriver, CameraInfo, FrameSource
from vfab.sdk.driver import Environment, command

from .source import HttpPictures, credentials_of

__all__ = ["MjpegCamera"]


class MjpegCamera(CameraDriver):
    """A camera that answers an HTTP request with JPEG after JPEG.

    Each picture and each stream is a request of its own: nothing flows while nobody looks. What can be set is what the
    settings' `path` has places for: `/video.cgi?resolution={width}x{height}&fps={fps}`.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._size = (int(self.config["width_px"]), int(self.config["height_px"]))
        self._framerate_hz = float(self.config["framerate_hz"])

    def open_source(self) -> FrameSource:
        """Ask for the stream. Raises ConnectError and its kind, PermissionRefused, ProtocolError."""
        return self._ask(self._path())

    def open_single(self) -> FrameSource:
        """Ask for a single picture, where the camera has a place for them. Raises as `open_source`."""
        place = self.config["snapshot_path"]
        return self._ask(place) if place else self.open_source()

    def _path(self) -> str:
        parts = urlsplit(self.device.address)
        own = parts.path if parts.path != "/" else ""
        if own or parts.query:
            return f"{own or '/'}?{parts.query}" if parts.query else own
        return str(self.config["path"])

    def _ask(self, place: str) -> HttpPictures:
        parts = urlsplit(self.device.address)
        scheme = "https" if parts.scheme == "https" else "http"
        target = place if place.startswith("/") else f"/{place}"
        return HttpPictures(
            lambda: self.open_link(timeout_s=min(self.timeout_s, 60.0)),
            self.close_link,
            address=f"{scheme}://{parts.netloc.rpartition('@')[2]}",
            target=self._filled(target),
            credentials=credentials_of(self.device.address, self.config["user"], self.config["password"]),
            verify_tls=bool(self.config["verify_tls"]),
            timeout_s=self.timeout_s,
        )

    def _filled(self, target: str) -> str:
        values = {"{width}": self._size[0], "{height}": self._size[1], "{fps}": f"{self._framerate_hz:g}"}
        for word, value in values.items():
            target = target.replace(word, str(value))
        return target

    @command(concurrent=True)
    def get_device_info(self) -> CameraInfo:
        """The address is all that such a camera says of itself."""
        parts = urlsplit(self.device.address)
        host = parts.netloc.rpartition("@")[2]
        return CameraInfo(
            name=self.device.name or host,
            driver=self.manifest.name,
            bus="https" if parts.scheme == "https" else "http",
            address=host,
            details={"path": self._filled(self._path())},
        )

    @command(concurrent=True)
    def get_capabilities(self) -> CameraCapabilities:
        """As its last picture was, and what its path has places for."""
        known = super().get_capabilities()
        place = self._path()
        can_set = [name for name, word in (("resolution", "{width}"), ("framerate", "{fps}")) if word in place]
        return CameraCapabilities(
            formats=known.formats, width_px=known.width_px, height_px=known.height_px, pixel_format=known.pixel_format,
            framerate_hz=self._framerate_hz if "{fps}" in place else 0.0, can_set=tuple(can_set),
        )  # fmt: skip

    @command
    def set_resolution(self, width: int, height: int) -> bool:
        """Ask for pictures of this size from now on, and take one to see whether the camera sends it.

        Returns False: the path has no places for a size. Raises Refused: the camera sends another size, or it streams.
        """
        self.check_positive(width=width, height=height)
        if not {"{width}", "{height}"} <= {word for word in ("{width}", "{height}") if word in self._path()}:
            return False
        self.check_idle("resolution")
        before, self._size = self._size, (width, height)
        try:
            image = self._take_one()
            if (image.width_px, image.height_px) != (width, height):
                raise Refused(
                    f"the camera sends {image.width_px} × {image.height_px} pixels when asked for {width} × {height}",
                    context={"width": width, "height": height},
                    remedy="Ask for a size that the camera has; its manual lists them.",
                )
        except DriverError:
            self._size = before
            raise
        self._last = image
        return True

    @command
    def set_framerate(self, fps: float) -> bool:
        """Ask for this rate in streams from now on. Returns False: the path has no place for it."""
        self.check_positive(fps=fps)
        if "{fps}" not in self._path():
            return False
        self.check_idle("frame rate")
        self._framerate_hz = float(fps)
        return True
