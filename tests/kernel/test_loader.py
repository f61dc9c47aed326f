from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfab.kernel.index import Index, write_privately
from vfab.kernel.loader import PluginLoader, read_manifest
from vfab.model.errors import BadManifest, PermissionRefused
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


def backdate(*files: Path) -> None:
    """Make files old enough for the index to believe that it sees every later change."""
    for file in files:
        os.utime(file, ns=(10**18 + 7, 10**18 + 7))


@pytest.fixture
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the index is an hour ahead, so that files written just now count as old."""
    import time

    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)


def test_a_plugins_folder_and_a_folder_of_plugins_are_both_read(tmp_path: Path) -> None:
    make_plugin(tmp_path / "b", "b")
    make_plugin(tmp_path / "a", "a")
    loader = PluginLoader()
    assert [info.name for info in loader.load_from_path(tmp_path)] == ["a", "b"]
    assert [info.folder for info in loader.load_from_path(tmp_path / "a")] == [str(tmp_path / "a")]
    assert loader.problems == []


def test_plugins_may_lie_in_groups_and_nothing_below_a_plugin_is_searched(tmp_path: Path) -> None:
    make_plugin(tmp_path / "group" / "deep" / "a", "a")
    make_plugin(tmp_path / "b", "b")
    make_plugin(tmp_path / "b" / "inner", "inner")
    make_plugin(tmp_path / "__pycache__" / "c", "c")
    make_plugin(tmp_path / ".git" / "d", "d")
    make_plugin(tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "7" / "deep", "e")
    make_plugin(tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "7" / "8" / "too_deep", "f")
    assert {info.name for info in PluginLoader().load_from_path(tmp_path)} == {"a", "b", "e"}


def test_a_place_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path / "none") == []
    assert loader.problems == []


def test_a_broken_manifest_is_told_and_hides_no_other(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a")
    make_plugin(tmp_path / "broken", "broken", "categry: plotter\n")
    make_plugin(tmp_path / "z", "z")
    loader = PluginLoader()
    assert [info.name for info in loader.load_from_path(tmp_path, "home")] == ["a", "z"]
    (problem,) = loader.problems
    assert (problem.path, problem.place) == (str(tmp_path / "broken"), "home")
    assert problem.error.context["line"] == 6
    assert "did you mean category?" in problem.error.message
    assert problem.error.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: &x [1]\nb: *x\n", "anchor"), ("name: a\nname: b\n", "second time"), ("[1, 2]", "a mapping"), ("", "nothing")],
)
def test_yaml_that_is_no_manifest_is_refused(tmp_path: Path, text: str, words: str) -> None:
    make_plugin(tmp_path / "a")
    (tmp_path / "a" / "plugin.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadManifest, match=words):
        read_manifest(tmp_path / "a")


def test_a_manifest_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", more="#" * (1 << 20))
    with pytest.raises(BadManifest, match="1 MiB"):
        read_manifest(tmp_path / "a")


def test_a_manifest_that_is_a_pipe_or_a_folder_is_refused_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "plugin.yaml")
    (tmp_path / "b" / "plugin.yaml").mkdir(parents=True)
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path) == []
    assert ["not a file" in p.error.message for p in loader.problems] == [True, True]


def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    make_plugin(tmp_path / "elsewhere")
    (tmp_path / "place" / "a").mkdir(parents=True)
    (tmp_path / "place" / "a" / "plugin.yaml").symlink_to(tmp_path / "elsewhere" / "plugin.yaml")
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path / "place") == []
    assert "symbolic link" in loader.problems[0].error.message


def test_a_manifest_may_be_a_link_within_its_folder_and_a_plugin_may_be_a_linked_folder(tmp_path: Path) -> None:
    real = make_plugin(tmp_path / "checkout", "linked")
    (real / "plugin.yaml").rename(real / "real.yaml")
    (real / "plugin.yaml").symlink_to("real.yaml")
    place = tmp_path / "place"
    place.mkdir()
    (place / "linked").symlink_to(real)
    assert [info.name for info in PluginLoader().load_from_path(place)] == ["linked"]


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="No such file"):
        read_manifest(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told_with_the_way_out(tmp_path: Path) -> None:
    plugin = make_plugin(tmp_path / "a")
    (plugin / "plugin.yaml").chmod(0)
    with pytest.raises(PermissionRefused, match="cannot be read") as caught:
        read_manifest(plugin)
    assert "chmod" in caught.value.remedy


def test_a_place_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path / "file") == []
    assert isinstance(loader.problems[0].error, PermissionRefused)


def test_a_plugin_that_loops_to_itself_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "plugin.yaml").symlink_to("plugin.yaml")
    loader = PluginLoader()
    assert loader.load_from_path(tmp_path) == []
    assert "cannot be read" in loader.problems[0].error.message
    with pytest.raises(BadManifest):
        read_manifest(tmp_path / "a")


def test_a_link_to_a_folder_around_it_is_not_followed(tmp_path: Path) -> None:
    make_plugin(tmp_path / "place" / "good")
    make_plugin(tmp_path / "place" / "group" / "bad", more="nonsense: 1\n")
    (tmp_path / "place" / "again").symlink_to(tmp_path / "place")
    (tmp_path / "place" / "group" / "up").symlink_to("..")
    (tmp_path / "place" / "all").symlink_to("/")
    (tmp_path / "place" / "beside").symlink_to(make_plugin(tmp_path / "elsewhere", "beside"))
    loader = PluginLoader()
    assert [info.name for info in loader.load_from_path(tmp_path / "place")] == ["beside", "good"]
    assert [problem.path for problem in loader.problems] == [str(tmp_path / "place" / "group" / "bad")]


def test_a_plugin_for_a_newer_platform_is_there_with_the_reason(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "a", 'min_platform_version: "99.0"\n')
    (info,) = PluginLoader().load_from_path(tmp_path)
    assert info.status is PluginStatus.ERROR
    assert "99.0 or newer" in info.problem
    assert info.remedy


# --- validate_plugin, get_plugin_metadata ------------------------------------------------------------------------


def test_a_good_plugin_is_valid_whichever_way_it_is_given(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a")
    loader = PluginLoader()
    (info,) = loader.load_from_path(folder)

    class Driver:
        def get_info(self) -> DriverInfo:
            return info

    assert all(loader.validate_plugin(plugin) for plugin in (folder, str(folder), info, Driver()))
    assert loader.get_plugin_metadata(info) == loader.get_plugin_metadata(folder)
    assert loader.get_plugin_metadata(Driver()).driver_class == "driver.Driver"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ("simulator: sim.py\n", "simulator"),
        ("dependencies: ['numpy >>> 2']\n", "dependencies[0]"),
        ("runtime: {version: about 3}\n", "runtime.version"),
        ("config_schema: {properties: {a: {type: float}}}\n", "config_schema.properties.a.type"),
    ],
)
def test_a_rule_that_the_manifest_alone_cannot_show_is_checked(tmp_path: Path, more: str, field: str) -> None:
    folder = make_plugin(tmp_path / "a", "a", more)
    loader = PluginLoader()
    assert not loader.validate_plugin(folder)
    assert [error.context["field"] for error in loader.problems_of(folder)] == [field]


def test_a_plugin_without_its_driver_file_is_invalid(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a")
    (folder / "driver.py").unlink()
    (error,) = PluginLoader().problems_of(folder)
    assert "there is no driver.py" in error.message
    (folder / "driver").mkdir()
    (folder / "driver" / "__init__.py").touch()
    assert PluginLoader().validate_plugin(folder)


def test_a_plugin_in_javascript_needs_its_own_file(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a", "runtime: {language: node, version: about 20}\n")
    (folder / "driver.py").rename(folder / "driver.js")
    assert PluginLoader().validate_plugin(folder)


def test_a_link_that_leaves_the_plugin_makes_it_invalid(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "a", "a")
    (folder / "inside.py").symlink_to("driver.py")
    assert PluginLoader().validate_plugin(folder)
    (folder / "data").symlink_to("/etc")
    (error,) = PluginLoader().problems_of(folder)
    assert "links may not leave the plugin" in error.message


def test_an_incompatible_or_broken_plugin_is_invalid(tmp_path: Path) -> None:
    old = make_plugin(tmp_path / "a", "a", "max_platform_version: '0.1'\n")
    assert "up to 0.1" in PluginLoader().problems_of(old)[0].message
    assert "No such file" in PluginLoader().problems_of(tmp_path)[0].message


# --- the index ---------------------------------------------------------------------------------------------------


def look(place: Path, cache: Path) -> tuple[list[DriverInfo], Index]:
    index = Index(cache)
    index.load()
    found = PluginLoader(index).load_from_path(place)
    index.save()
    return found, index


def test_the_second_look_reads_no_manifest(tmp_path: Path, old_files: None) -> None:
    folder = make_plugin(tmp_path / "p" / "a", "a", 'max_platform_version: "0.5"\n')
    first, _ = look(tmp_path / "p", tmp_path / "cache")
    data = (folder / "plugin.yaml").read_bytes()
    with (folder / "plugin.yaml").open("r+b") as file:  # same size, same times: only a reader would notice
        seen = os.fstat(file.fileno())
        index = Index(tmp_path / "cache")
        index.load()
        entry = index.get(str(folder), seen)
        assert entry is not None
        assert entry.is_of(seen)
        assert data.startswith(b"name: a")
    second, _ = look(tmp_path / "p", tmp_path / "cache")
    assert second == first
    assert second[0]._manifest is None or second[0]._packed is not None
    assert second[0].status is PluginStatus.ERROR


def test_a_changed_manifest_is_read_anew(tmp_path: Path, old_files: None) -> None:
    folder = make_plugin(tmp_path / "p" / "a", "a")
    look(tmp_path / "p", tmp_path / "cache")
    (folder / "plugin.yaml").write_text(GOOD.format(name="b", version="1.0"), encoding="utf-8")
    assert [info.name for info in look(tmp_path / "p", tmp_path / "cache")[0]] == ["b"]


def test_a_changed_manifest_of_the_same_size_and_time_is_read_anew(tmp_path: Path, old_files: None) -> None:
    folder = make_plugin(tmp_path / "p" / "a", "a")
    backdate(folder / "plugin.yaml")
    look(tmp_path / "p", tmp_path / "cache")
    (folder / "plugin.yaml").write_text(GOOD.format(name="b", version="1.0"), encoding="utf-8")
    backdate(folder / "plugin.yaml")
    assert [info.name for info in look(tmp_path / "p", tmp_path / "cache")[0]] == ["b"]


def test_a_manifest_written_just_now_is_not_kept_because_the_next_change_might_look_the_same(tmp_path: Path) -> None:
    folder = make_plugin(tmp_path / "p" / "a", "a")
    index = Index(tmp_path / "cache")
    index.remember(str(folder), (folder / "plugin.yaml").stat(), read_manifest(folder))
    assert index.get(str(folder), (folder / "plugin.yaml").stat()) is None


def test_a_plugin_that_is_gone_leaves_the_index(tmp_path: Path, old_files: None) -> None:
    a, b = make_plugin(tmp_path / "p" / "a", "a"), make_plugin(tmp_path / "p" / "b", "b")
    stats = (a / "plugin.yaml").stat()
    look(tmp_path / "p", tmp_path / "cache")
    (a / "plugin.yaml").unlink()
    look(tmp_path / "p", tmp_path / "cache")
    index = Index(tmp_path / "cache")
    index.load()
    assert index.get(str(a), stats) is None
    assert index.get(str(b), (b / "plugin.yaml").stat()) is not None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "readable", "foreign", "link", "folder"])
def test_an_index_that_cannot_be_trusted_is_ignored_and_replaced(tmp_path: Path, old_files: None, damage: str) -> None:
    make_plugin(tmp_path / "p" / "a", "a")
    look(tmp_path / "p", tmp_path / "cache")
    file = tmp_path / "cache" / "plugins.msgpack"
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-5])
    elif damage == "flipped":
        file.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "readable":
        file.chmod(0o644)
    elif damage == "foreign":
        Index(tmp_path / "cache", made_by="somebody else").save()
        other = Index(tmp_path / "cache", made_by="somebody else")
        other._changed = True
        other.save()
    elif damage == "link":
        file.rename(tmp_path / "moved")
        file.symlink_to(tmp_path / "moved")
    else:
        file.unlink()
        file.mkdir(mode=0o700)
    index = Index(tmp_path / "cache")
    index.load()
    assert index.get(str(tmp_path / "p" / "a"), (tmp_path / "p" / "a" / "plugin.yaml").stat()) is None
    assert [info.name for info in look(tmp_path / "p", tmp_path / "cache")[0]] == ["a"]


def test_an_index_of_the_right_length_and_sum_but_another_shape_is_ignored(tmp_path: Path) -> None:
    import zlib

    body = b"\x93\x01\x02\x03"
    write_privately(tmp_path / "plugins.msgpack", zlib.crc32(body).to_bytes(4, "big") + body)
    index = Index(tmp_path)
    index.load()
    assert index.entry_points("/x", tmp_path.stat()) is None


def test_the_index_is_private(tmp_path: Path, old_files: None) -> None:
    make_plugin(tmp_path / "p" / "a", "a")
    _, index = look(tmp_path / "p", tmp_path / "cache")
    assert index.path is not None
    assert index.path.stat().st_mode & 0o777 == 0o600
    assert index.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in index.path.parent.iterdir()] == ["plugins.msgpack"]


def test_a_place_for_the_index_that_cannot_be_written_is_no_error(tmp_path: Path, old_files: None) -> None:
    make_plugin(tmp_path / "p" / "a", "a")
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    found, _ = look(tmp_path / "p", tmp_path / "cache")
    assert [info.name for info in found] == ["a"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(IsADirectoryError):
        write_privately(tmp_path / "target", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
