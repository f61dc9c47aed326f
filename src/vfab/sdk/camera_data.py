"""What a camera says: pictures with their times, and what is known about it. All of it travels as plain data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from vfab.sdk.pixels import layout_of, to_png, to_rgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vfab.sdk.stream import StreamRecord

__all__ = ["CameraCapabilities", "CameraInfo", "Control", "FrameFormat", "FrameSize", "ImageData"]


class ImageData(msgspec.Struct, frozen=True, kw_only=True):
    """One picture as the camera gave it.

    Attributes:
        data: its bytes, rows from the top; or a file (JPEG) when the pixel format is an encoded one.
        width_px, height_px: size in pixels.
        pixel_format: as the camera calls it: `YUYV`, `MJPG`, `Mono8`, `BayerRG8`, `RGB24` …; see `vfab.sdk.pixels`.
        stride_bytes: bytes from one row to the next; 0: rows follow each other without padding, or `data` is encoded.
        timestamp_s: when it was taken by this machine's clock, Unix seconds; of a camera that does not say it is when
            the picture arrived.
        device_timestamp_s: the camera's own time, seconds of its clock, whose zero is the camera's; None: not told.
        sequence: counts the camera's pictures; a gap means that some were lost on the way.
        exposure_s: seconds of light; None: not told.
        matrix, full_range: what Y′CbCr numbers mean: `bt601` or `bt709`, and whether they use all of 0 to 255.
        about: what else the camera said: gain, part headers …
    """

    data: bytes
    width_px: int
    height_px: int
    pixel_format: str
    stride_bytes: int = 0
    timestamp_s: float = msgspec.field(default_factory=time.time)
    device_timestamp_s: float | None = None
    sequence: int = 0
    exposure_s: float | None = None
    matrix: str = "bt601"
    full_range: bool = False
    about: dict[str, Any] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels) of the picture; 1 channel for grey and Bayer, 3 for colour.

        Raises ConfigurationError: the pixel format is not known.
        """
        return self.height_px, self.width_px, layout_of(self.pixel_format).channels

    @property
    def is_encoded(self) -> bool:
        """`data` is a file of its own: JPEG, PNG, WebP. Raises ConfigurationError: unknown pixel format."""
        return layout_of(self.pixel_format).is_encoded

    def to_rgb(self) -> bytes:
        """Packed RGB, 3 bytes a pixel, rows from the top.

        Raises ProtocolError: `data` is damaged. ConfigurationError: the pixel format is not known.
        """
        return to_rgb(
            self.data,
            self.pixel_format,
            self.width_px,
            self.height_px,
            stride_bytes=self.stride_bytes,
            matrix=self.matrix,
            full_range=self.full_range,
        )

    def to_array(self) -> NDArray[np.uint8]:
        """RGB as a numpy array of shape (rows, columns, 3). Raises as `to_rgb`."""
        import numpy as np

        return np.frombuffer(self.to_rgb(), np.uint8).reshape(self.height_px, self.width_px, 3)

    def to_png(self) -> bytes:
        """A PNG file; of a grey picture a grey one. Raises as `to_rgb`."""
        rgb = self.to_rgb()
        if layout_of(self.pixel_format).name in {"GREY", "Y10", "Y12", "Y16"}:
            return to_png(rgb[::3], self.width_px, self.height_px, channels=1)
        return to_png(rgb, self.width_px, self.height_px)

    def to_jpeg(self, quality: int = 92) -> bytes:
        """A JPEG file: the camera's own bytes if it sends JPEG, else a new one. Raises as `to_rgb`."""
        if layout_of(self.pixel_format).name == "MJPG":
            return self.data
        import io

        from PIL import Image

        made = io.BytesIO()
        Image.frombytes("RGB", (self.width_px, self.height_px), self.to_rgb()).save(made, "JPEG", quality=quality)
        return made.getvalue()

    def meta(self) -> dict[str, Any]:
        """Everything but the bytes, and but what every record of a stream has anyway: its times."""
        said: dict[str, Any] = {
            "width_px": self.width_px,
            "height_px": self.height_px,
            "pixel_format": self.pixel_format,
            "frame": self.sequence,
        }
        if self.stride_bytes:
            said["stride_bytes"] = self.stride_bytes
        if self.exposure_s is not None:
            said["exposure_s"] = self.exposure_s
        if (self.matrix, self.full_range) != ("bt601", False):
            said |= {"matrix": self.matrix, "full_range": self.full_range}
        if self.about:
            said["about"] = self.about
        return said

    def to_wire(self) -> dict[str, Any]:
        """Plain data for another process: `data` at the top, so that the host's wire moves it without a copy."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        try:
            return {**fields, "shape": list(self.shape)}
        except Exception:  # an exotic format still travels, as raw bytes
            return {**fields, "shape": [self.height_px, self.width_px, 0]}

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> ImageData:
        """The picture that `to_wire` described. Raises msgspec.ValidationError: it did not."""
        known = {name: fields[name] for name in cls.__struct_fields__ if name in fields}
        return msgspec.convert(known, cls)

    @classmethod
    def from_record(cls, record: StreamRecord, about: Mapping[str, Any] | None = None) -> ImageData:
        """The picture of one record of a camera's stream; what the record does not say, the stream's `about` does.

        Raises msgspec.ValidationError: neither says the size and the pixel format.
        """
        fields = {"sequence": record.meta.get("frame", 0), **(about or {}), **record.meta, "data": bytes(record.data)}
        times = {"timestamp_s": record.time_s, "device_timestamp_s": record.device_time_s}
        return cls.from_wire({**fields, **times, "about": record.meta.get("about", {})})


class FrameSize(msgspec.Struct, frozen=True, kw_only=True):
    """A size that a camera offers, or a range of sizes.

    Attributes:
        width_px, height_px: the size, or the largest one of a range.
        min_width_px, min_height_px: the smallest one of a range; 0: it is no range.
        step_width_px, step_height_px: from one size of a range to the next.
        framerates_hz: pictures a second that it offers at this size, highest first; of a range highest and lowest.
    """

    width_px: int
    height_px: int
    min_width_px: int = 0
    min_height_px: int = 0
    step_width_px: int = 1
    step_height_px: int = 1
    framerates_hz: tuple[float, ...] = ()

    def offers(self, width_px: int, height_px: int) -> bool:
        """Whether the camera has this very size."""
        if not self.min_width_px:
            return (width_px, height_px) == (self.width_px, self.height_px)
        wide, high = width_px - self.min_width_px, height_px - self.min_height_px
        return (
            0 <= wide <= self.width_px - self.min_width_px
            and 0 <= high <= self.height_px - self.min_height_px
            and wide % max(1, self.step_width_px) == 0
            and high % max(1, self.step_height_px) == 0
        )


class FrameFormat(msgspec.Struct, frozen=True, kw_only=True):
    """A pixel format that a camera offers, and its sizes."""

    pixel_format: str
    description: str = ""
    sizes: tuple[FrameSize, ...] = ()


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be turned at a camera: brightness, gain, focus, and more.

    Attributes:
        name: lower case with _ between words.
        kind: `integer`, `boolean`, `menu`, `button`, `float`, `string`, `bitmask`.
        minimum, maximum, step, default, value: numbers in the camera's own unit; None: not told.
        menu: names of the choices by value, for `menu`.
        unit: UCUM code, or "" when the camera does not say.
        read_only, inactive: it cannot be set, or not now.
    """

    name: str
    kind: str = "integer"
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    default: float | None = None
    value: float | str | None = None
    menu: dict[str, str] = {}
    unit: str = ""
    read_only: bool = False
    inactive: bool = False


class CameraCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a camera can do, and how it stands.

    Attributes:
        formats: what it offers; empty: it does not say.
        width_px, height_px, pixel_format, framerate_hz: as it is set now; 0 and "": not known before the first picture.
        framerate_range_hz: lowest and highest that can be set; None: not told.
        exposure_range_s: shortest and longest exposure in seconds; None: not told.
        exposure_s: as it is set now; None: automatic, or not told.
        auto_exposure: the camera chooses the exposure itself; None: not told.
        can_set: which of `resolution`, `framerate`, `exposure` this camera can be told.
        streaming: it can send pictures continuously.
        controls: what else can be turned.
    """

    formats: tuple[FrameFormat, ...] = ()
    width_px: int = 0
    height_px: int = 0
    pixel_format: str = ""
    framerate_hz: float = 0.0
    framerate_range_hz: tuple[float, float] | None = None
    exposure_range_s: tuple[float, float] | None = None
    exposure_s: float | None = None
    auto_exposure: bool | None = None
    can_set: tuple[str, ...] = ()
    streaming: bool = True
    controls: tuple[Control, ...] = ()

    def sizes(self, pixel_format: str = "") -> list[FrameSize]:
        """The sizes of one pixel format, or of all."""
        return [size for one in self.formats if pixel_format in {"", one.pixel_format} for size in one.sizes]

    def nearest(self, width_px: int, height_px: int) -> list[str]:
        """Up to five sizes that come next to one that is not offered, as `640x480`."""

        def distance(size: FrameSize) -> int:
            return abs(size.width_px - width_px) + abs(size.height_px - height_px)

        found = [f"{size.width_px}x{size.height_px}" for size in sorted(self.sizes(), key=distance)]
        return list(dict.fromkeys(found))[:5]


class CameraInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which camera this is.

    Attributes:
        name: for people.
        manufacturer, model, serial_number, firmware: as the camera says; "" when it does not.
        driver: the driver that runs it.
        bus: how it is connected: `usb-0000:00:14.0-3`, `http`, `rtsp`, `GigE Vision` …
        address: where.
        details: what else it said.
    """

    name: str
    manufacturer: str = ""
    model: str = ""
    serial_number: str = ""
    firmware: str = ""
    driver: str = ""
    bus: str = ""
    address: str = ""
    details: dict[str, Any] = {}
