"""Recording what passes between a program and a device, and what a device streams, to files that `replay` plays."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vfab.apps.session import Session
from vfab.kernel.simulators import announce_simulator, simulators_folder
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DriverError
from vfab.protocols.recording import (
    LinkEntry,
    LinkEvent,
    RecordingHeader,
    StreamEntry,
    header_line,
    link_line,
    stream_line,
)
from vfab.sdk.opening import open_address, split_address
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

__all__ = ["LinkRecorder", "RecordingFile", "StreamRecorder", "identity_of", "record_link"]

_KINDS = {"path": "serial", "tcp": "tcp", "unix": "unix"}


class RecordingFile:
    """A recording that is written: whole lines, each of them in the file at once, so that a kill costs nothing.

    Args:
        path: where to; a file that is there is not written over unless `force`.

    Raises ConfigurationError: it is there, or cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL)
        try:
            self._fd = os.open(path, flags, 0o666)
        except FileExistsError as error:
            raise ConfigurationError(
                f"{path} is there already",
                context={"file": str(path), "field": "--output"},
                remedy="Name another file, or write over it with --force.",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror}",
                context={"file": str(path), "field": "--output"},
                remedy="Name a file in a folder that you may write to.",
            ) from error
        self._lock = threading.Lock()
        self._open = True

    def add(self, lines: str) -> None:
        """Write whole lines; nothing after `close`. Safe between threads. Raises OSError: the disk is full."""
        data = memoryview(lines.encode())
        with self._lock:
            while data and self._open:
                data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """Nothing more is written. Twice is fine."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._fd)


def identity_of(device: DeviceInfo) -> dict[str, str]:
    """What the device is known by, for a recording's header."""
    return {
        "id": device.id,
        "vid": device.vid,
        "pid": device.pid,
        "product": device.product,
        "manufacturer": device.manufacturer,
        "serial_number": device.serial_number,
        "name": device.name,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class StreamRecorder:
    """Records a stream.

    Args:
        path: where to. Raises as `RecordingFile`.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self._file = RecordingFile(path, force=force)
        self._began_s: float | None = None

    def begin(self, info: StreamInfo, driver: str, device: Mapping[str, str], address: str = "") -> None:
        """Write what is recorded; later calls, after a driver's death, write nothing."""
        if self._began_s is not None:
            return
        self._began_s = time.time()
        stream = {
            "name": info.name,
            "stream_type": info.stream_type,
            "capacity_bytes": info.capacity_bytes,
            "records": info.records,
            "about": info.about,
        }
        header = RecordingHeader("stream", _now(), address, "", driver, device, stream)
        self._file.add(header_line(header))

    def take(self, records: Sequence[StreamRecord]) -> None:
        """Write `records`."""
        began_s = self._began_s or 0.0
        self._file.add(
            "".join(
                stream_line(
                    StreamEntry(max(r.time_s - began_s, 0.0), r.sequence, r.time_s, r.data, r.device_time_s, r.meta)
                )
                for r in records
            )
        )

    def close(self) -> None:
        """End the recording. Twice is fine."""
        self._file.close()


class LinkRecorder:
    """Stands before a device and records what passes; programs use `address` instead of the device's.

    Args:
        device: with its address: a serial port, a pseudo-terminal, TCP or a Unix socket.
        driver: the driver that fits it, "" for unknown.
        path: where to record to.
        baudrate: of a serial port, bits per second.
        force: write over a file that is there.

    Attributes:
        address: where it serves, once the context has begun.
        over: set when the device has gone, or cannot be reached; `problem` then says how.

    Raises ConfigurationError: the address is no such thing, or the file cannot be written.
    """

    def __init__(
        self, device: DeviceInfo, driver: str, path: Path, *, baudrate: int = 9600, force: bool = False
    ) -> None:
        kind = _KINDS.get(split_address(device.address)[0])
        if kind is None:
            raise ConfigurationError(
                f"{device.address} is not a link that two talk on",
                context={"address": device.address, "field": "ADDRESS"},
                remedy="A bus is recorded as its driver streams it: vfab stream DEVICE --record FILE.",
            )
        self.over = threading.Event()
        self.problem: DriverError | None = None
        self._device, self._kind, self._baudrate = device, kind, baudrate
        self._file = RecordingFile(path, force=force)
        self._file.add(header_line(RecordingHeader("link", _now(), device.address, kind, driver, identity_of(device))))
        self._began_s = time.monotonic()
        from vfab.sdk.testing.proxy import FaultProxy
        from vfab.sdk.testing.proxy_ends import terminal_front

        front = terminal_front() if kind == "serial" else None
        self._proxy = FaultProxy(device.address, tap=self._take, front=front, reach_peer=self._reach)
        self.address = self._proxy.address

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.close()
        self._file.close()

    def _reach(self) -> int:
        try:
            fd = open_address(self._device.address, baudrate=self._baudrate)
        except DriverError as error:
            self.problem = error
            if self._kind == "serial":
                self.over.set()
            raise
        os.set_blocking(fd, False)
        if self._kind == "serial" and not os.isatty(fd):
            os.close(fd)
            self.problem = ConfigurationError(
                f"{self._device.address} is no serial port",
                context={"address": self._device.address},
                remedy="Record what its driver streams: vfab stream DEVICE --record FILE.",
            )
            self.over.set()
            raise self.problem
        return fd

    def _take(self, connection: int, what: str, data: bytes) -> None:
        t = time.monotonic() - self._began_s
        try:
            if what in {"client", "device"}:
                self._file.add(link_line(LinkEntry(t, what, data, connection)))
            elif self._kind != "serial":  # a serial line has no connections
                self._file.add(link_line(LinkEvent(t, what, connection)))
            elif what == "closed":
                self.over.set()
        except OSError as error:
            self.problem = ConfigurationError(
                f"{self._file.path} cannot be written any more: {error.strerror}",
                context={"file": str(self._file.path)},
                remedy="Make room on the disk; what was recorded until now is kept.",
            )
            self.over.set()


async def find_recorded(text: str, env: Mapping[str, str], driver: str | None) -> tuple[Session, DeviceInfo, str]:
    """The device that `text` means, and the driver that it is recorded for. Raises as `Session.resolve`."""
    session = Session(env)
    device = await session.resolve(text)
    if driver is not None:
        return session, device, session.drivers.get(driver).name
    return session, device, device.attributes.get("simulates") or next(iter(device.drivers), "")


def record_link(
    text: str,
    path: Path,
    env: Mapping[str, str],
    *,
    driver: str | None = None,
    baudrate: int = 9600,
    force: bool = False,
    say: Callable[[dict[str, Any]], None],
) -> None:
    """Record what programs and the device `text` say to each other, until SIGINT or SIGTERM.

    `say` is told where programs find the device meanwhile. Takes over the signals of this process' main thread.

    Raises DriverError: it cannot be recorded, or the device has gone; what was recorded until then is in the file.
    """
    import asyncio

    session, device, fitting = asyncio.run(find_recorded(text, env, driver))
    known = identity_of(device)
    identity = {key: known[key] for key in ("vid", "product", "manufacturer", "serial_number")}
    with (
        session.leases.acquire(device.id),
        LinkRecorder(device, fitting, path, baudrate=baudrate, force=force) as recorder,
        announce_simulator(
            fitting or "recording",
            recorder.address,
            folder=simulators_folder(env),
            pid_usb=known["pid"],
            **identity,
        ),
    ):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: recorder.over.set())
        if not recorder.over.is_set():
            say({"name": "record", "address": recorder.address, "pid": os.getpid(), "file": str(path)})
        recorder.over.wait()
        if recorder.problem is not None:
            raise recorder.problem
    sys.stderr.write(f"vfab: recorded to {path}\n")
