"""Swaps killed, cancelled, refused their journal, or hurried at every step: one driver has the device after."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hosting import Rig, rig
from swaps import COUNTER, QUICK, TWO, hosts_of, instrument, port, seen, swap
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.swap import SwapOptions
from vfab.model.errors import DriverFailed, HostDied, Refused, SwapFailed, TimeoutExceeded
from vfab.model.lifecycle import DriverState

S = DriverState
STEPS = ("prepare", "drain", "hand_over", "cut")
PATIENT = SwapOptions(probation_s=0.02, drain_s=60.0)


async def owned_by_one(r: Rig, device: ManagedDevice, *names: str) -> None:
    """The device is connected, by one driver, in the only process that there is."""
    await device.ready_again()
    await r.until_state(device, S.CONNECTED)
    assert await device.call("name") in names
    await r.until(lambda: hosts_of(r) == [device.pid])


def journal_that(step: str, act: Any) -> SwapOptions:
    """Options with a journal that does something before it writes `step`."""

    async def write(now: str, detail: Mapping[str, Any]) -> None:
        if now == step:
            act()

    return SwapOptions(probation_s=0.02, drain_s=60.0, journal=write)


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", STEPS)
def test_the_old_host_is_killed_before_it_let_go(tmp_path: Path, step: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            old = device.pid
            assert old is not None
            options = journal_that(step, lambda: os.kill(old, signal.SIGKILL))
            try:
                await swap(r, device, TWO, options).run()
            except (Refused, SwapFailed) as error:  # else the driver was up again before it was its turn
                assert not error.context.get("restored")
            await owned_by_one(r, device, "one", "two")
            assert (await swap(r, device, TWO).run()).outcome == "committed"

    asyncio.run(main())


def test_the_old_host_is_killed_while_it_lets_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER + "    def save_state(self, version): os._exit(7)\n", address=port())
            await device.connect()
            with pytest.raises(SwapFailed, match="did not let go") as failed:
                await swap(r, device, TWO, PATIENT).run()
            assert failed.value.context["restored"] is False
            assert isinstance(failed.value.original_error, HostDied)
            await owned_by_one(r, device, "one")

    asyncio.run(main())


def test_the_end_of_a_host_that_has_let_go_is_nothing_to_the_device(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path, safe_stop=["stop"])
                await device.connect()
                old, go_on = device.pid, tmp_path / "go on"
                waits = (
                    f"        self.emit('holds')\n        while not Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
                )
                source = TWO.replace(
                    "def load_state(self, state, version):\n", f"def load_state(self, state, version):\n{waits}"
                )
                swapping = asyncio.create_task(swap(r, device, source, PATIENT, safe_stop=["stop"]).run())
                await r.until(lambda: bool(r.of("holds")))
                assert old is not None
                os.kill(old, signal.SIGKILL)
                await r.until(lambda: old not in hosts_of(r))
                await asyncio.sleep(0.1)  # the kernel has seen it, too, and would have started another
                go_on.touch()
                assert (await swapping).outcome == "committed"
                assert not r.of("host_died") and device.state is S.CONNECTED
                await device.operate("add")
                assert await seen(r, lines, "add 1") == ["hello one", "add 1"], "no safe_stop went out"
                await owned_by_one(r, device, "two")

    asyncio.run(main())


def test_a_host_that_died_after_it_let_go_cannot_have_it_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            old = device.pid
            slow = "        self.emit('takes')\n        time.sleep(0.3)\n        raise ConnectError('no')\n"
            source = f"{TWO}    def take_over(self):\n{slow}"
            swapping = asyncio.create_task(swap(r, device, source, PATIENT).run())
            await r.until(lambda: bool(r.of("takes")))
            assert old is not None
            os.kill(old, signal.SIGKILL)
            with pytest.raises(SwapFailed, match="in error") as failed:
                await swapping
            assert failed.value.context["restored"] is False
            await owned_by_one(r, device, "one")

    asyncio.run(main())


@pytest.mark.parametrize("step", [*STEPS, "commit"])
def test_a_full_disk_at_any_step_leaves_the_old_driver_with_the_device(tmp_path: Path, step: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.operate("add", 4)
            channel = await device.open_channel()
            with pytest.raises(SwapFailed, match="No space left") as failed:
                await swap(r, device, TWO, journal_that(step, no_space)).run()
            assert failed.value.context["restored"] is True and "room" in failed.value.remedy
            assert await device.operate("add") == 5 and await device.call("name") == "one"
            assert await asyncio.to_thread(channel.call, "name") == "one"
            await owned_by_one(r, device, "one")
            assert (await swap(r, device, TWO).run()).outcome == "committed"
            assert await asyncio.to_thread(channel.call, "add") == 6
            channel.close()

    asyncio.run(main())


def test_a_roll_back_that_cannot_be_written_down_happens(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            source = TWO + "    def take_over(self): raise ConnectError('not mine')\n"
            with pytest.raises(SwapFailed, match="not mine") as failed:
                await swap(r, device, source, journal_that("roll_back", no_space)).run()
            assert failed.value.context["restored"] is True
            await owned_by_one(r, device, "one")

    asyncio.run(main())


@pytest.mark.parametrize("step", [*STEPS, "load_state", "probation", "commit"])
def test_a_swap_that_is_cancelled_at_any_step_is_undone_or_done(tmp_path: Path, step: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.operate("add", 4)
            tasks: list[asyncio.Task[Any]] = []
            options = journal_that(step, lambda: [task.cancel() for task in tasks])
            if step == "probation":
                options = SwapOptions(probation_s=600.0)
            slow = "        self.emit('loads')\n        time.sleep(0.3)\n        self.count"
            source = TWO.replace("        self.count", slow, 1) if step == "load_state" else TWO
            tasks.append(asyncio.create_task(swap(r, device, source, options).run()))
            if step == "load_state":
                await r.until(lambda: bool(r.of("loads")))
                tasks[0].cancel()
            if step == "probation":
                await r.until(lambda: device.manifest.version == "2")
                tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert await device.operate("add") == 5
            await owned_by_one(r, device, "two" if step == "commit" else "one")

    asyncio.run(main())


@pytest.mark.parametrize("how", ["disconnect", "close"])
def test_whoever_lets_go_of_the_device_does_not_wait_for_a_safe_point(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            busy = asyncio.create_task(device.operate("slow", 600.0, timeout_s=0.0))
            await r.until_state(device, S.BUSY)
            swapping = asyncio.create_task(swap(r, device, TWO, SwapOptions(drain_s=600.0)).run())
            await r.until(lambda: device.being_replaced)
            await getattr(device, how)()
            assert device.state is (S.DISCONNECTED if how == "disconnect" else S.SHUTDOWN)
            with pytest.raises(Refused, match="meanwhile"):
                await swapping
            await asyncio.wait([busy])
            assert busy.exception() is not None

    asyncio.run(main())


def test_whoever_lets_go_of_the_device_ends_the_probation(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            swapping = asyncio.create_task(swap(r, device, TWO, SwapOptions(probation_s=600.0)).run())
            await r.until(lambda: device.manifest.version == "2" and not device.being_replaced)
            await device.disconnect()
            assert (await swapping).outcome == "committed" and device.state is S.DISCONNECTED
            await device.connect()
            assert await device.call("name") == "two"

    asyncio.run(main())


def test_a_device_that_is_let_go_of_while_the_new_driver_is_prepared_stays_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            source = TWO + "    def initialize(self):\n        self.emit('prepares')\n        time.sleep(0.3)\n"
            swapping = asyncio.create_task(swap(r, device, source, PATIENT).run())
            await r.until(lambda: bool(r.of("prepares")))
            await device.disconnect()
            with pytest.raises(Refused, match="disconnected"):
                await swapping
            assert device.state is S.DISCONNECTED
            await device.connect()
            await owned_by_one(r, device, "one")

    asyncio.run(main())


def test_a_device_that_was_unplugged_is_nothing_to_swap(tmp_path: Path) -> None:
    async def main() -> None:
        master, slave = pty.openpty()
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=os.ttyname(slave))
            await device.connect()
            os.close(slave)
            os.close(master)
            with pytest.raises(Refused, match="any more") as refused:
                await swap(r, device, TWO).run()
            assert "reset" in refused.value.remedy
            assert await device.call("name") == "one"

    asyncio.run(main())


HANGING = {
    "load": "time.sleep(600)\n" + TWO,
    "construct": TWO + "    def __init__(self, *args): time.sleep(600)\n",
    "prepare": TWO + "    def initialize(self): time.sleep(600)\n",
    "load_state": TWO + "    def load_state(self, state, version): time.sleep(600)\n",
    "is_connected": TWO + "    def is_connected(self): time.sleep(600)\n",
}


@pytest.mark.parametrize("where", HANGING)
def test_a_new_driver_that_hangs_is_ended_and_the_old_one_goes_on(tmp_path: Path, where: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            await device.operate("add", 4)
            runtime = {"start_timeout_s": 1.0, "initialize_timeout_s": 1.0}
            options = SwapOptions(probation_s=0.02, hand_over_s=1.0)
            with pytest.raises(SwapFailed, match="as before") as failed:
                await swap(r, device, HANGING[where], options, runtime=runtime).run()
            assert isinstance(failed.value.original_error, TimeoutExceeded)
            assert await device.operate("add") == 5
            await owned_by_one(r, device, "one")

    asyncio.run(main())


def test_an_old_driver_that_hangs_when_it_should_let_go_is_ended_and_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            once = tmp_path / "once"
            hangs = (
                f"    def save_state(self, version):\n        if Path({str(once)!r}).exists(): return {{'count': 0}}\n"
            )
            hangs += f"        Path({str(once)!r}).touch()\n        time.sleep(600)\n"
            device = r.adopt(COUNTER + hangs, address=port())
            await device.connect()
            with pytest.raises(SwapFailed, match="did not let go") as failed:
                await swap(r, device, TWO, SwapOptions(hand_over_s=0.5)).run()
            assert failed.value.context["restored"] is False
            await owned_by_one(r, device, "one")
            assert (await swap(r, device, TWO).run()).outcome == "committed"

    asyncio.run(main())


def test_a_second_operation_that_waits_for_its_turn_is_handed_over_too(tmp_path: Path) -> None:
    async def main() -> None:
        with instrument() as (path, lines):
            async with rig(tmp_path) as r:
                device = r.adopt(COUNTER, address=path)
                await device.connect()
                enough = tmp_path / "enough"
                plots = [asyncio.create_task(device.operate("steps", str(enough), timeout_s=0.0)) for _ in range(2)]
                await seen(r, lines, "step 3")
                assert (await swap(r, device, TWO, PATIENT).run()).outcome == "committed"
                enough.touch()
                steps = sum(await asyncio.gather(*plots))
                await r.until(lambda: sum(line.startswith("step") for line in lines) >= steps)  # read by a thread
                assert sum(line.startswith("step") for line in lines) == steps

    asyncio.run(main())


def test_a_synchronous_call_that_lasts_has_the_swap_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            channel, closed = await device.open_channel(), await device.open_channel()
            closed.close()
            busy = asyncio.create_task(asyncio.to_thread(channel.call, "slow", 1.0))
            await asyncio.to_thread(lambda: [None for _ in iter(lambda: channel.hold(0.0), False) if channel.let_go()])
            with pytest.raises(Refused, match="still at work"):
                await swap(r, device, TWO, SwapOptions(hand_over_s=0.1)).run()
            assert await busy == "done" and await asyncio.to_thread(channel.call, "name") == "one"
            assert (await swap(r, device, TWO).run()).outcome == "committed"
            assert await asyncio.to_thread(channel.call, "name") == "two"
            with pytest.raises(HostDied):
                closed.call("name")
            channel.close()

    asyncio.run(main())


LINES = """
class D(BaseDriver):
    link = None
    def connect(self): self.link = self.open_link()
    def disconnect(self):
        if self.link is not None: self.close_link(self.link)
    def is_connected(self): return self.link is not None
    def save_state(self, version): return {"key": bytes(range(256)), "folder": str(self.environment.state_dir)}
    def load_state(self, state, version): self.emit("loaded", **state)
    @command
    def line(self, timeout_s=0.05):
        try:
            return self.link.read_until(timeout_s=timeout_s).decode()
        except TimeoutExceeded:
            return None
    @command
    def settings(self): return dict(self.config)
    @command
    def folder(self): return str(self.environment.state_dir)
