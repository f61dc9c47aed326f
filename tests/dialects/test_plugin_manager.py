"""Seed 004's `PluginManager`: discovery without running anything, drivers in processes of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dialect_peers import TcpPeer, samples_in
from vfab.dialects.js_process import find_node
from vfab.kernel.plugin_manager import PluginManager, PluginNotFound, PluginNotLoaded
from vfab.kernel.remote import DriverCalls, LocalDrivers, RemoteInstrument
from vfab.model.errors import ConfigurationError, DriverFailed, HostDied
from vfab.model.metadata import PluginMetadata
from vfab.model.plugins import DriverInfo, PluginStatus
from vfab.sdk import InstrumentDriver


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginManager]:
    monkeypatch.setenv("VFAB_CONFINEMENT_FILES", f"write:{tmp_path}")  # the samples leave marks beside themselves
    monkeypatch.setenv("VFAB_HOME", str(tmp_path / "home"))
    place = samples_in(tmp_path)
    with PluginManager([place, place / "instruments"]) as made:
        yield made


def test_plugins_are_discovered_loaded_and_looked_up(manager: PluginManager, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        names = manager.discover_plugins()
    assert "smu_2400" in names and manager.discover_plugins() == []
    assert "discovered plugin smu_2400 1.0.0" in caplog.text and "half_written.py" in caplog.text
    info = manager.get_plugin_info("smu_2400")
    assert info is not None and info.status is PluginStatus.DISCOVERED
    assert info.metadata.driver_class == info.driver_class == "vendor.smu.SourceMeter"
    assert manager.find_driver_for_model("2401") is None, "an index is of what is loaded"
    results = manager.load_all_plugins()
    assert results["smu_2400"] is True and results.get("binary_power_control", False) is (find_node() is not None)
    assert manager.load_plugin("smu_2400") is True, "loading again changes nothing"
    assert manager.find_driver_for_model("2401") == "smu_2400"
    assert manager.find_drivers_for_method("iv_sweep") == ["smu_2400"]
    assert manager.find_drivers_for_method("none") == []
    assert manager.list_plugins()["smu_2400"].status is PluginStatus.LOADED
    assert not list(manager.plugin_dirs[0].rglob("*.imported"))


def test_seed_001_names_work_where_they_do_not_clash(manager: PluginManager) -> None:
    manager.load_plugins()
    plugin = manager.get_plugin("bench_supply")
    assert plugin is not None
    assert plugin.get_driver_info() == {
        "name": "bench_supply",
        "version": "1.2.0",
        "type": "driver_plugin",
        "description": "Programmable bench supply",
    }
    assert manager.get_plugin("nothing") is None and manager.get_plugin_info("nothing") is None


def test_what_does_not_fit_is_not_loaded_and_says_why(manager: PluginManager, tmp_path: Path) -> None:
    manager.discover_plugins()
    assert manager.load_plugin("nothing") is False
    (manager.plugin_dirs[0] / "instruments" / "vendor" / "smu.py").unlink()
    assert manager.load_plugin("smu_2400") is False
    info = manager.plugins["smu_2400"]
    assert info.status is PluginStatus.ERROR and "no vendor/smu.py" in str(info.error_message)
    old = PluginManager(manager.plugin_dirs, platform_version="0.1.0")
    old.discover_plugins()
    assert old.load_plugin("dmm_dm1") is False and old.plugins["dmm_dm1"].error_message == "Version incompatible"


@pytest.mark.parametrize(
    ("minimum", "maximum", "fits"),
    [
        ("1.0.0", None, True),
        ("1.0.0", "1.0.0", True),
        ("1.1", None, False),
        ("0.1", "0.9", False),
        ("odd", None, False),
    ],
)
def test_compatibility_is_by_version(minimum: str, maximum: str | None, fits: bool) -> None:
    metadata = PluginMetadata("x", "1", "a", "d", min_platform_version=minimum, max_platform_version=maximum)
    assert PluginManager([], platform_version="1.0.0")._check_compatibility(metadata) is fits


def test_a_driver_measures_in_a_process_of_its_own_and_is_gone_after_close(manager: PluginManager) -> None:
    with TcpPeer(lambda line: "A,B,7,1.0" if line == "*IDN?" else "0.5") as peer:
        manager.load_plugins()
        with manager.get_driver("dmm_dm1", peer.address, {"timeout": 5.0}) as driver:
            assert isinstance(driver, InstrumentDriver)
            assert driver.get_identity()["serial"] == "7"
            assert driver.measure("resistance", {"count": 2}) == {"method": "resistance", "values": [0.5, 0.5]}
            assert driver.get_status()["connected"] is True
            driver.configure("resistance", {})
            driver.call("set_range", volts=2)
            driver.reset()
            driver.connect()
            assert {"CONF resistance", "RANG 2", "*RST"} <= set(peer.lines)
            with pytest.raises(ConfigurationError, match="unknown method fly"):
                driver.measure("fly", {})
        assert manager.plugins["dmm_dm1"].status is PluginStatus.ACTIVE
        driver.disconnect()
        driver.close()


def test_resources_reach_the_author_as_they_are_written_and_abort_ends_a_measurement(manager: PluginManager) -> None:
    manager.load_plugins()
    driver = manager.get_driver("smu_2400", "TCPIP0::192.0.2.1::INSTR", {"compliance_a": 0.2, "extra": [1]})
    assert driver.get_capabilities() == ["iv_sweep", "hold"], "known before it is connected, as in the document"
    assert driver.connect() is True
    assert driver.connect() is True
    assert driver.get_identity()["firmware"] == "TCPIP0::192.0.2.1::INSTR"
    assert driver.measure("iv_sweep", {"start": 0, "stop": 1})["compliance"] == 0.2
    results: list[dict[str, Any]] = []
    measuring = threading.Thread(target=lambda: results.append(driver.measure("hold", {"seconds": 60})))
    measuring.start()
    while measuring.is_alive():
        driver.abort()
        measuring.join(0.02)
    assert results == [{"aborted": True}]
    with pytest.raises(DriverFailed, match="KeyError in measure"):
        driver.measure("iv_sweep", {})
    assert driver.connect() is True, "an instrument in error is reset first"
    assert manager.get_driver("smu_2400", "nowhere").connect() is False


def test_who_asks_for_what_is_not_there_gets_the_documents_exceptions(manager: PluginManager) -> None:
    manager.discover_plugins()
    with pytest.raises(PluginNotFound, match="'none' not found"):
        manager.get_driver("none", "x")
    with pytest.raises(ValueError, match="not found"):
        manager.get_driver("none", "x")
    with pytest.raises(PluginNotLoaded, match=r"not loaded \(status: discovered\)"):
        manager.get_driver("smu_2400", "x")
    with pytest.raises(RuntimeError, match="not loaded"):
        manager.get_driver("smu_2400", "x")
    manager.load_plugin("smu_2400")
    with pytest.raises(ConfigurationError, match="compliance_a"):
        manager.get_driver("smu_2400", "x", {"compliance_a": 5})
    with pytest.raises(TypeError, match="get_driver"):
        RemoteInstrument("x")


def test_a_driver_has_a_folder_for_temporary_files_and_one_that_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFAB_HOME", str(tmp_path / "home"))
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "noter.py").write_text(NOTER)
    for connects in (1, 2):
        with PluginManager([tmp_path / "place"]) as manager:
            manager.load_plugins()
            assert manager.get_driver("noter", "bench").measure("count", {}) == {"connects": connects}


NOTER = """
import os, tempfile
from pathlib import Path
from plugin_manager import InstrumentDriver, driver_plugin

