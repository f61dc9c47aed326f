"""Where a node's socket and lock are, who holds the lock, and addresses of sockets with long names."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfab.kernel.places import home_of
from vfab.model.errors import ConfigurationError, ConnectError, PermissionRefused

__all__ = ["NodeLock", "NodeMissing", "NodePlaces", "NodeRunning", "socket_address"]

_LONGEST = 100
"""Bytes that a socket's name may have everywhere (Linux 107, macOS 103)."""


class NodeRunning(ConfigurationError):
    """A node runs already for this VFAB_HOME."""

    code = "node_running"


class NodeMissing(ConnectError):
    """What was asked for needs a node, and none runs."""

    code = "no_node"
    default_remedy = "Start one: `vfab up` (or `vfab up --detach`)."
    default_retryable = False


@dataclass(frozen=True, slots=True)
class NodePlaces:
    """The files of the node in `home`."""

    home: Path

    @classmethod
    def of(cls, env: Mapping[str, str]) -> NodePlaces:
        """Those of `$VFAB_HOME`."""
        return cls(home_of(env))

    @property
    def run(self) -> Path:
        """For the owner alone; what is here means nothing after a restart of the machine."""
        return self.home / "run"

    @property
    def socket(self) -> Path:
        """Where the API is served."""
        return self.run / "node.sock"

    @property
    def lock(self) -> Path:
        """Held while a node lives, however it ends."""
        return self.run / "node.lock"

    @property
    def log(self) -> Path:
        """Where a detached node writes."""
        return self.home / "log" / "node.log"

    def make(self) -> None:
        """Make the folder, private. Raises PermissionRefused."""
        try:
            self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.run.chmod(0o700)
        except OSError as error:
            raise PermissionRefused(
                f"{self.run}: cannot be made private to this user: {error.strerror}",
                context={"folder": str(self.run)},
                remedy="Make it writable by this user, or set VFAB_HOME to a folder that is.",
                original_error=error,
            ) from error


class NodeLock:
    """The right to be the node of a home; the system takes it back when the process ends."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    @classmethod
    def acquire(cls, places: NodePlaces) -> NodeLock:
        """Raises NodeRunning: another process has it."""
        places.make()
        fd = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            holder = cls.holder(places) or {}
            who = f"process {holder['pid']}" if "pid" in holder else "another process"
            raise NodeRunning(
                f"a node runs already for {places.home}: {who}",
                context={"home": str(places.home), **holder},
                remedy="Use that one (`vfab status`), end it (`vfab down`), or set VFAB_HOME to another folder.",
            ) from None
        entry = {"pid": os.getpid(), "since_s": time.time(), "socket": str(places.socket)}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(entry).encode(), 0)
        return cls(fd, places.lock)

    @staticmethod
    def holder(places: NodePlaces) -> dict[str, Any] | None:
        """The node that runs: `{"pid", "since_s", "socket"}`; None when none does."""
        try:
            fd = os.open(places.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            with contextlib.suppress(ValueError):
                entry = json.loads(os.pread(fd, 4096, 0))
                if isinstance(entry, dict):
                    return entry
            return {}
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let another be the node."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket's address, whatever the length of the path (Linux).

    Raises ConfigurationError: it is too long, and this system has no shorter name for it.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not Path("/proc/self/fd").is_dir():
            raise ConfigurationError(
                f"{path}: longer than the {_LONGEST} bytes that a socket's name may have",
                context={"file": str(path)},
                remedy="Set VFAB_HOME to a folder with a shorter path.",
            )
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
