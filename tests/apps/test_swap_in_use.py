"""Drivers replaced, and hosts killed, in the middle of what devices are for: an instrument that measures, a camera."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.swapped import Bench
from hosting import rig
from needs import program
from vfab.drivers import socketcan
from vfab.drivers.keithley2400.simulator import KeithleySimulator
from vfab.drivers.mjpeg.simulator import MjpegSimulator
from vfab.drivers.websocket_camera.simulator import SocketSimulator
from vfab.kernel.swap import SwapOptions
from vfab.model.errors import Cancelled, HostDied, Refused, SwapFailed
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing.moving_picture import has_bars, number_of

S = DriverState
SWEEP = {"start_v": 0.0, "stop_v": 0.5, "points": 5}
SAFE = [":ABOR", ":OUTP OFF"]


@asynccontextmanager
async def measuring(
    folder: Path, method: str = "iv_sweep", **params: Any
) -> AsyncIterator[tuple[Bench, KeithleySimulator, asyncio.Task[Any]]]:
    """A source-meter with its output on, in a measurement that goes on when the test releases points."""
    with KeithleySimulator(speed="held") as sim:
        async with rig(folder) as r:
            bench = Bench(r, "keithley2400", sim.address)
            await bench.device.connect()
            yield bench, sim, await begin(bench, sim, method, **params)


async def begin(bench: Bench, sim: KeithleySimulator, method: str, **params: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(bench.device.operate("measure", method, params or SWEEP, timeout_s=0.0))
    await bench.r.until(sim.measuring.is_set)
    assert not sim.output_off.is_set() and bench.device.state is S.BUSY
    return task


async def measures(bench: Bench, sim: KeithleySimulator) -> None:
    """The instrument and its driver work: a whole sweep, every point once, and the output is off after it."""
    sweep = await begin(bench, sim, "iv_sweep")
    sim.release(5)
    result = await sweep
    assert result["completed"] and [row[0] for row in result["rows"]] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    await bench.r.until(sim.output_off.is_set)


def test_a_sweep_is_waited_for_and_measured_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with measuring(tmp_path) as (bench, sim, sweep):
            old = bench.device.pid
            with pytest.raises(Refused, match="still at work") as refused:
                await bench.reload(SwapOptions(drain_s=0.05))
            assert "--now" in refused.value.remedy and bench.device.pid == old
            swapping = bench.reload()
            await bench.r.until(lambda: bench.device.being_replaced)
            next_one = asyncio.create_task(bench.device.operate("measure", "iv_sweep", SWEEP, timeout_s=0.0))
            sim.release(5)
            assert (await sweep)["points"] == 5
            assert (await swapping).outcome == "committed" and bench.device.pid != old
            await bench.r.until(sim.measuring.is_set)
            sim.release(5)
            assert (await next_one)["points"] == 5, "the one that came meanwhile waited"
            assert sim.heard.count(":READ?") == 2, "neither was measured twice"
            await bench.is_one_owner()

    asyncio.run(main())


@pytest.mark.parametrize("method", ["iv_sweep", "continuous"])
def test_with_now_a_measurement_is_aborted_outputs_off_and_that_is_told_in_one_line(
    tmp_path: Path, method: str
) -> None:
    params = SWEEP if method == "iv_sweep" else {"source_v": 0.3, "count": 0, "interval_s": 0.0}

    async def main() -> None:
        async with measuring(tmp_path, method, **params) as (bench, sim, busy):
            before = len(sim.heard)
            report = await bench.reload(SwapOptions(now=True, probation_s=0.05))
            assert report.outcome == "committed"
            with pytest.raises(Cancelled) as told:
                await busy
            assert told.value.message == f"{method} was aborted after 0 points; the outputs are off"
            assert sim.output_off.is_set() and not sim.measuring.is_set()
            assert [line for line in sim.heard[before:] if line in SAFE][:2] == SAFE
            await measures(bench, sim)
            await bench.is_one_owner()

    asyncio.run(main())


def test_the_host_is_killed_in_the_middle_of_a_sweep_that_a_swap_waits_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with measuring(tmp_path) as (bench, sim, sweep):
            swapping = bench.reload()
            await bench.r.until(lambda: bench.device.being_replaced)
            killed = bench.kill()
            with pytest.raises(HostDied):
                await sweep
            try:
                await swapping
            except (Refused, SwapFailed) as error:  # else a new host was up before it was its turn
                assert not error.context.get("restored")
            await bench.r.until(sim.output_off.is_set)
            assert bench.r.of("safe_stop") and bench.device.pid != killed
            await bench.is_one_owner()
            await measures(bench, sim)

    asyncio.run(main())


def test_the_new_host_is_killed_on_probation_in_the_middle_of_a_sweep(tmp_path: Path) -> None:
    async def main() -> None:
        with KeithleySimulator(speed="held") as sim:
            async with rig(tmp_path) as r:
                bench = Bench(r, "keithley2400", sim.address)
                await bench.device.connect()
                old = bench.device.pid
                swapping = await bench.on_probation()
                sweep = await begin(bench, sim, "iv_sweep")
                bench.kill()
                with pytest.raises(SwapFailed, match="SIGKILL") as failed:
                    await swapping
                assert failed.value.context["restored"] is True and bench.device.pid == old
                with pytest.raises(HostDied):
                    await sweep
                await bench.is_one_owner()
                assert sim.output_off.is_set() and r.of("safe_stop")
                await measures(bench, sim)

    asyncio.run(main())


def test_the_old_host_is_killed_on_probation_in_the_middle_of_a_sweep_of_the_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        with KeithleySimulator(speed="held") as sim:
            async with rig(tmp_path) as r:
                bench, sweeping = Bench(r, "keithley2400", sim.address), asyncio.Event()
                await bench.device.connect()
                warm = bench.device.pid
                assert warm is not None

                async def kill_the_warm_one(step: str, detail: Mapping[str, Any]) -> None:
                    if step == "commit":
                        await sweeping.wait()
                        os.kill(warm, signal.SIGKILL)

                swapping = bench.reload(SwapOptions(probation_s=0.0, journal=kill_the_warm_one))
                await r.until(lambda: bench.device.pid not in {warm, None} and not bench.device.being_replaced)
                sweep = await begin(bench, sim, "iv_sweep")
                sweeping.set()
                assert (await swapping).outcome == "committed"
                assert not sim.output_off.is_set(), "nobody made safe what the new one has in hand"
                sim.release(5)
                assert (await sweep)["points"] == 5 and not r.of("safe_stop")
                await bench.is_one_owner()

    asyncio.run(main())


def test_a_stream_of_readings_goes_on_and_is_taken_once(tmp_path: Path) -> None:
    async def main() -> None:
        with KeithleySimulator() as sim:
            async with rig(tmp_path) as r:
                bench = Bench(r, "keithley2400", sim.address)
                await bench.device.connect()
                await bench.device.call("start_streaming", source_v=0.3, interval_s=0.01)
                reader = bench.device.streams.reader(oldest=True)
                await r.until(lambda: reader.waiting > 5)
                for _ in range(3):
                    assert (await bench.reload(SwapOptions(probation_s=0.05))).outcome == "committed"
                    with pytest.raises(Refused, match="streams"):
                        await bench.device.call("measure", "iv_sweep", SWEEP)
                bench.kill()
                await r.until(lambda: bool(r.of("host_died")))
                await bench.is_one_owner()
                await bench.device.call("start_streaming", source_v=0.3, interval_s=0.01)
                taken, records = sim.meter.taken, reader.read_many(100_000)
                await bench.device.call("stop_streaming")
                records += reader.read_many(100_000)
                assert [record.sequence for record in records] == list(range(len(records))) and not reader.lost
                times = [record.device_time_s for record in records]
                assert len(set(times)) == len(times), "no reading was sent twice"
                assert taken and sim.output_off.is_set()

    asyncio.run(main())


CAMERAS = {
    "mjpeg": lambda: MjpegSimulator(width_px=64, height_px=48, framerate_hz=50.0),
    "websocket-camera": lambda: SocketSimulator(width_px=64, height_px=48, framerate_hz=50.0),
}


def shown(picture: Any) -> int:
    """The number that a picture shows; it is whole."""
    with Image.open(io.BytesIO(bytes(picture))) as image:
        rgb, size = image.convert("RGB").tobytes(), image.size
    assert has_bars(rgb, *size)
    return number_of(rgb, *size)


@pytest.mark.parametrize("driver", CAMERAS)
def test_a_camera_that_streams_goes_on_over_swaps_and_deaths_and_every_picture_comes_once(
    tmp_path: Path, driver: str
) -> None:
    async def main() -> None:
        with CAMERAS[driver]() as sim:
            async with rig(tmp_path) as r:
                bench = Bench(r, driver, sim.address)
                device = bench.device
                await device.connect()
                await device.call("start_streaming")
                reader = device.streams.reader(oldest=True)
                await r.until(lambda: reader.waiting > 3)
                for _ in range(3):
                    assert (await bench.reload()).outcome == "committed"
                swapping = await bench.on_probation()
                bench.kill()
                with pytest.raises(SwapFailed, match="SIGKILL") as failed:
                    await swapping
                assert failed.value.context["restored"] is True
                await bench.is_one_owner()
                assert (await device.call("streaming_status"))["streaming"]
                records = reader.read_many(100_000)
                assert await asyncio.to_thread(reader.read_many, timeout_s=60.0), "pictures come"
                assert [record.sequence for record in records] == list(range(len(records))) and not reader.lost
                numbers = [shown(record.data) for record in records]
                assert numbers == sorted(set(numbers))
                await device.disconnect()

    asyncio.run(main())


@pytest.mark.parametrize("driver", CAMERAS)
def test_a_camera_whose_host_is_killed_while_it_streams_is_connected_again_and_streams(
    tmp_path: Path, driver: str
) -> None:
    async def main() -> None:
        with CAMERAS[driver]() as sim:
            async with rig(tmp_path) as r:
                bench = Bench(r, driver, sim.address)
                await bench.device.connect()
                await bench.device.call("start_streaming")
                reader = bench.device.streams.reader(oldest=True)
                await r.until(lambda: reader.waiting > 3)
                bench.kill()
                await r.until(lambda: bool(r.of("host_died")))
                await bench.is_one_owner()
                await bench.device.call("start_streaming")
                reader.read_many(100_000)
                (record, *_) = await asyncio.to_thread(reader.read_many, timeout_s=60.0)
                assert shown(record.data) > 0

    asyncio.run(main())


@pytest.mark.parametrize("driver", CAMERAS)
def test_pictures_that_are_taken_while_drivers_are_swapped_all_come(tmp_path: Path, driver: str) -> None:
    async def main() -> None:
        with CAMERAS[driver]() as sim:
            async with rig(tmp_path) as r:
                bench, numbers, enough = Bench(r, driver, sim.address), list[int](), asyncio.Event()
                await bench.device.connect()

                async def take() -> None:
                    while not enough.is_set():
                        numbers.append(shown((await bench.device.operate("capture_image", timeout_s=60.0))["data"]))

                taking = asyncio.create_task(take())
                for _ in range(4):
                    taken = len(numbers)
                    await r.until(lambda taken=taken: len(numbers) > taken)
                    assert (await bench.reload()).outcome == "committed"
                enough.set()
                await taking
                assert numbers == sorted(numbers) and bench.device.state is S.CONNECTED
                await bench.is_one_owner()

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
def test_a_can_bus_that_is_streamed_goes_on_over_swaps_and_deaths_and_no_frame_comes_twice(tmp_path: Path) -> None:
    for library in ("can", "msgpack"):
        pytest.importorskip(library)
    unshare = program("unshare", package="util-linux")
    program("ip", package="iproute2")
    here = Path(__file__).parent
    simulator = Path(socketcan.__file__).parent / "simulator.py"
    done = subprocess.run(
        [unshare, "-n", sys.executable, here / "can_bus_swapped.py", tmp_path, simulator],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["counts"]) > 6 and told["counts"] == sorted(set(told["counts"]))
    assert told["sequences"] == list(range(len(told["sequences"]))), "readers see no end, and no gap in what there is"
