"""Memory that processes share, and a bell to wake those who wait for it: the only place that knows Linux's ways.

Elsewhere than on Linux the memory is an unlinked temporary file, and who waits looks again every millisecond.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable

__all__ = ["BELL_SIZE", "Bell", "new_memory", "read_only"]

BELL_SIZE = mmap.PAGESIZE
POLL_S = 0.001
_LOOK_AGAIN_S = 0.05
"""A waiter looks again so often, whatever the bell says: a lost ring costs this much, not for ever."""

_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "armv7l": 240, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_EVERYBODY = 0x7FFFFFFF


def new_memory(name: str, size: int) -> int:
    """A descriptor of `size` zero bytes that no path leads to; pages take memory once they are written.

    On Linux its size is sealed: nobody who is handed the descriptor can shrink it under a reader (which would kill
    the reader by SIGBUS).
    """
    if hasattr(os, "memfd_create"):
        import fcntl

        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return fd
    with tempfile.TemporaryFile(prefix="vfab-") as file:  # pragma: no cover
        os.ftruncate(file.fileno(), size)
        return os.dup(file.fileno())


def read_only(fd: int) -> int:
    """A descriptor of the same memory that cannot be written through; a plain copy where the system has no such way."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


@functools.cache
def _futex() -> Callable[..., int] | None:
    number = _FUTEX_NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None or sys.maxsize < 2**32:
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long

    def futex(address: int, operation: int, value: int, timeout: object) -> int:
        made: int = call(
            ctypes.c_long(number), ctypes.c_void_p(address), ctypes.c_int(operation), ctypes.c_uint32(value), timeout
        )
        return made

    return futex


_futex()  # looking for it takes its time: in the zygote, and not in each of its hosts


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Bell:
    """One page that a producer and its readers share: a count of rings, and whether anybody waits.

    Ringing costs nothing while nobody waits. Safe between processes and threads.

    Args:
        fd: the page's memory; this object does not own the descriptor.

    Attributes:
        words: the page: a count of rings, and whether anybody waits.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, BELL_SIZE)
        self.words = memoryview(self._map).cast("I")
        self._anchor = ctypes.c_uint32.from_buffer(self._map)
        self._address = ctypes.addressof(self._anchor)
        self._futex = _futex()
        self._fence = threading.Lock()

    def ring(self) -> None:
        """Wake everybody who waits. Have a barrier, such as a lock's, between what they wait for and this."""
        words = self.words
        if words[1]:
            words[1] = 0
            words[0] = (words[0] + 1) & 0xFFFFFFFF
            if self._futex is not None:
                self._futex(self._address, _FUTEX_WAKE, _EVERYBODY, None)

    def wait(self, ready: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until `ready()`, which a ring makes likely; False once `timeout_s` seconds are over (None: no end)."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not ready():
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._sleep(ready, _LOOK_AGAIN_S if left is None else min(left, _LOOK_AGAIN_S))
        return True

    def _sleep(self, ready: Callable[[], bool], seconds: float) -> None:
        if self._futex is None:
            time.sleep(min(seconds, POLL_S))
            return
        seen = self.words[0]
        self.words[1] = 1
        with self._fence:  # a lock is a barrier: our mark is to be seen before we look
            pass
        if not ready():  # what came before our mark was seen rings no bell
            limit = _Timespec(int(seconds), int(seconds % 1 * 1e9))
            self._futex(self._address, _FUTEX_WAIT, seen, ctypes.byref(limit))

    def close(self) -> None:
        """Let go of the page."""
        self.words.release()
        del self._anchor
        self._map.close()
