# ruff: noqa: PTH113, PTH114, PTH118, PTH120
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""Plugins of older shapes: in source files of their own, or a `plugin.yaml` whose class lies elsewhere in a place.

Files are read, none is run. What the source says is for `vfab.dialects` to tell.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

import msgspec

from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest

__all__ = ["SUFFIXES", "complete", "is_source", "module_file", "read_source"]

SUFFIXES = (".py", ".js", ".cjs")
"""Ends of names of files that may hold a plugin of an older shape."""

SOURCE_MAX_BYTES = 4 << 20
_NOT_PLUGINS = frozenset({"conftest.py", "setup.py", "noxfile.py", "plugin_manager.py"})
_INSTRUMENT = b"InstrumentDriver"


def is_source(name: str) -> bool:
    """Whether a file of this name may hold a plugin; tests and what configures tools do not."""
    return name.endswith(SUFFIXES) and not name.startswith("test_") and name not in _NOT_PLUGINS


def read_source(path: str) -> list[Manifest]:
    """The manifests of the plugins in the source file `path`.

    Raises BadManifest: it looks like a plugin and breaks a rule; the context has `file` and, where known, `line`.
    """
    from vfab.dialects import looks_like_plugin, read_plugins

    data = _read(path)
    if data is None or not looks_like_plugin(path, data):
        return []
    folder = os.path.dirname(path)
    if os.path.islink(path) and os.path.commonpath(
        [os.path.realpath(path), os.path.realpath(folder)]
    ) != os.path.realpath(folder):
        raise BadManifest(
            f"{path}: found a symbolic link to {os.path.realpath(path)}; the file itself must lie in the folder",
            context={"file": path, "field": "", "found": "a symbolic link", "expected": "a file"},
            remedy=f"Put a copy of the file into {folder}, or name its own folder in VFAB_PLUGIN_PATH.",
        )
    return read_plugins(path, data)


def _read(path: str) -> bytes | None:
    """The bytes of a plain file of moderate size; None for anything else: it is no plugin then."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > SOURCE_MAX_BYTES:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(SOURCE_MAX_BYTES)
    finally:
        os.close(fd)


def module_file(folder: str, driver_class: str) -> str | None:
    """The file below `folder` of the module in `driver_class` (`pkg.mod.Class`), None when it is not there."""
    base = os.path.join(folder, *driver_class.split(".")[:-1])
    for candidate in (f"{base}.py", f"{base}/__init__.py"):
        if os.path.isfile(candidate):
            return candidate
    return None


def complete(manifest: Manifest, folder: str, search: Iterable[str]) -> tuple[Manifest, str | None, bool]:
    """A manifest that `plugin.yaml` in `folder` gave, with what only its class's file tells.

    Seed 004 looks the module up in the places, not in the plugin's folder: `search` are more folders to look in. And a
    manifest of that document names no commands: an `InstrumentDriver` has those of its document.

    Returns the manifest, the file that was read for it (None for none), and whether these two files are all that has to
    be looked at to know later whether anything changed.
    """
    if manifest.runtime.language != "python":
        return manifest, None, True
    own = module_file(folder, manifest.driver_class)
    if own is not None and (manifest.commands or manifest.runtime.dialect != "native"):
        return manifest, None, True
    elsewhere = (module_file(place, manifest.driver_class) for place in search if place != folder)
    file = own or next((found for found in elsewhere if found is not None), None)
    if file is None:
        return manifest, None, False
    made, alone = _as_instrument(manifest, file) if manifest.runtime.dialect == "native" else (None, True)
    if own is not None:
        return (made, own, alone) if made is not None else (manifest, None, alone)
    made = made or manifest
    runtime = msgspec.structs.replace(made.runtime, source=file)
    return msgspec.structs.replace(made, runtime=runtime), file, alone


def _as_instrument(manifest: Manifest, file: str) -> tuple[Manifest | None, bool]:
    """The manifest of an instrument of seed 004, whose base may lie elsewhere; and whether no other file was read."""
    data = _read(file)
    if data is None or not (_INSTRUMENT in data or manifest.supported_methods):
        return None, True
    from vfab.dialects.instrument_plugin import completed
    from vfab.dialects.neighbours import take_in_neighbours
    from vfab.dialects.reading import Source

    try:
        source = Source.parse(file, data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, True  # its host tells, when somebody uses it
    read_too = () if _INSTRUMENT in data else take_in_neighbours(source)
    return completed(manifest, source), not read_too
