"""What systemd and a daemon say to each other: readiness, sockets that are open already, and the unit files."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from vfab.model.errors import ConfigurationError

__all__ = ["OWN_VARIABLES", "inherited_socket", "notify", "service_unit", "socket_unit"]

OWN_VARIABLES = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What is meant for the node alone: its children do not get it."""

_FIRST = 3
"""sd_listen_fds(3): the first descriptor that is passed."""


def notify(state: str, env: Mapping[str, str]) -> bool:
    """Tell systemd `state` (`READY=1`, `STOPPING=1`, `STATUS=…`); False when nobody listens."""
    address = env.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)
        return True
    return False


def inherited_socket(env: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that systemd opened for this process (LISTEN_FDS); None when it did not.

    Raises ConfigurationError: it passed several, or something else than a Unix stream socket.
    """
    if env.get("LISTEN_PID") != str(os.getpid()) or not env.get("LISTEN_FDS", "").isdigit():
        return None
    count = int(env["LISTEN_FDS"])
    if count == 0:
        return None
    try:
        made = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise ConfigurationError(
            f"LISTEN_FDS is {count}, and descriptor {_FIRST} is no socket: {error.strerror}",
            context={"LISTEN_FDS": count},
            remedy="Start the node by `systemctl start vfab.socket`, or unset LISTEN_PID and LISTEN_FDS.",
            original_error=error,
        ) from error
    if count > 1 or made.family != socket.AF_UNIX or made.type != socket.SOCK_STREAM:
        made.detach()
        raise ConfigurationError(
            f"systemd passed {count} sockets; one Unix stream socket is expected",
            context={"LISTEN_FDS": count},
            remedy="Write one ListenStream= with a path: `vfab up --print-socket-unit` prints such a unit.",
        )
    os.set_inheritable(_FIRST, False)
    return made


def service_unit(env: Mapping[str, str], home: Path) -> str:
    """A unit for `systemctl --user`: `vfab up` as it was installed here, started again when it dies."""
    program = Path(sys.executable).with_name("vfab")
    command = [str(program)] if program.exists() else [sys.executable, "-P", "-m", "vfab.apps.cli.main"]
    lines = [
        "[Unit]",
        "Description=vfab: device drivers of this machine",
        "Documentation=https://pypi.org/project/vfab/",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={_words([*command, 'up'])}",
        *(f"Environment={_words([f'{key}={env[key]}'])}" for key in ("VFAB_PLUGIN_PATH",) if env.get(key)),
        f"Environment={_words([f'VFAB_HOME={home}'])}",
        "Restart=on-failure",
        "RestartSec=1",
        "TimeoutStopSec=30",
        "KillMode=mixed",
        "UMask=0077",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def socket_unit(path: Path) -> str:
    """The socket beside it: the node is started by the first who asks."""
    lines = [
        "[Unit]",
        "Description=vfab: the node's API",
        "",
        "[Socket]",
        f"ListenStream={str(path).replace('%', '%%')}",
        "SocketMode=0600",
        "DirectoryMode=0700",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def _words(words: list[str]) -> str:
    """Quoted for a unit file, where a percent sign and a dollar have a meaning."""
    return " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in words)
