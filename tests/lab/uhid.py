"""HID devices of ours on the kernel's HID bus, by /dev/uhid: the kernel's own driver takes them for the real thing.

Events are those of `linux/uhid.h`; a report begins with its number.
"""

from __future__ import annotations

import os
import select
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from lab.modules import load

__all__ = ["FEATURE", "INPUT", "HidDevice"]

FEATURE, OUTPUT, INPUT = 0, 1, 2
BUS_USB = 3
_DESTROY, _OUTPUT, _GET_REPORT, _GET_REPLY, _CREATE2, _INPUT2, _SET_REPORT, _SET_REPLY = 1, 6, 9, 10, 11, 12, 13, 14
_EVENT_BYTES = 4380
_REPORT_MAX = 4096
_EIO = 5


class HidDevice:
    """A device with these ids, served by a thread; a subclass says what it answers."""

    name = "vfab lab"
    vendor = 0
    product = 0
    descriptor = b""

    def __init__(self) -> None:
        load("uhid")
        self._fd = os.open("/dev/uhid", os.O_RDWR | os.O_CLOEXEC)
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)

    def got_feature(self, number: int, kind: int) -> bytes | None:
        """The report of this number, its number included; None: there is none."""
        return None

    def set_feature(self, report: bytes) -> None:
        """The host sets a feature."""

    def output(self, report: bytes) -> None:
        """The host sends a report."""

    def send(self, report: bytes) -> None:
        """Send an input report to the host."""
        self._tell_kernel(_INPUT2, struct.pack("<H", len(report)) + report)

    def __enter__(self) -> Self:
        body = struct.pack(
            "<128s64s64sHHIIII",
            self.name.encode(),
            b"",
            b"",
            len(self.descriptor),
            BUS_USB,
            self.vendor,
            self.product,
            0x100,
            0,
        )
        self._tell_kernel(_CREATE2, body + self.descriptor.ljust(_REPORT_MAX, b"\0"))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unplug it: the kernel's driver lets go, and what it made vanishes."""
        with suppress(OSError):
            self._tell_kernel(_DESTROY, b"")
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._fd)
        os.close(self._wake)

    def _tell_kernel(self, kind: int, body: bytes) -> None:
        os.write(self._fd, struct.pack("<I", kind) + body)

    def _serve(self) -> None:
        poller = select.poll()
        for fd in (self._fd, self._wake):
            poller.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if self._wake in ready:
                return
            event = os.read(self._fd, _EVENT_BYTES)
            self._take(struct.unpack_from("<I", event)[0], event[4:])

    def _take(self, kind: int, body: bytes) -> None:
        if kind == _GET_REPORT:
            number, report, of = struct.unpack_from("<IBB", body)
            answer = self.got_feature(report, of)
            head = struct.pack("<IHH", number, 0 if answer else _EIO, len(answer or b""))
            self._tell_kernel(_GET_REPLY, head + (answer or b""))
        elif kind == _SET_REPORT:
            number, _, _, size = struct.unpack_from("<IBBH", body)
            self.set_feature(body[8 : 8 + size])
            self._tell_kernel(_SET_REPLY, struct.pack("<IH", number, 0))
        elif kind == _OUTPUT:
            (size,) = struct.unpack_from("<H", body, _REPORT_MAX)
            self.output(body[:size])
