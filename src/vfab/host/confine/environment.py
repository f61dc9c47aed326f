"""What a host knows of who started it: little. A few variables, and descriptors that it was given."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

__all__ = ["close_all_but", "private_folder", "reopen_input", "set_folders"]

_TEMPORARY = "tmp"


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    first = 0
    for descriptor in sorted(keep):
        if first < descriptor:  # an empty range is taken for everything
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def set_folders(state_dir: str) -> None:
    """Have libraries that ask for a home find the driver's own folder, where it has one."""
    os.environ["HOME"] = state_dir or "/"
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ.pop(name, None)


def reopen_input() -> None:
    """Have standard input, which is /dev/null, be one that was opened in this process's own view of the files."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def private_folder(state_dir: str) -> str:
    """A folder for temporary files that only this host has, below its state folder; what dead hosts left is removed.

    Whose host lives is told by a lock on it, which ends with the host: numbers of processes say nothing across PID
    namespaces. Called once the process is confined: what lies there is the driver's, and so may be links to anywhere.

    Raises OSError: it cannot be made.
    """
    above = Path(state_dir, _TEMPORARY)
    above.mkdir(mode=0o700, exist_ok=True)
    mine = _locked(above)
    for old in above.iterdir():
        if str(old) != mine and _is_left(old):
            shutil.rmtree(old, ignore_errors=True)
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = mine
    tempfile.tempdir = None  # the zygote may have asked already
    return mine


def _locked(above: Path) -> str:
    """A new folder in `above`, locked until this process ends."""
    while True:
        mine = tempfile.mkdtemp(prefix="", dir=above)
        held = os.open(mine, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
        if Path(mine).exists():  # else another host that is just starting took it for one that was left
            return mine
        os.close(held)


def _is_left(folder: Path) -> bool:
    """Whether no living host has locked `folder`."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(held)
    return True
