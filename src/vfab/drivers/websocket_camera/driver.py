"""The WebSocket camera driver: a conversation for each picture and each stream."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from vfab.sdk.camera import CameraCapabilities, CameraDriver, CameraInfo, FrameFormat, FrameSize, FrameSource
from vfab.sdk.driver import Environment, command

from .source import SocketPictures

__all__ = ["WebSocketCamera"]


class WebSocketCamera(CameraDriver):
    """A camera that speaks `vfab-camera` over a WebSocket, or only sends JPEGs there.

    What was set is said anew in each conversation, so that a camera that restarted is set as before.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._about: dict[str, Any] = {}
        self._set: dict[str, Any] = {}

    def _open(self) -> SocketPictures:
        made = SocketPictures(
            self.open_link(timeout_s=min(self.timeout_s, 60.0)),
            self.close_link,
            address=self.device.address.replace("tcp://", "ws://", 1),
            checkpoint=self.checkpoint,
            verify_tls=bool(self.config["verify_tls"]),
            hello_s=float(self.config["hello_s"]),
            timeout_s=self.timeout_s,
        )
        self._about = {**self._about, **(made.about or {})}
        try:
            if self._set and made.about is not None:
                self._about.update(made.set(**self._set))
        except BaseException:
            made.close()
            raise
        return made

    def open_source(self) -> FrameSource:
        """Begin a conversation. Raises ConnectError and its kind, PermissionRefused, ProtocolError."""
        return self._open()

    def open_single(self) -> FrameSource:
        """Begin a conversation and ask for one picture. Raises as `open_source`."""
        made = self._open()
        try:
            made.ask_one()
        except BaseException:
            made.close()
            raise
        return made

    @command(concurrent=True)
    def get_device_info(self) -> CameraInfo:
        """As the camera's hello tells; before the first conversation, only the address."""
        keys = ("manufacturer", "model", "serial_number", "firmware")
        said: dict[str, Any] = {key: str(self._about.get(key, "")) for key in keys}
        return CameraInfo(
            name=str(self._about.get("name") or self.device.name or self.device.address), driver=self.manifest.name,
            bus="websocket", address=self.device.address, **said,
        )  # fmt: skip

    @command(concurrent=True)
    def get_capabilities(self) -> CameraCapabilities:
        """As the camera's hello and its last answer tell."""
        said, known = self._about, super().get_capabilities()
        formats = tuple(
            FrameFormat(
                pixel_format=str(one.get("pixel_format", "")),
                sizes=tuple(FrameSize(width_px=int(w), height_px=int(h)) for w, h in one.get("sizes", [])),
            )
            for one in said.get("formats", [])
        )
        exposures = said.get("exposure_range_s")
        return CameraCapabilities(
            formats=formats or known.formats, width_px=int(said.get("width") or known.width_px),
            height_px=int(said.get("height") or known.height_px),
            pixel_format=str(said.get("pixel_format") or known.pixel_format),
            framerate_hz=float(said.get("framerate_hz") or 0.0), exposure_s=said.get("exposure_s") or None,
            exposure_range_s=(float(exposures[0]), float(exposures[1])) if exposures else None,
            auto_exposure=None if "exposure_s" not in said else not said["exposure_s"],
            can_set=tuple(said.get("can_set", ())),
        )  # fmt: skip

    @command
    def set_resolution(self, width: int, height: int) -> bool:
        """Have pictures of this size. Raises Refused: the camera does not take it, or it streams."""
        self.check_positive(width=width, height=height)
        return self._tell("resolution", width=width, height=height)

    @command
    def set_framerate(self, fps: float) -> bool:
        """Have streams of this rate. Raises Refused: the camera does not take it, or it streams."""
        self.check_positive(fps=fps)
        return self._tell("framerate", framerate_hz=fps)

    @command
    def set_exposure(self, exposure: float) -> bool:
        """Expose for so many seconds; 0 is automatic. Raises Refused: the camera does not take it, or it streams."""
        if exposure:
            self.check_positive(exposure=exposure)
        return self._tell("exposure", exposure_s=exposure)

    def _tell(self, what: str, **values: Any) -> bool:
        self.check_idle(what)
        with closing(self._open()) as talk:
            if talk.about is None or what not in talk.about.get("can_set", ()):
                return False
            self._about.update(talk.set(**values))
        self._set.update(values)
        return True
