from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vfab.kernel.loaded import LoadedDriver
from vfab.kernel.places import Place, Places, cache_of, home_of
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import BadManifest, ConfigurationError, DependencyError, DriverNotFound
from vfab.model.plugins import DriverInfo, PluginStatus

GOOD = """\
name: {name}
version: "{version}"
author: me
description: a driver
driver_class: driver.Driver
"""


def make_plugin(folder: Path, name: str = "good", more: str = "", version: str = "1.0") -> Path:
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(GOOD.format(name=name, version=version) + more, encoding="utf-8")
    (folder / "driver.py").write_text("raise SystemExit('discovery must not run this')\n", encoding="utf-8")
    return folder


def registry_of(*places: Path, **options: Any) -> DriverRegistry:
    return DriverRegistry(Places.only(*places), **options)


# --- places ------------------------------------------------------------------------------------------------------


def test_the_places_are_in_order_and_the_environment_names_them() -> None:
    places = Places.from_environment({"VFAB_HOME": "/h", "VFAB_PLUGIN_PATH": "/a::/b"}, search_path=("/s",))
    assert [place.folder for place in places.folders][1:] == ["/etc/vfab/plugins", "/h/plugins", "/a", "/b"]
    assert places.folders[0].folder.endswith("/vfab/drivers")
    assert [place.required for place in places.folders] == [False, False, False, True, True]
    assert places.entry_points == ("/s",)
    assert Places.from_environment({"HOME": "/u"}).entry_points == tuple(sys.path)


def test_the_home_and_the_cache_follow_the_environment() -> None:
    assert home_of({"HOME": "/u"}) == Path("/u/.vfab")
    assert home_of({"HOME": "/u", "VFAB_HOME": "/h"}) == Path("/h")
    assert home_of({}).name == ".vfab"
    assert cache_of({"HOME": "/u"}) == Path("/u/.vfab/cache")
    assert cache_of({"HOME": "/u", "XDG_CACHE_HOME": "/x"}) == Path("/x/vfab")
    assert cache_of({"VFAB_HOME": "/h", "XDG_CACHE_HOME": "/x"}) == Path("/h/cache")


def test_a_place_that_somebody_named_must_be_there(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "none")
    assert registry.discover_drivers() == []
    (problem,) = registry.problems
    assert "there is no such folder" in problem.error.message


def test_a_usual_place_need_not_be_there(tmp_path: Path) -> None:
    registry = DriverRegistry(Places((Place("home", str(tmp_path / "none")),)))
    assert (registry.discover_drivers(), registry.problems) == ([], [])


# --- which of several --------------------------------------------------------------------------------------------


def test_a_later_place_wins_only_with_a_higher_version(tmp_path: Path) -> None:
    make_plugin(tmp_path / "1" / "a", "a", version="1.9")
    make_plugin(tmp_path / "2" / "a", "a", version="1.10")
    make_plugin(tmp_path / "3" / "a", "a", version="1.10")
    make_plugin(tmp_path / "4" / "a", "a", version="1.2")
    (info,) = registry_of(*(tmp_path / n for n in "1234")).discover_drivers()
    assert info.folder == str(tmp_path / "2" / "a")
    assert [(s.version, s.folder) for s in info.shadows] == [
        ("1.9", str(tmp_path / "1" / "a")),
        ("1.10", str(tmp_path / "3" / "a")),
        ("1.2", str(tmp_path / "4" / "a")),
    ]


def test_a_plugin_that_cannot_run_here_hides_none_that_can(tmp_path: Path) -> None:
    make_plugin(tmp_path / "1" / "a", "a", version="1.0")
    make_plugin(tmp_path / "2" / "a", "a", 'min_platform_version: "99"\n', version="2.0")
    (info,) = registry_of(tmp_path / "1", tmp_path / "2").discover_drivers()
    assert (info.version, info.usable) == ("1.0", True)
    (info,) = registry_of(tmp_path / "2", tmp_path / "1").discover_drivers()
    assert (info.version, info.usable) == ("1.0", True)


