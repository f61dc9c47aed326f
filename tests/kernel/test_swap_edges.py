"""Swaps that go wrong in the middle: a journal that refuses, a driver without safe points, trouble on probation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hosting import rig
from swaps import COUNTER, TWO, port, swap
from vfab.kernel.swap import SwapOptions
from vfab.model.errors import LinkLost, Refused, SwapFailed
from vfab.model.lifecycle import DriverState

S = DriverState
LOSES = "    @command\n    def lose(self): raise LinkLost('unplugged')\n"
TAKES_NOTHING_BACK = COUNTER.replace(
    "def take_over(self):", "def take_over(self):\n        raise ConnectError('mine no more')"
)


def test_a_journal_that_refuses_a_step_is_heard_in_its_own_words(tmp_path: Path) -> None:
    async def refuse(step: str, detail: Mapping[str, Any]) -> None:
        if step == "drain":
            raise Refused("not on a Sunday")

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(COUNTER, address=port())
            await device.connect()
            with pytest.raises(Refused, match="not on a Sunday"):
                await swap(r, device, TWO, SwapOptions(journal=refuse)).run()
            assert await device.call("name") == "one" and not device.being_replaced

    asyncio.run(main())


def test_a_driver_that_cannot_say_where_its_safe_point_is_is_waited_for(tmp_path: Path) -> None:
    mute = COUNTER.replace(
        "        self.wanted = True\n        return True\n", "        raise HardwareError('where?')\n"
    )
    assert mute != COUNTER

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(mute, address=port())
            await device.connect()
            enough = tmp_path / "enough"
            busy = asyncio.create_task(device.operate("steps", str(enough), timeout_s=60.0))
            await r.until_state(device, S.BUSY)
            swapping = asyncio.create_task(swap(r, device, TWO, SwapOptions(probation_s=0.0)).run())
            await r.until(lambda: device.being_replaced)
            await asyncio.sleep(0.1)  # it is asked at once, and refuses
            enough.touch()
            assert (await swapping).outcome == "committed"
            assert await busy > 0 and await device.call("name") == "two"

    asyncio.run(main())


async def fails_on_probation(r: Any, old: str, tmp_path: Path) -> tuple[Any, SwapFailed]:
    """A swap of `old` for a driver that loses its device while it is watched."""
    device = r.adopt(old, address=port())
    await device.connect()
    swapping = asyncio.create_task(swap(r, device, TWO + LOSES, SwapOptions(probation_s=60.0)).run())
    await r.until(lambda: device.manifest.version == "2" and not device.being_replaced)
    with pytest.raises(LinkLost):
        await device.operate("lose")
    with pytest.raises(SwapFailed) as failed:
        await swapping
    return device, failed.value


def test_a_driver_that_loses_the_device_on_probation_is_rolled_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device, failed = await fails_on_probation(r, COUNTER, tmp_path)
            assert isinstance(failed.original_error, LinkLost) and failed.context["restored"] is True
            await device.ready_again()
            await r.until_state(device, S.CONNECTED)
            assert device.manifest.version == "1" and await device.call("name") == "one"

    asyncio.run(main())


def test_when_the_old_driver_cannot_have_it_back_after_the_cut_it_is_started_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device, failed = await fails_on_probation(r, TAKES_NOTHING_BACK, tmp_path)
            assert failed.context["restored"] is False and "in error" in failed.message
            await r.until(lambda: bool(r.of("host_died")))
            await device.ready_again()
            await r.until_state(device, S.CONNECTED)
            assert device.manifest.version == "1" and await device.operate("add") == 1

    asyncio.run(main())


ASYNC = """
class D(BaseDriver):
    link = None
    count = 0
    async def connect(self):
        await asyncio.sleep(0)
        self.link = self.open_link()
    async def take_over(self):
        await asyncio.sleep(0)
        self.link = self.open_link()
    async def disconnect(self):
        await asyncio.sleep(0)
        if self.link is not None:
            link, self.link = self.link, None
            self.close_link(link)
    def is_connected(self): return self.link is not None
    async def save_state(self, version):
        await asyncio.sleep(0)
        return {"count": self.count}
    async def load_state(self, state, version):
        await asyncio.sleep(0)
        self.count = state["count"]
    @command
    async def add(self):
        self.count += 1
        return self.count
"""


def test_drivers_whose_methods_are_async_are_replaced_likewise(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ASYNC, address=port())
            await device.connect()
            assert await device.operate("add") == 1
            for count in (2, 3):
                assert (await swap(r, device, ASYNC).run()).outcome == "committed"
                assert await device.operate("add") == count

    asyncio.run(main())
