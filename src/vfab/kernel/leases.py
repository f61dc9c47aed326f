"""Leases: who may use a device now. A device has one holder on this machine, whatever program it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from vfab.kernel.forks import held_here
from vfab.model.errors import DeviceBusy, PermissionRefused

__all__ = ["Lease", "LeaseBook"]

_KEYS = {"pid", "program", "since_s", "device"}
_TRIES = 200
_TRY_S = 0.005


class Lease:
    """The right to use one device, until `release` or the end of the program, however it ends."""

    def __init__(self, device_id: str, path: Path, fd: int) -> None:
        self.device_id = device_id
        self.path = path
        self._fd = fd
        held_here(self)

    def let_go_in_child(self) -> None:
        """In a forked child: the lease is the parent's, and ends with it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def release(self) -> None:
        """Let others use the device. Releasing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                if _is_at(fd, self.path):
                    self.path.unlink()  # while it is locked: who opened it just now finds that out, and opens a new one
            os.ftruncate(fd, 0)
            os.close(fd)  # the lock goes with the descriptor

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LeaseBook:
    """Grants leases, by locks on files in `folder` (private to this user).

    Args:
        folder: where the lock files are, usually `$VFAB_HOME/run/leases`.
        holder: how this program calls itself to others that are refused.
    """

    def __init__(self, folder: Path, holder: str | None = None) -> None:
        self._folder = folder
        self._holder = holder or _this_program()

    def acquire(self, device_id: str) -> Lease:
        """The lease of `device_id`.

        Raises DeviceBusy: somebody else has it; message and context say who, and since when.
        """
        path = self._path(device_id)
        while True:
            fd = self._opened(path)
            try:
                self._lock(fd, device_id)
                if _is_at(fd, path):
                    break
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # whoever had it removed the file between our opening and our locking
        try:
            entry = {"pid": os.getpid(), "program": self._holder, "since_s": time.time(), "device": device_id}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(entry).encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        return Lease(device_id, path, fd)

    def _opened(self, path: Path) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PermissionRefused(
                f"cannot write the lease file {path}: {error.strerror}",
                context={"path": str(path)},
                remedy="Make the folder writable, or set VFAB_HOME to one that is.",
                original_error=error,
            ) from error

    def _lock(self, fd: int, device_id: str) -> None:
        """Lock the file. Somebody who only looks holds it for a moment, without an entry: that is waited out."""
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                entry = self.holder_of(device_id)
                if entry is not None or not left:
                    raise self._busy(device_id, entry) from None
                time.sleep(_TRY_S)
            else:
                return

    def holder_of(self, device_id: str) -> dict[str, Any] | None:
        """Who holds the lease: `{"pid", "program", "since_s", "device"}`; None when nobody does."""
        path = self._path(device_id)
        with contextlib.suppress(OSError, ValueError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                entry: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
                if isinstance(entry, dict) and entry.keys() >= _KEYS:
                    return entry
            finally:
                os.close(fd)
        return None

    def _busy(self, device_id: str, entry: dict[str, Any] | None) -> DeviceBusy:
        who = f"process {entry['pid']} ({entry['program']})" if entry else "another program"
        return DeviceBusy(
            f"{device_id} is in use by {who}",
            context={"device": device_id, "holder": entry},
            remedy="The node has it: leave out --no-node, or have the node let go: vfab device close."
            if entry and str(entry["program"]).startswith("vfab up")
            else "Wait until it is done, or end that program.",
        )

    def _path(self, device_id: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", device_id)[:80]
        return self._folder / f"{readable}-{sha256(device_id.encode()).hexdigest()[:12]}.lease"


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file is the one at `path`, and was not removed meanwhile."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def _this_program() -> str:
    """How this program was called; `python -m vfab.apps.cli.main` is the same as `vfab`."""
    program = Path(sys.argv[0])
    name = "vfab" if program.parts[-3:] == ("apps", "cli", "main.py") else program.name
    return " ".join([name, *sys.argv[1:]])[:200]
