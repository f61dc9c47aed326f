"""Memory and disk that the machine has left, looked at often: two small reads, so that hosts are sampled in time.

A driver that takes all it can get fills a machine between two samples of the hosts; what tells it early is what is
left.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Vitals", "read_vitals", "worse"]

_MIB = 1024 * 1024
_LEAST_MB = 256.0
_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is left now.

    Attributes:
        memory_mb: memory that programs can have before the system must swap, in MiB; None where it is not told.
        disk_mb: for each file system, by its number, the MiB that are free.
    """

    memory_mb: float | None
    disk_mb: dict[int, float]


def read_vitals(folders: Iterable[Path], meminfo: str = "/proc/meminfo") -> Vitals:
    """What is left of memory, and on the disks of `folders`; a folder that is not there is left out."""
    disks: dict[int, float] = {}
    for folder in folders:
        try:
            number = folder.stat().st_dev
            if number not in disks:
                told = os.statvfs(folder)
                disks[number] = told.f_bavail * told.f_frsize / _MIB
        except OSError:
            continue
    return Vitals(_available_mb(meminfo), disks)


def worse(before: Vitals, now: Vitals) -> bool:
    """So much less is left than before that somebody may be taking all of it: a tenth, and 256 MiB at the least."""
    pairs = [(left, now.disk_mb[number]) for number, left in before.disk_mb.items() if number in now.disk_mb]
    if before.memory_mb is not None and now.memory_mb is not None:
        pairs.append((before.memory_mb, now.memory_mb))
    return any(had - has > max(_LEAST_MB, had * _SHARE) or has < _LEAST_MB < had for had, has in pairs)


def _available_mb(meminfo: str) -> float | None:
    """`MemAvailable` of /proc/meminfo (proc(5))."""
    try:
        with open(meminfo, encoding="ascii") as lines:  # noqa: PTH123 — read four times a second
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        return None
    return None
