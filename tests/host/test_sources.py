"""Where a driver's class is imported from: a plugin's own folder, or a file that lies among others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import write_plugin
from lesser import in_child
from vfab.host.plugin import load_driver_class
from vfab.model.manifest import Manifest

DRIVER = "from vfab.sdk import BaseDriver\nclass D(BaseDriver):\n    WHERE = {where}\n"


def at(manifest: Manifest, file: Path) -> Manifest:
    """The manifest of a plugin whose class is in `file`, as discovery makes it."""
    return msgspec.structs.replace(manifest, runtime=msgspec.structs.replace(manifest.runtime, source=str(file)))


def put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def loaded(folder: Path, manifest: Manifest) -> Any:
    """(what the class says of itself, the module's name, what `sys.path` gained), in a process of its own."""

    def work() -> Any:
        before = list(sys.path)
        cls: Any = load_driver_class(str(folder), manifest)
        gained = [path for path in sys.path if path not in before]
        return [cls.WHERE, cls.__module__, gained, sys.path[: len(before)] == before]

    return in_child(work)


def test_a_file_among_others_is_imported_by_its_path_and_its_neighbours_come_last(tmp_path: Path) -> None:
    file = put(
        tmp_path / "shop" / "things" / "old.py", "from .near import WHERE as where\n" + DRIVER.format(where="where")
    )
    put(tmp_path / "shop" / "things" / "near.py", "WHERE = 'near'\n")
    put(tmp_path / "shop" / "json.py", "raise AssertionError('it is not its plugin')\n")
    manifest = at(write_plugin(tmp_path / "own", "", driver_class="things.old.D"), file)
    where, module, gained, last = loaded(tmp_path / "own", manifest)
    assert (where, module) == ("near", "vfab_plugin_mine.things.old")
    assert gained == [str(tmp_path / "shop" / "things"), str(tmp_path / "shop")] and last


def test_a_package_among_others_finds_its_own_modules(tmp_path: Path) -> None:
    file = put(tmp_path / "shop" / "old" / "__init__.py", "from .part import WHERE\n" + DRIVER.format(where="WHERE"))
    put(tmp_path / "shop" / "old" / "part.py", "WHERE = __name__\n")
    manifest = at(write_plugin(tmp_path / "own", "", driver_class="old.D"), file)
    where, module, gained, last = loaded(tmp_path / "own", manifest)
    assert (where, module) == ("vfab_plugin_mine.old.part", "vfab_plugin_mine.old")
    assert gained == [str(tmp_path / "shop" / "old"), str(tmp_path / "shop")] and last


def test_a_plugins_own_folder_comes_first_and_is_a_package_once(tmp_path: Path) -> None:
    manifest = write_plugin(tmp_path / "own", DRIVER.format(where="__package__"))
    put(tmp_path / "own" / "__init__.py", "import sys\nsys.path.insert(0, sys.modules[__name__].__path__[0])\n")

    def work() -> Any:
        sys.path.insert(0, str(tmp_path / "own"))
        first, second = (load_driver_class(str(tmp_path / "own"), manifest) for _ in range(2))
        return [first is second, first.WHERE, sys.path.count(str(tmp_path / "own"))]  # type: ignore[attr-defined]

    assert in_child(work) == [True, "vfab_plugin_mine", 2], "what the package did, and nothing twice"


def test_a_class_that_finds_devices_comes_as_a_driver_that_does(tmp_path: Path) -> None:
    manifest = write_plugin(
        tmp_path, "class D:\n    def detect(self): return {'count': 0, 'accessible': False, 'devices': []}\n"
    )

    def work() -> Any:
        cls = load_driver_class(str(tmp_path), manifest)
        return [cls.__mro__[1].__name__, hasattr(cls, "scan")]

    assert in_child(work) == ["BaseDriver", True]


@pytest.mark.parametrize("source", ["class D: pass\n", "D = 3\n"])
def test_what_is_neither_is_refused(tmp_path: Path, source: str) -> None:
    manifest = write_plugin(tmp_path, source)

    def work() -> Any:
        with pytest.raises(Exception, match="is not a driver") as refused:
            load_driver_class(str(tmp_path), manifest)
        return type(refused.value).__name__

    assert in_child(work) == "DriverFailed"
