"""What a driver keeps on disk: all that lies in its state folder, and what it removed there and holds open."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vfab.watch.usage import offspring_of

__all__ = ["DiskUsage", "disk_usage"]

_BLOCK = 512
"""What `st_blocks` counts, on every file system (stat(2))."""

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What lies in a state folder now.

    Attributes:
        used_mb: MiB that its files take up on disk, sparse ones as much as was written, linked ones once; and files
            that the process has removed there and holds open.
        files: files, folders and links.
        free_mb: MiB that its owner may still write on that file system.
        capped: there are more files than were counted.
    """

    used_mb: float
    files: int
    free_mb: float
    capped: bool = False


def disk_usage(folder: Path, pid: int, most_files: int = 0) -> DiskUsage | None:
    """Measure `folder`, and what process `pid` or one that it started removed there and holds open; None: no folder.

    Args:
        most_files: counting ends at twice as many, since a folder of millions takes long; 0: it never does.
    """
    try:
        free = shutil.disk_usage(folder).free
        device = folder.stat().st_dev
    except OSError:
        return None
    most = most_files * 2
    blocks = files = 0
    seen: set[int] = set()
    removed = (found for process in (pid, *offspring_of(pid)) for found in _removed(process, device))
    for found in (*removed, *_below(str(folder), most)):
        files += found.st_nlink > 0
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in seen:
                continue
            seen.add(found.st_ino)
        blocks += found.st_blocks
    return DiskUsage(blocks * _BLOCK / _MIB, files, free / _MIB, bool(most) and files >= most)


def _below(folder: str, most: int) -> Iterator[os.stat_result]:
    """Everything below `folder`, no link followed, `most` at the most; what vanishes meanwhile is not there."""
    waiting, count = [folder], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(entry.path)
                    yield found
                    count += 1
                    if count == most:
                        return
        except OSError:
            continue


def _removed(pid: int, device: int) -> Iterator[os.stat_result]:
    """Files on `device` that have no name any more and that the process has open (proc(5)), each once."""
    seen: set[int] = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    found = entry.stat()
                except OSError:
                    continue
                gone = found.st_dev == device and stat.S_ISREG(found.st_mode) and not found.st_nlink
                if gone and found.st_ino not in seen:
                    seen.add(found.st_ino)
                    yield found
    except OSError:
        return
