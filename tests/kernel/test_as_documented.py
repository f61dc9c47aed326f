"""What the documents construct with a name, or with nothing, is constructed so; it then speaks of this machine."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from vfab.kernel.async_manager import AsyncDriverManager
from vfab.kernel.config import ConfigurationManager
from vfab.kernel.detector import DeviceDetector
from vfab.kernel.registry import DriverRegistry
from vfab.model.errors import DriverNotFound
from vfab.model.lifecycle import DriverState
from vfab.watch.usage import ResourceMonitor


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VFAB_HOME", str(tmp_path))
    monkeypatch.delenv("VFAB_PLUGIN_PATH", raising=False)
    return tmp_path


def test_a_registry_looks_where_the_environment_says(home: Path) -> None:
    assert DriverRegistry().get("axidraw").category == "plotter"
    assert str(home / "plugins") in [place.folder for place in DriverRegistry().places.folders]


def test_a_drivers_configuration_is_had_by_its_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.yaml").write_text("device:\n  axidraw:\n    pen_up_percent: 61\n    pen_down_percent: 31\n")
    monkeypatch.setenv("VFAB_AXIDRAW_PEN_DOWN_PERCENT", "33")
    config = ConfigurationManager("axidraw").get_config()
    assert (config["pen_up_percent"], config["pen_down_percent"], config["speed_mm_s"]) == (61, 33, 50)
    with pytest.raises(DriverNotFound, match="axidrwa"):
        ConfigurationManager("axidrwa")


def test_a_detector_needs_nothing_to_look_for_a_drivers_devices() -> None:
    found = DeviceDetector().detect_axidraw_devices()
    assert {"count", "installed", "device_id", "device_name", "accessible", "devices"} == set(found)


def test_a_monitor_of_a_name_samples_this_process() -> None:
    monitor = ResourceMonitor("axidraw")
    monitor.start_monitoring(interval=0.02)
    try:
        ends = time.monotonic() + 20
        while not monitor.usage_history and time.monotonic() < ends:
            time.sleep(0.01)
    finally:
        monitor.stop_monitoring()
    assert monitor.get_average_usage(60.0).memory_mb > 5
    assert monitor.usage_history[-1].thread_count >= threading.active_count()


class Meter(AsyncDriverManager):
    """As seed 001 writes it: the manager itself is asynchronous, its operations are plain."""

    answers = True

    def connect(self) -> bool:
        if not self.answers:
            raise ConnectionError("no answer")
        return True

    def disconnect(self) -> None: ...

    def read(self, channel: int) -> int:
        return channel * 2


def test_a_manager_that_is_asynchronous_itself_is_led_through_the_states() -> None:
    async def main() -> None:
        meter, seen = Meter(), []
        watching = asyncio.ensure_future(meter.monitor_device(seen.append))
        assert await meter.connect_async() is await meter.connect_async() is True
        assert await meter.get_state_async() is DriverState.CONNECTED
        assert await meter.execute_operation("read", 4) == {"success": True, "result": 8}
        assert (await meter.execute_operation("no_such"))["error"].code == "unknown_command"
        late = await meter.execute_operation(lambda: time.sleep(0.5), timeout=0.01)
        assert (late["success"], late["error"].code) == (False, "timeout")
        assert await meter.disconnect_async()
        meter.answers = False
        assert not await meter.connect_async()
        assert meter.last_error is not None and meter.last_error.code == "connection_failed"
        assert await meter.get_state_async() is DriverState.ERROR
        meter.answers = True
        assert await meter.connect_async()
        while seen[-1:] != [DriverState.CONNECTED] or DriverState.ERROR not in seen:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(main(), 60))
