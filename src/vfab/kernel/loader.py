# ruff: noqa: PTH100, PTH113, PTH114, PTH116, PTH118, PTH120
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""Reads plugins without running them: `PluginLoader` (seed 000 §3).

A plugin is a folder with `plugin.yaml`, or a source file of an older shape. A place is searched to `MAX_DEPTH` folders
down; nothing is searched below a plugin's folder. What breaks a rule is kept in `problems` and hides no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from vfab.kernel.index import Index
from vfab.kernel.sources import complete, is_source, read_source
from vfab.model.errors import BadManifest, DriverError, PermissionRefused
from vfab.model.manifest import Manifest
from vfab.model.manifest_text import manifest_from_yaml
from vfab.model.metadata import PluginMetadata
from vfab.model.plugins import DriverInfo, HasInfo, PluginProblem, PluginStatus
from vfab.model.versions import PLATFORM_VERSION, CompatibilityResult, check_platform
from vfab.model.yamltext import MAX_BYTES

__all__ = ["MANIFEST_FILE", "PluginLoader", "read_manifest"]

MANIFEST_FILE = "plugin.yaml"
MAX_DEPTH = 8
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of the plugin in `folder`, read now.

    Raises BadManifest: it breaks a rule; the context has file, line, field, found, expected. Raises PermissionRefused:
    it cannot be opened.
    """
    return manifest_from_yaml(_read(str(folder)), file=os.path.join(folder, MANIFEST_FILE))


def _read(folder: str) -> bytes:
    """The bytes of the manifest in `folder`, which must be a plain file of that folder and of moderate size."""
    file = os.path.join(folder, MANIFEST_FILE)
    if os.path.islink(file) and not _within(file, folder):
        raise _refuse(file, f"a symbolic link to {os.path.realpath(file)}", "the file itself must lie in the folder")
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise _unreadable(file, error) from error
    except OSError as error:
        raise _refuse(file, "nothing that can be opened", str(error.strerror)) from error
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise _refuse(file, "something that is not a file", f"{MANIFEST_FILE} is a text file")
        if seen.st_size > MAX_BYTES:
            raise _refuse(file, f"{seen.st_size} bytes", f"at most {MAX_BYTES} bytes (1 MiB) are read")
        with open(fd, "rb", closefd=False) as opened:
            return opened.read(MAX_BYTES + 1)
    finally:
        os.close(fd)


def _within(path: str, folder: str) -> bool:
    """Whether what `path` leads to lies in `folder`."""
    root = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(path), root]) == root


def _refuse(file: str, found: str, expected: str, field: str = "") -> BadManifest:
    told = {"field": field, "found": found, "expected": expected, "line": 0}
    name = f"{field}: " if field else ""
    return BadManifest(
        f"{file}: {name}found {found}; {expected}",
        context={"file": file, **told, "problems": [told]},
        remedy=f"Correct {field or 'the file'} in {file}, or remove the plugin.",
    )


def _unreadable(path: str, error: OSError) -> PermissionRefused:
    return PermissionRefused(
        f"{path}: cannot be read: {error.strerror}",
        context={"file": path},
        remedy=f"Let this user read it: chmod -R u+rX {path}, or ask its owner.",
    )


class PluginLoader:
    """Reads plugin folders (seed 000).

    Args:
        index: what was read before; None reads everything.
        platform_version: the platform that plugins must fit.
        search: folders in which a class is looked up that is not in its plugin's folder: all places (seed 004).

    Attributes:
        problems: what could not be read since the loader was made, or since `problems.clear()`.
    """

    def __init__(
        self, index: Index | None = None, *, platform_version: str = PLATFORM_VERSION, search: Sequence[str] = ()
    ) -> None:
        self._index = index if index is not None else Index(None)
        self._platform = platform_version
        self._search = tuple(search)
        self._compatible = lru_cache(maxsize=256)(self._check_platform)
        self.problems: list[PluginProblem] = []

    def load_from_path(self, path: Path | str, place: str | None = None) -> list[DriverInfo]:
        """The plugins in `path`: a plugin's folder, a source file, or a folder with some. None of their code is run.

        A plugin that cannot be read is left out and told in `problems`. One that does not fit the platform is there,
        with status ERROR.
        """
        root = os.path.abspath(path)
        named = place if place is not None else root
        found: list[DriverInfo] = []
        for where, seen, source in self._walk(root, named):
            try:
                if source:
                    found += self._in_source(where, seen, named)
                else:
                    found.append(self._plugin(where, seen, named, root))
            except DriverError as error:
                self.problems.append(PluginProblem(where, named, error))
        return found

    def validate_plugin(self, plugin: DriverInfo | HasInfo | Path | str) -> bool:
        """Whether the plugin keeps every rule: `problems_of` finds nothing."""
        return not self.problems_of(plugin)

    def problems_of(self, plugin: DriverInfo | HasInfo | Path | str) -> list[DriverError]:
        """Everything that is wrong with a plugin, looking at all its files and running none of them."""
        from vfab.kernel.plugin_rules import file_problems

        try:
            folder, manifests = self._read_again(plugin)
        except DriverError as error:
            return [error]
        found: list[DriverError] = []
        for manifest in manifests:
            fits = self._compatible(manifest.min_platform_version, manifest.max_platform_version)
            if not fits.compatible:
                file = manifest.runtime.source or os.path.join(folder, MANIFEST_FILE)
                found.append(BadManifest(f"{file}: {fits.reason}", context={"file": file}, remedy=fits.remedy))
            found += file_problems(folder, manifest)
        return found

    def get_plugin_metadata(self, plugin: DriverInfo | HasInfo | Path | str) -> PluginMetadata:
        """Seed 004's view of the plugin's manifest.

        Raises BadManifest: the folder given holds no good manifest.
        """
        if isinstance(plugin, (str, Path)):
            return PluginMetadata.from_manifest(self._read_again(plugin)[1][0])
        return PluginMetadata.from_manifest(info_of(plugin).manifest)

    def _read_again(self, plugin: DriverInfo | HasInfo | Path | str) -> tuple[str, list[Manifest]]:
        """A plugin's folder and manifest, read now; of a source file, all that it holds.

        Raises BadManifest: there is none, or it breaks a rule.
        """
        info = None if isinstance(plugin, (str, Path)) else info_of(plugin)
        folder = os.path.abspath(plugin) if isinstance(plugin, (str, Path)) else info_of(plugin).folder
        source = folder if os.path.isfile(folder) else info.manifest.runtime.source if info is not None else ""
        if source and (info is None or not os.path.isfile(f"{folder}/{MANIFEST_FILE}")):
            found = [m for m in read_source(source) if info is None or m.name == info.name]
            if not found:
                raise _refuse(source, "no plugin", "a plugin is a folder with plugin.yaml, or a file of an older shape")
            return os.path.dirname(source), found
        manifest, _, _ = complete(read_manifest(folder), folder, (os.path.dirname(folder), *self._search))
        return folder, [manifest]

    def _check_platform(self, minimum: str, maximum: str | None) -> CompatibilityResult:
        return check_platform(minimum, maximum, self._platform)

    def _walk(self, root: str, place: str) -> Iterator[tuple[str, os.stat_result, bool]]:
        """Every plugin folder in `root`, and every file that may be a plugin, sorted by name at each level.

        Each with the stat of its manifest, or of itself, and whether it is a file.
        """
        try:
            yield root, os.stat(f"{root}/{MANIFEST_FILE}"), False
            return
        except OSError:
            pass
        if is_source(root) and os.path.isfile(root):
            yield root, os.stat(root), True
            return
        waiting = [(root, 1)]
        while waiting:
            folder, depth = waiting.pop()
            groups: list[tuple[str, int]] = []
            subfolders, sources = self._inside(folder, place)
            yield from ((file, seen, True) for file, seen in sources)
            for path in subfolders:
                try:
                    seen = os.stat(f"{path}/{MANIFEST_FILE}")
                except FileNotFoundError:
                    if depth < MAX_DEPTH:
                        groups.append((path, depth + 1))
                except OSError as error:
                    self.problems.append(PluginProblem(path, place, _unreadable(path, error)))
                else:
                    yield path, seen, False
            waiting += reversed(groups)

    def _inside(self, folder: str, place: str) -> tuple[list[str], list[tuple[str, os.stat_result]]]:
        """The folders in `folder`, and its files that may be plugins with their stat, each sorted by name."""
        subfolders: list[str] = []
        sources: list[tuple[str, os.stat_result]] = []
        try:
            with os.scandir(folder) as entries:
                for e in entries:
                    if e.name[0] == "." or e.name in _SKIPPED:
                        continue
                    if e.is_dir():
                        if not (e.is_symlink() and _leads_back(e.path, folder)):
                            subfolders.append(e.path)
                    elif is_source(e.name) and e.is_file():
                        sources.append((e.path, e.stat()))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.problems.append(PluginProblem(folder, place, _unreadable(folder, error)))
        return sorted(subfolders), sorted(sources)

    def _plugin(self, folder: str, seen: os.stat_result, place: str, root: str) -> DriverInfo:
        entry = self._index.get(folder, seen)
        if entry is not None:
            known = DriverInfo.from_packed(entry.name, entry.version, entry.packed, folder, place)
            return self._judged(known, entry.minimum, entry.maximum)
        manifest, also, lasts = complete(read_manifest(folder), folder, (root, *self._search))
        if lasts:
            self._index.remember(folder, seen, manifest, also)
        info = DriverInfo(manifest, folder, place)
        return self._judged(info, manifest.min_platform_version, manifest.max_platform_version)

    def _in_source(self, path: str, seen: os.stat_result, place: str) -> list[DriverInfo]:
        """The plugins in a source file."""
        folder = os.path.dirname(path)
        entry = self._index.source(path, seen)
        if entry is None:
            manifests = read_source(path)
            self._index.remember_source(path, seen, manifests, getattr(manifests, "read_too", ()))
            infos = [DriverInfo(manifest, folder, place) for manifest in manifests]
            judged = [self._judged(i, i.manifest.min_platform_version, i.manifest.max_platform_version) for i in infos]
            return [_runnable(info, info.manifest.runtime.dialect) for info in judged]
        return [
            _runnable(
                self._judged(DriverInfo.from_packed(name, version, packed, folder, place), minimum, maximum), dialect
            )
            for name, version, minimum, maximum, packed, dialect in entry.plugins
        ]

    def _judged(self, info: DriverInfo, minimum: str, maximum: str | None) -> DriverInfo:
        fits = self._compatible(minimum, maximum)
        if fits.compatible:
            return info
        return info.changed(status=PluginStatus.ERROR, problem=fits.reason, remedy=fits.remedy)


def _leads_back(link: str, folder: str) -> bool:
    """Whether a link in `folder` leads to it, or to a folder around it: everything would be found again and again."""
    here, there = os.path.realpath(folder), os.path.realpath(link)
    return here == there or here.startswith(f"{there.rstrip('/')}/")


def _runnable(info: DriverInfo, dialect: str) -> DriverInfo:
    """`info`, or the same with the reason why a plugin of its shape cannot be run here."""
    if dialect != "js_driver" or not info.usable:
        return info
    from vfab.dialects.js_process import REMEDY, find_node

    if find_node() is not None:
        return info
    problem = f"{info.name} is written in JavaScript, and there is no Node.js here"
    return info.changed(status=PluginStatus.ERROR, problem=problem, remedy=REMEDY)


def info_of(plugin: DriverInfo | HasInfo) -> DriverInfo:
    """The driver that `plugin` is, or says it is."""
    return plugin if isinstance(plugin, DriverInfo) else plugin.get_info()
