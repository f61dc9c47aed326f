"""The TCP driver: one connection, messages as its settings frame them, a peer that is gone is noticed."""

from __future__ import annotations

import math
import os
import socket
from typing import Any, ClassVar

from vfab.model.errors import LinkLost
from vfab.sdk.link import Link
from vfab.sdk.link_driver import LinkDriver

__all__ = ["TcpDriver"]


class TcpDriver(LinkDriver):
    """Speaks over a TCP connection.

    A peer that vanished without a word (its cable pulled, its power lost) is noticed by keep-alive questions while the
    connection is silent, and by what it does not acknowledge while something is sent.
    """

    kind: ClassVar[str] = "tcp"

    def link_settings(self) -> dict[str, Any]:
        """How long connecting may take."""
        return {"timeout_s": float(self.config["connect_timeout_s"])}

    def prepare_link(self, link: Link) -> None:
        """Switch keep-alive on."""
        idle_s = math.ceil(float(self.config["keep_alive_s"]))
        if not idle_s:
            return
        probes = int(self.config["keep_alive_probes"])
        every_s = max(1, idle_s // 3)
        wanted = {
            "TCP_KEEPIDLE": idle_s,
            "TCP_KEEPALIVE": idle_s,  # the name of the same on macOS
            "TCP_KEEPINTVL": every_s,
            "TCP_KEEPCNT": probes,
            "TCP_USER_TIMEOUT": 1000 * (idle_s + every_s * probes),
        }
        with self._socket_of(link) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in wanted.items():
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def channel_details(self) -> dict[str, Any]:
        """Both ends' addresses, and how messages are framed."""
        details: dict[str, Any] = {"framing": self.config["framing"]}
        try:
            with self._socket_of(self.link) as connection:
                details |= {"local": _plain(connection.getsockname()), "remote": _plain(connection.getpeername())}
        except (OSError, LinkLost):  # it is gone, or going
            pass
        return details

    @staticmethod
    def _socket_of(link: Link) -> socket.socket:
        """A socket object of the link's connection, to ask and set, which stays without blocking; the caller closes it.

        Not `link.socket()`: nothing of the connection stays here, and the driver can be replaced without a break.
        """
        return socket.socket(fileno=os.dup(link.fileno()))


def _plain(name: Any) -> str:
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
