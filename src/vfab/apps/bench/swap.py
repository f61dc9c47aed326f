"""A driver that streams 10 kHz and answers commands is replaced, again and again: how long nobody has the device.

Beside it: the same driver's process ended and started anew, as a platform without hand-over does it.
"""

from __future__ import annotations

import asyncio
import os
import pty
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import LiveKernel
from vfab.apps.bench.measure import spread
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.swap import Swap, SwapOptions
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError
from vfab.sdk.stream_ends import StreamReader

__all__ = ["KEYS", "run"]

KEYS = ("swap_blackout_ms", "swap_commands_lost", "swap_stream_gap_ms", "swap_samples_lost")
RESTART = "restart of the process"

_PAUSE_S = 0.001
"""How long the driver pauses between two bursts of samples, and a caller between two commands."""

_MANIFEST = """\
name: swapped
version: 1.0.0
author: vfab
description: Streams and counts, to be replaced meanwhile
category: sensor
driver_class: driver.Swapped
"""
_DRIVER = '''\
"""Streams 10,000 samples a second and counts commands."""

import time

from vfab.sdk import BaseDriver, command
from vfab.sdk.stream import Streaming


BORN = time.monotonic_ns()


class Swapped(Streaming, BaseDriver):
    """Ten samples each millisecond; `add` counts."""

    count = 0
    link = None

    def connect(self):
        self.link = self.open_link()

    def disconnect(self):
        self.stop_streaming()
        link, self.link = self.link, None
        if link is not None:
            self.close_link(link)

    def is_connected(self):
        return self.link is not None

    def save_state(self, version):
        return {"count": self.count}

    def load_state(self, state, version):
        self.count = state["count"]

    def open_acquisition(self, options):
        return self.open_stream("main", "sensor", capacity_bytes=8 << 20, records=1 << 16)

    def acquire(self, stream, options):
        due = time.monotonic()
        while self.acquiring():
            for _ in range(10):
                stream.send(b"0123456789abcdef")
            due += 0.001
            if not self.pause_s(due - time.monotonic()):
                return

    @command
    def add(self):
        self.count += 1
        return BORN, self.count
'''


def run(session: Session) -> None:
    """Measure `KEYS`."""
    times = session.many(50, 1000)  # a minute of the five
    session.say(f"swap_blackout_ms: {times} swaps of a driver that streams 10 kHz")
    plugin = session.folder / "swapped"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(_MANIFEST, encoding="utf-8")
    (plugin / "driver.py").write_text(_DRIVER, encoding="utf-8")
    with ExitStack() as stack:
        master, slave = pty.openpty()
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        kernel = stack.enter_context(LiveKernel(session.folder))
        found = kernel.run(_swaps(kernel, plugin, os.ttyname(slave), times))
        session.findings.distribution("swap_blackout_ms", found["blackouts"])
        session.findings.put("swap_commands_lost", found["commands_lost"])
        session.findings.distribution("swap_stream_gap_ms", found["gaps"])
        session.findings.put("swap_samples_lost", found["samples_lost"])
        without = spread(found["without"])
        session.findings.notes["swap_blackout_ms"] = (
            f"from the last answer of the old process to the first of the new one, as callers see it; of that the "
            f"device is without a driver for {without['p50']} ms (p99 {without['p99']}). {found['commands']} commands "
            f"and {found['samples']} samples went through meanwhile"
        )
        restarts, failed = kernel.run(_restarts(kernel, plugin, os.ttyname(slave), session.many(5, 100)))
    session.findings.distribution("swap_blackout_ms", restarts, RESTART)
    session.findings.put("swap_commands_lost", failed, RESTART)


def _adopted(kernel: LiveKernel, plugin: Path, address: str) -> ManagedDevice:
    info = DriverRegistry(Places.only(plugin)).get("swapped")
    return kernel.supervisor.adopt(DeviceInfo(id="bench:swap", bus="pty", address=address), info.manifest, plugin)


