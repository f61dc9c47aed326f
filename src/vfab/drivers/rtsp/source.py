"""One RTSP session: FFmpeg's demuxer and decoder on a thread of their own, so that a wait can end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from vfab.model.errors import ConnectError, DriverError, LinkLost, PermissionRefused, ProtocolError, TimeoutExceeded
from vfab.sdk.camera_data import ImageData
from vfab.sdk.pixels import image_size

__all__ = ["RtspPictures"]

_SLICE_S = 0.1
_WAITING_MAX = 8
_JOIN_S = 1.0


class RtspPictures:
    """Pictures of one session, as they come; the oldest are dropped when nobody takes them.

    Args:
        url: with user and password, if there are any.
        address: the same without, for messages.
        transport: `tcp`, `udp` or `http`.
        pixel_format: `YU12` or `RGB24`, for what is decoded.
        timeout_s: patience for the session to come to be, and for each packet.
        checkpoint: raises when nobody waits any more.

    Raises ConnectError and its kind, PermissionRefused, ProtocolError: there is no session; nothing is left open.
    """

    def __init__(
        self,
        url: str,
        *,
        address: str,
        transport: str,
        pixel_format: str,
        timeout_s: float,
        checkpoint: Callable[[], None],
    ) -> None:
        self._url, self._address, self._checkpoint = url, address, checkpoint
        self._pixel_format, self._timeout_s = pixel_format, timeout_s
        # 0.1 s is enough to learn the codec, and opening takes 0.24 s instead of 1.26 s
        self._options = {"rtsp_transport": transport, "flags": "low_delay", "analyzeduration": "100000"}
        self._news = threading.Condition()
        self._waiting: deque[ImageData] = deque()
        self._error: DriverError | None = None
        self._over = False
        self._began_s = time.monotonic()
        self._count = 0
        self.about: dict[str, Any] = {}
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="vfab-rtsp", daemon=True)
        self._thread.start()
        try:
            self._wait(lambda: bool(self.about), time.monotonic() + timeout_s + 1.0, timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the session; FFmpeg ends within `timeout_s` where the camera hangs. Twice is fine."""
        with self._news:
            self._over = True
            self._news.notify_all()
        self._thread.join(_JOIN_S)

    def next_frame(self, timeout_s: float) -> ImageData:
        """The next picture. Raises TimeoutExceeded, LinkLost, ProtocolError."""
        self._wait(lambda: bool(self._waiting), time.monotonic() + timeout_s, timeout_s)
        with self._news:
            return self._waiting.popleft()

    def _wait(self, come: Callable[[], bool], deadline: float, timeout_s: float) -> None:
        while True:
            self._checkpoint()
            with self._news:
                if come():
                    return
                if self._error is not None:
                    raise self._error
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutExceeded(
                        f"{self._address} sent no picture for {timeout_s:g} s", context={"address": self._address},
                        remedy="Raise timeout_s: a camera may send whole pictures seldom; or restart it.",
                    )  # fmt: skip
                self._news.wait(min(left, _SLICE_S))

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import av

        try:
            container = av.open(self._url, options=self._options, timeout=(self._timeout_s, self._timeout_s))
            try:
                self._read(container)
            finally:
                container.close()
            raise EOFError("the camera ended the session")
        except Exception as error:
            with self._news:
                self._error = self._translated(error)
                self._news.notify_all()

    def _read(self, container: Any) -> None:
        if not container.streams.video:
            raise ValueError("there is no video in it")
        stream = container.streams.video[0]
        name = stream.codec_context.name
        rate = stream.average_rate or stream.guessed_rate
        with self._news:
            self.about = {
                "codec": name, "width_px": stream.width, "height_px": stream.height,
                "framerate_hz": round(float(rate), 3) if rate else 0.0,
            }  # fmt: skip
            self._news.notify_all()
        for packet in container.demux(stream):
            if self._over:
                return
            if packet.size == 0:
                continue
            if name == "mjpeg":
                self._add(self._jpeg(packet))
                continue
            for frame in packet.decode():
                self._add(self._picture(frame))

    def _add(self, image: ImageData) -> None:
        with self._news:
            if len(self._waiting) >= _WAITING_MAX:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(image)
            self._news.notify_all()

    def _jpeg(self, packet: Any) -> ImageData:
        self._count += 1
        own = float(packet.pts * packet.time_base) if packet.pts is not None else None
        data = bytes(packet)
        width, height = image_size(data)
        return ImageData(
            data=data, width_px=width, height_px=height, pixel_format="MJPG",
            timestamp_s=time.time(), device_timestamp_s=own, sequence=self._count,
        )  # fmt: skip

    def _picture(self, frame: Any) -> ImageData:
        from av.video.reformatter import ColorRange, Colorspace

        self._count += 1
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        even = frame.width % 2 == 0 and frame.height % 2 == 0
        planar = frame.format.name in {"yuv420p", "yuvj420p"} and even and self._pixel_format == "YU12"
        data = frame.to_ndarray() if planar else frame.to_ndarray(format="rgb24")
        return ImageData(
            data=data.tobytes(), width_px=frame.width, height_px=frame.height,
            pixel_format="YU12" if planar else "RGB24", timestamp_s=time.time(), device_timestamp_s=frame.time,
            sequence=self._count, matrix="bt709" if frame.colorspace == Colorspace.ITU709 else "bt601",
            full_range=bool(planar and full),
        )  # fmt: skip

    def _translated(self, error: Exception) -> DriverError:
        import av

        if isinstance(error, DriverError):
            return error
        said = str(error).replace(self._url, self._address)  # FFmpeg tells the password, too
        context = {"address": self._address, "said": said[:200]}
        original = RuntimeError(said)
        unauthorized = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
        if isinstance(error, unauthorized):
            return PermissionRefused(
                f"{self._address} does not let us in", context=context, original_error=original,
                remedy="Give user and password: --user, and the password as VFAB_RTSP_PASSWORD; many cameras want a "
                "user that was made for ONVIF or RTSP.",
            )  # fmt: skip
        if isinstance(error, (av.error.HTTPNotFoundError, av.error.HTTPClientError)):
            return ConnectError(
                f"{self._address} has no such stream", context=context, original_error=original, retryable=False,
                remedy="Write the path of the camera's stream in the address: rtsp://host/path; its manual tells it.",
            )  # fmt: skip
        # what FFmpeg was interrupted at it calls invalid data
        late = not self.about and time.monotonic() - self._began_s >= 0.9 * self._timeout_s
        if late or isinstance(error, (av.error.ExitError, TimeoutError)):
            return TimeoutExceeded(
                f"{self._address} sent nothing for {self._timeout_s:g} s", context=context, original_error=original,
                remedy="Check the address and the network; try --transport udp, or raise timeout_s.",
            )  # fmt: skip
        if isinstance(error, (EOFError, ConnectionError)):
            kind = LinkLost if self.about else ConnectError
            return kind(
                f"{self._address}: {'the session ended' if self.about else 'no session came to be'}: {said}",
                context=context, original_error=original, remedy="Check that the camera runs and the address is right.",
            )  # fmt: skip
        if isinstance(error, OSError):
            return ConnectError(
                f"{self._address}: {said}", context=context, original_error=original,
                remedy="Check host, port and path of the address.",
            )  # fmt: skip
        return ProtocolError(
            f"{self._address} sends what cannot be decoded: {said}", context=context, original_error=original,
            remedy="Choose another stream or codec (H.264) in the camera's own settings.",
        )  # fmt: skip
