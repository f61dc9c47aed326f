"""How a host is born: forked, and where the system allows it, into a user and a PID namespace of its own.

Python has no name for clone3, so what `os.fork` does around its call is done here: the interpreter's own hooks, and
what the C library would do in the child of a process that has one thread. The host is number 1 of its namespace: the
kernel ends all that it started when it ends, wherever that is.

Number 1 is special, though: a signal that it has no handler for does nothing to it, be it SIGTERM, an abort of its own,
or an alarm. `die_by_signals` gives it one. Orphans are its children: `vfab.host.init` is for those that may have any.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import select
import signal
import struct
import threading
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from vfab.host.confine.syscalls import MACHINE, call, prctl
from vfab.host.system import die_with_vfab

__all__ = ["DIED_BY", "Birth", "die_by_signals", "fork", "how_it_ended"]

_NEWUSER, _NEWPID = 0x10000000, 0x20000000
_CHILD_SETTID, _CHILD_CLEARTID = 0x01000000, 0x00200000
_PR_GET_TID_ADDRESS = 40

DIED_BY = 128
"""Exit status of a process that a signal ended, less the signal's number; as shells have it."""


class Birth(NamedTuple):
    """What a fork made, seen from either side.

    Attributes:
        pid: the host, as its parent knows it; 0 in the host.
        own: in the host, the namespaces that it was born into.
        uid, gid: in the host, who it is outside of them.
        lacks: why it has none; "" if it was not to have one.
    """

    pid: int
    own: tuple[str, ...] = ()
    uid: int = 0
    gid: int = 0
    lacks: str = ""


def fork(*, namespaces: bool) -> Birth:
    """Fork this process, which has one thread. Returns in both processes.

    Without a PID namespace where the system gives none: `Birth.lacks` says why. Raises OSError: there can be no more
    processes.
    """
    lacks = ""
    if namespaces:
        try:
            return _fork_apart()
        except OSError as error:
            lacks = f"a PID namespace: {error}"
    return Birth(os.fork(), (), os.geteuid(), os.getegid(), lacks)


def _fork_apart() -> Birth:
    if not _code:
        raise OSError("signals could not end a host that is number 1 of it")
    thread, robust = _c_library()
    uid, gid = os.geteuid(), os.getegid()
    parent = os.pidfd_open(os.getpid())
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _clone(_NEWUSER | _NEWPID, thread)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return _begin(parent, robust, uid, gid)
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    os.close(parent)
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return Birth(pid)


def _begin(parent: int, robust: tuple[int, int], uid: int, gid: int) -> Birth:
    """In the child, what the C library does after a fork, and what a host needs."""
    call("set_robust_list", *robust)
    die_with_vfab()
    if _has_ended(parent):  # before we asked, and out of a namespace there is no number to tell by
        os._exit(0)
    os.close(parent)
    return Birth(0, ("user", "pid"), uid, gid)


@cache
def _c_library() -> tuple[int, tuple[int, int]]:
    """Where the C library keeps the number of this thread, and where its list of robust locks lies and how long it is.

    Raises OSError: it is not known to keep them where the kernel is told of.
    """
    if threading.active_count() != 1:
        raise OSError("this process has more than one thread")
    address = ctypes.c_void_p()
    prctl(_PR_GET_TID_ADDRESS, ctypes.addressof(address))
    # musl has the kernel clear another place
    if not address.value or ctypes.c_int.from_address(address.value).value != threading.get_native_id():
        raise OSError("this C library keeps the number of a thread elsewhere")
    head, size = ctypes.c_size_t(), ctypes.c_size_t()
    call("get_robust_list", 0, ctypes.byref(head), ctypes.byref(size))
    return address.value, (head.value, size.value)


_lib = ctypes.PyDLL(None, use_errno=True)  # one that keeps the interpreter's lock: the child has it, too


def _clone(flags: int, thread: int) -> int:
    """As fork(2), with `flags`; the number of the child, 0 in it, -1 for an error."""
    assert MACHINE is not None
    flags |= _CHILD_SETTID | _CHILD_CLEARTID
    arguments = ctypes.create_string_buffer(struct.pack("=8Q", flags, 0, thread, 0, signal.SIGCHLD, 0, 0, 0), 64)
    number: int = _lib.syscall(ctypes.c_long(MACHINE.numbers["clone3"]), arguments, ctypes.c_size_t(64))
    return number


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


_EXIT: Mapping[str, str] = {
    "x86_64": "81c7 80000000 b8e7000000 0f05",  # add edi, 128; mov eax, exit_group; syscall
    "aarch64": "00000211 c80b8052 010000d4",  # add w0, w0, #128; mov w8, #exit_group; svc #0
}
"""A handler of signals: the process ends at once, with status 128 and the signal's number."""

_FATAL = "HUP QUIT ILL TRAP ABRT BUS FPE SEGV USR1 USR2 ALRM TERM STKFLT XCPU VTALRM PROF POLL PWR SYS"
_code: list[mmap.mmap] = []


def die_by_signals() -> bool:
    """Have the signals that end a process by default end this one and its children, number 1 of a namespace or not.

    For the zygote, once, before anything else handles signals: it costs its children nothing. What is ignored stays so.
    False: not known on this machine, or the system lets nobody make code.
    """
    machine = _EXIT.get(platform.machine())
    if machine is None or MACHINE is None:
        return False
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(bytes.fromhex(machine))
        start = ctypes.addressof(ctypes.c_char.from_buffer(page))
        if ctypes.CDLL(None, use_errno=True).mprotect(
            ctypes.c_void_p(start), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC
        ):
            return False
    except OSError:
        return False
    _code.append(page)
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    for name in _FATAL.split():
        number = getattr(signal, f"SIG{name}", None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            libc.signal(ctypes.c_int(number), ctypes.c_void_p(start))
    return True


def how_it_ended(status: int) -> int:
    """Exit code of a wait status, or minus the number of the signal that ended it, if only by `die_by_signals`."""
    code = os.waitstatus_to_exitcode(status)
    return DIED_BY - code if DIED_BY < code < DIED_BY + signal.NSIG else code