@dataclass(slots=True)
class _Caller:
    """Callers that have the driver count, one command after the other, and note who answered when.

    Attributes:
        device: the device that they call.
        answers: of each command: when it was answered, by which process, and what the driver had counted.
        failed: commands that were answered by an error, or not at all.
    """

    device: ManagedDevice
    answers: list[tuple[float, int, int]] = field(default_factory=list)
    failed: int = 0
    over: bool = False
    known: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while not self.over:
            try:
                pid, count = await self.device.operate("add")
                self.answers.append((monotonic(), pid, count))
                self.answered.set()
            except DriverError:
                self.failed += 1
            await asyncio.sleep(_PAUSE_S)

    async def answered_by_another(self) -> None:
        """Wait until the process has answered that came after all that answered when this was last waited for."""
        while not self.answers or self.answers[-1][1] == self.known:
            self.answered.clear()
            await self.answered.wait()
        self.known = self.answers[-1][1]

    def blackouts_ms(self) -> list[float]:
        """Of each change of the process: from the last answer of the one to the first of the next."""
        pairs = zip(self.answers, self.answers[1:], strict=False)
        return [(then - before) * 1000 for (before, old, _), (then, new, _) in pairs if old != new]

    def lost(self) -> int:
        """Commands that were done twice, or not at all, though they were answered; and those that failed."""
        counts = [count for _, _, count in self.answers]
        return len(counts) - len(set(counts)) + abs(max(counts) - len(counts)) + self.failed


@dataclass(slots=True)
class _Samples:
    """What a reader of the stream sees.

    Attributes:
        count: how many samples came.
        astray: sequence numbers that were missing or came twice.
        gaps: where two samples are further apart than the driver's pauses: when the second was taken, and by how much.
    """

    reader: StreamReader
    count: int = 0
    astray: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    _last: tuple[int, float] | None = None
    over: bool = False

    async def run(self) -> None:
        while not self.over:
            for record in self.reader.read_many(65536):
                self._take(record.sequence, record.time_s)
            await asyncio.sleep(0.005)

    def _take(self, sequence: int, time_s: float) -> None:
        self.count += 1
        if self._last is not None:
            before, then_s = self._last
            self.astray += abs(sequence - before - 1)
            if time_s - then_s > 2 * _PAUSE_S:
                self.gaps.append((time_s, time_s - then_s))
        self._last = (sequence, time_s)

    def longest_ms(self, begun_s: float, ended_s: float) -> float:
        """The longest gap of those that ended between two times; where there is none, the driver's own pause."""
        return max([gap for at, gap in self.gaps if begun_s <= at <= ended_s], default=_PAUSE_S) * 1000


async def _swaps(kernel: LiveKernel, plugin: Path, address: str, times: int) -> dict[str, Any]:
    device = _adopted(kernel, plugin, address)
    await device.connect()
    await device.call("start_streaming")
    samples, caller = _Samples(device.streams.reader()), _Caller(device)
    working = [asyncio.create_task(caller.run()) for _ in range(2)]
    reading = asyncio.create_task(samples.run())
    await caller.answered_by_another()
    spans, without = [], []
    for _ in range(times):
        begun = time()
        report = await Swap(device, device.manifest, plugin, {}, options=SwapOptions(probation_s=0.0)).run()
        without.append(report.blackout_s * 1000)
        await caller.answered_by_another()
        spans.append((begun, time()))
    await asyncio.sleep(0.05)  # the reader comes to the samples of the last one
    caller.over = samples.over = True
    await asyncio.gather(*working, reading)
    await kernel.supervisor.release(device.id)
    return {
        "blackouts": caller.blackouts_ms(),
        "without": without,
        "commands": len(caller.answers),
        "commands_lost": caller.lost(),
        "samples": samples.count,
        "samples_lost": samples.astray + samples.reader.lost,
        "gaps": [samples.longest_ms(*span) for span in spans],
    }


async def _restarts(kernel: LiveKernel, plugin: Path, address: str, times: int) -> tuple[list[float], int]:
    """The same with the old process ended and a new one started: (milliseconds of each, commands that failed)."""
    device = _adopted(kernel, plugin, address)
    await device.connect()
    await device.call("start_streaming")
    caller = _Caller(device)
    working = [asyncio.create_task(caller.run()) for _ in range(2)]
    await caller.answered_by_another()
    for _ in range(times):
        await kernel.supervisor.release(device.id)
        caller.device = device = _adopted(kernel, plugin, address)
        await device.connect()
        await device.call("start_streaming")
        await caller.answered_by_another()
    caller.over = True
    await asyncio.gather(*working)
    await kernel.supervisor.release(device.id)
    return caller.blackouts_ms(), caller.failed
