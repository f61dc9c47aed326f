"""Drivers that take all they can get: each is stopped or cut short, told in one line, and its neighbour goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hosting import alive
from vfab.apps.bench.attackers import ATTACKS, make_attacker
from vfab.apps.session import Session
from vfab.apps.watching import UsageWatch
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError
from vfab.model.events import DriverEvent
from vfab.sdk.testing import troublemaker

ENDED = {"takes memory": "memory_mb", "starts threads": "threads", "fills its folder": "state_mb"}
"""Which limit ends it."""

COUNTED = {"prints": "lines dropped", "logs": "dropped", "emits": "dropped", "tells progress": ""}
"""What is told of what was not passed on; of progress nothing is, since only the newest counts."""


@dataclass
class Street:
    """Two drivers side by side in one node."""

    attacker: ManagedDevice
    neighbour: ManagedDevice
    events: list[DriverEvent] = field(default_factory=list)

    def of(self, device: ManagedDevice, kind: str) -> list[DriverEvent]:
        return [event for event in self.events if (event.device_id, event.event_type) == (device.id, kind)]

    async def until(self, happened: object) -> None:
        async with asyncio.timeout(60):
            while not happened():  # type: ignore[operator]
                assert await self.neighbour.call("ping", timeout_s=60) == "pong"
                await asyncio.sleep(0.01)


@asynccontextmanager
async def street(home: Path) -> AsyncIterator[Street]:
    events: list[DriverEvent] = []
    async with Session.open({"VFAB_HOME": str(home)}, events.append) as session:
        folder = make_attacker(home / "plugins")
        manifest = DriverRegistry(Places.only(folder)).get("attacker").manifest
        quiet, quiet_manifest = troublemaker("SlowDriver")
        adopt = session.supervisor.adopt
        attacker = adopt(DeviceInfo(id="attacker", bus="test", address="/dev/null"), manifest, folder)
        neighbour = adopt(DeviceInfo(id="neighbour", bus="test", address="/dev/null"), quiet_manifest, quiet)
        await attacker.connect()
        await neighbour.connect()
        watch = UsageWatch(session.supervisor.devices, session._warn, session._end_host, interval_s=0.1)
        watch.start()
        try:
            yield Street(attacker, neighbour, events)
        finally:
            watch.close()


@pytest.mark.parametrize("how", ATTACKS)
def test_whatever_a_driver_does_without_end_its_neighbour_answers_and_it_can_be_stopped(
    tmp_path: Path, how: str
) -> None:
    async def main() -> None:
        async with street(tmp_path) as here:
            pid, victim = here.attacker.pid, here.neighbour.pid
            attack = asyncio.create_task(here.attacker.call("attack", how, timeout_s=3600))
            for _ in range(50):
                assert await here.neighbour.call("ping", timeout_s=60) == "pong"
            if how in ENDED or how == "dies":
                await here.until(attack.done)
                error = attack.exception()
                assert isinstance(error, DriverError)
                assert error.code == ("limit_exceeded" if how in ENDED else "host_died")
                assert error.context.get("limit") == ENDED.get(how)
                assert "\n" not in error.message
                assert pid is not None and not alive(pid)
            elif how in COUNTED:
                await here.until(
                    lambda: not COUNTED[how] or any(COUNTED[how] in f"{e.event_type} {e.data}" for e in here.events)
                )
                assert not attack.done(), "it is cut short, not ended"
            await asyncio.wait_for(here.attacker.close(), 60)
            assert pid is not None and not alive(pid)
            attack.cancel()
            await asyncio.wait([attack])
            assert (here.neighbour.pid, here.of(here.neighbour, "host_died")) == (victim, [])
            assert await here.neighbour.call("ping", timeout_s=60) == "pong"

    asyncio.run(main())


PLACES = ("import", "init", "initialize", "connect", "is_connected", "disconnect", "call")


@pytest.mark.parametrize("where", PLACES)
def test_a_driver_that_hangs_anywhere_is_ended_and_its_neighbour_does_not_wait_for_it(
    tmp_path: Path, where: str
) -> None:
    hang = "threading.Event().wait()"
    lines = ["import threading", "from vfab.sdk import BaseDriver, command", hang if where == "import" else ""]
    lines += ["class Attacker(BaseDriver):"]
    if where == "init":
        lines += ["    def __init__(self, environment):", f"        {hang}"]
    for name in ("initialize", "connect", "is_connected", "disconnect", "call"):
        lines += ["    @command"] if name == "call" else []
        lines += [f"    def {name}(self):", f"        {hang if name == where else 'return True'}"]
    folder = make_attacker(tmp_path / "plugins")
    (folder / "driver.py").write_text("\n".join(lines))
    manifest = (folder / "plugin.yaml").read_text()
    quick = "  start_timeout_s: 0.5\n  initialize_timeout_s: 0.5\n  connect_timeout_s: 0.5\n"
    (folder / "plugin.yaml").write_text(manifest.replace("runtime:\n", f"runtime:\n{quick}"))

    async def main() -> None:
        events: list[DriverEvent] = []
        async with Session.open({"VFAB_HOME": str(tmp_path)}, events.append) as session:
            given = DriverRegistry(Places.only(folder)).get("attacker").manifest
            quiet, quiet_manifest = troublemaker("SlowDriver")
            info = DeviceInfo(id="attacker", bus="test", address="/dev/null")
            attacker = session.supervisor.adopt(info, given, folder)
            neighbour = session.supervisor.adopt(
                DeviceInfo(id="neighbour", bus="test", address="/dev/null"), quiet_manifest, quiet
            )
            await neighbour.connect()
            victim = neighbour.pid

            async def use() -> None:
                await attacker.connect()
                await attacker.call("is_connected", timeout_s=0.5)
                await attacker.call("call", timeout_s=0.5)
                await attacker.disconnect()

            using = asyncio.create_task(use())
            while not using.done():
                assert await neighbour.call("ping", timeout_s=60) == "pong"
                await asyncio.sleep(0.01)
            error = using.exception()
            assert where == "disconnect" or isinstance(error, DriverError), "it is told"
            assert error is None or "\n" not in str(error)
            await asyncio.wait_for(attacker.close(), 60)
            assert attacker.pid is None
            assert neighbour.pid == victim
            assert not [e for e in events if (e.device_id, e.event_type) == ("neighbour", "host_died")]

    asyncio.run(main())
