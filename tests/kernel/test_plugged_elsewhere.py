"""A device that comes back under another node name is found by its id, and its driver goes on there."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import Rig, rig
from swaps import COUNTER
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError
from vfab.model.lifecycle import DriverState

S = DriverState


class Port:
    """A device at a node: a pseudo-terminal under a name of its own."""

    def __init__(self, node: Path) -> None:
        self.node = node
        self.lines: list[str] = []
        self._master, self._slave = pty.openpty()
        node.symlink_to(os.ttyname(self._slave))
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def unplug(self) -> None:
        self.node.unlink()
        self._over = True
        self._reader.join()  # a master that is being read stays open
        os.close(self._slave)
        os.close(self._master)

    def _read(self) -> None:
        held = b""
        while not self._over:
            if not select.select([self._master], [], [], 0.02)[0]:
                continue
            held += os.read(self._master, 4096)
            *whole, held = held.split(b"\n")
            self.lines.extend(line.decode().strip() for line in whole)


class Bus:
    """Where devices are: what a scan would find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at: Port | None = None
        self.looks = 0

    def plug(self, name: str) -> Port:
        self.at = Port(self.folder / name)
        return self.at

    async def locate(self, device: DeviceInfo) -> DeviceInfo | None:
        self.looks += 1
        if self.at is None or not self.at.node.exists():
            return None
        return msgspec.structs.replace(device, address=str(self.at.node))


@contextmanager
def bus(folder: Path) -> Iterator[Bus]:
    made = Bus(folder)
    yield made
    if made.at is not None and made.at.node.exists():
        made.at.unplug()


async def works_at(r: Rig, device: ManagedDevice, port: Port) -> None:
    """The driver has started anew at `port`, and what it is told arrives there."""
    await r.until_state(device, S.CONNECTED)
    await device.operate("add")
    await r.until(lambda: port.lines[-2:] == ["hello one", "add 1"])
    assert device.info.address == str(port.node)


@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("taken", [True, False])
def test_a_reset_goes_to_where_the_device_is_now(tmp_path: Path, noticed: bool, taken: bool) -> None:
    async def main() -> None:
        with bus(tmp_path) as b:
            async with rig(tmp_path, locate=b.locate) as r:
                old = b.plug("ttyACM0")
                device = r.adopt(COUNTER, address=str(old.node))
                await device.connect()
                await works_at(r, device, old)
                assert b.looks == 0, "nobody looks for a device that is there"
                old.unplug()
                if noticed:
                    with pytest.raises(DriverError):
                        await device.operate("add")
                    assert device.state is S.ERROR
                other = Port(tmp_path / "ttyACM0") if taken else None  # another device has its name by now
                new = b.plug("ttyACM1")
                await device.reset()
                if device.state is S.READY:
                    await device.connect()
                await works_at(r, device, new)
                assert [event.data["to"] for event in r.of("moved")] == [str(new.node)]
                if other is not None:
                    assert other.lines == [], "nothing was said to it"
                    other.unplug()

    asyncio.run(main())


@asynccontextmanager
async def unplugged(folder: Path) -> AsyncIterator[tuple[Rig, Bus, ManagedDevice]]:
    """A device that was connected, then disconnected, then unplugged."""
    with bus(folder) as b:
        async with rig(folder, locate=b.locate) as r:
            old = b.plug("ttyACM0")
            device = r.adopt(COUNTER, address=str(old.node))
            await device.connect()
            await device.disconnect()
            old.unplug()
            yield r, b, device


def test_a_connect_after_a_disconnect_finds_it_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with unplugged(tmp_path) as (r, b, device):
            new = b.plug("ttyACM1")
            await device.connect()
            await works_at(r, device, new)

    asyncio.run(main())


def test_a_driver_that_is_started_again_finds_it_too(tmp_path: Path) -> None:
    async def main() -> None:
        with bus(tmp_path) as b:
            async with rig(tmp_path, locate=b.locate) as r:
                old = b.plug("ttyACM0")
                device = r.adopt(COUNTER + "    @command\n    def die(self): os._exit(7)\n", address=str(old.node))
                await device.connect()
                old.unplug()
                new = b.plug("ttyACM1")
                with pytest.raises(DriverError):
                    await device.call("die")
                await works_at(r, device, new)

    asyncio.run(main())


def test_a_device_that_is_nowhere_is_told_to_be_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with unplugged(tmp_path) as (r, b, device):
            with pytest.raises(DriverError):
                await device.connect()
            assert b.looks and not r.of("moved")
            new = b.plug("ttyACM0")
            await device.reset()
            await device.connect()
            await works_at(r, device, new)

    asyncio.run(main())


OPENS_ITSELF = """
from vfab.dialects import DriverPlugin

class Manager:
    def __init__(self, port="", **options):
        self.port, self.file = port, None
    def connect(self):
        self.file = open(self.port, "r+b", buffering=0)
        self.file.write(b"hello one\\n")
        return True
    def disconnect(self):
        if self.file is not None:
            file, self.file = self.file, None
            file.close()
    def is_connected(self):
        return self.file is not None
    def add(self):
        self.file.write(b"add 1\\n")

class D(DriverPlugin):
    def __init__(self):
        super().__init__("mine", "1")
    def initialize(self, config):
        return True
    def get_manager_class(self):
        return Manager
"""


OPENS_ITSELF_NATIVELY = """
class D(BaseDriver):
    file = None
    def connect(self):
        self.file = open(self.device.address, "r+b", buffering=0)
        self.file.write(b"hello one\\n")
    def disconnect(self):
        if self.file is not None:
            self.file.close()
            self.file = None
    def is_connected(self): return self.file is not None
    @command
    def add(self):
        self.file.write(b"add 1\\n")
"""


AS_A_PLUGIN: dict[str, Any] = {
    "runtime": {"dialect": "driver_plugin"},
    "config_schema": {"type": "object", "properties": {"port": {"type": "string"}}},
    "commands": {"add": {"help": "Add one."}},
}


@pytest.mark.parametrize("where", ["there again", "elsewhere"])
@pytest.mark.parametrize(
    ("source", "fields"),
    [
        pytest.param(OPENS_ITSELF, AS_A_PLUGIN, id="an older shape"),
        pytest.param(OPENS_ITSELF_NATIVELY, {"permissions": {"files": ["read:/sys/bus/iio"]}}, id="files in sysfs"),
    ],
)
def test_a_driver_that_opens_its_device_itself_is_started_anew_for_another_node(
    tmp_path: Path, source: str, fields: dict[str, Any], where: str
) -> None:
    """Its host may open the node only that was there when it started: what is plugged in again is another one."""

    async def main() -> None:
        with bus(tmp_path) as b:
            async with rig(tmp_path, locate=b.locate) as r:
                old = b.plug("ttyACM0")
                device = r.adopt(source, address=str(old.node), **fields)
                await device.connect()
                await works_at(r, device, old)
                pid = device.pid
                await device.disconnect()
                await device.connect()
                await works_at(r, device, old)
                assert device.pid == pid, "nothing has changed"
                await device.disconnect()
                old.unplug()
                new = b.plug("ttyACM0" if where == "there again" else "ttyACM1")
                await device.connect()
                await works_at(r, device, new)
                held = device.confinement is not None and device.confinement.landlock_abi > 0
                assert (device.pid != pid) == (held or where == "elsewhere") and not r.of("host_died")
                assert len(r.of("moved")) == (where == "elsewhere")

    asyncio.run(main())
