"""A new driver that lies in its health check is found out by what it does, and the old one has the device again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import Rig, rig
from swaps import COUNTER, TWO, instrument, port, seen, swap
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.swap import Swap, SwapOptions
from vfab.model.errors import Cancelled, DriverFailed, HardwareError, HostDied, LinkLost, Refused, SwapFailed
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import StateRule
from vfab.sdk.testing import troublemaker

S = DriverState
LONG = SwapOptions(probation_s=600.0)
FAILS = """
    @command
    def lose(self): raise LinkLost('unplugged')
    @command
    def hot(self): raise HardwareError('too hot')
    @command
    def off_the_page(self): raise Refused('off the page')
    @command
    def broken(self): return {}[1]
"""


def liar(device: ManagedDevice, options: SwapOptions, *, silence_s: float = 0.0, **config: Any) -> Swap:
    """A swap of the device's driver, a sensor's, for the LyingDriver."""
    folder, manifest = troublemaker("LyingDriver")
    lying = msgspec.structs.replace(manifest, config_schema=None, state=StateRule(silence_s=silence_s))
    return Swap(device, lying, folder, config, options=options)


async def on_probation(r: Rig, device: ManagedDevice, job: Swap) -> asyncio.Task[Any]:
    """The swap, whose new driver has the device and is being watched."""
    before = device.manifest
    swapping = asyncio.create_task(job.run())
    await r.until(lambda: swapping.done() or (device.manifest is not before and not device.being_replaced))
    return swapping


async def found_out(swapping: asyncio.Task[Any]) -> SwapFailed:
    """Why the new driver was not trusted; the old one has the device."""
    with pytest.raises(SwapFailed) as failed:
        await swapping
    assert failed.value.context["restored"] is True and "\n" not in failed.value.message
    return failed.value


def test_a_driver_whose_calls_fail_does_not_pass_though_it_says_that_all_is_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port(), category="sensor")
            await device.connect()
            await device.operate("add", 4)
            old = device.pid
            swapping = await on_probation(r, device, liar(device, LONG))
            assert await device.call("is_connected") is True
            with pytest.raises(DriverFailed):
                await device.operate("answer")
            failed = await found_out(swapping)
            assert "LyingDriver 1.0.0: it failed on probation: answer failed: " in failed.message
            assert "mine 1 has the device as before" in failed.message
            assert device.pid == old and device.state is S.CONNECTED and await device.operate("add") == 5

    asyncio.run(main())


def test_a_synchronous_caller_finds_it_out_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port(), category="sensor")
            await device.connect()
            channel = await device.open_channel()
            swapping = await on_probation(r, device, liar(device, LONG))
            with pytest.raises(DriverFailed):
                await asyncio.to_thread(channel.call, "answer")
            assert "answer failed" in (await found_out(swapping)).message
            assert await asyncio.to_thread(channel.call, "name") == "one"
            channel.close()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["silent", "ends"])
def test_a_driver_whose_stream_is_dead_does_not_pass_and_the_stream_goes_on_in_the_old_one(
    tmp_path: Path, how: str
) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port(), category="sensor")
            await device.connect()
            await device.call("start_streaming")
            reader = device.streams.reader(oldest=True)
            await r.until(lambda: reader.waiting > 3)
            swapping = await on_probation(r, device, liar(device, SwapOptions(), silence_s=0.3, stream=how))
            message = (await found_out(swapping)).message
            assert ("nothing came on its stream main for" if how == "silent" else "ended without a record") in message
            before = reader.read_many(100_000)
            after = await asyncio.to_thread(reader.read_many, timeout_s=60.0)
            assert after and {record.data for record in after} == {"one"}
            assert after[0].sequence == before[-1].sequence + 1 and not reader.lost

    asyncio.run(main())


def test_a_stream_that_breaks_with_an_error_is_told_by_that_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.call("start_streaming")
            await r.until(lambda: device.streams.reader(oldest=True).waiting > 3)
            source = TWO.replace("        while self.acquiring():\n", "        return [][0]\n        while 1:\n")
            failed = await found_out(await on_probation(r, device, swap(r, device, source, LONG)))
            assert "stream main failed: streaming failed: IndexError" in failed.message
            assert (await device.call("streaming_status"))["streaming"]

    asyncio.run(main())


def test_a_stream_that_somebody_stops_on_probation_is_not_dead_and_stays_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.call("start_streaming")
            await r.until(lambda: device.streams.reader(oldest=True).waiting > 3)
            source = TWO + FAILS
            swapping = await on_probation(r, device, swap(r, device, source, LONG))
            await device.call("stop_streaming")
            with pytest.raises(DriverFailed):
                await device.call("broken")
            await found_out(swapping)
            assert not (await device.call("streaming_status"))["streaming"]

    asyncio.run(main())


def test_what_the_caller_or_the_device_is_to_blame_for_does_not_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            swapping = await on_probation(r, device, swap(r, device, TWO + FAILS, LONG))
            for method, kind in (("off_the_page", Refused), ("hot", HardwareError)):
                with pytest.raises(kind):
                    await device.call(method)
            with pytest.raises(HardwareError):
                await device.operate("hot")
            assert device.state is S.ERROR, "as after every operation that fails; a person resets it"
            await device.reset()  # who lets go of it ends the probation
            assert (await swapping).outcome == "committed" and device.state is S.READY
            assert await device.call("name") == "two"

    asyncio.run(main())


def test_a_faulty_device_is_no_reason_to_keep_the_old_driver(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER + FAILS, address=port())
            await device.connect()
            with pytest.raises(LinkLost):
                await device.call("lose")
            swapping = await on_probation(r, device, swap(r, device, TWO + FAILS, LONG))
            with pytest.raises(LinkLost):
                await device.call("lose")
            with pytest.raises(DriverFailed):
                await device.call("broken")
            assert "broken failed" in (await found_out(swapping)).message, "and the lost link was not what counted"

    asyncio.run(main())


def test_what_failed_in_a_driver_that_was_taken_back_excuses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            for _ in range(2):
                swapping = await on_probation(r, device, swap(r, device, TWO + FAILS, LONG))
                with pytest.raises(DriverFailed):
                    await device.operate("broken")
                assert "broken failed" in (await found_out(swapping)).message
                assert await device.call("name") == "one" and device.state is S.CONNECTED

    asyncio.run(main())


def test_a_call_that_hangs_and_is_given_up_does_not_let_it_pass(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            source = TWO + "    @command\n    def hang(self): time.sleep(600)\n"
            swapping = await on_probation(r, device, swap(r, device, source, LONG))
            hanging = asyncio.create_task(device.call("hang", timeout_s=0.0))
            await r.until(lambda: device.calls_under_way > 0)
            device.cancel_operations()
            assert "failed on probation" in (await found_out(swapping)).message
            with pytest.raises((Cancelled, HostDied)):
                await hanging
            assert await device.call("name") == "one" and r.of("deaf")

    asyncio.run(main())


def test_a_host_killed_on_probation_in_the_middle_of_an_operation_leaves_a_safe_device_that_is_not_busy(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path, safe_stop=["off\n"])
                await device.connect()
                old = device.pid
                swapping = await on_probation(r, device, swap(r, device, TWO, LONG, safe_stop=["off\n"]))
                busy = asyncio.create_task(device.operate("steps", str(tmp_path / "never"), timeout_s=0.0))
                await seen(r, lines, "step 3")
                assert device.pid is not None
                os.kill(device.pid, signal.SIGKILL)
                assert "SIGKILL" in (await found_out(swapping)).message
                with pytest.raises(HostDied):
                    await busy
                await r.until_state(device, S.CONNECTED)
                assert device.pid == old and await device.operate("add") == 1
                told = [line for line in await seen(r, lines, "add 1") if not line.startswith("step")]
                assert told == ["hello one", "off", "add 1"]

    asyncio.run(main())


def test_an_operation_on_a_driver_that_is_taken_back_goes_on_in_the_old_one_from_its_safe_point(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                source = TWO + FAILS.replace("def broken", "def broken_too").replace(
                    "@command", "@command(concurrent=True)"
                )
                swapping = await on_probation(r, device, swap(r, device, source, LONG))
                enough = tmp_path / "enough"
                plot = asyncio.create_task(device.operate("steps", str(enough), timeout_s=0.0))
                await seen(r, lines, "step 3")
                with pytest.raises(DriverFailed):
                    await device.call("broken_too")
                await found_out(swapping)
                assert device.state is S.BUSY and await device.call("is_connected")
                enough.touch()
                steps = await plot
                assert await seen(r, lines, f"step {steps}") == ["hello one", *(f"step {n + 1}" for n in range(steps))]
                assert device.state is S.CONNECTED and not r.of("safe_stop")

    asyncio.run(main())


def test_an_operation_without_a_safe_point_is_ended_when_its_driver_is_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            source = TWO + "    @command(concurrent=True)\n    def broken(self): return {}[1]\n"
            options = SwapOptions(probation_s=600.0, hand_over_s=1.0)
            swapping = await on_probation(r, device, swap(r, device, source, options))
            slow = asyncio.create_task(device.operate("slow", 600.0, timeout_s=0.0))
            await r.until_state(device, S.BUSY)
            with pytest.raises(DriverFailed):
                await device.call("broken")
            await found_out(swapping)
            with pytest.raises(Cancelled):
                await slow
            await r.until_state(device, S.CONNECTED)
            assert await device.call("name") == "one"

    asyncio.run(main())


def test_an_old_driver_that_does_not_take_the_newer_state_goes_on_from_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            picky = COUNTER.replace(
                "        self.count = state",
                "        if 'lie' in state: raise ConfigurationError('what?')\n        self.count = state",
            )
            device = r.adopt(picky, address=port())
            await device.connect()
            await device.operate("add", 4)
            source = TWO.replace('{"count": self.count, "v": version}', '{"lie": 1}') + FAILS
            swapping = await on_probation(r, device, swap(r, device, source, LONG))
            with pytest.raises(DriverFailed):
                await device.operate("broken")
            await found_out(swapping)
            assert await device.operate("add") == 5

    asyncio.run(main())


def test_a_new_driver_that_saves_nothing_the_old_one_reads_gives_back_what_it_was_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port(), state={"version": 1})
            await device.connect()
            await device.operate("add", 4)
            job = swap(r, device, TWO + FAILS, LONG, state={"version": 2, "reads": [1]})
            swapping = await on_probation(r, device, job)
            assert await device.operate("add") == 5
            with pytest.raises(DriverFailed):
                await device.operate("broken")
            await found_out(swapping)
            assert await device.operate("add") == 5, "what was added meanwhile only the new one knows"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["return {}[1]", "time.sleep(600)"])
def test_a_health_check_that_fails_or_hangs_later_is_no_health(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            sick = tmp_path / "sick"
            check = f"        if Path({str(sick)!r}).exists(): {how}\n        return True\n"
            source = f"{TWO}    def is_connected(self):\n{check}"
            options = SwapOptions(probation_s=600.0, hand_over_s=0.5)
            swapping = await on_probation(r, device, swap(r, device, source, options))
            sick.touch()
            assert "is_connected" in (await found_out(swapping)).message
            sick.unlink()
            assert await device.call("name") == "one"

    asyncio.run(main())
