"""Plugins of every shape run in hosts of their own, under one supervisor, with the same commands."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dialect_peers import PtyPeer, TcpPeer, samples_in
from hosting import Rig, rig
from vfab.kernel.loader import PluginLoader
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DependencyError,
    DeviceNotFound,
    DriverError,
    DriverFailed,
    TimeoutExceeded,
    UnknownCommand,
)
from vfab.model.lifecycle import DriverState
from vfab.model.plugins import DriverInfo
from vfab.sdk.testing import defaults_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return samples_in(tmp_path)


def found_in(place: Path) -> dict[str, DriverInfo]:
    loader = PluginLoader(search=[str(place), str(place / "instruments")])
    return {info.name: info for info in loader.load_from_path(place)}


class Shelf(Rig):
    """A rig over the samples."""

    drivers: dict[str, DriverInfo]

    def put(self, name: str, address: str = "", config: dict[str, Any] | None = None, **more: Any) -> ManagedDevice:
        """The driver `name` for a device at `address`, configured as the kernel does."""
        info = self.drivers[name]
        self.count += 1
        device = DeviceInfo(id=f"dev{self.count}", bus="test" if address else "none", address=address, **more)
        settings = {**defaults_of(info.manifest), **(config or {})}
        return self.supervisor.adopt(device, info.manifest, Path(info.folder), settings)


@asynccontextmanager
async def shelf(place: Path) -> AsyncIterator[Shelf]:
    async with rig(place) as made:
        made.__class__ = Shelf
        assert isinstance(made, Shelf)
        made.drivers = found_in(place)
        yield made


def supply(line: str) -> str:
    """A bench supply with a memory of nothing."""
    if line == "*IDN?":
        return "Bench,PSU2,12,1.0"
    if line.startswith("VOLT? "):
        return "4.98"
    return {"LOG?": "on;off", "VOLT 2,7": "ERR 12 channel 2 is off"}.get(line, "OK")


def scale(line: str) -> str | None:
    return {"W": "12.50", "T": "OK"}.get(line)


def meter(line: str) -> str:
    return {"*IDN?": "DM,DM1,77,2.1"}.get(line, "0.25")


def test_every_shape_runs_beside_the_others_each_in_a_process_of_its_own(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(supply) as psu, PtyPeer(scale) as lab, TcpPeer(lambda line: None) as can, TcpPeer(meter) as dmm:
            async with shelf(place) as kernel:
                devices = {
                    "bench_supply": kernel.put("bench_supply", psu.address),
                    "lab_scale": kernel.put("lab_scale", lab.address),
                    "drv_can_gateway": kernel.put("drv_can_gateway", can.address),
                    "smu_2400": kernel.put("smu_2400", "GPIB0::24::INSTR"),
                    "dmm_dm1": kernel.put("dmm_dm1", dmm.address),
                }
                await asyncio.gather(*(device.connect() for device in devices.values()))
                assert len({device.pid for device in devices.values()}) == 5
                for device in devices.values():
                    assert await device.call("is_connected") is True
                    report = await device.operate("test_connection")
                    assert report["success"] is True and report["message"]
                assert await devices["bench_supply"].operate("set_voltage", volts=5.0) == 4.98
                assert await devices["lab_scale"].operate("weigh", samples=2) == {"weight": 12.5, "unit": "g"}
                assert await devices["drv_can_gateway"].operate("send", id=291, data="beef") == "Sent 0x123"
                swept = await devices["smu_2400"].operate("measure", "iv_sweep", {"start": 0, "stop": 2})
                assert swept == {"voltage": [0.0, 1.0, 2.0], "current": [0.0, 0.001, 0.002], "compliance": 0.1}
                assert (await devices["dmm_dm1"].operate("measure", "resistance", count=2))["values"] == [0.25, 0.25]
                await kernel.until(lambda: can.lines == ["123#beef"])
                assert "VOLT 1,5.0" in psu.lines
                await asyncio.gather(*(device.disconnect() for device in devices.values()))

    asyncio.run(work())


# ---- 001 §7: DriverPlugin


def test_a_driver_plugins_manager_says_what_is_wrong_in_its_own_words(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(supply) as psu:
            async with shelf(place) as kernel:
                device = kernel.put("bench_supply", psu.address, {"max_voltage": 12.0})
                await device.connect()
                with pytest.raises(
                    ConfigurationError, match=r"set_voltage: 40 V is above the limit of 12.0 V"
                ) as caught:
                    await device.operate("set_voltage", volts=40)
                assert caught.value.context == {"dialect": "driver_plugin", "method": "set_voltage"}
                assert device.state is DriverState.CONNECTED, "a value that was refused breaks nothing"
                with pytest.raises(ConfigurationError, match="volts"):
                    await device.operate("set_voltage", vots=40)
                assert await device.operate("ramp", steps="[1, 2]") == {"mode": "linear", "reached": [4.98, 4.98]}
                with pytest.raises(ConfigurationError, match="write JSON"):
                    await device.operate("ramp", steps="1 and 2")
                assert await device.operate("command_log") == ["on", "off"]
                assert await device.operate("call_method", "read_voltage", '{"channel": 2}') == 4.98
                with pytest.raises(UnknownCommand, match="_ask"):
                    await device.operate("call_method", "_ask", {"line": "x"})
                told = await device.call("get_info")
                assert (told["type"], told["description"]) == ("driver_plugin", "Programmable bench supply")
                await device.reset()
                assert device.state is DriverState.CONNECTED and "*RST" in psu.lines
                with pytest.raises(DriverFailed, match="SupplyError in set_voltage: ERR 12 channel 2 is off"):
                    await device.operate("set_voltage", volts=7, channel=2)
                assert device.state is DriverState.ERROR

    asyncio.run(work())


def test_a_manager_that_cannot_connect_or_refuses_its_settings_is_told(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            unreachable = kernel.put("bench_supply", "tcp://127.0.0.1:1")
            with pytest.raises(ConnectError, match=r"its connect\(\) returned False") as caught:
                await unreachable.connect()
            assert caught.value.context["returned"] is False
            said = [event.data["message"] for event in kernel.of("log")]
            assert any("Cannot reach supply at 127.0.0.1:1" in line for line in said), said
            refused = kernel.put("bench_supply", "tcp://127.0.0.1:1", {"channels": 5})
            with pytest.raises(ConfigurationError, match=r"initialize\(\) refused the configuration"):
                await refused.initialize()

    asyncio.run(work())


def test_a_link_that_breaks_in_a_command_puts_the_device_into_error_and_reset_brings_it_back(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(supply) as psu:
            async with shelf(place) as kernel:
                device = kernel.put("bench_supply", psu.address)
                await device.connect()
                psu.hang_up()
                with pytest.raises(ConnectError, match=r"supply closed the connection|Broken pipe"):
                    await device.operate("read_voltage")
                assert device.state is DriverState.ERROR
                await device.reset()
                await device.connect()
                assert await device.operate("read_voltage") == 4.98

    asyncio.run(work())


def test_a_setting_that_somebody_chose_wins_over_the_devices_address(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(supply) as psu, TcpPeer(supply) as other:
            async with shelf(place) as kernel:
                port = int(other.address.rpartition(":")[2])
                device = kernel.put("bench_supply", psu.address, {"port": port})
                await device.connect()
                assert other.connected.is_set() and not psu.connected.is_set()

    asyncio.run(work())


# ---- 001 §2: the functions


def test_the_scales_pydantic_settings_refuse_in_pydantics_words(place: Path) -> None:
    async def work() -> None:
        with PtyPeer(scale) as lab:
            async with shelf(place) as kernel:
                device = kernel.put("lab_scale", lab.address, {"baudrate": 1200})
                with pytest.raises(ConfigurationError, match="the scale does not know 1200 baud"):
                    await device.connect()
                silent = kernel.put("lab_scale", lab.address, {"timeout": 0.05, "unit": "oz"})
                await silent.connect()
                assert (await silent.operate("weigh"))["unit"] == "oz"

    asyncio.run(work())


def test_a_manager_with_a_thread_works_and_a_silent_device_is_a_timeout(place: Path) -> None:
    async def work() -> None:
        answers = ["1.0"] * 3
        with PtyPeer(lambda line: answers.pop() if answers else None) as lab:
            async with shelf(place) as kernel:
                device = kernel.put("lab_scale", lab.address, {"timeout": 0.1})
                await device.connect()
                await device.operate("watch", count=2)
                while await device.call("watched") != [1.0, 1.0]:
                    await asyncio.sleep(0.01)
                assert await device.operate("weigh") == {"weight": 1.0, "unit": "g"}
                with pytest.raises(TimeoutExceeded, match="the scale did not answer b'W'"):
                    await device.operate("weigh")

    asyncio.run(work())


def test_a_serial_port_that_is_not_there_is_a_failed_connection(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            device = kernel.put("lab_scale", "/dev/no_such_port")
            with pytest.raises(ConnectError, match="no_such_port"):
                await device.connect()

    asyncio.run(work())


def test_what_is_not_installed_is_told_with_the_authors_instructions(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            device = kernel.put("needs_more", "tcp://127.0.0.1:1")
            with pytest.raises(DependencyError) as caught:
                await device.connect()
            assert caught.value.remedy == "Ask the vendor for a_library_that_nobody_has"
            assert "a_library_that_nobody_has" in caught.value.message
            away = kernel.put("not_here", "tcp://127.0.0.1:1")
            with pytest.raises(DependencyError) as caught:
                await away.connect()
            assert caught.value.remedy == "Buy the licence"

    (place / "single" / "not_here.py").write_text(
        """