@driver_plugin(name="noter", version=1, author="a", description="d", supported_methods=["count"],
               supported_models=[7, "N8"], config_schema={"timeout": {"type": "int", "default": 5}})
class Noter(InstrumentDriver):
    def __init__(self, resource_name, config=None):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"libraries do so when they are imported")
        notes = Path(os.environ["HOME"], "notes")
        self.connects = int(notes.read_text() if notes.exists() else 0) + 1
        notes.write_text(str(self.connects))
        assert config == {"timeout": 5}
    def connect(self): return True
    def disconnect(self): return True
    def reset(self): pass
    def get_identity(self): return {}
    def get_capabilities(self): return ["count"]
    def configure(self, method, params): pass
    def measure(self, method, params): return {"connects": self.connects}
    def abort(self): pass
    def get_status(self): return {}
"""


def test_a_closed_manager_leaves_no_process_and_says_so() -> None:
    drivers = LocalDrivers()

    async def nothing() -> int:
        return 1

    assert drivers.run(nothing()) == 1
    drivers.close()
    drivers.close()
    with pytest.raises(HostDied, match="were closed"):
        drivers.run(nothing())


class _Told:
    """An opener that writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.closed = False

    def open(self, driver: DriverInfo, resource_name: str, config: Mapping[str, Any]) -> DriverCalls:
        self.asked.append((driver.name, resource_name, dict(config)))
        return self  # type: ignore[return-value]

    def close(self) -> None:
        self.closed = True


def test_whatever_runs_drivers_can_be_given(manager: PluginManager) -> None:
    told = _Told()
    with PluginManager(manager.plugin_dirs, drivers=told) as mine:
        mine.load_plugins()
        mine.get_driver("smu_2400", "GPIB0::1::INSTR")
    assert told.asked == [("smu_2400", "GPIB0::1::INSTR", {"compliance_a": 0.1})] and told.closed


def test_without_places_all_of_vfabs_are_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VFAB_HOME", str(tmp_path))
    monkeypatch.delenv("VFAB_PLUGIN_PATH", raising=False)
    manager = PluginManager()
    assert tmp_path / "plugins" in manager.plugin_dirs
    assert "axidraw" in manager.discover_plugins()
    manager.close()
