"""What drivers use is sampled while a session is open, and told when it is too much."""

from __future__ import annotations

import asyncio
from pathlib import Path

from vfab.apps.session import Session
from vfab.apps.watching import UsageWatch
from vfab.model.devices import DeviceInfo
from vfab.model.events import DriverEvent
from vfab.sdk.testing import troublemaker
from vfab.watch.usage import ResourceLimits


def test_a_host_that_leaks_is_warned_of_once_on_the_loop(tmp_path: Path) -> None:
    told: list[DriverEvent] = []

    async def main() -> None:
        warned = asyncio.Event()

        def hear(event: DriverEvent) -> None:
            asyncio.get_running_loop()  # raises on any other thread
            if event.event_type == "resource_warning":
                told.append(event)
                warned.set()

        async with Session.open({"VFAB_HOME": str(tmp_path)}, hear) as session:
            folder, manifest = troublemaker("LeakyDriver")
            device = session.supervisor.adopt(DeviceInfo(id="leak", bus="test", address="/dev/null"), manifest, folder)
            assert session.watch.usage("leak") is None
            await device.initialize()
            used = session.watch.usage("leak")
            assert used is not None
            assert used.memory_mb > 1
            assert used.open_files > 2
            limits = ResourceLimits(memory_mb=used.charged_mb / 2, open_files=0, cpu_percent=0)
            watch = UsageWatch(session.supervisor.devices, session._warn, limits=limits, interval_s=0.02)
            watch.start()
            await asyncio.wait_for(warned.wait(), 20)
            for _ in range(3):
                watch.sample()
            watch.close()
            await asyncio.sleep(0)
        assert session.watch.usage("leak") is None

    asyncio.run(main())
    assert [(event.device_id, event.data["resource"]) for event in told] == [("leak", "memory_mb")]


def test_devices_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with Session.open({"VFAB_HOME": str(tmp_path)}) as session:
            folder, manifest = troublemaker("SlowDriver")
            info = DeviceInfo(id="one", bus="test", address="/dev/null")
            await session.supervisor.adopt(info, manifest, folder).initialize()
            session.watch.sample()
            await session.supervisor.release("one")
            session.watch.sample()
            assert session.watch.usage("one") is None
            assert not session.watch._watched

    asyncio.run(main())
