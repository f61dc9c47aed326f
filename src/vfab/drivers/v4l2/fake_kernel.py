"""A video device that is not there, one layer below the driver: the kernel's answers to ioctl and mmap, on a socket.

The driver's link is one end of a Unix socket, which stands for the device node: a picture that is ready makes it
readable. Everything that is asked and answered goes through the real structures of `abi`.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from vfab.sdk.pixels import layout_of
from vfab.sdk.pixels_from_rgb import from_rgb
from vfab.sdk.testing.moving_picture import draw

from . import abi
from .abi import BufferState, Pix, PlaneFormat, PlaneState

__all__ = ["FakeCamera", "FakeControl"]

_PAGE = mmap.PAGESIZE
_OFFERED = [("YUYV", b"YUYV 4:2:2"), ("MJPG", b"Motion-JPEG"), ("GREY", b"8-bit Greyscale"), ("XYZW", b"Odd")]
_OFFERED_APART = [("NM12", b"Y/UV 4:2:0 (N-C)"), *((name, b"planes apart") for name in ("NM21", "YM12", "YM21"))]


def _row_bytes(pix: Pix, plane: int) -> int:
    """Bytes of a row of that plane without padding, where planes lie apart."""
    return pix.width // 2 if plane and layout_of(pix.joined_format).planes == 3 else pix.width


@dataclass(slots=True)
class FakeControl:
    """A control: `kind` is the kernel's number of its type."""

    number: int
    name: str
    kind: int
    least: int
    most: int
    value: int
    flags: int = 0
    menu: dict[int, str] = field(default_factory=dict)


