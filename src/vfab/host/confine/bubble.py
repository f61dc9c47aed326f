"""A whole program, Node, started within bwrap: a tree, processes and a network of its own, and the filter.

Where Landlock holds no files that is how a driver in JavaScript is held: its host runs no code of it, and starts Node
before it confines itself. Node's side of the bridge (`js/confined.js`) tries what must be refused and tells how that
went before it loads the driver's file; it is believed, since by then nobody else has said anything in that process.
What is judged here is all or nothing: whatever does not hold, Node is ended, and the host goes on as if there was no
bwrap.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence

import msgspec

from vfab.dialects.js_start import BRIDGE, StartedNode, find_node, start_node
from vfab.host.confine import seccomp
from vfab.host.confine.reach import reach_of_node, uses_network
from vfab.host.confine.syscalls import Machine
from vfab.host.confine.tree import Tree, tree_of
from vfab.protocols.zygotewire import HostSpec

__all__ = ["Told", "begin", "judge"]

_NAMESPACES = ("ipc", "mnt", "pid", "user", "uts")

_NUMBER = 2
"""Its number in its PID namespace: 1 is bwrap, which collects orphans."""

_SHARE_OF_START = 0.75
_LINE_MAX = 65536
_REFUSED_BY = {
    "write into the root folder": ("EROFS",),
    "write beside the driver": ("EROFS",),
    "change the mode of a device": ("EROFS", "EPERM"),
    "open a file of the system": ("ENOENT",),
    "make a call that is filtered": ("EPERM",),
    "start a program": ("EPERM",),
    "make a socket": ("EPERM",),
}
"""What it tried, and how the system must have refused it."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What Node found in its bwrap.

    Attributes:
        root: device and inode of the root folder.
        top: what it lists.
        processes: numbers in `/proc`.
        namespaces: by name, as `/proc/self/ns` has them.
        status: `/proc/self/status`.
        refused: how each attempt was refused; "" where it was not.
    """

    root: tuple[str, str]
    top: frozenset[str]
    processes: frozenset[str]
    namespaces: dict[str, str]
    status: dict[str, str]
    refused: dict[str, str]


def begin(spec: HostSpec, machine: Machine, *, read_only: bool) -> StartedNode:
    """Start Node within bwrap for the driver of `spec`, and have it try what it must not be able to do.

    Called by a host that has taken its namespaces and has given up nothing else; it may have made all that it sees
    read-only but `/proc`, and says so in `read_only`.

    Raises OSError: there is no bwrap or no Node, it does not start, or does not hold; nothing is left of it.
    """
    bwrap, node = shutil.which("bwrap"), find_node()
    if bwrap is None:
        raise OSError("it is not installed (Debian: apt install bubblewrap)")
    if node is None:
        raise OSError("there is no Node.js to start in it")
    node = os.path.realpath(node)
    tree = tree_of(reach_of_node(spec, node, str(BRIDGE)))
    code = seccomp.program(
        machine,
        _NUMBER,
        network=uses_network(spec),
        subprocess=spec.manifest.permissions.subprocess,
        modes=read_only,
        becoming=True,
    )
    command = [bwrap, *_apart(spec), *tree.arguments]
    folder = os.path.dirname(spec.manifest.runtime.source)  # noqa: PTH120 — pathlib costs at every start
    may = {"start": spec.manifest.permissions.subprocess, "network": uses_network(spec)}
    settings = msgspec.json.encode({"folder": folder, **may}).decode()
    with _readable(code) as filtering:
        started = start_node(
            node,
            "confined.js",
            spec.manifest.runtime.source,
            settings,
            within=[*command, "--seccomp", str(filtering), "--"],
            pass_fds=[filtering],
        )
    try:
        told = _hear(started.control, spec.manifest.runtime.start_timeout_s * _SHARE_OF_START)
        if told is None:
            raise OSError(_last_words([*command, "--", node, "--version"]))
        wrong = judge(told, spec, tree)
        if wrong:
            raise OSError(f"was started, and does not hold: {', '.join(wrong)}")
    except BaseException:
        started.end()
        raise
    return started


def _apart(spec: HostSpec) -> Sequence[str]:
    """The options that are the same whatever the tree is."""
    network = ("--share-net",) if uses_network(spec) else ()
    home = spec.state_dir or "/"
    return ("--unshare-all", "--unshare-user", *network, "--cap-drop", "ALL", "--die-with-parent", "--chdir", home)


@contextlib.contextmanager
def _readable(data: bytes) -> Iterator[int]:
    """A descriptor from which `data` can be read; it fits into a pipe."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _hear(control: socket.socket, timeout_s: float) -> Told | None:
    """What Node tells; None: it ended instead. Raises OSError: it says nothing in that time, or nothing sensible."""
    said = b""
    control.settimeout(timeout_s)
    try:
        while not said.endswith(b"\n") and len(said) < _LINE_MAX:
            more = control.recv(_LINE_MAX)
            if not more:
                return None
            said += more
    except TimeoutError:
        raise OSError(f"Node did not start in it within {timeout_s:g} s") from None
    control.settimeout(None)
    try:
        return msgspec.json.decode(said, type=Told)
    except msgspec.DecodeError as error:
        raise OSError(f"Node makes no sense in it: {error}") from error


def _last_words(command: Sequence[str], timeout_s: float = 5.0) -> str:
    """Why `command` does not start; it is run once more for that, since the first one spoke to the driver's log."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "it ended, and then it did not"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("bwrap: ") if lines else f"it ended with status {done.returncode}"


def judge(told: Told, spec: HostSpec, tree: Tree) -> list[str]:
    """What of all that a program in bwrap must be held by does not hold, by what it told of itself."""
    root = os.stat("/")  # noqa: PTH116
    network = uses_network(spec)
    found = {
        "its root folder is the system's": told.root == (str(root.st_dev), str(root.st_ino)),
        "there is more in its root folder than was given": not told.top <= tree.top,
        "it sees processes of others": not told.processes <= {"1", str(_NUMBER)},
        "it may gain privileges": told.status.get("NoNewPrivs") != "1",
        "it has no filter": told.status.get("Seccomp") != "2",
    }
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        found[f"it has capabilities ({name})"] = told.status.get(name, "unknown").strip("0") != ""
    for name in (*_NAMESPACES, *(() if network else ("net",))):
        own = os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115
        found[f"it shares the {name} namespace"] = told.namespaces.get(name, own) == own
    meant = {
        "write beside the driver": tree.has(os.path.dirname(spec.manifest.runtime.source), writable=True),  # noqa: PTH120
        "open a file of the system": tree.has("/etc/passwd"),
        "start a program": spec.manifest.permissions.subprocess,
        "make a socket": network,
    }
    for what, codes in _REFUSED_BY.items():
        found[f"it can {what}"] = not meant.get(what) and told.refused.get(what) not in codes
    return [what for what, is_so in found.items() if is_so]
