"""A video device behind an open descriptor: what it offers, what it is set to, and its buffers."""

from __future__ import annotations

import errno
import fcntl
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from vfab.model.errors import ConnectError, DeviceBusy, DriverError, HardwareError, LinkLost, ProtocolError, Refused
from vfab.sdk.camera_data import Control, FrameFormat, FrameSize

from . import abi
from .abi import BufferState, Pix
from .buffers import BufferRequest, Buffers, Picture

__all__ = ["Identity", "SystemCalls", "VideoNode"]

_NOT_THERE = {errno.EINVAL, errno.ENOTTY, errno.ENODATA}
"""What drivers answer to requests that they do not know, and beyond the end of a list."""
_LIST_MAX = 512


class SystemCalls(Protocol):
    """What this needs of the operating system; a test pretends it."""

    def ioctl(self, fd: int, request: int, argument: bytearray) -> None:
        """Ask the kernel; the argument is read and written. Raises OSError."""

    def map(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """Share memory with the kernel. Raises OSError."""


class Linux:
    """The real ones."""

    def ioctl(self, fd: int, request: int, argument: bytearray) -> None:
        """Ask the kernel."""
        while True:
            try:
                fcntl.ioctl(fd, request, argument, True)
                return
            except InterruptedError:
                continue

    def map(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """Share memory with the kernel."""
        return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)


@dataclass(frozen=True, slots=True)
class Identity:
    """What VIDIOC_QUERYCAP tells. `capabilities` are those of this node, not of the whole device."""

    driver: str
    card: str
    bus: str
    version: str
    capabilities: int


class VideoNode:
    """One video capture device.

    Args:
        fd: its open descriptor; whose it is stays so.
        address: for messages.
        system: the system's calls.

    Every method raises LinkLost: the device is gone. DeviceBusy: another program uses it. HardwareError: it failed.
    """

    def __init__(self, fd: int, address: str, system: SystemCalls | None = None) -> None:
        self._fd, self.address = fd, address
        self._system = system or Linux()
        self._kind = abi.CAPTURE
        self._buffers = Buffers(fd, self._system)
        self.streaming = False

    # -- what it is ---------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        """What it says of itself. Raises ConnectError: it is no video device, or one that takes no pictures."""
        argument = bytearray(abi.CAPABILITY.size)
        try:
            self._system.ioctl(self._fd, abi.QUERYCAP, argument)
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise ConnectError(
                    f"{self.address} is no video device", context={"address": self.address}, original_error=error,
                    remedy="Give the node of a camera, like /dev/video0; `vfab device scan` lists them.",
                    retryable=False,
                ) from error  # fmt: skip
            self._failed(error, "identify")
        driver, card, bus, version, whole, own = abi.CAPABILITY.unpack(argument)
        can = own if whole & abi.CAP_DEVICE_CAPS else whole
        numbers = f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}"
        found = Identity(_text(driver), _text(card), _text(bus), numbers, can)
        self._kind = abi.CAPTURE if can & abi.CAPTURE else abi.CAPTURE_MPLANE
        if not can & (abi.CAPTURE | abi.CAP_MPLANE) or not can & abi.CAP_STREAMING:
            raise ConnectError(
                f"{self.address} ({found.card}) takes no pictures",
                context={"address": self.address, "capabilities": hex(can)},
                remedy="A camera has several nodes; give the one that takes pictures: `vfab device scan` lists them.",
                retryable=False,
            )
        return found

    def formats(self) -> tuple[FrameFormat, ...]:
        """Formats, sizes and rates that it offers."""
        found = []
        for index in range(_LIST_MAX):
            argument = bytearray(abi.FMTDESC.pack(index, self._kind, 0, b"", 0, 0))
            if not self._ask(abi.ENUM_FMT, argument):
                break
            _, _, _, description, number, _ = abi.FMTDESC.unpack(argument)
            sizes = tuple(self._sizes(number))
            found.append(FrameFormat(pixel_format=abi.name_of(number), description=_text(description), sizes=sizes))
        return tuple(found)

    def _sizes(self, number: int) -> Iterator[FrameSize]:
        for index in range(_LIST_MAX):
            argument = bytearray(abi.FRMSIZEENUM.pack(index, number, *[0] * 7))
            if not self._ask(abi.ENUM_FRAMESIZES, argument):
                return
            kind, *values = abi.FRMSIZEENUM.unpack(argument)[2:]
            if kind == abi.DISCRETE:
                width, height = values[:2]
                rates = self._rates(number, width, height)
                yield FrameSize(width_px=width, height_px=height, framerates_hz=rates)
                continue
            least_w, most_w, step_w, least_h, most_h, step_h = values
            yield FrameSize(
                width_px=most_w, height_px=most_h, min_width_px=least_w, min_height_px=least_h,
                step_width_px=max(1, step_w), step_height_px=max(1, step_h),
                framerates_hz=self._rates(number, most_w, most_h),
            )  # fmt: skip
            return

    def _rates(self, number: int, width: int, height: int) -> tuple[float, ...]:
        found: list[float] = []
        for index in range(_LIST_MAX):
            argument = bytearray(abi.FRMIVALENUM.pack(index, number, width, height, *[0] * 7))
            if not self._ask(abi.ENUM_FRAMEINTERVALS, argument):
                break
            kind, *values = abi.FRMIVALENUM.unpack(argument)[4:]
            pairs = [values[:2]] if kind == abi.DISCRETE else [values[:2], values[2:4]]
            found += [below / above for above, below in pairs if above]
            if kind != abi.DISCRETE:
                break
        return tuple(round(rate, 3) for rate in found)

    # -- what it is set to --------------------------------------------------------------------------------------------

    def format(self) -> Pix:
        """Size and format of its pictures now."""
        argument = bytearray(abi.FORMAT.pack(self._kind, b""))
        self._do(abi.G_FMT, argument, "tell its format")
        return Pix.unpack(argument)

    def set_format(self, wanted: Pix) -> Pix:
        """Have pictures like `wanted`; returns what the driver made of it, which may be another size or format.

        Raises DeviceBusy: its buffers are in use.
        """
        argument = wanted.pack(self._kind)
        self._do(abi.S_FMT, argument, "change its format")
        return Pix.unpack(argument)

    def framerate_hz(self) -> float:
        """Pictures a second now; 0: it does not say."""
        argument = bytearray(abi.STREAMPARM.pack(self._kind, *[0] * 6))
        if not self._ask(abi.G_PARM, argument):
            return 0.0
        _, _, _, above, below, _, _ = abi.STREAMPARM.unpack(argument)
        return below / above if above else 0.0

    def set_framerate(self, fps: float) -> bool:
        """Have `fps` pictures a second, or the nearest rate that it has. False: it cannot be told."""
        argument = bytearray(abi.STREAMPARM.pack(self._kind, *[0] * 6))
        if not self._ask(abi.G_PARM, argument):
            return False
        if not abi.STREAMPARM.unpack(argument)[1] & abi.CAP_TIMEPERFRAME:
            return False
        argument = bytearray(abi.STREAMPARM.pack(self._kind, 0, 0, 1000, round(fps * 1000), 0, 0))
        self._do(abi.S_PARM, argument, "change its rate")
        return True

    # -- controls -----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[int, Control]:
        """Everything that can be turned, by its id in the kernel."""
        found: dict[int, Control] = {}
        number = 0
        for _ in range(_LIST_MAX):
            argument = bytearray(abi.QUERY_EXT_CTRL_STRUCT.pack(number | abi.NEXT_CTRL, 0, b"", *[0] * 8))
            if not self._ask(abi.QUERY_EXT_CTRL, argument):
                break
            number, kind, name, least, most, step, default, flags, *_ = abi.QUERY_EXT_CTRL_STRUCT.unpack(argument)
            if kind in abi.CTRL_KINDS and not flags & abi.CTRL_DISABLED:
                found[number] = Control(
                    name=_control_name(_text(name)), kind=abi.CTRL_KINDS[kind], minimum=least, maximum=most, step=step,
                    default=default, value=self._value(number, kind, flags),
                    menu=self._menu(number, kind, least, most), read_only=bool(flags & abi.CTRL_READ_ONLY),
                    inactive=bool(flags & abi.CTRL_INACTIVE),
                )  # fmt: skip
        return found

    def _value(self, number: int, kind: int, flags: int) -> float | None:
        plain = kind not in {abi.CTRL_STRING, abi.CTRL_INT64} and not flags & abi.CTRL_WRITE_ONLY
        return self.control(number) if plain else None

    def _menu(self, number: int, kind: int, least: int, most: int) -> dict[str, str]:
        if abi.CTRL_KINDS[kind] != "menu":
            return {}
        found = {}
        for index in range(least, min(most, least + _LIST_MAX) + 1):
            argument = bytearray(abi.QUERYMENU_STRUCT.pack(number, index, b""))
            if self._ask(abi.QUERYMENU, argument):
                name = abi.QUERYMENU_STRUCT.unpack(argument)[2]
                whole = kind == abi.CTRL_INT_MENU
                found[str(index)] = str(struct.unpack("=q", name[:8])[0]) if whole else _text(name)
        return found

    def control(self, number: int) -> int | None:
        """The value of a control; None: it has none."""
        argument = bytearray(abi.CONTROL.pack(number, 0))
        return abi.CONTROL.unpack(argument)[1] if self._ask(abi.G_CTRL, argument) else None

    def set_control(self, number: int, value: int) -> None:
        """Turn a control. Raises Refused: out of range, or it cannot be turned now."""
        try:
            self._system.ioctl(self._fd, abi.S_CTRL, bytearray(abi.CONTROL.pack(number, value)))
        except (OSError, struct.error) as error:
            code = error.errno if isinstance(error, OSError) else errno.ERANGE
            if code in {errno.EINVAL, errno.ERANGE, errno.EACCES, errno.EBUSY}:
                raise Refused(
                    f"{self.address} does not take {value} for its control {number:#x}",
                    context={"address": self.address, "control": hex(number), "value": value},
                    original_error=error,
                    remedy="`capabilities` lists the range of each control; one that is inactive waits for another "
                    "to be set to manual.",
                ) from error
            assert isinstance(error, OSError)
            self._failed(error, "set a control")

    # -- pictures -----------------------------------------------------------------------------------------------------

    def start(self, count: int = 4) -> None:
        """Give it `count` buffers and have it fill them. Raises DeviceBusy: another program has pictures of it."""
        pix = self.format()
        argument = bytearray(abi.REQUESTBUFFERS.pack(count, self._kind, abi.MMAP, 0, 0))
        self._do(abi.REQBUFS, argument, "make buffers")
        try:
            for index in range(abi.REQUESTBUFFERS.unpack(argument)[0]):
                asked = BufferRequest(index, self._kind)
                self._do(abi.QUERYBUF, asked.argument, "tell a buffer")
                self._buffers.map(asked.state(), pix)
                self.requeue(index)
            self._do(abi.STREAMON, bytearray(struct.pack("@i", self._kind)), "start")
        except OSError as error:
            self.stop()
            self._failed(error, "map a buffer")
        except DriverError:
            self.stop()
            raise
        self.streaming = True

    def dequeue(self) -> BufferState | None:
        """The next filled buffer; None: none is filled yet. Give it back with `requeue`."""
        asked = BufferRequest(0, self._kind)
        try:
            self._system.ioctl(self._fd, abi.DQBUF, asked.argument)
        except BlockingIOError:
            return None
        except OSError as error:
            self._failed(error, "hand over a picture")
        return asked.state()

    def picture(self, state: BufferState) -> Picture:
        """The bytes of a filled buffer; they change once it is given back. To be closed: else they stay mapped.

        Raises ProtocolError: there is no such buffer, or it holds less than it says.
        """
        try:
            return self._buffers.picture(state)
        except LookupError as error:
            raise ProtocolError(
                f"{self.address} told of a buffer that it does not have: {error}", context={"index": state.index}
            ) from error

    def requeue(self, index: int) -> None:
        """Give buffer `index` back, to be filled again."""
        asked = BufferRequest(index, self._kind)  # its planes must live until the kernel has answered
        self._do(abi.QBUF, asked.argument, "take a buffer back")

    def stop(self) -> None:
        """End the pictures and let go of the buffers; twice is fine, and when the device is gone."""
        for request, argument in (
            (abi.STREAMOFF, bytearray(struct.pack("@i", self._kind))),
            (None, bytearray()),
            (abi.REQBUFS, bytearray(abi.REQUESTBUFFERS.pack(0, self._kind, abi.MMAP, 0, 0))),
        ):
            if request is None:
                self._buffers.unmap()
                continue
            try:
                self._system.ioctl(self._fd, request, argument)
            except OSError:
                continue  # gone, or never begun
        self.streaming = False

    # -- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, request: int, argument: bytearray) -> bool:
        """Whether it knows an answer, which is then in `argument`."""
        try:
            self._system.ioctl(self._fd, request, argument)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            self._failed(error, "answer")
        return True

    def _do(self, request: int, argument: bytearray, what: str) -> None:
        try:
            self._system.ioctl(self._fd, request, argument)
        except OSError as error:
            self._failed(error, what)

    def _failed(self, error: OSError, what: str) -> NoReturn:
        context: dict[str, Any] = {"address": self.address, "errno": error.errno}
        if error.errno == errno.EBUSY:
            raise DeviceBusy(
                f"{self.address} cannot {what}: another program takes its pictures", context=context,
                original_error=error, remedy=f"End that program; `fuser -v {self.address}` names it.",
            ) from error  # fmt: skip
        if error.errno in {errno.ENODEV, errno.ENXIO, errno.EBADF}:
            raise LinkLost(
                f"{self.address} is gone: it was unplugged", context=context, original_error=error,
                remedy="Plug the camera in again.",
            ) from error  # fmt: skip
        raise HardwareError(
            f"{self.address} cannot {what}: {error.strerror}", context=context, original_error=error,
            remedy="Plug the camera out and in again; the kernel's log (`dmesg`) says more. A camera at a hub may "
            "lack power or bandwidth: try a smaller size, or MJPG.",
        ) from error  # fmt: skip


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace").strip()


def _control_name(text: str) -> str:
    """`White Balance, Automatic` as `white_balance_automatic`: as v4l2-ctl writes it."""
    words = "".join(letter.lower() if letter.isalnum() else " " for letter in text)
    return "_".join(words.split())