def _controls() -> list[FakeControl]:
    auto = {0: "Auto Mode", 1: "Manual Mode", 3: "Aperture Priority Mode"}
    return [
        FakeControl(0x00980001, "User Controls", abi.CTRL_CLASS, 0, 0, 0),
        FakeControl(0x00980900, "Brightness", 1, -64, 64, 0),
        FakeControl(0x00980918, "Power Line Frequency", abi.CTRL_INT_MENU, 0, 1, 1),
        FakeControl(abi.EXPOSURE_AUTO, "Auto Exposure", 3, 0, 3, 3, menu=auto),
        FakeControl(abi.EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", 1, 1, 5000, 157),
    ]


class FakeCamera:
    """One camera: YUYV and MJPG in two sizes, GREY in a range, and a format that nobody knows.

    A context: within it the camera can be opened at `address`, again and again, and pictures come at `framerate_hz`.

    Attributes:
        address: what the driver opens: `unix://…`.
        padding: bytes at the end of each row.
        apart: a node of the multi-planar kind, which offers pictures whose planes lie apart; each plane begins with so
            many bytes that are none of the picture's, and rows of chroma have a padding of their own.
        damaged: the sequence numbers of pictures that the kernel marks as damaged.
        busy: another program has the pictures.
        silent: no pictures come.
        card: its name; `capabilities`: what it says it can.
        calls: how often each request was made.
    """

    def __init__(self, *, framerate_hz: float = 100.0, padding: int = 0, apart: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = f"unix://{self._folder.name}/video0"
        self.framerate_hz, self.padding, self.apart = framerate_hz, padding, apart
        self.kind = abi.CAPTURE if apart is None else abi.CAPTURE_MPLANE
        self.damaged: set[int] = set()
        self.busy = self.silent = False
        self.card = "Fake Camera"
        self.capabilities = (abi.CAPTURE if apart is None else abi.CAP_MPLANE) | abi.CAP_STREAMING
        self.calls: dict[int, int] = {}
        self.pix = Pix(320, 240, "YUYV", 640 + padding, 240 * (640 + padding), colorspace=8)
        if apart is not None:
            self.pix = self._apart_pix(Pix(320, 240, "NM12"))
        self.interval = (1, 30)
        self.controls = {control.number: control for control in _controls()}
        self.gone = False
        self._memory: mmap.mmap | None = None
        self._file = -1
        self._size = 0
        self._queued: deque[int] = deque()
        self._done: deque[BufferState] = deque()
        self._on = False
        self._sequence = 0
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._listener: socket.socket | None = None
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FakeCamera:
        self.plug_in()
        self._threads.append(threading.Thread(target=self._expose, daemon=True))
        self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self.unplug()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def plug_in(self) -> None:
        """The node is there."""
        self.gone = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address.removeprefix("unix://"))
        self._listener.listen()
        self._threads.append(threading.Thread(target=self._accept, args=(self._listener,), daemon=True))
        self._threads[-1].start()

    def unplug(self) -> None:
        """The node is gone, and who has it open is told so."""
        self.gone = True
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            Path(self.address.removeprefix("unix://")).unlink()
        with self._lock:
            self._on = False
            self._free_buffers()
            for peer in self._peers:
                peer.close()
            self._peers.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with self._lock:
                    self._peers.append(peer)

    def _expose(self) -> None:
        while not self._ends.wait(1 / self.framerate_hz):
            with self._lock:
                if self._on and self._queued and not self.silent:
                    self._fill(self._queued.popleft())
                    self._wake()

    def _wake(self) -> None:
        """Make the newest link readable; one that the driver has closed is none any more."""
        while self._peers:
            try:
                self._peers[-1].send(b"!", socket.MSG_DONTWAIT)
            except BlockingIOError:
                return  # it has more to read than it ever needs
            except OSError:
                self._peers.pop().close()
            else:
                return

    def _fill(self, index: int) -> None:
        assert self._memory is not None
        data = self.picture(self._sequence)
        flags = abi.TIMESTAMP_MONOTONIC | (abi.FLAG_ERROR if self._sequence in self.damaged else 0)
        self._memory[index * self._size : index * self._size + len(data)] = data
        state = BufferState(index, len(data), flags, time.monotonic(), self._sequence)
        self._done.append(replace(state, planes=self._planes_of(index, data)) if self.apart is not None else state)
        self._sequence += 1

    def _planes_of(self, index: int, data: bytes) -> tuple[PlaneState, ...]:
        """What lies in each plane, once `data` was put where each belongs."""
        assert self._memory is not None and self.apart is not None
        made = []
        at = 0
        for number, plane in enumerate(self.pix.planes):
            rows = -(-self.pix.height // 2) if number else self.pix.height
            row = _row_bytes(self.pix, number)
            lines = [data[at + n * row : at + (n + 1) * row].ljust(plane.bytes_per_line, b"\xee") for n in range(rows)]
            at += rows * row
            content = b"\xdd" * self.apart + b"".join(lines)
            offset = index * self._size + number * self._size // abi.PLANES_MAX
            self._memory[offset : offset + len(content)] = content
            made.append(PlaneState(len(content), self._size // abi.PLANES_MAX, offset, self.apart))
        return tuple(made)

    def picture(self, number: int) -> bytes:
        """What the camera sees."""
        pix = self.pix
        data = from_rgb(draw(number, pix.width, pix.height), pix.joined_format, pix.width, pix.height)
        if not self.padding or pix.pixel_format == "MJPG" or self.apart is not None:
            return data
        row = len(data) // pix.height
        return b"".join(data[at * row : (at + 1) * row].ljust(row + self.padding, b"\xee") for at in range(pix.height))

    # -- the system's calls -------------------------------------------------------------------------------------------

    def ioctl(self, fd: int, request: int, argument: bytearray) -> None:
        """As the kernel answers."""
        self.calls[request] = self.calls.get(request, 0) + 1
        if self.gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        answer = self._answers().get(request)
        if answer is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        with self._lock:
            made = answer(fd, argument) if request == abi.DQBUF else answer(argument)
        if made is not None:
            argument[:] = made

    def map(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """The memory of one buffer."""
        return mmap.mmap(self._file, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)

    def _answers(self) -> dict[int, Callable[..., bytes | bytearray | None]]:
        return {
            abi.QUERYCAP: self._capability, abi.ENUM_FMT: self._format_at, abi.ENUM_FRAMESIZES: self._size_at,
            abi.ENUM_FRAMEINTERVALS: self._interval_at, abi.G_FMT: lambda _: self._pix_bytes(),
            abi.S_FMT: self._set_format, abi.G_PARM: lambda _: self._parameters(), abi.S_PARM: self._set_parameters,
            abi.REQBUFS: self._request_buffers, abi.QUERYBUF: self._query_buffer, abi.QBUF: self._queue,
            abi.DQBUF: self._dequeue, abi.STREAMON: self._stream_on, abi.STREAMOFF: self._stream_off,
            abi.QUERY_EXT_CTRL: self._control_after, abi.QUERYMENU: self._menu_item, abi.G_CTRL: self._control_value,
            abi.S_CTRL: self._set_control,
        }  # fmt: skip

    def _no(self, number: int = errno.EINVAL) -> OSError:
        return OSError(number, os.strerror(number))

    def _capability(self, _: bytearray) -> bytes:
        whole = self.capabilities | abi.CAP_DEVICE_CAPS
        return abi.CAPABILITY.pack(b"fake", self.card.encode(), b"platform:fake-0", 0x060A02, whole, self.capabilities)

    def _format_at(self, argument: bytearray) -> bytes:
        index = abi.FMTDESC.unpack(argument)[0]
        names = _OFFERED if self.apart is None else _OFFERED_APART
        if index >= len(names) or abi.FMTDESC.unpack(argument)[1] != self.kind:
            raise self._no()
        return abi.FMTDESC.pack(index, self.kind, 0, names[index][1], abi.fourcc(names[index][0]), 0)

    def _size_at(self, argument: bytearray) -> bytes:
        index, number, *_ = abi.FRMSIZEENUM.unpack(argument)
        if abi.name_of(number) == "GREY":
            if index:
                raise self._no()
            return abi.FRMSIZEENUM.pack(0, number, 3, 64, 640, 16, 48, 480, 16)
        sizes = [(320, 240), (640, 480)]
        if index >= len(sizes):
            raise self._no()
        return abi.FRMSIZEENUM.pack(index, number, abi.DISCRETE, *sizes[index], 0, 0, 0, 0)

    def _interval_at(self, argument: bytearray) -> bytes:
        index, number, width, height, *_ = abi.FRMIVALENUM.unpack(argument)
        if abi.name_of(number) == "GREY":
            return abi.FRMIVALENUM.pack(index, number, width, height, 3, 1, 60, 1, 5, 1, 100)
        if index > 1:
            raise self._no()
        return abi.FRMIVALENUM.pack(index, number, width, height, abi.DISCRETE, 1, (30, 15)[index], 0, 0, 0, 0)

    def _pix_bytes(self) -> bytes:
        p = self.pix
        if self.apart is not None:
            sizes = [part for plane in p.planes for part in (plane.size_bytes, plane.bytes_per_line)]
            sizes += [0] * (2 * abi.PLANES_MAX - len(sizes))
            start = (p.width, p.height, abi.fourcc(p.pixel_format), 1, p.colorspace)
            multi = abi.PIX_FORMAT_MPLANE.pack(*start, *sizes, len(p.planes), 0, p.encoding, p.quantization, 0)
            return abi.FORMAT.pack(self.kind, multi)
        body = abi.PIX_FORMAT.pack(p.width, p.height, abi.fourcc(p.pixel_format), 1, p.bytes_per_line, p.size_bytes,
                                   p.colorspace, 0xFEEDCAFE, 0, p.encoding, p.quantization, 0)  # fmt: skip
        return abi.FORMAT.pack(abi.CAPTURE, body)

    def _set_format(self, argument: bytearray) -> bytes:
        if self.busy or self._memory is not None:
            raise self._no(errno.EBUSY)
        wanted = Pix.unpack(argument)
        if self.apart is not None:
            self.pix = self._apart_pix(wanted)
            return self._pix_bytes()
        name = wanted.pixel_format if wanted.pixel_format in {"YUYV", "MJPG", "GREY"} else "YUYV"
        size = (wanted.width, wanted.height)
        if name != "GREY":  # the nearest of two
            size = (640, 480) if wanted.width > 480 else (320, 240)
        row = 0 if name == "MJPG" else size[0] * (1 if name == "GREY" else 2) + self.padding
        self.pix = Pix(*size, name, row, max(row, size[0] * 3) * size[1], colorspace=7 if name == "MJPG" else 8)
        return self._pix_bytes()

    def _apart_pix(self, wanted: Pix) -> Pix:
        name = wanted.pixel_format if wanted.pixel_format in abi.JOINED else "NM12"
        bare = Pix(*((640, 480) if wanted.width > 480 else (320, 240)), name, colorspace=8)
        planes = []
        for number in range(layout_of(bare.joined_format).planes):
            row = _row_bytes(bare, number) + self.padding * (number + 1)
            planes.append(PlaneFormat(row * bare.height + (self.apart or 0), row))
        return replace(bare, bytes_per_line=planes[0].bytes_per_line, planes=tuple(planes))

    def _parameters(self) -> bytes:
        return abi.STREAMPARM.pack(self.kind, abi.CAP_TIMEPERFRAME, 0, *self.interval, 0, 0)

    def _set_parameters(self, argument: bytearray) -> bytes:
        _, _, _, above, below, _, _ = abi.STREAMPARM.unpack(argument)
        self.interval = (1, 15 if below / above < 22 else 30)
        return self._parameters()

    # -- buffers ------------------------------------------------------------------------------------------------------

    def _request_buffers(self, argument: bytearray) -> bytes:
        count = abi.REQUESTBUFFERS.unpack(argument)[0]
        if self.busy:
            raise self._no(errno.EBUSY)
        self._free_buffers()
        if count:
            least = max(self.pix.size_bytes, self.pix.width * self.pix.height * 3)
            self._size = -(-least // _PAGE) * _PAGE * (1 if self.apart is None else abi.PLANES_MAX)
            self._file = os.memfd_create("fake-video")
            os.ftruncate(self._file, self._size * count)
            self._memory = mmap.mmap(self._file, self._size * count)
        return abi.REQUESTBUFFERS.pack(count, self.kind, abi.MMAP, 0, 0)

    def _free_buffers(self) -> None:
        if self._memory is not None:
            self._memory.close()
            os.close(self._file)
            self._memory = None
        self._queued.clear()
        self._done.clear()

    def _query_buffer(self, argument: bytearray) -> bytearray:
        index = BufferState.unpack(argument).index
        if self.apart is not None:
            each = self._size // abi.PLANES_MAX
            offsets = [index * self._size + number * each for number in range(len(self.pix.planes))]
            state = BufferState(index, planes=tuple(PlaneState(0, each, offset) for offset in offsets))
            return self._told(state, argument)
        return BufferState(index, offset=index * self._size, length=self._size).pack()

    def _told(self, state: BufferState, argument: bytearray) -> bytearray:
        """The answer about a buffer; its planes go to where the request points."""
        if self.apart is None:
            return state.pack()
        fields = abi.BUFFER.unpack(argument)
        at, room = fields[19], fields[20]
        if room < len(state.planes):
            raise self._no()
        ctypes.memmove(at, b"".join(plane.pack() for plane in state.planes), len(state.planes) * abi.PLANE.size)
        return replace(state, length=len(state.planes)).pack(self.kind, at)

    def _queue(self, argument: bytearray) -> None:
        self._queued.append(BufferState.unpack(argument).index)

    def _dequeue(self, fd: int, argument: bytearray) -> bytearray:
        if not self._done:
            raise self._no(errno.EAGAIN)
        with suppress(BlockingIOError):
            os.read(fd, 1)
        return self._told(self._done.popleft(), argument)

    def _stream_on(self, _: bytearray) -> None:
        self._on = True
        self._sequence = 0

    def _stream_off(self, _: bytearray) -> None:
        self._on = False

    # -- controls -----------------------------------------------------------------------------------------------------

    def _control_after(self, argument: bytearray) -> bytes:
        number = abi.QUERY_EXT_CTRL_STRUCT.unpack(argument)[0] & ~abi.NEXT_CTRL
        later = [control for key, control in sorted(self.controls.items()) if key > number]
        if not later:
            raise self._no()
        c = later[0]
        return abi.QUERY_EXT_CTRL_STRUCT.pack(
            c.number, c.kind, c.name.encode(), c.least, c.most, 1, c.least, c.flags, 4, 1, 0
        )

    def _menu_item(self, argument: bytearray) -> bytes:
        number, index, _ = abi.QUERYMENU_STRUCT.unpack(argument)
        control = self.controls[number]
        if control.kind == abi.CTRL_INT_MENU:
            return abi.QUERYMENU_STRUCT.pack(number, index, struct.pack("=q", 50 + 10 * index))
        if index not in control.menu:
            raise self._no()
        return abi.QUERYMENU_STRUCT.pack(number, index, control.menu[index].encode())

    def _control_value(self, argument: bytearray) -> bytes:
        number = abi.CONTROL.unpack(argument)[0]
        if number not in self.controls:
            raise self._no()
        return abi.CONTROL.pack(number, self.controls[number].value)

    def _set_control(self, argument: bytearray) -> None:
        number, value = abi.CONTROL.unpack(argument)
        control = self.controls.get(number)
        if control is None or (control.menu and value not in control.menu):
            raise self._no()
        if not control.least <= value <= control.most:
            raise self._no(errno.ERANGE)
        control.value = value
