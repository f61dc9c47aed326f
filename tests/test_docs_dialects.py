"""docs/dialects.md tells the truth: its listings are found and run."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from hosting import Rig, rig
from vfab.dialects import explain
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Dialect
from vfab.sdk.testing import defaults_of

PAGE = (Path(__file__).parent.parent / "docs" / "dialects.md").read_text()
FILES = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> DriverRegistry:
    folder = tmp_path_factory.mktemp("documents")
    for _, name, text in FILES.findall(PAGE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    place = folder / "place"
    shutil.copy(place / "plugins/devices/ticker/drv_ticker.py", place / "ticker_native")
    return DriverRegistry(Places.only(place))


def run(drivers: DriverRegistry, name: str, work: Callable[[Rig, ManagedDevice], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        driver = drivers.load_driver(name).get_info()
        async with rig(Path(driver.folder)) as kernel:
            device = DeviceInfo(id="d", bus="none", address="")
            config: dict[str, Any] = defaults_of(driver.manifest)
            managed = kernel.supervisor.adopt(device, driver.manifest, Path(driver.folder), config)
            await managed.connect()
            await work(kernel, managed)

    asyncio.run(all_of_it())


def test_the_pages_plugins_are_all_found_and_nothing_else(drivers: DriverRegistry) -> None:
    found = {info.name: info.manifest.runtime.dialect for info in drivers.drivers}
    assert found == {
        "kettle": "driver_plugin",
        "lamp": "function_contract",
        "drv_ticker": "drv_module",
        "meter_m1": "instrument_plugin",
        "ticker_native": "drv_module",
    }
    assert drivers.problems == []


def test_the_kettle_heats_and_refuses(drivers: DriverRegistry) -> None:
    async def work(kernel: Rig, kettle: ManagedDevice) -> None:
        assert await kettle.operate("heat", to=80) == 80
        with pytest.raises(ConfigurationError, match="above the limit"):
            await kettle.operate("heat", to=120)

    schema = drivers.get("kettle").manifest.config_schema
    assert schema is not None and set(schema["properties"]) == {"limit", "volume"}
    run(drivers, "kettle", work)


def test_the_lamp_switches(drivers: DriverRegistry) -> None:
    async def work(kernel: Rig, lamp: ManagedDevice) -> None:
        assert await lamp.operate("switch", on=True) is True
        assert (await lamp.operate("test_connection"))["message"] == "shines at 50 %"

    run(drivers, "lamp", work)


@pytest.mark.parametrize("name", ["drv_ticker", "ticker_native"])
def test_the_ticker_ticks_with_and_without_a_manifest_of_its_own(drivers: DriverRegistry, name: str) -> None:
    async def work(kernel: Rig, ticker: ManagedDevice) -> None:
        assert await ticker.operate("step", by=2) == "step done"
        await ticker.operate("start_streaming")
        await kernel.until(lambda: bool(ticker.streams.infos))
        reader = ticker.streams.reader(oldest=True)
        await kernel.until(lambda: reader.waiting > 1)
        await ticker.operate("execute_command", "stop")
        first, second = reader.read_many(2)
        assert (first.data, second.data) == (2, 4)
        assert (first.meta["stream_type"], first.meta["channel"]) == ("ticks", "ticker0")

    run(drivers, name, work)


def test_the_program_with_the_documents_manager_runs(
    drivers: DriverRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFAB_HOME", str(tmp_path / "home"))
    (text,) = RUN.findall(PAGE)
    exec(text, {"place": drivers.places.folders[0].folder})


def test_every_shape_is_on_the_page_and_in_the_explanations(drivers: DriverRegistry) -> None:
    for info in drivers.drivers:
        assert explain(info.manifest).dialect in get_args(Dialect)
    for word in ("DriverPlugin", "create_X_manager", "drv_NAME.py", "InstrumentDriver", "./base-driver"):
        assert word in PAGE
