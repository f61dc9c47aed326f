"""Reading a device's stream for a command or a node: started where it is not running, ended where we began it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from vfab.apps.commands import ensure_connected
from vfab.apps.parameters import checked_parameters
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import ConfigurationError, DeviceNotFound, DriverError, UnknownCommand, from_wire
from vfab.model.manifest import Manifest
from vfab.sdk.stream_ends import StreamReader, StreamRecord
from vfab.sdk.stream_words import StreamInfo

__all__ = ["Counted", "StreamRequest", "follow_stream", "opened_stream", "pump", "stream_options"]

BATCH = 1024
LOOK_S = 0.1
"""How often a reader that has nothing to read looks whether it shall end."""

STOP_S = 15.0
FIRST_S = 5.0
"""How long a stream may take to be there after its start."""

Take = Callable[[Sequence[StreamRecord]], None]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What is to be read.

    Attributes:
        name: which stream; None: `main`, or the only one.
        options: for the driver's `start_streaming`; texts are read by the parameters of the manifest's command for it.
        oldest: begin with what is still there of a stream that runs already.
        count: end after so many records; 0 means never.
        duration_s: end after so many seconds; 0 means never.
    """

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    oldest: bool = False
    count: int = 0
    duration_s: float = 0.0


@dataclass(slots=True)
class Counted:
    """How a reading goes.

    Attributes:
        records, lost, bytes: so far.
        began_s: `time.monotonic()` of its start.
        end: count, duration, stopped, or stream_ended; "" while it goes on.
    """

    records: int = 0
    lost: int = 0
    bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)
    end: str = ""

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began_s

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "records": self.records,
            "lost": self.lost,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "end": self.end,
        }

    def taken(self, records: Sequence[StreamRecord]) -> None:
        """Count `records` in."""
        self.records += len(records)
        for record in records:
            if type(record.data) is bytes:
                self.bytes += len(record.data)

    def room(self, request: StreamRequest) -> int:
        """How many records may still be taken at once; 0: the reading is over, and `end` says why."""
        if request.count and self.records >= request.count:
            self.end = "count"
        elif request.duration_s and self.seconds >= request.duration_s:
            self.end = "duration"
        if self.end:
            return 0
        return min(BATCH, request.count - self.records) if request.count else BATCH


def pump(reader: StreamReader, request: StreamRequest, take: Take, counted: Counted, stop: threading.Event) -> None:
    """Hand what comes to `take`, batch by batch, until `request` has enough, `stop` is set or the stream ends."""
    lost_before = counted.lost - reader.lost
    while room := counted.room(request):
        if stop.is_set():
            counted.end = "stopped"
            return
        records = reader.read_many(room, timeout_s=LOOK_S)
        counted.lost = lost_before + reader.lost
        if records:
            counted.taken(records)
            take(records)
        elif reader.ended:
            counted.end = "stream_ended"
            return


@asynccontextmanager
async def opened_stream(device: ManagedDevice, request: StreamRequest) -> AsyncIterator[StreamReader]:
    """A reader of the device's stream. Where it did not run, it is started, and ended when the context ends.

    Raises UnknownCommand: the driver does not stream. DriverError: it cannot begin.
    """
    await ensure_connected(device)
    methods = device.handshake.methods if device.handshake is not None else ()
    if "start_streaming" not in methods:
        raise UnknownCommand(
            f"{device.manifest.name} does not stream",
            driver_name=device.manifest.name,
            context={"device": device.id, "category": device.manifest.category},
            remedy=f"`vfab driver info {device.manifest.name}` lists what it does.",
        )
    use = _uses.setdefault(device, _Use())
    use.readers += 1
    try:
        first = await _started(device, request, use)
        reader = await _reader(device, request)
        if first is not None and not request.oldest:
            reader.seek(first)
        yield reader
    finally:
        use.readers -= 1
        if not use.readers and use.ours:
            use.ours = False
            with suppress(DriverError):  # the device may be gone, and its stream with it
                await device.call("stop_streaming", timeout_s=STOP_S)


@dataclass(slots=True)
class _Use:
    """Who reads a device's streams in this process, and whether it streams because of them."""

    readers: int = 0
    ours: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_uses: WeakKeyDictionary[ManagedDevice, _Use] = WeakKeyDictionary()


async def _started(device: ManagedDevice, request: StreamRequest, use: _Use) -> int | None:
    """Have the device stream; the sequence number of its first record where it did not before."""
    options = stream_options(device.manifest, request.options)
    methods = device.handshake.methods if device.handshake is not None else ()
    async with use.lock:
        was_on = "streaming_status" in methods and bool((await device.call("streaming_status")).get("streaming"))
        status = await device.call_with("start_streaming", (), options, timeout_s=60.0)
        if was_on or status is False:  # seed 002: False says that it runs already
            return None
        use.ours = True
    first = status.get("first_sequence") if isinstance(status, Mapping) else None
    return first if isinstance(first, int) else None


def stream_options(manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `given` for the driver's `start_streaming`. Raises ConfigurationError: one it does not take."""
    for name, command in manifest.commands.items():
        if (command.method or name.replace("-", "_")) == "start_streaming":
            return checked_parameters(manifest.name, name, command, given) if given else {}
    return {key: _guessed(value) if isinstance(value, str) else value for key, value in given.items()}


def _guessed(text: str) -> Any:
    """A text as JSON where it is JSON: nothing says what is expected."""
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _reader(device: ManagedDevice, request: StreamRequest) -> StreamReader:
    """The reader; a driver of an older shape opens its stream with its first message only."""
    began = time.monotonic()
    while True:
        try:
            return device.streams.reader(request.name, oldest=request.oldest or not device.streams.infos)
        except (DeviceNotFound, ConfigurationError):
            if time.monotonic() - began > FIRST_S or request.name in {i.name for i in device.streams.infos}:
                raise
            await asyncio.sleep(0.02)


async def follow_stream(
    device: ManagedDevice,
    request: StreamRequest,
    take: Take,
    stop: threading.Event,
    began: Callable[[StreamInfo, Counted], None] = lambda info, counted: None,
) -> Counted:
    """Read until the request has enough, `stop` is set, or the stream ends; a driver that dies is waited for.

    `take` and `began` are called on a thread of their own; an error of theirs ends the reading.

    Raises DriverError: why the stream ended, or why it did not begin.
    """
    counted = Counted()
    while True:
        counted.end = ""
        async with opened_stream(device, request) as reader:
            generation = device.life.generation
            if not counted.records:
                began(reader.info, counted)
            reading = asyncio.create_task(asyncio.to_thread(pump, reader, request, take, counted, stop))
            try:
                await asyncio.shield(reading)
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait({reading})
                raise
            if counted.end != "stream_ended":
                return counted
        if not await _comes_back(device, generation):
            return counted


async def _comes_back(device: ManagedDevice, generation: int) -> bool:
    """The stream ended: True if its driver died and lives again. Raises DriverError: the driver says why it ended."""
    await asyncio.sleep(LOOK_S)  # the end of a process is told a moment after that of its stream
    if device.pid is None or device.life.generation != generation:
        await device.ready_again()
        return True
    methods = device.handshake.methods if device.handshake is not None else ()
    if "streaming_status" in methods:
        status: dict[str, Any] = await device.call("streaming_status")
        if status.get("error"):
            raise from_wire(status["error"])
    return False
