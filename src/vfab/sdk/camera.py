"""CameraDriver: what every camera promises, with the operations of seed 000.

A driver says how its camera's pictures begin to come, in `open_source`; the rest is here: one picture, a stream that
survives the camera's going and coming back, and what is refused meanwhile. What can be set is overridden where the
camera can be told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol, TypeVar

from vfab.model.errors import (
    ConnectError,
    DriverError,
    HardwareError,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.sdk.camera_data import (
    CameraCapabilities,
    CameraInfo,
    Control,
    FrameFormat,
    FrameSize,
    ImageData,
)
from vfab.sdk.driver import BaseDriver, Environment, command
from vfab.sdk.stream import Streaming, StreamType, StreamWriter

__all__ = [
    "CameraCapabilities",
    "CameraDriver",
    "CameraInfo",
    "Control",
    "FrameFormat",
    "FrameSize",
    "FrameSource",
    "ImageData",
]

RETRY_FIRST_S = 0.2
RETRY_MOST_S = 5.0
_RING_FRAMES = 8
_RING_LEAST_BYTES = 4 << 20
_RING_MOST_BYTES = 256 << 20
_MAY_PASS = (ConnectError, TimeoutExceeded, ProtocolError, HardwareError, PermissionRefused)
_T = TypeVar("_T")


class FrameSource(Protocol):
    """Where pictures come from, one after the other, while it is open."""

    def next_frame(self, timeout_s: float) -> ImageData:
        """The next picture, waited for at most `timeout_s` seconds.

        Raises TimeoutExceeded: none came. LinkLost: the camera is gone. ProtocolError: what came is no picture.
        """

    def close(self) -> None:
        """Let go; twice is fine."""


class CameraDriver(BaseDriver, Streaming):
    """A camera. Override `open_source`, `get_device_info`, and what the camera can be told.

    Settings that it reads where the manifest declares them: `timeout_s`, how long a picture may take (default 5);
    `reconnect_s`, how long a stream tries to find a lost camera again (default 60; 0 gives up at once);
    `check_on_connect`, whether `connect` waits for a first picture (default true).
    """

    stream_type = StreamType.VIDEO

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._connected = False
        self._last: ImageData | None = None
        self._frames = threading.Condition()
        self._frame_count = 0
        self._awaited = 0
        self._stream_error: DriverError | None = None
        self._opened: FrameSource | None = None

    # -- what a driver writes -----------------------------------------------------------------------------------------

    def open_source(self) -> FrameSource:
        """Have the camera send pictures. Raises ConnectError and its kind, ProtocolError: nothing is open then."""
        raise NotImplementedError(f"{type(self).__name__} has no open_source")

    def open_single(self) -> FrameSource:
        """Have the camera send one picture; a camera that has a better way for it than a stream overrides this."""
        return self.open_source()

    @command(concurrent=True)
    def get_device_info(self) -> CameraInfo:
        """Which camera this is."""
        return CameraInfo(name=self.device.name or self.device.address, driver=self.manifest.name,
                          address=self.device.address)  # fmt: skip

    @command(concurrent=True)
    def get_capabilities(self) -> CameraCapabilities:
        """What the camera can do, and how it stands: by default what its pictures tell."""
        last = self._last
        if last is None:
            return CameraCapabilities()
        size = FrameSize(width_px=last.width_px, height_px=last.height_px)
        return CameraCapabilities(
            formats=(FrameFormat(pixel_format=last.pixel_format, sizes=(size,)),),
            width_px=last.width_px,
            height_px=last.height_px,
            pixel_format=last.pixel_format,
        )

    @command
    def set_resolution(self, width: int, height: int) -> bool:
        """Have pictures of `width` × `height` pixels from now on.

        Returns:
            True: the camera sends exactly this size now. False: this camera cannot be told a size.

        Raises Refused: it does not offer that size (the nearest are told), or it streams. Nothing was changed.
        """
        self.check_positive(width=width, height=height)
        return False

    @command
    def set_framerate(self, fps: float) -> bool:
        """Have `fps` pictures a second from now on.

        Returns:
            True: the camera took it, or the nearest rate that it has. False: this camera cannot be told a rate.

        Raises Refused: no rate that a camera can have, or it streams and cannot change meanwhile.
        """
        self.check_positive(fps=fps)
        return False

    @command
    def set_exposure(self, exposure: float) -> bool:
        """Expose each picture for `exposure` seconds from now on; 0 lets the camera choose.

        Returns:
            True: the camera took it, or the nearest that it has. False: this camera cannot be told an exposure.

        Raises Refused: it is out of the camera's range.
        """
        if exposure:
            self.check_positive(exposure=exposure)
        return False

    # -- the life -----------------------------------------------------------------------------------------------------

    @property
    def timeout_s(self) -> float:
        """How long a picture may take, in seconds."""
        return float(self.config.get("timeout_s") or 5.0)

    def connect(self) -> bool:
        """Have the camera send a picture, and let go of it again: nothing is sent while nobody looks.

        Raises what `open_source` raises, and TimeoutExceeded: it sends none. Nothing is left open.
        """
        if self._connected:
            self.disconnect()
        if self.config.get("check_on_connect", True):
            self._last = self._take_one()
        self._connected = True
        return True

    def disconnect(self) -> None:
        """End the stream and let go of the camera. Twice, or without a connection, it does nothing."""
        self.stop_streaming()
        self._connected = False

    def reset(self) -> None:
        """End the stream and connect anew. Raises what `connect` raises."""
        self.disconnect()
        self.connect()

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether the camera was reached and not let go of since."""
        return self._connected

    @command
    def test_connection(self) -> dict[str, Any]:
        """Take a picture. Returns `{"success", "message", "details"}`; the details are the picture's, without it."""
        try:
            image = self.capture_image()
        except DriverError as error:
            return {"success": False, "message": error.message, "details": error.to_public()}
        said = f"{image.width_px} × {image.height_px} pixels of {image.pixel_format}"
        return {"success": True, "message": said, "details": image.meta()}

    # -- one picture --------------------------------------------------------------------------------------------------

    @command
    def capture_image(self) -> ImageData:
        """One picture that was begun after this call came; of a camera that streams, the stream's next one.

        Raises TimeoutExceeded: none came within `timeout_s`. LinkLost, ConnectError: the camera is gone.
        ProtocolError: what it sends is no picture.
        """
        image = self._next_of_stream() if self.is_streaming() else self._take_one()
        self._last = image
        return image

    def _take_one(self) -> ImageData:
        self.checkpoint()
        with closing(self.open_single()) as source:
            return source.next_frame(self.timeout_s)

    def _next_of_stream(self) -> ImageData:
        deadline = time.monotonic() + self.timeout_s
        with self._awaiting():
            count = self._frame_count
            while self._frame_count < count + 2:  # the next one may have been under way already
                self.checkpoint()
                if not self.is_streaming():
                    raise self._stream_error or LinkLost(
                        f"the stream of {self.device.address} ended", remedy="Start it again, or capture without one."
                    )
                left = deadline - time.monotonic()
                if left <= 0:
                    raise no_picture(self.device.address, self.timeout_s)
                self._frames.wait(min(left, 0.1))
            assert self._last is not None
            return self._last

    @contextmanager
    def _awaiting(self) -> Iterator[None]:
        with self._frames:
            self._awaited += 1
            try:
                yield
            finally:
                self._awaited -= 1

    def is_awaited(self) -> bool:
        """Whether somebody waits in `capture_image` for a picture of the stream."""
        return self._awaited > 0

    # -- the stream ---------------------------------------------------------------------------------------------------

    def is_streaming(self) -> bool:
        """Whether a stream runs."""
        return self.acquiring()

    def open_acquisition(self, options: dict[str, Any]) -> StreamWriter:
        """The ring, as large as this camera's pictures need; `start_streaming` fails here when the camera is not there.

        Raises what `open_source` raises.
        """
        self._stream_error = None
        source = self.open_source()
        try:
            first = source.next_frame(self.timeout_s)
            stream = self.open_stream(
                "main", self.stream_type, capacity_bytes=ring_bytes(len(first.data)), **self.about_stream(first)
            )
        except BaseException:
            source.close()
            raise
        self._opened = source
        self.publish(stream, first)
        return stream

    def about_stream(self, first: ImageData) -> dict[str, Any]:
        """What readers are told of the stream."""
        return {
            "width_px": first.width_px,
            "height_px": first.height_px,
            "pixel_format": first.pixel_format,
            "stride_bytes": first.stride_bytes,
        }

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """Send picture after picture; find the camera again when it is lost.

        Events: `stream_lost` with the error and how long to the next attempt; `stream_resumed` with how long it took.
        Raises DriverError: the camera did not come back within `reconnect_s`.
        """
        lost_since: float | None = None
        attempt = 0
        while self.acquiring():
            try:
                with self._source_again() as source:
                    while self.acquiring():
                        self.forward(source, stream)
                        if lost_since is not None:
                            self.emit("stream_resumed", after_s=round(time.monotonic() - lost_since, 3), tries=attempt)
                            lost_since, attempt = None, 0
            except DriverError as error:
                if not self.acquiring():
                    return
                lost_since = lost_since if lost_since is not None else time.monotonic()
                attempt += 1
                self._wait_to_retry(error, attempt, time.monotonic() - lost_since)

    @contextmanager
    def _source_again(self) -> Iterator[FrameSource]:
        source, self._opened = self._opened, None
        with closing(source if source is not None else self.open_source()) as opened:
            yield opened

    def _wait_to_retry(self, error: DriverError, attempt: int, gone_s: float) -> None:
        """Tell of the loss and wait, longer each time; raises `error` when the camera was gone for too long."""
        patience_s = float(self.config.get("reconnect_s", 60.0))
        # whatever a camera that starts or is plugged in again says meanwhile, but not what no time will change
        if not isinstance(error, _MAY_PASS) or gone_s >= patience_s:
            self._stream_error = error
            error.context.update(attempts=attempt, gone_s=round(gone_s, 1))
            raise error
        wait_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** (attempt - 1), max(0.0, patience_s - gone_s))
        self.log.warning(
            "the stream of %s was lost: %s; next try in %.1f s", self.device.address, error.message, wait_s
        )
        self.emit("stream_lost", error=error.to_public(), attempt=attempt, retry_in_s=wait_s)
        self.pause_s(wait_s)

    def forward(self, source: FrameSource, stream: StreamWriter) -> None:
        """Put the next picture on the stream, and give it to whoever waits in `capture_image`.

        A driver that can put it there with fewer copies overrides this, and calls `note_frame`.
        """
        self.publish(stream, source.next_frame(self.timeout_s))

    def publish(self, stream: StreamWriter, image: ImageData) -> None:
        """Put `image` on the stream, and give it to whoever waits in `capture_image`."""
        stream.send(image.data, meta=image.meta(), time_s=image.timestamp_s, device_time_s=image.device_timestamp_s)
        self.note_frame(image)

    def note_frame(self, image: ImageData | None) -> None:
        """`image` is the newest one of the stream; None: nobody awaited one, so that no copy was made."""
        if image is None:
            return
        with self._frames:
            self._last = image
            self._frame_count += 1
            self._frames.notify_all()

    @command(concurrent=True)
    def stop_streaming(self) -> dict[str, Any]:
        """End the stream, and let go of what it used. Without a stream, nothing."""
        said = super().stop_streaming()
        source, self._opened = self._opened, None
        if source is not None:  # the thread never came to use it
            source.close()
        return said

    # -- help for drivers ---------------------------------------------------------------------------------------------

    def check_positive(self, **values: float) -> None:
        """Raises Refused: one of `values` is not over 0."""
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise Refused(
                    f"{name} cannot be {value!r}", context={"field": name, "value": str(value)},
                    remedy="Give a number over 0.",
                )  # fmt: skip

    def check_idle(self, what: str) -> None:
        """Raises Refused: the camera streams, so that `what` cannot be changed now."""
        if self.is_streaming():
            raise Refused(
                f"{what} cannot be changed while the camera streams",
                context={"device": self.device.id},
                remedy=f"Stop the stream, set the {what}, and start it again.",
            )

    def refuse_size(self, width: int, height: int, offered: CameraCapabilities) -> Refused:
        """The error for a size that the camera does not offer."""
        near = offered.nearest(width, height)
        return Refused(
            f"{self.device.name or self.device.address} has no pictures of {width} × {height} pixels",
            context={"width": width, "height": height, "near": near},
            remedy=f"The nearest are {', '.join(near)}." if near else "`vfab driver run` with `info` lists its sizes.",
        )


def ring_bytes(frame_bytes: int) -> int:
    """How large a ring for such pictures should be: eight of them, and some room for JPEGs that grow."""
    return max(_RING_LEAST_BYTES, min(_RING_MOST_BYTES, 2 * _RING_FRAMES * frame_bytes), frame_bytes * 2)


def no_picture(address: str, timeout_s: float) -> TimeoutExceeded:
    """The error for a camera that sends nothing."""
    return TimeoutExceeded(
        f"{address} sent no picture for {timeout_s:g} s",
        context={"address": address, "timeout_s": timeout_s},
        remedy="Check that the camera is not covered by another program's use of it, or raise timeout_s: a long "
        "exposure, or a slow network, takes its time.",
    )


def foreign(error: BaseException, what: str, make: Callable[..., _T], **more: Any) -> _T:
    """A library's error as one of vfab's: `make` is the class."""
    return make(f"{what}: {str(error) or type(error).__name__}", original_error=error, **more)
