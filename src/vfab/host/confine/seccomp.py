"""The filter of system calls: a program of classic BPF that the kernel runs before each call.

It lists what is refused, not what is allowed: drivers load libraries of all kinds, whose calls nobody can list, and
files are Landlock's business. What is refused is what reaches other processes, other namespaces, the kernel's own
inside, or sockets that did not come from the broker. Source: linux/filter.h, linux/seccomp.h, seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from functools import cache

from vfab.host.confine.syscalls import Machine, call, prctl

__all__ = ["REFUSED", "install", "program"]

_REFUSED = """
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd tkill
rt_sigqueueinfo rt_tgsigqueueinfo move_pages migrate_pages shmget shmat shmctl shmdt semget semop semctl
semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink setsid setpgid mount umount2 pivot_root chroot
move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr statmount listmount setns
unshare name_to_handle_at open_by_handle_at fanotify_init fanotify_mark kexec_load kexec_file_load init_module
finit_module delete_module bpf keyctl add_key request_key userfaultfd io_uring_setup io_uring_enter
io_uring_register perf_event_open lookup_dcookie syslog modify_ldt uselib swapon swapoff reboot sethostname
setdomainname iopl ioperm settimeofday clock_settime clock_adjtime adjtimex acct quotactl quotactl_fd vhangup
chown fchown lchown fchownat fchmod setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr
removexattrat file_setattr inotify_add_watch
"""
REFUSED = tuple(_REFUSED.split())
"""System calls that no driver may make, whatever its arguments."""

_OF_MODES = ("chmod", "fchmodat", "fchmodat2", "utime", "utimes", "futimesat", "utimensat")
"""What reaches files that may not be written, by their names: refused where no read-only view of them is in the way."""

_OF_SOCKETS = ("connect", "bind", "listen")
_OF_PROGRAMS = ("fork", "vfork", "execve", "execveat", "pidfd_send_signal")
_ON_ITSELF_ONLY = ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr", "prlimit64")
_WHO = ("setpriority", "ioprio_set")

_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020000
_TIOCSTI, _TIOCLINUX, _TIOCSCTTY = 0x5412, 0x541C, 0x540E
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_MSG_FASTOPEN = 0x20000000
_READ_PERSONALITY = 0xFFFFFFFF
_HOST_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_NETLINK, _NETLINK_PROTOCOLS = 16, (0, 15)  # routes and addresses; what udev tells

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARGS = 0, 4, 16
_SET_MODE_FILTER = 1


class _Assembler:
    """Instructions; a call's own ones are jumped over as one block where the number is another."""

    def __init__(self, machine: Machine) -> None:
        self._numbers = machine.numbers
        self.code: list[tuple[int, int, int, int]] = [
            (_LD, 0, 0, _ARCH),
            (_JEQ, 1, 0, machine.audit),
            (_RET, 0, 0, _KILL),
            (_LD, 0, 0, _NR),
        ]
        if machine.x32:
            self.code += [(_JGE, 0, 1, machine.x32), _refuse(errno.ENOSYS)]

    def on(self, name: str, *block: tuple[int, int, int, int]) -> None:
        """For system call `name`, run `block`, which ends with a return."""
        if name in self._numbers:
            self.code += [(_JEQ, 0, len(block), self._numbers[name]), *block]

    def bytes(self) -> bytes:
        """The program: everything else is allowed."""
        self.code.append((_RET, 0, 0, _ALLOW))
        return b"".join(struct.pack("=HBBI", code, true, false, value) for code, true, false, value in self.code)


def _refuse(number: int = errno.EPERM) -> tuple[int, int, int, int]:
    return (_RET, 0, 0, _ERRNO | number)


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument: these are ints, and the kernel itself looks at no more."""
    return (_LD, 0, 0, _ARGS + 8 * index)


_OK = (_RET, 0, 0, _ALLOW)


def _only(index: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Allow the call where the argument is one of `values`."""
    tests = [(_JEQ, 0, 1, value & 0xFFFFFFFF) for value in values]
    return [_argument(index), *(part for test in tests for part in (test, _OK)), _refuse()]


