"""A cgroup (version 2) of its own for a host, where somebody delegated one to vfab.

Its bounds hold for all that the host starts together, always; the watch of `runtime.limits` looks now and then.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from vfab.model.limits import Limits

__all__ = ["ROOT", "Cell", "clean", "own_group", "prepare"]

ROOT = Path("/sys/fs/cgroup")
_MIB = 1024 * 1024
_NAME = "vfab-host-"
_NEEDED = ("memory", "pids", "cpu")
_PERIOD_US = 100_000


def own_group(root: Path = ROOT, process: Path = Path("/proc/self/cgroup")) -> Path:
    """The cgroup of this process.

    Raises OSError: there is no unified hierarchy here.
    """
    for line in process.read_text().splitlines():
        number, _, path = line.split(":", 2)
        group = root / path.lstrip("/")
        if number == "0" and (group / "cgroup.controllers").exists():
            return group
    raise FileNotFoundError(f"there is no unified hierarchy (cgroup v2) at {root}")


class Cell(NamedTuple):
    """A cgroup for a host to be, made by who has the rights to; the host itself may have none by the time it enters.

    Attributes:
        folder: where it is; "": there is none.
        entrance: its `cgroup.procs`, open; -1: it was entered, or there is none.
        problem: why there is none.
    """

    folder: str = ""
    entrance: int = -1
    problem: str = ""

    def entered(self) -> Cell:
        """In the host: enter it, by the rights of who opened it (Linux 5.16)."""
        if self.entrance < 0:
            return self
        try:
            os.write(self.entrance, b"0")  # whoever writes it: its number may be another one out there
            return Cell(self.folder)
        except OSError as error:
            return Cell(problem=str(error))
        finally:
            os.close(self.entrance)

    def close(self) -> None:
        """In who made it."""
        if self.entrance >= 0:
            os.close(self.entrance)


def prepare(limits: Limits, group: Path | None, name: str) -> Cell:
    """Make a cgroup beside or below `group`, bounded by `limits`; a cell without one says why.

    `name` is no other host's.
    """
    if group is None:
        return Cell(problem="no unified hierarchy (cgroup v2) that vfab could use")
    problem = ""
    for above in (group, group.parent):  # processes and controllers cannot both be in one: systemd gives a sub-group
        if not (above / "cgroup.controllers").exists():
            continue
        try:
            _enable(above)
            return _make(above / f"{_NAME}{name}", limits)
        except OSError as error:
            problem = problem or str(error)
    return Cell(problem=problem or f"{group} is not delegated to this user")


def _enable(above: Path) -> None:
    have = (above / "cgroup.subtree_control").read_text().split()
    lacking = [name for name in _NEEDED if name not in have]
    if lacking:
        (above / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in lacking))


def _make(made: Path, limits: Limits) -> Cell:
    made.mkdir(exist_ok=True)
    try:
        if limits.memory_mb:
            # the watch measures what is the driver's alone and says so kindly; this is where the kernel ends it
            (made / "memory.max").write_text(str(int(limits.memory_mb * 1.25 * _MIB)))
        if limits.threads:
            (made / "pids.max").write_text(str(limits.threads))
        if limits.cpu_percent:
            quota = max(1000, int(limits.cpu_percent / 100 * _PERIOD_US))
            (made / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        return Cell(str(made), os.open(made / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        made.rmdir()
        raise


def clean(name: str, group: Path) -> bool:
    """Remove the cgroup that was prepared under `name`; whoever was in it has ended, and it may have had none.

    Returns whether the kernel ended somebody in it because they took more memory than `memory.max`.
    """
    starved = False
    for above in (group, group.parent):
        made = above / f"{_NAME}{name}"
        with contextlib.suppress(OSError):
            events = dict(line.split() for line in (made / "memory.events").read_text().splitlines())
            starved = starved or events.get("oom_kill", "0") != "0"
        with contextlib.suppress(OSError):
            made.rmdir()
    return starved
