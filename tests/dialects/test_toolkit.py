"""Seed 002's base classes, and the names under which older plugins import them."""

from __future__ import annotations

import subprocess
import sys
import threading
from enum import IntEnum
from pathlib import Path

import pytest

from vfab.dialects import toolkit
from vfab.dialects.adapting import plain
from vfab.dialects.toolkit import BaseDeviceDriver, Device, StreamData, StreamType, StreamWrapper


def test_stream_types_grow_by_use_and_stay_the_same() -> None:
    lidar = StreamType.LIDAR
    assert lidar is StreamType.LIDAR is StreamType("lidar") is StreamType["LIDAR"]
    assert isinstance(lidar, StreamType) and (lidar.name, lidar.value, str(lidar)) == ("LIDAR", "lidar", "lidar")
    assert lidar in list(StreamType) and lidar != StreamType.CAN
    assert StreamType("my_radar") is StreamType.MY_RADAR
    with pytest.raises(AttributeError, match="upper case"):
        _ = StreamType.unheard_of
    with pytest.raises(ValueError, match="no name"):
        StreamType("no name")
    with pytest.raises(ValueError, match="7"):
        StreamType(7)


def test_a_device_needs_only_its_id_and_can_be_a_key() -> None:
    device = Device(device_id="a")
    assert (device.name, device.device_type, device.attributes) == ("", "", {})
    assert {device: 1}[Device(device_id="a")] == 1


class Author(BaseDeviceDriver):
    """What an author may write, with a loop that ends only when it is freed."""

    def __init__(self, *, stubborn: bool = False, fails: str = "") -> None:
        super().__init__()
        self.stubborn, self.fails = stubborn, fails
        self.freed = threading.Event()
        self.running = threading.Event()
        self.cleaned = 0

    def _setup_acquisition(self, device: Device) -> None:
        if self.fails == "setup":
            raise OSError("no buffer")

    def _cleanup_acquisition(self, device: Device) -> None:
        self.cleaned += 1
        self.freed.set()
        if self.fails == "cleanup":
            raise OSError("stuck")

    def _acquisition_loop(self) -> None:
        self.running.set()
        if self.fails == "loop":
            raise OSError("no data")
        while self.is_acquiring.is_set() or (self.stubborn and not self.freed.is_set()):
            self.stream_wrapper.broadcast_data(StreamData(StreamType.SENSOR, data=1))
            if self.fails == "stops itself":
                assert self.stop_streaming() is True


def test_an_acquisition_is_cleaned_up_once_by_stop_or_by_its_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "JOIN_S", 0.05)
    for driver in (Author(), Author(stubborn=True), Author(fails="cleanup"), Author(fails="stops itself")):
        assert driver.start_streaming(Device("a")) is True
        assert driver.device == Device("a")
        assert driver.running.wait(5)
        if driver.fails != "stops itself":
            assert driver.start_streaming() is False
            assert driver.stop_streaming() is True
        assert driver.freed.wait(5)
        assert driver.stop_streaming() is False
        assert driver.cleaned == 1 and driver.stream_wrapper.count > 0


def test_a_loop_that_fails_ends_the_acquisition_and_a_setup_that_fails_begins_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Author(fails="loop")
    broken.start_streaming(Device("a"))
    assert broken.freed.wait(5)
    assert not broken.is_acquiring.is_set() and "the acquisition loop failed" in caplog.text
    unprepared = Author(fails="setup")
    with pytest.raises(OSError, match="no buffer"):
        unprepared.start_streaming(Device("a"))
    assert not unprepared.is_acquiring.is_set() and unprepared.cleaned == 0


def test_what_the_author_did_not_write_is_named() -> None:
    driver, device = BaseDeviceDriver(), Device("a")
    assert driver._initialize_impl(device) and driver._reset_impl(device) and driver._close_impl(device)
    for call in (
        driver._scan_impl,
        lambda: driver._connect_impl(device),
        lambda: driver._command_impl(device, "x"),
        driver._acquisition_loop,
    ):
        with pytest.raises(NotImplementedError, match="BaseDeviceDriver has no _"):
            call()
    StreamWrapper().broadcast_data(StreamData(StreamType.CAN))


def test_what_authors_return_is_made_fit_to_be_sent() -> None:
    import datetime as dt

    import numpy as np
    from pydantic import BaseModel

    class Model(BaseModel):
        a: int = 1

    class Level(IntEnum):
        HIGH = 2

    class Text(str):
        __slots__ = ()

    class Opaque:
        def __repr__(self) -> str:
            return "<opaque>"

    loop: list[object] = []
    loop.append(loop)
    assert plain([1, 2.5, None, True, b"x", "é\ud800"]) == [1, 2.5, None, True, b"x", "é\\ud800"]
    assert plain({Level.HIGH: {1}, 3: (Level.HIGH,), 2.5: Text("t")}) == {2: [1], 3: [2], "2.5": "t"}
    assert plain(Model()) == {"a": 1} and plain(np.array([[1, 2]])) == [[1, 2]] and plain(np.float64(1.5)) == 1.5
    assert plain(np.int32(4)) == 4 and plain(bytearray(b"ab")) == b"ab" and plain(2**70) == str(2**70)
    assert plain([dt.date(2026, 1, 2), dt.timedelta(seconds=3), Path("/x")]) == ["2026-01-02", 3.0, "/x"]
    assert plain(Opaque()) == "<opaque>" and plain(Model).startswith("<class")
    assert plain(Device("a"))["device_id"] == "a"
    assert str(plain(loop)).count("[") < 40


def test_the_older_names_are_there_in_hosts_only() -> None:
    script = """
import sys, vfab.kernel.registry, vfab.dialects
for name in ("sat_toolkit", "plugin_manager"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
from vfab.dialects.names import install
install(); install(first=True); install()
from sat_toolkit.core.base_plugin import BaseDeviceDriver, BasePlugin
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.core.device_manager import DeviceDriverManager
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.models.Device_Model import Device
from plugin_manager import InstrumentDriver, PluginMetadata, driver_plugin
from vfab.model.errors import Refused
assert DeviceState.UNKNOWN.value == "unknown"
try:
    DeviceDriverManager()
except Refused as error:
    print("refused:", error.remedy)
try:
    import sat_toolkit.core.other
except ImportError:
    print("no other")
assert not hasattr(vfab.dialects, "nothing")
@driver_plugin("n", "1", "a", "d", ["m"], ["x"], dependencies=["numpy"])
class D(InstrumentDriver): ...
assert D._plugin_metadata == PluginMetadata("n", "1", "a", "d", supported_methods=["m"], supported_models=["x"],
    driver_class="__main__.D", dependencies=["numpy"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "refused: Use DeviceDriverManager in the program that uses devices, not in the plugin.",
        "no other",
    ]