def _but(index: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Refuse the call where the argument is one of `values`."""
    tests = [(_JEQ, 0, 1, value & 0xFFFFFFFF) for value in values]
    return [_argument(index), *(part for test in tests for part in (test, _refuse())), _OK]


@cache
def program(
    machine: Machine, pid: int, *, network: bool, subprocess: bool, modes: bool, becoming: bool = False
) -> bytes:
    """The filter for process `pid`; made once for all that are alike, as number 1 of a namespace is.

    Args:
        becoming: it has yet to become the program that it is for, by execve, and may do so again; it starts none beside
            itself for that.
        modes: it may change modes and times of files by their names, and empty those that it may only read: what
            is not its own is read-only anyway.
        network: it may make sockets of its own.
        subprocess: it may start programs, and signal them where Landlock keeps signals within its own processes.
    """
    made = _Assembler(machine)
    for name in (*REFUSED, *(() if modes else _OF_MODES)):
        made.on(name, _refuse())
    if not modes:
        _truncation(made)
    made.on("clone3", _refuse(errno.ENOSYS))  # its flags lie in memory: the C library takes clone then
    _processes(made, pid, subprocess=subprocess, becoming=becoming)
    _sockets(made, network=network)
    made.on("personality", *_only(0, (_READ_PERSONALITY,)))
    made.on("ioctl", *_but(1, (_TIOCSTI, _TIOCLINUX, _TIOCSCTTY)))
    made.on("fcntl", *_but(1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)))
    return made.bytes()


def _truncation(made: _Assembler) -> None:
    """Whoever may read a file, or neither read nor write it, may empty it: before version 3, Landlock lets it."""
    made.on("truncate", _refuse())
    made.on("openat2", _refuse(errno.ENOSYS))  # its flags lie in memory: the C library takes openat
    for name, flags in (("open", 1), ("openat", 2)):
        emptied = (os.O_RDONLY | os.O_TRUNC, os.O_ACCMODE | os.O_TRUNC)
        tests = [part for value in emptied for part in ((_JEQ, 0, 1, value), _refuse())]
        made.on(name, _argument(flags), (_AND, 0, 0, os.O_ACCMODE | os.O_TRUNC), *tests, _OK)


def _processes(made: _Assembler, pid: int, *, subprocess: bool, becoming: bool) -> None:
    own = (_argument(0), (_JSET, 0, 1, _CLONE_NEW), _refuse())
    if subprocess:
        made.on("clone", *own, _OK)
        made.on("kill", *_suicide(pid), _OK)
    else:
        made.on("clone", *own, (_JSET, 1, 0, _CLONE_THREAD), _refuse(), _OK)
        for name in _OF_PROGRAMS:
            made.on(name, _OK if becoming and name == "execve" else _refuse())
        made.on("kill", *_suicide(pid), *_only(0, (pid, 0, -pid) if pid > 1 else (pid, 0)))  # -1 is everybody
        made.on("tgkill", *_only(0, (pid,)))
    for name in _ON_ITSELF_ONLY:
        made.on(name, *_only(0, (0, pid)))
    for name in _WHO:
        made.on(name, *_only(1, (0, pid)))
    # it dies with vfab, and cannot choose otherwise
    death = ((_JEQ, 1, 0, _PR_SET_PDEATHSIG), _OK, _argument(1), (_JEQ, 0, 1, _SIGKILL), _OK, _refuse())
    made.on("prctl", _argument(0), *death)


def _suicide(pid: int) -> tuple[tuple[int, int, int, int], ...]:
    """SIGKILL to itself ends it, which it does not do to number 1 of a PID namespace: by SIGSYS, from the filter."""
    if pid > 1:
        return ()
    return _argument(0), (_JEQ, 0, 3, pid), _argument(1), (_JEQ, 0, 1, _SIGKILL), (_RET, 0, 0, _KILL)


def _sockets(made: _Assembler, *, network: bool) -> None:
    if network:
        families = [part for family in _HOST_FAMILIES for part in ((_JEQ, 0, 1, int(family)), _OK)]
        of_netlink = _only(2, _NETLINK_PROTOCOLS)
        made.on("socket", _argument(0), *families, (_JEQ, 0, len(of_netlink), _NETLINK), *of_netlink, _refuse())
        return
    # no datagram sockets: sendmsg names a destination in memory, where no filter can look
    stream = [(_JEQ, 1, 0, int(socket.AF_UNIX)), _refuse(), _argument(1), (_AND, 0, 0, 0xF)]
    stream += [(_JEQ, 0, 1, int(socket.SOCK_DGRAM)), _refuse(), _OK]
    made.on("socket", _argument(0), *stream)
    made.on("socketpair", _argument(0), *stream)
    for name in _OF_SOCKETS:
        made.on(name, _refuse())
    nobody = (_argument(4), (_JEQ, 1, 0, 0), _refuse(), (_LD, 0, 0, _ARGS + 8 * 4 + 4), (_JEQ, 1, 0, 0), _refuse())
    made.on("sendto", *nobody, _OK)
    made.on("sendmsg", _argument(2), (_JSET, 0, 1, _MSG_FASTOPEN), _refuse(), _OK)
    made.on("sendmmsg", _argument(3), (_JSET, 0, 1, _MSG_FASTOPEN), _refuse(), _OK)


def install(code: bytes) -> None:
    """Have the kernel run `code` before each system call of this process, from now on. Needs `no_new_privs`.

    Raises OSError: this kernel has no such filters.
    """
    held = ctypes.c_char_p(code)  # not a buffer: its type, one for each length, would have to be made
    address = ctypes.c_void_p.from_buffer(held).value
    whole = struct.pack("@HP", len(code) // 8, address)
    call("seccomp", _SET_MODE_FILTER, 0, ctypes.c_char_p(whole))


def no_new_privileges() -> None:
    """From now on no program that this process starts gets more rights than it has. Raises OSError."""
    prctl(38, 1)