"""


def test_what_came_and_was_not_read_and_bytes_in_the_state_go_over(tmp_path: Path) -> None:
    async def main() -> None:
        master, slave = pty.openpty()
        async with rig(tmp_path) as r:
            device = r.adopt(LINES, address=os.ttyname(slave))
            await device.connect()
            os.write(master, b"half a ")
            assert await device.call("line") is None
            assert (await swap(r, device, LINES).run()).outcome == "committed"
            os.write(master, b"line\n")
            assert await device.call("line", 20.0) == "half a line\n"
            assert r.of("loaded")[-1].data["key"] == bytes(range(256))
            await device.disconnect()
        os.close(slave)
        os.close(master)

    asyncio.run(main())


def test_limits_are_no_settings_and_each_driver_has_its_own_folder(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, state_root=tmp_path / "state") as r:
            device = r.adopt(LINES, address=port())
            await device.connect()
            job = swap(r, device, LINES, name="other")
            job = type(job)(
                device,
                job._plugin.manifest,
                job._plugin.folder,
                {"colour": "red", "runtime": {"limits": {"threads": 77}}},
                options=QUICK,
            )
            assert (await job.run()).outcome == "committed"
            assert device.manifest.runtime.limits.threads == 77
            assert await device.call("settings") == {"colour": "red"}
            own = str(tmp_path / "state" / "other" / device.id)
            assert await device.call("folder") == own != r.of("loaded")[-1].data["folder"]

    asyncio.run(main())


BALLAST = COUNTER.replace(
    """        return done
    def reach""",
    """        return done
    @command
    def carry(self, size, carried="", by=""):
        if carried:
            return len(carried), by, self.NAME
        self.emit("carries")
        while not self.wanted:
            time.sleep(0.002)
            self.checkpoint()
        raise HandedOver("all of it", context={"kwargs": {"carried": "x" * size, "by": self.NAME}})
    def reach""",
)


@pytest.mark.parametrize("size", [1_000_000, 14_000_000])
def test_what_an_operation_goes_on_with_arrives_whole_or_is_told_to_be_too_large(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(BALLAST, address=port())
            await device.connect()
            carrying = asyncio.create_task(device.operate("carry", size, timeout_s=0.0))
            await r.until(lambda: bool(r.of("carries")))
            swapped = swap(r, device, BALLAST.replace('NAME = "one"', 'NAME = "two"'), PATIENT)
            if size < 12 << 20:
                assert (await swapped.run()).outcome == "committed"
                assert await carrying == [size, "one", "two"]
            else:
                with pytest.raises(Refused, match="is error"):
                    await swapped.run()
                with pytest.raises(DriverFailed, match="too large"):
                    await carrying

    asyncio.run(main())
