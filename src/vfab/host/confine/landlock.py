"""Landlock: which files, TCP ports, signals and abstract sockets a process may reach; it cannot take it back.

Source: Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from vfab.host.confine.syscalls import call

__all__ = ["abi", "restrict"]

_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
_MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM, _REFER, _TRUNCATE, _IOCTL_DEV = (1 << bit for bit in range(9, 16))
_ALL_OF_ABI_1 = (1 << 13) - 1
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

_READ = _EXECUTE | _READ_FILE | _READ_DIR
# no devices, and no sockets that others could take for something else
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM | _REFER
_WRITE |= _TRUNCATE
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


def abi() -> int:
    """The newest version that the running kernel has, 0 for none."""
    try:
        return call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def restrict(
    version: int, *, read: Iterable[str], write: Iterable[str], devices: Iterable[str] = (), network: bool
) -> None:
    """Leave this process, and all that it starts, nothing but `read` and `write` below those paths.

    Args:
        version: what `abi` said.
        devices: of the paths to write, those whose devices may be talked to by ioctl.
        network: whether TCP is left to it.

    A path that is not there grants nothing. Raises OSError: the kernel refuses; nothing is restricted then.
    """
    handled = _ALL_OF_ABI_1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        handled |= right if version >= since else 0
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 and not network else 0
    scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= 6 else 0
    if network:
        scoped &= ~_SCOPE_ABSTRACT_SOCKETS
    fields = [handled, *([net] if version >= 4 else []), *([scoped] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = call("landlock_create_ruleset", ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for paths, rights in ((read, _READ), (write, _WRITE), (devices, _WRITE | _IOCTL_DEV)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, beneath)
        call("landlock_add_rule", ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(beneath)