def is_not_here_available():
    return False

def get_not_here_install_instructions():
    return "Buy the " + "licence"

def create_not_here_manager(**kwargs):
    raise ImportError("not here")
"""
    )
    asyncio.run(work())


# ---- 002: drv_NAME.py


def test_a_drv_module_streams_until_it_is_stopped_and_its_commands_are_its_own(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(lambda line: None) as can:
            async with shelf(place) as kernel:
                device = kernel.put("drv_can_gateway", can.address)
                await device.connect()
                assert await device.operate("start") == "Started streaming"
                await asyncio.to_thread(can.connected.wait, 5)
                can.send("123#beef")
                can.send("701#00")
                await kernel.until(lambda: bool(device.streams.infos))
                reader = device.streams.reader(oldest=True)
                await kernel.until(lambda: reader.waiting == 2)
                first, second = reader.read_many()
                assert first.data == {"id": 0x123, "data": b"\xbe\xef"}
                said = first.meta
                assert (said["stream_type"], said["source"], said["action"]) == ("can", "server", "data")
                assert said["channel"] == device.info.address and first.time_s > 1.7e9
                assert second.meta["stream_type"] == "can_diagnostic"
                assert await device.operate("status") == "sent=0 acquiring=True"
                assert await device.operate("stop") == "Stopped streaming"
                assert await device.call("stop_streaming") is False
                said = [event.data["message"] for event in kernel.of("log")]
                assert "acquisition cleaned up" in said
                assert await device.operate("execute_command", "send", '{"id": 5, "data": "01"}') == "Sent 0x5"
                assert await device.operate("command_reset") == "Reset"
                assert await device.operate("status") == "sent=0 acquiring=False"

    asyncio.run(work())


def test_a_drv_modules_errors_come_in_its_words(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(lambda line: None) as can:
            async with shelf(place) as kernel:
                device = kernel.put("drv_can_gateway", can.address)
                await device.connect()
                with pytest.raises(ConfigurationError, match="_command_impl: CAN id 0x800 has more than 11 bits"):
                    await device.operate("send", id=0x800)
                with pytest.raises(UnknownCommand, match="'fly'") as caught:
                    await device.operate("execute_command", "fly")
                assert caught.value.context["known"] == ["reset", "send", "start", "status", "stop"]
                assert device.state is DriverState.CONNECTED
                with pytest.raises(DriverFailed, match="TypeError in _command_impl"):
                    await device.operate("send")
                unreachable = kernel.put("drv_can_gateway", "tcp://127.0.0.1:1")
                with pytest.raises(ConnectError, match="refused"):
                    await unreachable.connect()

    asyncio.run(work())


def test_a_drv_modules_own_scan_is_asked_and_its_device_chosen_by_name(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            chosen = kernel.put("drv_can_gateway", "", {"device_id": "gw1"})
            await chosen.initialize()
            found = await chosen.call("scan")
            assert [device["device_id"] for device in found] == ["gw0", "gw1", "bare"]
            assert found[2] == {"device_id": "bare", "name": "", "device_type": "", "attributes": {}}
            with pytest.raises(DriverError, match="KeyError in _connect_impl"):
                await chosen.connect()  # the scan's device has no host: the author's code finds that out
            with pytest.raises(DeviceNotFound, match="found gw0, gw1, bare, and not gw7"):
                await kernel.put("drv_can_gateway", "", {"device_id": "gw7"}).initialize()
            nobody = kernel.put("drv_can_gateway")
            await nobody.initialize()
            assert len(await nobody.call("scan")) == 3
            with pytest.raises(DeviceNotFound, match="found gw0, gw1, bare"):
                await nobody.connect()

    asyncio.run(work())


# ---- 004: InstrumentDriver


def test_abort_ends_a_measurement_that_runs_and_a_cancel_does_the_same(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            smu = kernel.put("smu_2400", "GPIB0::24::INSTR")
            await smu.connect()
            hold = asyncio.create_task(smu.operate("measure", "hold", {"seconds": 30}, timeout_s=60))
            await kernel.until_state(smu, DriverState.BUSY)
            while not hold.done():  # the call may not have begun to wait yet
                await smu.call("abort")
                await asyncio.wait({hold}, timeout=0.02)
            assert await hold == {"aborted": True}
            assert (await smu.call("get_status"))["connected"] is True

            pid = smu.pid
            hold = asyncio.create_task(smu.operate("measure", "hold", params='{"seconds": 30}', timeout_s=60))
            await kernel.until_state(smu, DriverState.BUSY)
            await asyncio.sleep(0.05)
            hold.cancel()
            with pytest.raises((asyncio.CancelledError, Cancelled)):
                await hold
            assert await smu.operate("get_capabilities") == ["iv_sweep", "hold"]
            assert smu.pid == pid, "the driver was not ended for it"

    asyncio.run(work())


def test_an_instruments_refusals_and_failures_are_told_apart(place: Path) -> None:
    async def work() -> None:
        with TcpPeer(meter) as peer:
            async with shelf(place) as kernel:
                smu = kernel.put("smu_2400", "GPIB0::24::INSTR", {"compliance_a": 0.5})
                await smu.connect()
                with pytest.raises(ConfigurationError, match="configure: Method 'fly' is not supported"):
                    await smu.operate("configure", "fly", {})
                await smu.operate("configure", method="hold", params="{}")
                assert (await smu.call("get_status"))["method"] == "hold"
                with pytest.raises(DriverFailed, match="KeyError in measure"):
                    await smu.operate("measure", "iv_sweep")
                nowhere = kernel.put("smu_2400", "nowhere")
                with pytest.raises(ConnectError, match=r"nowhere: its connect\(\) returned False"):
                    await nowhere.connect()
                named = kernel.put("dmm_dm1", "COM7", {"resource_name": peer.address})
                await named.connect()
                assert (await named.call("get_identity"))["serial"] == "77"
                await named.operate("set_range", volts=20)
                assert "RANG 20" in peer.lines
                await named.reset()
                assert "*RST" in peer.lines

    asyncio.run(work())


def test_a_plugin_may_be_a_package_and_an_instrument_may_have_a_native_manifest(place: Path) -> None:
    package = place / "kettles" / "kettle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from vfab.dialects import DriverPlugin\n"
        "from .water import Manager\n"
        "class Kettle(DriverPlugin):\n"
        "    def __init__(self): super().__init__('kettle', '1')\n"
        "    def initialize(self, config): return True\n"
        "    def get_manager_class(self): return Manager\n"
    )
    (package / "water.py").write_text(
        "class Manager:\n"
        "    def connect(self): return True\n"
        "    def disconnect(self): pass\n"
        "    def boil(self, seconds: int): return seconds * 2\n"
    )
    native = place / "native"
    native.mkdir()
    shutil.copy(place / "instruments" / "vendor" / "smu.py", native / "smu.py")
    (native / "plugin.yaml").write_text(
        'name: native\nversion: "1"\nauthor: a\ndescription: d\ndriver_class: smu.SourceMeter\n'
        "commands: {get-status: {help: Its status, concurrent: true}}\n"
    )

    async def work() -> None:
        async with shelf(place) as kernel:
            kettle = kernel.put("kettle", "tcp://127.0.0.1:1")
            await kettle.connect()
            assert await kettle.operate("call_method", "boil", {"seconds": 4}) == 8
            smu = kernel.put("native", "GPIB0::1::INSTR")
            assert smu.manifest.runtime.dialect == "native"
            await smu.connect()
            assert (await smu.call("get_status"))["connected"] is True
            assert smu.handshake is not None and {"get_status", "abort"} <= set(smu.handshake.concurrent)

    asyncio.run(work())


# ---- plugins that do not work


def test_a_plugin_that_cannot_be_imported_is_told_and_hides_nobody(place: Path) -> None:
    async def work() -> None:
        async with shelf(place) as kernel:
            broken = kernel.put("raises", "tcp://127.0.0.1:1")
            with pytest.raises(DriverFailed, match="must not be run by whoever looks"):
                await broken.connect()
            good = kernel.put("smu_2400", "GPIB0::24::INSTR")
            await good.connect()

    asyncio.run(work())
