"""What only Linux can do for a host, behind one seam; elsewhere each does nothing and says so in its result."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with_parent", "die_with_vfab", "name_process"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> bool:
    """Have the system end this process when `parent` ends.

    False where it cannot: then only the closed control socket does, which a driver stuck in native code never notices.
    """
    if _libc is None:
        return False
    die_with_vfab()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)
    return True


def die_with_vfab() -> None:
    """The same once more, for a process that has changed what it may do since: the kernel may have forgotten."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def name_process(name: str) -> bool:
    """Show `name` (15 bytes of it) in process lists. False where the system cannot."""
    if _libc is None:
        return False
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)
    return True
