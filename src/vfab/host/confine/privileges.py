"""Capabilities given up: a host started by root keeps none of root's."""

from __future__ import annotations

import contextlib
import ctypes
import struct

from vfab.host.confine.syscalls import call, prctl

__all__ = ["drop_capabilities", "has_capabilities"]

_VERSION_3 = 0x20080522
_PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _CLEAR_ALL = 28, 47, 4
_Sets = ctypes.c_char * 24  # here: to make a type costs a host pages of its own
_NOTHING_FOR_ROOT = 0b11101111
"""capabilities(7): user 0 gets none by a program or a change of user, none is kept or ambient; all of it locked."""


def drop_capabilities() -> None:
    """Give up every capability, and what could bring one back. Raises OSError.

    A program with capabilities of its own brings none either: `no_new_privs` is set by then.
    """
    prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    with contextlib.suppress(PermissionError):  # who may not has none, and is not user 0
        prctl(_PR_SET_SECUREBITS, _NOTHING_FOR_ROOT)
    call("capset", ctypes.c_char_p(struct.pack("=Ii", _VERSION_3, 0)), ctypes.c_char_p(bytes(24)))


def has_capabilities() -> bool:
    """Whether this process holds any, or may take one up. Raises OSError."""
    held = _Sets()
    call("capget", ctypes.c_char_p(struct.pack("=Ii", _VERSION_3, 0)), held)
    return any(struct.unpack("=6I", held.raw))
