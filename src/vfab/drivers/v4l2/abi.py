"""The kernel's interface for video devices as bytes: requests, structures, flags. No I/O.

Source: Linux, include/uapi/linux/videodev2.h and v4l2-controls.h, and "Video for Linux API" of the kernel's
documentation. Layouts are native ones: alignment and the size of `long` are this machine's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

CAPABILITY = struct.Struct("@16s32s32s3I12x")
FMTDESC = struct.Struct("@3I32s2I12x")
FRMSIZEENUM = struct.Struct("@3I6I8x")
FRMIVALENUM = struct.Struct("@5I6I8x")
FORMAT = struct.Struct("@I0L200s0L")
PIX_FORMAT = struct.Struct("@12I")
PIX_FORMAT_MPLANE = struct.Struct("=5I" + 8 * "2I12x" + "5B7x")
"""Width, height, format, field, colorspace; of each plane its size and bytes per line; planes, flags, colours (3)."""
PLANE = struct.Struct("@2IL I44x")
"""Bytes used, length, where it is mapped, where its data begin."""
STREAMPARM = struct.Struct("@I6I176x")
"""Of the capture parameters: capability, capturemode, timeperframe (2), extendedmode, readbuffers."""
REQUESTBUFFERS = struct.Struct("@4IB3x")
BUFFER = struct.Struct("@5I2l2I8B2IL3I0L")
QUERY_EXT_CTRL_STRUCT = struct.Struct("@2I32s2qQq4I16x128x")
QUERYMENU_STRUCT = struct.Struct("=2I32s4x")
CONTROL = struct.Struct("@Ii")

_WRITE, _READ = 1, 2


def _request(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h, which all but a few old architectures use."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


def _both(number: int, layout: struct.Struct) -> int:
    return _request(_READ | _WRITE, number, layout.size)


QUERYCAP = _request(_READ, 0, CAPABILITY.size)
ENUM_FMT = _both(2, FMTDESC)
G_FMT = _both(4, FORMAT)
S_FMT = _both(5, FORMAT)
REQBUFS = _both(8, REQUESTBUFFERS)
QUERYBUF = _both(9, BUFFER)
QBUF = _both(15, BUFFER)
DQBUF = _both(17, BUFFER)
STREAMON = _request(_WRITE, 18, 4)
STREAMOFF = _request(_WRITE, 19, 4)
G_PARM = _both(21, STREAMPARM)
S_PARM = _both(22, STREAMPARM)
G_CTRL = _both(27, CONTROL)
S_CTRL = _both(28, CONTROL)
QUERYMENU = _both(37, QUERYMENU_STRUCT)
ENUM_FRAMESIZES = _both(74, FRMSIZEENUM)
ENUM_FRAMEINTERVALS = _both(75, FRMIVALENUM)
QUERY_EXT_CTRL = _both(103, QUERY_EXT_CTRL_STRUCT)
QUERYMENU_SIZE = QUERYMENU_STRUCT.size

CAPTURE = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE; also V4L2_CAP_VIDEO_CAPTURE."""
CAPTURE_MPLANE = 9
"""V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE: a picture lies in several pieces of memory."""
CAP_MPLANE = 0x1000
PLANES_MAX = 8
JOINED = {"NM12": "NV12", "NM21": "NV21", "YM12": "YU12", "YM21": "YV12"}
"""Formats whose planes lie apart, and what they are once their planes follow each other."""
CAP_STREAMING = 0x04000000
CAP_DEVICE_CAPS = 0x80000000
CAP_TIMEPERFRAME = 0x1000
MMAP = 1
DISCRETE = 1
FLAG_ERROR = 0x40
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000
NEXT_CTRL = 0x80000000
CTRL_DISABLED, CTRL_READ_ONLY, CTRL_INACTIVE, CTRL_WRITE_ONLY = 0x01, 0x04, 0x10, 0x40
CTRL_KINDS = {1: "integer", 2: "boolean", 3: "menu", 4: "button", 5: "integer", 7: "string", 8: "bitmask", 9: "menu"}
CTRL_CLASS, CTRL_INT64, CTRL_STRING, CTRL_INT_MENU = 6, 5, 7, 9
EXPOSURE_AUTO, EXPOSURE_ABSOLUTE = 0x009A0901, 0x009A0902
EXPOSURE_UNIT_S = 100e-6
MANUAL = 1
COLORSPACE_REC709, COLORSPACE_JPEG = 3, 7
ENC_601, ENC_709 = 1, 2
FULL_RANGE, LIM_RANGE = 1, 2


def fourcc(name: str) -> int:
    """The number of a format's four characters; shorter names end in spaces."""
    return int.from_bytes(name.ljust(4).encode("ascii")[:4], "little")


