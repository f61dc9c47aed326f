"""Limits that the system itself keeps for a host: set before any code of the plugin runs, which cannot raise them."""

from __future__ import annotations

import contextlib
import resource

from vfab.model.limits import Limits

__all__ = ["DIES_FIRST", "FEWEST_FILES", "keep_within"]

FEWEST_FILES = 16
"""Descriptors that a host needs for itself and its links."""

DIES_FIRST = 300
"""What a host adds to its badness (oom_score_adj, proc(5)): 300 of 1000, as browsers do with their pages' processes."""

_MIB = 1024 * 1024


def keep_within(limits: Limits) -> None:
    """Have the system refuse this process, and those that it starts, what goes beyond `limits`.

    No core is written when it crashes: that would be a copy of its memory, secrets included. A limit of the system
    itself that is lower stays.
    """
    _keep(resource.RLIMIT_CORE, 0)
    _die_first()
    if limits.open_files:
        _keep(resource.RLIMIT_NOFILE, max(limits.open_files, FEWEST_FILES))
    if limits.file_mb:
        _keep(resource.RLIMIT_FSIZE, int(limits.file_mb * _MIB))
    if limits.address_space_mb:
        _keep(resource.RLIMIT_AS, int(limits.address_space_mb * _MIB))


def _die_first() -> None:
    """When the machine runs out of memory, have the system end a driver before it ends vfab, or what else runs here."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:  # noqa: PTH123
        if int(file.read()) < DIES_FIRST:
            file.write(str(DIES_FIRST).encode())


def _keep(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # a system that cannot limit this runs the driver all the same
        resource.setrlimit(which, (value, value))
