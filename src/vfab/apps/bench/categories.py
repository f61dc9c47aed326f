"""One figure for each other category of device, on the built-in simulators: what a user of such a device gets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter, perf_counter_ns

from vfab.apps.bench.findings import Session as Bench
from vfab.apps.commands import ensure_connected
from vfab.apps.session import Session
from vfab.apps.simulate import start_simulator
from vfab.apps.streaming import StreamRequest, opened_stream
from vfab.kernel.managed import ManagedDevice

__all__ = ["KEYS", "run"]

KEYS = ("camera_frames_per_s", "sensor_readings_per_s", "instrument_query_us", "communication_messages_per_s")
_NOTES = {
    "camera_frames_per_s": "mjpeg: JPEG pictures of 320x240 over HTTP from the simulated camera, read from the stream; "
    "no more than that camera makes",
    "sensor_readings_per_s": "the sensor contract on a driver without a device: read_sensor, one call after another, "
    "each reading with unit, uncertainty and times",
    "instrument_query_us": "keithley2400: a query over TCP to the simulated instrument and its error queue after it",
    "communication_messages_per_s": "tcp: messages that the simulated device sends unasked, read from the stream, none "
    "lost",
}
_SENSOR = {
    "plugin.yaml": """\
name: bench-sensor
version: 1.0.0
author: vfab
description: Measures what it is told
category: sensor
driver_class: driver.BenchSensor
license: Apache-2.0
""",
    "driver.py": '''\
"""Measures what it is told."""

from vfab.sdk.sensor import Quantity, Sample, SensorDriver


class BenchSensor(SensorDriver):
    """A thermometer without a device."""

    opened = False

    def quantities(self):
        """One."""
        return (Quantity(name="temperature", unit="Cel", uncertainty=0.3),)

    def open_sensor(self):
        """Nothing is to be opened."""
        self.opened = True

    def close_sensor(self):
        """Nothing is to be closed."""
        self.opened = False

    def sensor_open(self):
        """Whether it was opened."""
        return self.opened

    def take_sample(self):
        """Always the same."""
        return Sample({"temperature": 21.5}, raw=344)
''',
}


def run(session: Bench) -> None:
    """Measure what is wanted of `KEYS`."""
    measures: dict[str, Callable[[Bench, Session], Awaitable[None]]] = {
        "camera_frames_per_s": _camera,
        "sensor_readings_per_s": _sensor,
        "instrument_query_us": _instrument,
        "communication_messages_per_s": _communication,
    }
    folder = session.folder / "plugins" / "bench-sensor"
    folder.mkdir(parents=True)
    for name, text in _SENSOR.items():
        (folder / name).write_text(text, encoding="utf-8")

    async def measure_all() -> None:
        async with Session.open(_environment(session)) as kernel:
            for key in KEYS:
                if key in session.wanted:
                    session.say(key)
                    await measures[key](session, kernel)
                    session.findings.notes[key] = _NOTES[key]

    asyncio.run(measure_all())


def _environment(session: Bench) -> dict[str, str]:
    home = session.folder / "categories"
    return {**os.environ, "VFAB_HOME": str(home), "VFAB_PLUGIN_PATH": str(session.folder / "plugins")}


@asynccontextmanager
async def _simulated(session: Bench, kernel: Session, name: str, *options: str) -> AsyncIterator[ManagedDevice]:
    """A simulated device, connected."""
    with start_simulator(name, options, _environment(session)) as simulation:
        await asyncio.to_thread(simulation.wait_until_it_serves)
        async with kernel.device(simulation.address, name) as device:
            await ensure_connected(device)
            yield device


async def _camera(session: Bench, kernel: Session) -> None:
    count = session.many(200, 1000)
    async with _simulated(session, kernel, "mjpeg", "--size", "320x240", "--fps", "10000") as device:
        session.findings.number("camera_frames_per_s", [await _stream_rate(device, count)])


async def _communication(session: Bench, kernel: Session) -> None:
    count = session.many(10_000, 50_000)
    async with _simulated(session, kernel, "tcp") as device:

        async def ask() -> None:
            await device.call("send_command", f"COUNT {count}")

        session.findings.number("communication_messages_per_s", [await _stream_rate(device, count, ask)])


async def _stream_rate(device: ManagedDevice, count: int, begin: Callable[[], Awaitable[None]] | None = None) -> float:
    """Records a second until `count` were read. Raises RuntimeError: some were lost."""
    async with opened_stream(device, StreamRequest()) as reader:

        def read() -> int:
            left = count
            while left > 0:
                got = len(reader.read_many(left, timeout_s=30.0))
                if not got or reader.lost:
                    raise RuntimeError(f"{device.manifest.name}: {reader.lost} records were lost")
                left -= got
            return count

        begun = perf_counter()
        reading = asyncio.create_task(asyncio.to_thread(read))
        if begin is not None:
            await begin()
        return await reading / (perf_counter() - begun)


async def _sensor(session: Bench, kernel: Session) -> None:
    count = session.many(1000, 5000)
    async with kernel.without_device("bench-sensor") as device:
        await device.connect()
        with await device.open_channel() as channel:
            await asyncio.to_thread(channel.call, "read_sensor")
            begun = perf_counter()
            await asyncio.to_thread(lambda: [channel.call("read_sensor") for _ in range(count)])
            session.findings.number("sensor_readings_per_s", [count / (perf_counter() - begun)])


async def _instrument(session: Bench, kernel: Session) -> None:
    def ask(channel: object) -> list[float]:
        call = channel.call  # type: ignore[attr-defined]
        samples: list[float] = []
        for _ in range(session.many(100, 500)):
            begun = perf_counter_ns()
            call("query", ":SYST:VERS?")
            samples.append((perf_counter_ns() - begun) / 1e3)
        return samples

    async with _simulated(session, kernel, "keithley2400", "--speed", "instant") as device:
        with await device.open_channel() as channel:
            session.findings.distribution("instrument_query_us", (await asyncio.to_thread(ask, channel))[5:])
