"""Small decisions of the kernel: which device a text means, how a death is told, what a plain manager's failure is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from hosting import rig
from vfab.kernel.addresses import find_device
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.confining import ConfinementPolicy
from vfab.kernel.detection import DetectionHandler
from vfab.kernel.obituary import obituary
from vfab.kernel.plain_manager import PlainManager
from vfab.kernel.spawner import HostProcess, how_it_ended
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, ConnectError, DriverError, HostDied, LimitExceeded
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import manifest_from_dict

S = DriverState
MANIFEST = manifest_from_dict(
    {"name": "mine", "version": "1", "author": "a", "description": "d", "driver_class": "driver.D"}
)


def test_a_device_is_found_by_what_its_plugin_calls_it() -> None:
    def called(own: str, name: str) -> DeviceInfo:
        return DeviceInfo(id=own, bus="t", address=f"/dev/{own}", attributes={"device_id": name})

    devices = [called("a1", "psu"), called("a2", "scope"), called("b1", "scope")]
    assert find_device("psu", devices).id == "a1"
    with pytest.raises(ConfigurationError, match="is what plugins call 2 device ids: a2, b1"):
        find_device("scope", devices)
    with pytest.raises(ConfigurationError, match="begins 2 device ids"):
        find_device("a", devices)


@pytest.mark.parametrize("starved", [True, False])
def test_who_was_ended_for_want_of_memory_is_told_which_limit_it_was(starved: bool) -> None:
    async def main() -> DriverError:
        control, child = socket.socketpair()
        links, other = socket.socketpair()
        reader, writer = os.pipe()
        os.write(writer, b"last words\n")
        host = HostProcess(999_999_999, control, links, reader)
        host.ended(-signal.SIGKILL, starved=starved)
        for sock in (control, child, other):
            sock.close()
        os.close(writer)
        return obituary(host, await host.exited, MANIFEST, "dev")

    died = asyncio.run(main())
    assert died.context["last_lines"] == ["last words"]
    if starved:
        assert isinstance(died, LimitExceeded) and died.context["limit"] == "memory_mb"
        assert "runtime.limits.memory_mb" in died.remedy
    else:
        assert isinstance(died, HostDied) and "SIGKILL" in died.message
    assert (how_it_ended(-250), how_it_ended(3)) == ("signal 250", "exit status 3")


class Manager:
    """A manager that fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.connected = False

    def _maybe_fail(self, where: str) -> None:
        if where in self.fails.split():
            raise OSError(f"{where} failed")

    def initialize(self) -> None:
        self._maybe_fail("initialize")

    def connect(self) -> bool:
        self._maybe_fail("connect")
        self.connected = True
        return True

    def disconnect(self) -> None:
        self._maybe_fail("disconnect")
        self.connected = False

    def is_connected(self) -> bool:
        return self.connected

    def reset(self) -> None:
        self._maybe_fail("reset")


async def here(function: Any, args: tuple[Any, ...]) -> Any:
    return function(*args)


@pytest.mark.parametrize("fails", ["initialize", "connect", "connect reset"])
def test_a_manager_that_fails_says_so_and_may_be_tried_again(fails: str) -> None:
    async def main() -> None:
        manager = Manager(fails)
        plain = PlainManager(manager, here)
        for _ in range(2):
            with pytest.raises(DriverError):
                await plain.connect()
            assert plain.state is not S.CONNECTED
        manager.fails = ""
        await plain.connect()
        await plain.connect()
        assert plain.state is S.CONNECTED
        manager.fails = "disconnect"
        with pytest.raises(DriverError):
            await plain.disconnect()
        manager.fails = ""
        await plain.connect()
        await plain.disconnect()
        assert plain.state is S.DISCONNECTED and not manager.connected

    asyncio.run(main())


def test_what_the_file_says_wrongly_of_confinement_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("confinement:\n  mode: perhaps\n")
    with pytest.raises(ConfigurationError, match="mode") as refused:
        ConfinementPolicy.of({"VFAB_HOME": str(tmp_path)}, ConfigFile(file))
    assert refused.value.context["line"] == 2
    file.write_text("confinement:\n  mode: 'off'\n")
    assert ConfinementPolicy.of({"VFAB_HOME": str(tmp_path)}, ConfigFile(file)).mode == "off"


def test_a_handler_finds_no_more_and_lacks_nothing_unless_it_says_so() -> None:
    handler = DetectionHandler("plain")
    assert handler.probe(()) == [] and handler.limitation() == ""


def test_who_gives_up_waiting_while_the_device_is_closed_is_not_told_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt("class D(BaseDriver):\n    def initialize(self): time.sleep(0.5)\n")
            starting = asyncio.create_task(device.initialize())
            waiting = asyncio.create_task(device.initialize())
            await r.until_state(device, S.INITIALIZING)
            closing = asyncio.create_task(device.close())
            starting.cancel()  # in the turn in which the device's state changes
            await closing
            results = await asyncio.gather(starting, waiting, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert device.state is S.SHUTDOWN and device.pid is None
            assert not device.end_host(4711, ConnectError("a host that it never had"))

    asyncio.run(main())
