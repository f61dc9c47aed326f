"""A driver is replaced while it runs: nothing is lost, nothing is done twice, and what fails is undone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hosting import alive, descriptors, rig
from swaps import COUNTER, TWO, instrument, port, seen, swap
from vfab.kernel.swap import SwapOptions
from vfab.model.errors import Cancelled, DeviceBusy, HostDied, Refused, SwapFailed, TimeoutExceeded
from vfab.model.lifecycle import DriverState
from vfab.sdk.ring import RingReader

S = DriverState


def test_another_driver_takes_over_on_the_open_link_with_the_state(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                assert await device.operate("add", 5) == 5
                before, old_pid = device.life.generation, device.pid
                report = await swap(r, device, TWO).run()
                assert (report.outcome, report.old, report.new) == ("committed", "mine 1", "mine 2")
                assert report.to_dict()["error"] is None and report.blackout_s > 0
                assert (device.state, device.manifest.version, device.life.generation) == (S.CONNECTED, "2", before + 1)
                assert device.pid != old_pid and not alive(old_pid or 0)
                assert await device.call("name") == "two"
                assert await device.operate("add") == 6
                assert await seen(r, lines, "add 1") == ["hello one", "add 5", "add 1"], (
                    "neither bye nor a second hello"
                )
                steps = [event.data["step"] for event in r.of("swap")]
                assert steps == ["prepare", "drain", "hand_over", "cut", "commit"]
                assert not r.of("host_died")
                await device.disconnect()
                assert (await seen(r, lines, "bye two"))[-1] == "bye two"

    asyncio.run(main())


def test_a_driver_that_is_only_ready_is_replaced_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER)
            with pytest.raises(Refused, match="no running driver"):
                await swap(r, device, TWO).run()
            await device.initialize()
            assert (await swap(r, device, TWO).run()).outcome == "committed"
            assert device.state is S.READY and await device.call("name") == "two"

    asyncio.run(main())


def test_commands_that_come_meanwhile_wait_and_run_once(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, _):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                stop = asyncio.Event()
                sums: list[int] = []

                async def work() -> None:
                    while not stop.is_set():
                        sums.append(await device.operate("add", timeout_s=20.0))

                workers = [asyncio.create_task(work()) for _ in range(4)]
                channel = await device.open_channel()
                called: list[int] = []

                def call() -> None:
                    while not stop.is_set():
                        called.append(channel.call("add", timeout_s=20.0))

                thread = asyncio.create_task(asyncio.to_thread(call))
                for number in range(10):
                    report = await swap(r, device, TWO if number % 2 else COUNTER, SwapOptions(probation_s=0.0)).run()
                    assert report.outcome == "committed"
                stop.set()
                await asyncio.gather(*workers, thread)
                channel.close()
                everything = sorted([*sums, *called])
                assert everything == list(range(1, len(everything) + 1)), "each was done once, none was lost"
                assert len(called) > 10 and len(sums) > 10

    asyncio.run(main())


def test_streams_go_on_without_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.call("start_streaming", rate=3)
            info, memory = device.streams.memory()
            reader = device.streams.reader(oldest=True)
            watcher = RingReader(memory)
            await swap(r, device, TWO, SwapOptions(probation_s=0.05)).run()
            records = reader.read_many(100_000)
            while not records or records[-1].data != "two":
                records += await asyncio.to_thread(reader.read_many, timeout_s=10.0)
            assert [record.sequence for record in records] == list(range(len(records)))
            assert records[0].data == "one" and not watcher.ended and info.name == "main"
            status = await device.call("streaming_status")
            assert status["streaming"] and status["options"] == {"rate": 3}

    asyncio.run(main())


def test_an_operation_goes_on_in_the_next_driver_at_its_safe_point(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                enough = tmp_path / "enough"  # it lasts until the swaps are done, however slow this machine is
                plot = asyncio.create_task(device.operate("steps", str(enough), timeout_s=120.0))
                await seen(r, lines, "step 3")
                for number in range(5):
                    assert (await swap(r, device, TWO if number % 2 else COUNTER).run()).outcome == "committed"
                    assert device.state is S.BUSY
                enough.touch()
                steps = await plot
                assert await seen(r, lines, f"step {steps}") == ["hello one", *(f"step {n + 1}" for n in range(steps))]
                assert device.state is S.CONNECTED

    asyncio.run(main())


def test_what_has_no_safe_point_is_waited_for_or_ended_with_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            busy = asyncio.create_task(device.operate("slow", 30.0, timeout_s=60.0))
            await r.until_state(device, S.BUSY)
            with pytest.raises(Refused, match="still at work") as refused:
                await swap(r, device, TWO, SwapOptions(drain_s=0.1)).run()
            assert "--now" in refused.value.remedy and await device.call("is_connected")
            assert (await swap(r, device, TWO, SwapOptions(now=True, probation_s=0.0)).run()).outcome == "committed"
            with pytest.raises(Cancelled):
                await busy
            short = asyncio.create_task(device.operate("slow", 0.2))
            await r.until_state(device, S.BUSY)
            report = await swap(r, device, COUNTER).run()
            assert await short == "done" and report.drain_s > 0
            assert device.state is S.CONNECTED

    asyncio.run(main())


FAILING = {
    "import": "import nothing_of_this_name\n" + TWO,
    "initialize": TWO + "    def initialize(self): raise HardwareError('no')\n",
    "load_state": TWO + "    def load_state(self, state, version): raise ConfigurationError('what is this')\n",
    "take_over": TWO + "    def take_over(self): raise ConnectError('not mine')\n",
    "die": TWO + "    def take_over(self): os._exit(7)\n",
    "hang": TWO + "    def take_over(self): time.sleep(60)\n",
    "deny": TWO + "    def is_connected(self): return False\n",
    "probation": TWO
    + "    def take_over(self):\n        self.link = self.open_link()\n        self.t = time.monotonic()\n"
    + "    def is_connected(self): return self.link is not None and time.monotonic() - getattr(self, 't', 0) < 0.1\n",
    "crash on probation": TWO
    + "    def take_over(self):\n        self.link = self.open_link()\n"
    + "        threading.Timer(0.1, lambda: os._exit(7)).start()\n",
}


@pytest.mark.parametrize("how", FAILING)
def test_whatever_fails_the_old_driver_has_the_device_as_before(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                await device.call("start_streaming")
                await device.operate("add", 5)
                pid = device.pid
                journal: list[str] = []

                async def write(step: str, detail: Mapping[str, Any]) -> None:
                    journal.append(step)

                options = SwapOptions(probation_s=600.0, hand_over_s=1.0, journal=write)  # whatever fails, fails in it
                with pytest.raises(SwapFailed, match="as before") as failed:
                    await swap(r, device, FAILING[how], options).run()
                assert failed.value.context["restored"] is True and failed.value.remedy
                assert journal[-1] in {"abandon", "roll_back"} and "commit" not in journal
                assert device.pid == pid and device.state is S.CONNECTED and device.manifest.version == "1"
                assert await device.operate("add") == 6
                assert (await device.call("streaming_status"))["streaming"]
                assert await seen(r, lines, "add 1") == ["hello one", "add 5", "add 1"]
                assert (await swap(r, device, TWO).run()).outcome == "committed", "and it can be tried again"

    asyncio.run(main())


def test_an_old_driver_that_does_not_let_go_keeps_the_device(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            stubborn = COUNTER + "    def save_state(self, version): raise HardwareError('not now')\n"
            device = r.adopt(stubborn, address=port())
            await device.connect()
            await device.call("start_streaming")
            with pytest.raises(SwapFailed, match="did not let go"):
                await swap(r, device, TWO).run()
            assert (await device.call("streaming_status"))["streaming"] and await device.call("name") == "one"

    asyncio.run(main())


def test_when_neither_can_have_it_the_usual_recovery_follows(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            once = COUNTER.replace(
                "def take_over(self):", "def take_over(self):\n        raise ConnectError('mine no more')"
            )
            device = r.adopt(once, address=port())
            await device.connect()
            with pytest.raises(SwapFailed, match="in error") as failed:
                await swap(r, device, FAILING["take_over"]).run()
            assert failed.value.context["restored"] is False
            await r.until(lambda: bool(r.of("host_died")))
            await device.ready_again()
            await r.until_state(device, S.CONNECTED)
            assert await device.call("name") == "one"

    asyncio.run(main())


def test_state_goes_over_in_a_version_that_both_know_or_not_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port(), state={"version": 2, "writes": [1]})
            await device.connect()
            for rule, version in (({"version": 3, "reads": [2, 1]}, 2), ({"version": 1, "reads": [3]}, None)):
                if version is None:
                    with pytest.raises(Refused, match="cannot read the state") as refused:
                        await swap(r, device, TWO, state={"version": 4}).run()
                    assert refused.value.context["saved"] == [3]
                    continue
                await swap(r, device, TWO, state=rule).run()
                assert r.of("loaded")[-1].data["version"] == version
            with pytest.raises(Refused, match="of the category"):
                await swap(r, device, TWO, category="camera", state={"version": 3}).run()

    asyncio.run(main())


def test_a_library_that_has_the_connection_makes_it_a_cold_swap(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                given = "        self.link.was_given_on = True\n"
                source = COUNTER.replace(
                    'self.NAME.encode() + b"\\n")\n    def take', f'self.NAME.encode() + b"\\n")\n{given}    def take'
                )
                device = r.adopt(source, address=path)
                await device.connect()
                assert (await swap(r, device, TWO).run()).outcome == "committed"
                await device.operate("add")
                assert await seen(r, lines, "add 1") == ["hello one", "bye one", "hello two", "add 1"]

    asyncio.run(main())


def test_two_swaps_at_once_are_one_and_a_refusal(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            hung = asyncio.Event()

            async def hold(step: str, detail: Mapping[str, Any]) -> None:
                if step == "hand_over":
                    await hung.wait()

            first = asyncio.create_task(swap(r, device, TWO, SwapOptions(probation_s=0.0, journal=hold)).run())
            await r.until(lambda: device.being_replaced)
            with pytest.raises(DeviceBusy, match="replaced already"):
                await swap(r, device, TWO).run()
            hung.set()
            assert (await first).outcome == "committed" and not device.being_replaced

    asyncio.run(main())


def test_a_call_does_not_wait_for_a_swap_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            slow = TWO + "    def load_state(self, state, version): time.sleep(0.5)\n"
            swapping = asyncio.create_task(swap(r, device, slow).run())
            await r.until(lambda: device.being_replaced)
            with pytest.raises(TimeoutExceeded):
                await device.call("name", timeout_s=0.05)
            assert (await swapping).outcome == "committed"

    asyncio.run(main())


def test_a_host_that_is_killed_on_probation_loses_nothing_but_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            old = device.pid
            swapping = asyncio.create_task(swap(r, device, TWO, SwapOptions(probation_s=5.0)).run())
            await r.until(lambda: device.pid not in {old, None} and not device.being_replaced)
            assert device.pid is not None
            os.kill(device.pid, signal.SIGKILL)
            with pytest.raises(SwapFailed) as failed:
                await swapping
            assert isinstance(failed.value.original_error, HostDied)
            assert device.pid == old and await device.call("name") == "one"

    asyncio.run(main())


def test_many_swaps_leave_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await swap(r, device, TWO, SwapOptions(probation_s=0.0)).run()
            before = descriptors()
            for number in range(30):
                await swap(r, device, COUNTER if number % 2 else TWO, SwapOptions(probation_s=0.0)).run()
            await r.until(lambda: descriptors() <= before)
            assert await device.operate("add") == 1

    asyncio.run(main())
