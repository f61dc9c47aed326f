# ruff: noqa: PTH116, PTH118, PTH120
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""The index: manifests read before, so that the second look at 1,000 plugins costs a stat each.

An entry holds as long as its file's device, inode, size, mtime and ctime do. The file is private to its user (0600 in
a 0700 folder) and is ignored when it is anybody else's, damaged, or written by another vfab.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

import vfab
from vfab.model import manifest as manifest_module

__all__ = ["Entry", "Index", "write_privately"]

_FORMAT = 4
_RACY_NS = 50_000_000
_COARSE_NS = 2_000_000_000


class _OfFile(msgspec.Struct, array_like=True, frozen=True):
    """What was read from one file, and how that file looked then."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_of(self, seen: os.stat_result) -> bool:
        """Whether `seen` is the very file that this entry was read from."""
        return (
            self.mtime_ns == seen.st_mtime_ns
            and self.inode == seen.st_ino
            and self.size == seen.st_size
            and self.ctime_ns == seen.st_ctime_ns
            and self.device == seen.st_dev
        )


class Entry(_OfFile, array_like=True, frozen=True):
    """One manifest, and the file that it was read from."""

    name: str
    version: str
    minimum: str
    maximum: str | None
    packed: bytes
    also: tuple[str, int, int] | None = None
    """A second file that was read for it: its path, mtime and size."""


class SourceEntry(_OfFile, array_like=True, frozen=True):
    """One source file, and the plugins of older shapes in it; most files hold none."""

    plugins: tuple[tuple[str, str, str, str | None, bytes, str], ...]
    """(name, version, oldest platform, newest platform, the packed manifest, the dialect) of each."""
    also: tuple[tuple[str, int, int], ...] = ()
    """Files beside it that were read for them: path, mtime and size."""


class EntryPoints(msgspec.Struct, array_like=True, frozen=True):
    """The `vfab.plugins` entry points of one folder of distributions: (name, value, distribution)."""

    mtime_ns: int
    ctime_ns: int
    points: tuple[tuple[str, str, str], ...]


class _File(msgspec.Struct, array_like=True):
    made_by: str
    entries: dict[str, Entry]
    entry_points: dict[str, EntryPoints]
    sources: dict[str, SourceEntry]


class Index:
    """What was read before. `load()`, look up and `remember()`, `save()`."""

    def __init__(self, folder: Path | None, *, made_by: str | None = None) -> None:
        self._path = folder / "plugins.msgpack" if folder is not None else None
        self._made_by = _made_by() if made_by is None else made_by
        self._file = _File(self._made_by, {}, {}, {})
        self._changed = False
        self._seen: set[str] = set()

    @property
    def path(self) -> Path | None:
        """The file, or None when nothing is kept."""
        return self._path

    def load(self) -> None:
        """Read the file; whatever is wrong with it, the index is empty then."""
        self._file, self._changed, self._seen = _File(self._made_by, {}, {}, {}), False, set()
        data = _read_privately(self._path) if self._path is not None else None
        if data is None or len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
            return
        try:
            file = msgspec.msgpack.decode(data[4:], type=_File)
        except msgspec.MsgspecError:
            return
        if file.made_by == self._made_by:
            self._file = file

    def get(self, path: str, seen: os.stat_result) -> Entry | None:
        """The entry of the manifest at `path` that looks like `seen` now; None when it must be read."""
        entry = self._file.entries.get(path)
        if entry is None or not entry.is_of(seen) or (entry.also is not None and _stamp(entry.also[0]) != entry.also):
            return None
        self._seen.add(path)
        return entry

    def source(self, path: str, seen: os.stat_result) -> SourceEntry | None:
        """What the source file at `path`, which looks like `seen` now, is known to hold; None when it must be read."""
        entry = self._file.sources.get(path)
        if entry is None or not entry.is_of(seen) or any(_stamp(also[0]) != also for also in entry.also):
            return None
        self._seen.add(path)
        return entry

    def remember_source(
        self,
        path: str,
        seen: os.stat_result,
        manifests: Iterable[manifest_module.Manifest],
        read_too: Iterable[str] = (),
    ) -> None:
        """Keep which plugins a source file holds, under the same conditions as `remember`.

        `read_too` are files that were read for them, which must stay the same too.
        """
        if not _is_settled(seen):
            return
        self._seen.add(path)
        self._changed = True
        plugins = tuple(
            (
                m.name,
                m.version,
                m.min_platform_version,
                m.max_platform_version,
                msgspec.msgpack.encode(m),
                str(m.runtime.dialect),
            )
            for m in manifests
        )
        stat = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        also = tuple(stamp for stamp in map(_stamp, read_too) if stamp is not None)
        self._file.sources[path] = SourceEntry(*stat, plugins, also)

    def remember(
        self, path: str, seen: os.stat_result, manifest: manifest_module.Manifest, also: str | None = None
    ) -> None:
        """Keep what was read, unless the file is so new that a change in the same tick of the clock would hide.

        `also` is a second file that was read for it, which must stay the same too.
        """
        if not _is_settled(seen):
            return
        self._seen.add(path)
        self._changed = True
        self._file.entries[path] = Entry(
            seen.st_dev,
            seen.st_ino,
            seen.st_size,
            seen.st_mtime_ns,
            seen.st_ctime_ns,
            manifest.name,
            manifest.version,
            manifest.min_platform_version,
            manifest.max_platform_version,
            msgspec.msgpack.encode(manifest),
            _stamp(also) if also is not None else None,
        )

    def entry_points(self, folder: str, seen: os.stat_result) -> tuple[tuple[str, str, str], ...] | None:
        """The entry points of the distributions in `folder`, if it has not changed since."""
        known = self._file.entry_points.get(folder)
        if known is None or (known.mtime_ns, known.ctime_ns) != (seen.st_mtime_ns, seen.st_ctime_ns):
            return None
        return known.points

    def remember_entry_points(
        self, folder: str, seen: os.stat_result, points: tuple[tuple[str, str, str], ...]
    ) -> None:
        """Keep the entry points of `folder`."""
        if time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) >= _COARSE_NS:
            self._file.entry_points[folder] = EntryPoints(seen.st_mtime_ns, seen.st_ctime_ns, points)
            self._changed = True

    def save(self) -> None:
        """Write the file if anything changed, without what was not seen; where nothing can be written, do nothing."""
        gone = (self._file.entries.keys() | self._file.sources.keys()) - self._seen
        if self._path is None or not (self._changed or gone):
            return
        for path in gone:
            self._file.entries.pop(path, None)
            self._file.sources.pop(path, None)
        body = msgspec.msgpack.encode(self._file)
        try:
            write_privately(self._path, zlib.crc32(body).to_bytes(4, "big") + body)
        except OSError:
            return
        self._changed = False


def _is_settled(seen: os.stat_result) -> bool:
    """Whether a later change of the file would show in its times."""
    newest = max(seen.st_mtime_ns, seen.st_ctime_ns)
    coarse = seen.st_mtime_ns % 1_000_000_000 == 0
    return time.time_ns() - newest >= (_COARSE_NS if coarse else _RACY_NS)


def _stamp(path: str) -> tuple[str, int, int] | None:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return path, seen.st_mtime_ns, seen.st_size


def _made_by() -> str:
    """What wrote an index: another vfab, or other modules that read, may read the same text differently."""
    with os.scandir(os.path.join(os.path.dirname(vfab.__file__), "dialects")) as entries:
        readers = [entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".py")]
    changed = max(os.stat(manifest_module.__file__).st_mtime_ns, *readers)
    return f"vfab {vfab.__version__} format {_FORMAT} schema {manifest_module.SCHEMA_VERSION} {changed}"


def _read_privately(path: Path) -> bytes | None:
    """The bytes of `path` if it is a plain file that this user alone can write; else None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def write_privately(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, readable by this user alone; its folder is made (0700) when missing.

    Raises OSError: nothing was changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
