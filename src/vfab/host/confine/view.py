"""What a host sees of the file tree, once it has a mount namespace: all of it read-only but for what it may write.

Landlock knows reading and writing. It does not know of modes, owners and times: without this, a driver could not read
what belongs to its user, but make it unreadable, or readable to everybody. Sources: mount_setattr(2), open_tree(2),
move_mount(2), mount(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from vfab.host.confine.syscalls import call

__all__ = ["make_proc_read_only", "make_read_only", "own_proc"]

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _CLOEXEC = 1, os.O_CLOEXEC
_FROM_EMPTY_PATH, _TO_SYMLINKS = 0x4, 0x10
_RDONLY, _NOSUID = 1, 2
_MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x4000, 0x40000, 2, 4, 8


def own_proc() -> None:
    """Have `/proc` show the processes of this PID namespace only.

    Raises OSError: the system does not allow it, as in a container that hides parts of `/proc`.
    """
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)


def make_read_only(writable: Iterable[str]) -> None:
    """Make every mount that this process sees read-only, but for the folders and files `writable`.

    Device nodes can be written to all the same. A path that is not there is passed over. Raises OSError: the kernel
    refuses; what was done until then stays.
    """
    with contextlib.ExitStack() as stack:
        kept: list[tuple[str, int]] = []
        for path in _outermost(writable):
            if path == "/":
                raise OSError(22, "the whole tree is to be written")
            tree = call("open_tree", _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | _CLOEXEC | _AT_RECURSIVE)
            stack.callback(os.close, tree)
            kept.append((path, tree))
        _set(_AT_FDCWD, b"/", _AT_RECURSIVE, _RDONLY | _NOSUID)
        for path, tree in kept:
            _set(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, _NOSUID)  # nodes in a folder that was granted are meant
            call("move_mount", tree, b"", _AT_FDCWD, os.fsencode(path), _FROM_EMPTY_PATH | _TO_SYMLINKS)


def make_proc_read_only() -> None:
    """The same for `/proc`, where it was left out. Raises OSError."""
    _set(_AT_FDCWD, b"/proc", _AT_RECURSIVE, _RDONLY | _NOSUID)


def _set(at: int, path: bytes, flags: int, attributes: int) -> None:
    packed = struct.pack("=4Q", attributes, 0, 0, 0)
    call("mount_setattr", at, path, flags, ctypes.c_char_p(packed), len(packed))


def _outermost(paths: Iterable[str]) -> list[str]:
    """Folders and plain files among `paths`, without those that lie within another."""
    kept: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths}):
        with contextlib.suppress(OSError):
            mode = os.stat(path).st_mode  # noqa: PTH116 — pathlib costs at every start
            if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and not any(path.startswith(f"{one}/") for one in kept):
                kept.append(path)
    return kept