def test_the_same_folder_twice_shadows_nothing(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a")
    (info,) = registry_of(tmp_path, tmp_path).discover_drivers()
    assert info.shadows == ()


# --- what there is -----------------------------------------------------------------------------------------------


def test_available_drivers_can_be_used_and_the_others_say_why_not(tmp_path: Path) -> None:
    make_plugin(tmp_path / "good", "good")
    make_plugin(tmp_path / "dark", "dark")
    make_plugin(tmp_path / "new", "new", 'min_platform_version: "99"\n')
    make_plugin(tmp_path / "bad", "bad", "what: 1\n")
    registry = registry_of(tmp_path, disabled=["dark"])
    assert [info.name for info in registry.get_available_drivers()] == ["good"]
    assert [info.name for info in registry.drivers] == ["dark", "good", "new"]
    assert registry.get("dark").status is PluginStatus.DISABLED
    assert "driver enable dark" in registry.get("dark").remedy
    assert [problem.path for problem in registry.problems] == [str(tmp_path / "bad")]


def test_a_driver_that_is_not_there_is_refused_with_near_names(tmp_path: Path) -> None:
    make_plugin(tmp_path / "axidraw", "axidraw")
    make_plugin(tmp_path / "broken", "broken", "what: 1\n")
    registry = registry_of(tmp_path)
    with pytest.raises(DriverNotFound, match="did you mean axidraw"):
        registry.get("axidrw")
    with pytest.raises(DriverNotFound, match="what: found an unknown field") as caught:
        registry.get("broken")
    assert "Correct what" in caught.value.remedy
    with pytest.raises(DriverNotFound) as caught:
        registry.get("zzz")
    assert caught.value.remedy == DriverNotFound.default_remedy


def test_models_and_methods_are_found_regardless_of_case(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a", "supported_models: ['2400', 'B2901A']\nsupported_methods: [iv_sweep, IV_SWEEP]\n")
    make_plugin(tmp_path / "b", "b", "supported_methods: [iv_sweep]\nsupported_models: ['2400']\n")
    registry = registry_of(tmp_path)
    assert registry.find_driver_for_model("b2901a") == "a"
    assert registry.find_driver_for_model("2400") == "a"
    assert registry.find_driver_for_model("9999") is None
    assert registry.find_drivers_for_method("iv_sweep") == ["a", "b"]
    assert registry.find_drivers_for_method("nothing") == []


def test_drivers_that_fit_a_device_are_ranked(tmp_path: Path) -> None:
    make_plugin(tmp_path / "any", "any", "match: [{bus: usb}]\n")
    make_plugin(tmp_path / "zexact", "zexact", "match: [{vid: '04d8', pid: fd92}]\n")
    make_plugin(tmp_path / "exact", "exact", "match: [{vid: '04d8', pid: fd92}]\n")
    make_plugin(tmp_path / "other", "other", "match: [{bus: tcp}]\n")
    registry = registry_of(tmp_path)
    device = DeviceInfo(id="d", bus="usb", address="/dev/x", vid="04d8", pid="fd92")
    assert [fit.driver for fit in registry.drivers_for(device)] == ["exact", "zexact", "any"]
    assert registry.with_drivers([device])[0].drivers == ("exact", "zexact", "any")


def test_seed_004s_view_lists_every_plugin(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a")
    registry = registry_of(tmp_path)
    info = registry.get_plugin_info("a")
    assert info is not None
    assert (info.metadata.name, info.status, info.driver_class) == ("a", PluginStatus.DISCOVERED, "driver.Driver")
    assert list(registry.list_plugins()) == ["a"]
    assert registry.get_plugin_info("b") is None


# --- register_driver ---------------------------------------------------------------------------------------------


def test_a_driver_is_registered_by_its_folder_or_by_what_knows_it(tmp_path: Path) -> None:
    make_plugin(tmp_path / "p" / "a", "a")
    registry = registry_of(tmp_path / "p")
    registry.discover_drivers()
    registry.register_driver(make_plugin(tmp_path / "b", "b"))
    (c,) = registry_of(make_plugin(tmp_path / "c", "c")).discover_drivers()
    registry.register_driver(LoadedDriver(c))
    assert [info.name for info in registry.discover_drivers()] == ["a", "b", "c"]
    assert registry.get("c").place == "registered by code"


def test_a_folder_without_a_good_plugin_is_not_registered(tmp_path: Path) -> None:
    registry = registry_of()
    with pytest.raises(BadManifest, match=r"found no plugin\.yaml"):
        registry.register_driver(tmp_path)
    with pytest.raises(BadManifest, match="unknown field"):
        registry.register_driver(make_plugin(tmp_path / "a", "a", "what: 1\n"))
    assert (registry.discover_drivers(), registry.problems) == ([], [])


# --- load_driver -------------------------------------------------------------------------------------------------


class Manager:
    def connect(self) -> bool:
        return True

    def disconnect(self) -> None:
        return None

    def is_connected(self) -> bool:
        return True

    def test_connection(self) -> Mapping[str, Any]:
        return {"success": True}


class Factory:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def create_manager(self, driver: DriverInfo, options: Mapping[str, Any]) -> Manager:
        self.asked.append((driver.name, dict(options)))
        return Manager()


class Installer:
    def install(self, driver: DriverInfo, requirements: tuple[str, ...]) -> bool:
        return requirements == ("no-such-thing-anywhere>=2",)


def test_a_loaded_driver_is_a_base_driver_without_its_code(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a", "config_schema: {type: object, properties: {port: {type: string}}}\n")
    factory = Factory()
    registry = registry_of(tmp_path, managers=factory)
    driver = registry.load_driver("a")
    assert driver.get_info().status is PluginStatus.LOADED
    assert driver.is_available()
    assert driver.install_dependencies()
    assert driver.install_instructions() == ""
    assert driver.get_config_schema()["properties"] == {"port": {"type": "string"}}
    assert driver.create_manager(port="/dev/x").connect()
    assert factory.asked == [("a", {"port": "/dev/x"})]
    assert registry.load_driver("a").get_info().status is PluginStatus.LOADED


def test_a_status_lasts_over_a_new_discovery_of_the_same_version(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a")
    registry = registry_of(tmp_path)
    registry.set_status("a", PluginStatus.ACTIVE)
    assert registry.discover_drivers()[0].status is PluginStatus.ACTIVE
    (folder / "plugin.yaml").write_text(GOOD.format(name="a", version="1.1"), encoding="utf-8")
    assert registry.discover_drivers()[0].status is PluginStatus.DISCOVERED


def test_a_driver_that_breaks_a_rule_is_not_loaded_and_is_looked_at_anew_after_a_correction(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a")
    (folder / "driver.py").rename(folder / "drivr.py")
    registry = registry_of(tmp_path, managers=Factory())
    with pytest.raises(BadManifest, match=r"there is no driver\.py"):
        registry.load_driver("a")
    assert registry.get("a").status is PluginStatus.ERROR
    with pytest.raises(ConfigurationError, match="cannot be used"):
        registry.load_driver("a").create_manager()
    (folder / "drivr.py").rename(folder / "driver.py")
    registry.discover_drivers()
    assert registry.load_driver("a").is_available()


def test_without_a_factory_no_manager_is_created_and_the_reason_is_told(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a")
    with pytest.raises(ConfigurationError, match="without a manager factory"):
        registry_of(tmp_path).load_driver("a").create_manager()


def test_what_is_missing_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    more = "dependencies: ['no-such-thing-anywhere>=2', 'msgspec', \"x; python_version < '3'\"]\n"
    make_plugin(tmp_path / "a", "a", more)
    driver = registry_of(tmp_path, managers=Factory()).load_driver("a")
    assert driver.missing() == ("no-such-thing-anywhere>=2",)
    assert not driver.is_available()
    told = driver.install_instructions()
    assert told == "a needs no-such-thing-anywhere>=2: pip install 'no-such-thing-anywhere>=2'"
    with pytest.raises(DependencyError, match="no-such-thing-anywhere"):
        driver.create_manager()
    with pytest.raises(DependencyError, match="cannot install it"):
        driver.install_dependencies()
    assert registry_of(tmp_path, installer=Installer()).load_driver("a").install_dependencies()


@pytest.mark.parametrize(
    ("runtime", "missing"),
    [("{version: '>=3.99'}", ("python >=3.99",)), ("{version: '>=3.11'}", ()), ("{language: node}", None)],
)
def test_the_interpreter_is_a_dependency_too(tmp_path: Path, runtime: str, missing: tuple[str, ...] | None) -> None:
    (info,) = registry_of(make_plugin(tmp_path / "a", "a", f"runtime: {runtime}\n")).discover_drivers()
    found = LoadedDriver(info).missing()
    assert found == missing if missing is not None else found in {(), ("node",)}


def test_unreadable_requirements_count_as_missing(tmp_path: Path) -> None:
    more = "dependencies: ['a b c']\nruntime: {version: about 3}\n"
    (info,) = registry_of(make_plugin(tmp_path / "a", "a", more)).discover_drivers()
    assert LoadedDriver(info).missing() == ("python about 3", "a b c")


def test_a_driver_without_a_schema_has_an_empty_one(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a")
    assert registry_of(tmp_path).load_driver("a").get_config_schema() == {"type": "object", "properties": {}}


# --- entry points ------------------------------------------------------------------------------------------------


def install(site: Path, package: str, value: str, name: str = "it") -> Path:
    """What an installer leaves in site-packages for a distribution that announces a plugin."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    text = f"[console_scripts]\nx = y:z\n\n[vfab.plugins]\n# a comment\n{name} = {value}\n\n[other]\na = b\n"
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
    return site / package


def installed(site: Path, cache: Path | None = None) -> DriverRegistry:
    return DriverRegistry(Places(entry_points=(str(site),), cache=cache))


@pytest.fixture(autouse=True)
def nothing_of_a_plugin_is_imported() -> Iterator[None]:
    before = set(sys.modules)
    yield
    assert not [name for name in set(sys.modules) - before if name.startswith("bought_")]


@pytest.mark.parametrize("value", ["bought_a.sub.driver:Driver", "bought_a.sub", "bought_a.sub [extra]"])
def test_an_installed_distribution_announces_a_plugin_that_is_not_imported(tmp_path: Path, value: str) -> None:
    package = install(tmp_path, "bought_a", value)
    make_plugin(package / "sub", "bought")
    for folder in (package, package / "sub"):
        (folder / "__init__.py").write_text("raise SystemExit\n", encoding="utf-8")
    (info,) = installed(tmp_path).discover_drivers()
    assert (info.folder, info.place) == (str(package / "sub"), "entry point it of bought_a")


def test_the_plugin_may_be_the_package_itself(tmp_path: Path) -> None:
    package = install(tmp_path, "bought_b", "bought_b.driver")
    make_plugin(package, "bought")
    (package / "__init__.py").touch()
    assert [info.folder for info in installed(tmp_path).discover_drivers()] == [str(package)]


@pytest.mark.parametrize("value", ["bought_c.sub", "no_such_package_c", "not a name!", "json", "__main__x.y", ""])
def test_an_entry_point_that_leads_nowhere_is_told(tmp_path: Path, value: str) -> None:
    package = install(tmp_path, "bought_c", value)
    package.mkdir()
    registry = installed(tmp_path)
    assert registry.discover_drivers() == []
    assert "leads to no folder with plugin.yaml" in registry.problems[0].error.message


def test_entry_points_are_remembered_until_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    site, real = tmp_path / "site", time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
    make_plugin(install(site, "bought_d", "bought_d"), "bought_d")
    first = installed(site, tmp_path / "cache").discover_drivers()
    (site / "bought_d-1.0.dist-info" / "entry_points.txt").write_text("", encoding="utf-8")  # the folder looks the same
    assert installed(site, tmp_path / "cache").discover_drivers() == first
    make_plugin(install(site, "bought_e", "bought_e"), "bought_e")
    assert [info.name for info in installed(site, tmp_path / "cache").discover_drivers()] == ["bought_e"]


def test_odd_entries_of_the_search_path_are_passed_over(tmp_path: Path) -> None:
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.py", "")
    (tmp_path / "site" / "odd-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "bad-1.dist-info").mkdir()
    (tmp_path / "site" / "bad-1.dist-info" / "entry_points.txt").write_bytes(b"\xff")
    places = Places(entry_points=(str(archive), str(tmp_path / "none"), str(tmp_path / "site")))
    assert DriverRegistry(places).discover_drivers() == []


def test_entry_points_rank_between_the_built_in_and_the_system_place(tmp_path: Path) -> None:
    package = install(tmp_path / "site", "bought_f", "bought_f")
    make_plugin(package, "a", version="2.0")
    make_plugin(tmp_path / "built-in" / "a", "a", version="1.0")
    make_plugin(tmp_path / "etc" / "a", "a", version="2.0")
    folders = (Place("built-in", str(tmp_path / "built-in")), Place("etc", str(tmp_path / "etc")))
    (info,) = DriverRegistry(Places(folders, (str(tmp_path / "site"),))).discover_drivers()
    assert info.place == "entry point it of bought_f"
    assert [s.place for s in info.shadows] == ["built-in", "etc"]


def test_an_editable_installation_is_found_by_its_own_finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "bought_g", "bought_g")
    make_plugin(tmp_path / "checkout" / "bought_g", "a")
    (tmp_path / "checkout" / "bought_g" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
    assert [info.name for info in installed(tmp_path / "site").discover_drivers()] == ["a"]


def test_a_module_without_a_spec_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "strange_h", "strange_h")
    monkeypatch.setitem(sys.modules, "strange_h", type(sys)("strange_h"))
    assert installed(tmp_path).discover_drivers() == []


def test_a_missing_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (info,) = registry_of(make_plugin(tmp_path / "a", "a", "runtime: {language: node}\n")).discover_drivers()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert LoadedDriver(info).missing() == ("node",)
