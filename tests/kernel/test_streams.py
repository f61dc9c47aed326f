"""Streams from a real host to readers: the kernel keeps the memory, whatever happens to the driver."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from hosting import rig
from vfab.kernel.streams import STREAMS_MAX, StreamKeeper
from vfab.model.errors import ConfigurationError, DeviceNotFound, Refused
from vfab.model.lifecycle import DriverState
from vfab.sdk.ring import RingMemory, RingReader
from vfab.sdk.stream_ends import StreamReader, StreamRecord, StreamWriter

COUNTER = """
from vfab.sdk.stream import Streaming, StreamType

class D(Streaming, BaseDriver):
    stream_type = StreamType.SENSOR
    def open_acquisition(self, options):
        return self.open_stream("main", self.stream_type, unit="1")
    def acquire(self, stream, options):
        if options.get("deaf"):
            self.environment.ports.open_link("/dev/ptmx", {}).read(timeout_s=None)
        while self.acquiring():
            if stream.count == options.get("fail_at"):
                raise LinkLost("unplugged")
            if stream.count == options.get("burn_at"):
                raise ValueError("a bug")
            if stream.count == options.get("end_at"):
                return
            stream.send({"n": stream.count}, device_time_s=float(stream.count))
            self.pause_s(0.001)
    def disconnect(self): self.stop_streaming()
    @command
    def frame(self, size):
        with_room = self.open_stream("frames", StreamType.VIDEO, capacity_bytes=4 * size, records=8, width_px=size)
        room = with_room.reserve(size)
        room[:] = bytes(range(256)) * (size // 256)
        with_room.commit(meta={"exposure_s": 0.01})
    @command
    def open_many(self, names):
        for name in names: self.open_stream(name)
    @command
    def open_odd(self, **asked): self.open_stream(**asked)
"""


async def read(reader: StreamReader, count: int) -> list[StreamRecord]:
    """The next `count` records."""
    records: list[StreamRecord] = []
    while len(records) < count:
        more = await asyncio.to_thread(reader.read_many, count - len(records), timeout_s=20.0)
        assert more, "the stream ended"
        records += more
    return records


def test_what_a_driver_sends_reaches_every_reader_with_its_times(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            await device.connect()
            with pytest.raises(DeviceNotFound, match="no stream") as told:
                device.streams.reader()
            assert "start" in told.value.remedy
            status = await device.call("start_streaming")
            assert status["streaming"] and status["stream"] == "main"
            assert device.streams.infos[0].about == {"unit": "1"}
            assert r.of("stream_opened")[0].data["name"] == "main"
            one, two = device.streams.reader(oldest=True), device.streams.reader("main")
            info, memory = device.streams.memory()
            assert (info.stream_type, RingReader(memory).ended) == ("sensor", False)
            records = await read(one, 50)
            assert [x.data["n"] for x in records] == list(range(50)) == [x.sequence for x in records]
            assert records[7].device_time_s == 7.0 and records[7].time_s > 1.7e9
            assert (await read(two, 5))[0].lost == 0
            assert (await device.call("stop_streaming"))["streaming"] is False
            while not one.ended:
                one.read_many()
            assert (await device.call("streaming_status"))["records"] >= 50
            await device.call("start_streaming")
            assert not one.ended
            assert (await read(one, 1))[0].lost == 0, "the sequence goes on"

    asyncio.run(main())


def test_a_stream_outlives_a_killed_driver(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            await device.connect()
            await device.call("start_streaming")
            reader = device.streams.reader(oldest=True)
            await read(reader, 10)
            assert device.pid is not None
            os.kill(device.pid, signal.SIGKILL)
            await r.until(lambda: bool(r.of("host_died")))
            await device.ready_again()
            seen = reader.read_many(100_000)
            assert await r.until(lambda: reader.ended) is None
            await device.call("start_streaming")
            again = await read(reader, 10)
            expected = (seen[-1].sequence if seen else 9) + 1
            assert [x.sequence for x in again] == list(range(expected, expected + 10))

    asyncio.run(main())


def test_how_a_stream_ends_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            await device.connect()
            for options, code in (({"fail_at": 5}, "link_lost"), ({"burn_at": 10}, "driver_failed")):
                await device.call("start_streaming", **options)
                await r.until(lambda code=code: any(e.data["error"]["code"] == code for e in r.of("stream_failed")))  # type: ignore[misc]
                status = await device.call("streaming_status")
                assert not status["streaming"] and status["error"]["code"] == code
            await device.call("start_streaming", end_at=15)
            reader = device.streams.reader()
            while not reader.ended:
                await asyncio.to_thread(reader.read_many, timeout_s=0.1)
            status = await device.call("start_streaming", rate=1)
            assert status["streaming"] and status["options"] == {"rate": 1}
            assert (await device.call("start_streaming"))["options"] == {"rate": 1}
            with pytest.raises(Refused, match="other options"):
                await device.call("start_streaming", rate=2)
            assert device.state is DriverState.CONNECTED

    asyncio.run(main())


def test_an_acquisition_that_waits_for_ever_is_woken_at_the_stop(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address="/dev/ptmx")
            await device.connect()
            await device.call("start_streaming", deaf=True)
            assert (await device.call("stop_streaming", timeout_s=20.0))["streaming"] is False
            await device.disconnect()

    asyncio.run(main())


def test_frames_are_made_and_read_in_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            await device.connect()
            size = 4 << 20
            await device.call("frame", size)
            reader = device.streams.reader("frames", oldest=True)
            looked = reader.look()
            assert looked is not None
            record = looked[0]
            assert isinstance(record.data, memoryview) and len(record.data) == size
            assert record.data[255] == 255 and record.meta == {"exposure_s": 0.01}
            assert reader.done(looked)
            for _ in range(3):
                await device.call("frame", size)
            assert (newest := reader.newest(1.0)) is not None and newest.sequence == 3
            await device.call("open_many", ["left"])
            with pytest.raises(ConfigurationError, match="several streams"):
                device.streams.reader()
            await device.call("open_many", ["main"])
            assert device.streams.reader().info.name == "main"
            with pytest.raises(DeviceNotFound, match="no stream other"):
                device.streams.reader("other")
            await device.call("frame", 1 << 20)
            assert reader.ended, "a stream of another size is another stream"

    asyncio.run(main())


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            await device.connect()
            for asked in ({"name": "../x"}, {"records": 1}, {"capacity_bytes": 1 << 40}, {"name": "a" * 65}):
                with pytest.raises(ConfigurationError, match="open_stream"):
                    await device.call("open_odd", **asked)
            names = [f"s{n}" for n in range(STREAMS_MAX)]
            await device.call("open_many", names)
            await device.call("open_many", names)
            with pytest.raises(ConfigurationError, match="streams already"):
                await device.call("open_odd", name="one-more")
            reader = device.streams.reader("s3")
            await device.close()
            assert reader.ended and not device.streams.infos

    asyncio.run(main())


def test_a_host_that_asks_for_nonsense_is_refused() -> None:
    keeper = StreamKeeper("mine")
    for asked in (None, {"name": 7}, {"name": "a", "records": "many"}):
        with pytest.raises(ConfigurationError, match="open_stream"):
            keeper.hand_over(asked, None, lambda fd, host: 0)  # type: ignore[arg-type]


def test_only_a_stream_that_runs_regularly_and_ran_just_now_has_a_pulse() -> None:
    keeper, (here, there) = StreamKeeper("mine"), socket.socketpair()
    writers: dict[str, StreamWriter] = {}
    with here, there:
        for name in ("runs", "young", "rested", "ended", "silent"):
            keeper.hand_over({"name": name}, here, lambda fd, host: fd)
            kept = keeper._kept[name].memory
            writers[name] = StreamWriter(keeper.infos[-1], RingMemory(os.dup(kept.ring), os.dup(kept.bell)))
    now = time.time()
    taken = {"runs": (7, 2, 1, 0), "young": (1, 0), "rested": (900, 899, 898), "ended": (3, 2, 1), "silent": ()}
    for name, ages_s in taken.items():
        for age_s in ages_s:
            writers[name].send(1, time_s=now - age_s)
    writers["ended"].close()
    (pulse,) = keeper.pulses()
    assert (pulse.name, pulse.records, pulse.gap_s) == ("runs", 4, pytest.approx(5.0))
    seen = keeper.seen()
    assert seen["runs"].made == pulse.made and seen["ended"].ended and not seen["runs"].ended
    assert (seen["ended"].records, seen["silent"].records) == (3, 0)
    keeper.close()
