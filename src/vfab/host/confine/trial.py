"""Whether it holds: a confined host tries what it must not be able to do any more."""

from __future__ import annotations

import errno
import os
import socket
import stat

from vfab.host.confine.syscalls import call

__all__ = ["calls_are_filtered", "files_are_held", "modes_are_held"]


def files_are_held() -> bool:
    """Whether the root folder, which everybody may list, is refused: nothing that a driver gets holds it."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def modes_are_held(folder: str) -> bool:
    """Whether the mode of `folder`, which is not to be written, cannot be set to what it is."""
    try:
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode))  # noqa: PTH101, PTH116
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def calls_are_filtered(*, network: bool) -> bool:
    """Whether calls are refused that do nothing and that everybody may make, and sockets unless they are allowed."""
    try:
        call("unshare", 0)
    except PermissionError:
        return network or _no_socket()
    except OSError:
        return False
    return False


def _no_socket() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