def name_of(number: int) -> str:
    """The four characters of a format's number; spaces at the end are dropped, the mark of big-endian becomes -BE."""
    text = (number & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").rstrip(" \0")
    return f"{text}-BE" if number >> 31 else text


@dataclass(frozen=True, slots=True)
class PlaneFormat:
    """One plane of a picture: struct v4l2_plane_pix_format."""

    size_bytes: int
    bytes_per_line: int


@dataclass(frozen=True, slots=True)
class Pix:
    """The format of pictures: struct v4l2_pix_format, or v4l2_pix_format_mplane, whose first plane is told here."""

    width: int
    height: int
    pixel_format: str
    bytes_per_line: int = 0
    size_bytes: int = 0
    colorspace: int = 0
    encoding: int = 0
    quantization: int = 0
    planes: tuple[PlaneFormat, ...] = ()
    """Each plane, where the node has pictures in several pieces of memory; else none."""

    def pack(self, kind: int = CAPTURE) -> bytearray:
        """As a struct v4l2_format for buffers of `kind`; what is 0 is for the driver to choose."""
        start = (self.width, self.height, fourcc(self.pixel_format), 0)
        if kind == CAPTURE_MPLANE:
            body = PIX_FORMAT_MPLANE.pack(*start, 0, *[0] * 2 * PLANES_MAX, 0, 0, 0, 0, 0)
        else:
            body = PIX_FORMAT.pack(*start, 0, 0, 0, 0, 0, 0, 0, 0)
        return bytearray(FORMAT.pack(kind, body))

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Pix:
        """From a struct v4l2_format."""
        kind, body = FORMAT.unpack(data)
        if kind != CAPTURE_MPLANE:
            f = PIX_FORMAT.unpack(body[: PIX_FORMAT.size])
            return cls(f[0], f[1], name_of(f[2]), f[4], f[5], f[6], f[9], f[10])
        f = PIX_FORMAT_MPLANE.unpack(body[: PIX_FORMAT_MPLANE.size])
        sizes = [PlaneFormat(f[5 + 2 * at], f[6 + 2 * at]) for at in range(min(f[21], PLANES_MAX))]
        first = sizes[0] if sizes else PlaneFormat(0, 0)
        whole = sum(plane.size_bytes for plane in sizes)
        return cls(f[0], f[1], name_of(f[2]), first.bytes_per_line, whole, f[4], f[23], f[24], tuple(sizes))

    @property
    def joined_format(self) -> str:
        """The format once the planes follow each other, as vfab hands pictures on."""
        return JOINED.get(self.pixel_format, self.pixel_format)

    @property
    def matrix(self) -> str:
        """`bt601` or `bt709`: the encoding told, or the default of the colour space."""
        if self.encoding in {ENC_601, ENC_709}:
            return "bt709" if self.encoding == ENC_709 else "bt601"
        return "bt709" if self.colorspace == COLORSPACE_REC709 else "bt601"

    @property
    def full_range(self) -> bool:
        """The quantization told, or the default: full for JPEG's colour space only."""
        if self.quantization in {FULL_RANGE, LIM_RANGE}:
            return self.quantization == FULL_RANGE
        return self.colorspace == COLORSPACE_JPEG


@dataclass(frozen=True, slots=True)
class PlaneState:
    """One plane of a buffer: struct v4l2_plane."""

    used_bytes: int = 0
    length: int = 0
    offset: int = 0
    data_offset: int = 0
    """Where in the plane the picture begins; `used_bytes` counts from the plane's own beginning."""

    def pack(self) -> bytes:
        """As the kernel has it."""
        return PLANE.pack(self.used_bytes, self.length, self.offset, self.data_offset)


@dataclass(frozen=True, slots=True)
class BufferState:
    """One buffer as the kernel told it: struct v4l2_buffer, with its planes where it has several."""

    index: int
    used_bytes: int = 0
    flags: int = 0
    timestamp_s: float = 0.0
    sequence: int = 0
    offset: int = 0
    length: int = 0
    planes: tuple[PlaneState, ...] = ()

    def pack(self, kind: int = CAPTURE, planes_at: int = 0) -> bytearray:
        """For a request about this buffer; also what a pretended kernel answers.

        Of `kind` CAPTURE_MPLANE the planes lie in memory at `planes_at`, and `length` is how many there is room for.
        """
        seconds = int(self.timestamp_s)
        micro = round((self.timestamp_s - seconds) * 1e6)
        return bytearray(
            BUFFER.pack(self.index, kind, self.used_bytes, self.flags, 0, seconds, micro, 0, 0, *[0] * 8,
                        self.sequence, MMAP, planes_at or self.offset, self.length, 0, 0)
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes | bytearray, planes: bytes | bytearray | None = None) -> BufferState:
        """From a struct v4l2_buffer, and the array of planes that it points to."""
        f = BUFFER.unpack(data)
        if planes is None:
            return cls(f[0], f[2], f[3], f[5] + f[6] / 1e6, f[17], f[19], f[20])
        each = tuple(PlaneState(*PLANE.unpack_from(planes, at * PLANE.size)) for at in range(min(f[20], PLANES_MAX)))
        used, length = sum(plane.used_bytes for plane in each), sum(plane.length for plane in each)
        return cls(f[0], used, f[3], f[5] + f[6] / 1e6, f[17], 0, length, each)

    @property
    def is_monotonic(self) -> bool:
        """The time is the machine's monotonic clock's."""
        return self.flags & TIMESTAMP_MASK == TIMESTAMP_MONOTONIC
