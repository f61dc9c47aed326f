"""A `drv_NAME.py` as authors write it: devices of their own making, coroutines, a base that was not called."""

from __future__ import annotations

import asyncio
import textwrap
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hosting import Rig, rig
from vfab.dialects.drv_devices import as_list, described
from vfab.dialects.toolkit import BaseDeviceDriver, Device
from vfab.kernel.loader import PluginLoader
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverFailed
from vfab.sdk.testing import defaults_of

HEAD = """
import asyncio
import threading
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamData, StreamType
from sat_toolkit.models.Device_Model import Device
"""


def put(kernel: Rig, body: str, device_id: str) -> ManagedDevice:
    """A device of the driver with `body`, which its scan calls `device_id`."""
    file = kernel.folder / "drv_odd.py"
    file.write_text(HEAD + textwrap.dedent(body))
    (info,) = PluginLoader().load_from_path(file)
    device = DeviceInfo(id="dev", bus="none", address="")
    config = {**defaults_of(info.manifest), "device_id": device_id}
    return kernel.supervisor.adopt(device, info.manifest, kernel.folder, config)


# ---- devices


@dataclass
class Gauge:
    device_id: int
    channel: str = "a"


class Slotted:
    __slots__ = ("id", "name")

    def __init__(self) -> None:
        self.id, self.name = "s1", "S"


class Computed:
    @property
    def device_id(self) -> str:
        return "c1"


@pytest.mark.parametrize(
    ("device", "told"),
    [
        (Device("a", "A", "t", {"host": "h"}), ("a", "A", "t", {"host": "h"})),
        (Device("a", port=7, attributes={"host": "h"}), ("a", "", "", {"host": "h", "port": 7})),
        ({"device_id": "a", "name": "A", "port": 7}, ("a", "A", "", {"port": 7})),
        ({"id": 4, "type": "t", "attributes": {"x": 1}}, ("4", "", "t", {"x": 1})),
        (Gauge(5), ("5", "", "", {"channel": "a"})),
        (namedtuple("Pair", "id device_name")("p", "P"), ("p", "P", "", {})),
        (Slotted(), ("s1", "S", "", {})),
        (Computed(), ("c1", "", "", {})),
        ("/dev/ttyX", ("/dev/ttyX", "", "", {})),
    ],
)
def test_a_device_is_understood_whatever_its_author_made_it_of(device: Any, told: tuple[Any, ...]) -> None:
    assert tuple(described(device).values()) == told


@pytest.mark.parametrize("device", [{"name": "x"}, object(), {"device_id": ""}])
def test_a_device_without_an_id_is_told_with_what_to_return(device: Any) -> None:
    with pytest.raises(DriverFailed, match="has no device_id") as caught:
        described(device)
    assert "Device(device_id=" in caught.value.remedy


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (None, []),
        ([], []),
        ({}, []),
        (({"id": 1},), [{"id": 1}]),
        ({"id": 1}, [{"id": 1}]),
        ({"count": 2, "devices": ["a", "b"]}, ["a", "b"]),
        ("a", ["a"]),
        ({1: "a"}.values(), ["a"]),
    ],
)
def test_a_scan_may_return_one_device_none_or_a_report_of_them(returned: Any, found: list[Any]) -> None:
    assert as_list(returned) == found
    one = Device("a")
    assert as_list(one) == [one]


def test_what_a_device_is_given_besides_is_an_attribute_of_both_kinds() -> None:
    device = Device("a", channel="can0", bitrate=500)
    assert (device.channel, device.attributes) == ("can0", {"channel": "can0", "bitrate": 500})  # type: ignore[attr-defined]

    @dataclass
    class CanDevice(Device):
        channel: str = "vcan0"

    assert described(CanDevice("a"))["attributes"] == {"channel": "vcan0"}


def test_the_author_gets_back_the_device_that_the_scan_made(tmp_path: Path) -> None:
    body = """
        class Odd(BaseDeviceDriver):
            supported_commands = {"where": "Where it is"}
            def _scan_impl(self):
                return [{"device_id": "one", "port": 1}, {"device_id": "two", "port": 2}]
            def _connect_impl(self, device):
                return True
            def _command_impl(self, device, command, args=None):
                return device["port"]
        """

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            device = put(kernel, body, "two")
            await device.connect()
            assert [each["device_id"] for each in await device.call("scan")] == ["one", "two"]
            assert await device.operate("where") == 2

    asyncio.run(work())


# ---- the class


def test_the_base_is_ready_before_the_authors_init_and_leaves_the_class_as_it_is() -> None:
    class Forgetful(BaseDeviceDriver):
        supported_commands: ClassVar[dict[str, str]] = {"go": "Go"}

        def __init__(self) -> None:
            self.acquiring_at_first = self.is_acquiring.is_set()

    class Early(BaseDeviceDriver):
        def __init__(self) -> None:
            self.supported_commands = {"go": "Go"}
            super().__init__()

    assert Forgetful().supported_commands == Early().supported_commands == {"go": "Go"}
    assert not Forgetful().acquiring_at_first
    assert BaseDeviceDriver().supported_commands == {}


def test_coroutines_run_in_one_loop_and_their_errors_are_told(tmp_path: Path) -> None:
    body = """
        class Odd(BaseDeviceDriver):
            def __init__(self):
                super().__init__()
                self.supported_commands = {"start": "", "stop": "", "loop": "", "refuse": ""}
            async def _scan_impl(self):
                await asyncio.sleep(0)
                return [Device("one")]
            async def _initialize_impl(self, device):
                return True
            async def _connect_impl(self, device):
                self.made_in = asyncio.get_running_loop()
                return True
            async def _command_impl(self, device, command, args=None):
                if command == "start":
                    self.start_streaming(device)
                elif command == "stop":
                    self.stop_streaming(device)
                elif command == "loop":
                    return self.made_in is asyncio.get_running_loop()
                else:
                    raise ValueError("not today")
            async def _acquisition_loop(self):
                while self.is_acquiring.is_set():
                    self.stream_wrapper.broadcast_data(StreamData(StreamType.TICKS, "one", 0.0, data=1))
                    await asyncio.sleep(0.001)
            async def _close_impl(self, device):
                return True
        """

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            device = put(kernel, body, "one")
            await device.connect()
            assert await device.operate("loop") is True
            with pytest.raises(Exception, match="_command_impl: not today"):
                await device.operate("refuse")
            await device.operate("start")
            await kernel.until(lambda: bool(device.streams.infos))
            await device.operate("stop")
            await device.disconnect()

    asyncio.run(work())
