"""Namespaces of its own for a host: those that it was not born into, by unshare(2)."""

from __future__ import annotations

import os

from vfab.host.confine.birth import Birth
from vfab.host.confine.syscalls import call

__all__ = ["unshare"]

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWNET = 0x20000, 0x04000000, 0x08000000, 0x10000000, 0x40000000
_FLAGS = {"user": _NEWUSER, "mnt": _NEWNS, "ipc": _NEWIPC, "uts": _NEWUTS, "net": _NEWNET}


def unshare(birth: Birth, *, network: bool) -> tuple[str, ...]:
    """Leave the namespaces that are shared with others; the network's only when the host is not to use it.

    User and group stay the same inside. Returns the names of the namespaces that are its own now.

    Raises OSError: the system does not let this user make them; nothing more is its own then.
    """
    if "user" in birth.own:
        _stay_who_it_is(birth)
    wanted = {name: flag for name, flag in _FLAGS.items() if name not in birth.own and not (network and name == "net")}
    before = {name: _identity(name) for name in wanted}
    flags = 0
    for flag in wanted.values():
        flags |= flag
    call("unshare", flags)
    if "user" not in birth.own:
        _stay_who_it_is(birth)
    return (*birth.own, *(name for name in wanted if _identity(name) != before[name]))


def _stay_who_it_is(birth: Birth) -> None:
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{birth.uid} {birth.uid} 1"),
        ("gid_map", f"{birth.gid} {birth.gid} 1"),
    ):
        descriptor = os.open(f"/proc/self/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _identity(name: str) -> int:
    return os.stat(f"/proc/self/ns/{name}").st_ino  # noqa: PTH116 — pathlib costs each host pages of its own
