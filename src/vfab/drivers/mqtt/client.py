"""aiomqtt's client on a connection of the broker of links (not of messages)."""

from __future__ import annotations

import socket
from typing import Any

import aiomqtt

from vfab.model.errors import ConnectError, DriverError, LinkLost, PermissionRefused, Refused, TimeoutExceeded

__all__ = ["LinkedClient", "translated"]


class LinkedClient(aiomqtt.Client):
    """A client that uses a connection which is open already.

    paho asks a method of its own for the connection; here that method hands over the given one. It is asked once:
    aiomqtt does not reconnect by itself.
    """

    def __init__(self, connection: socket.socket, hostname: str, **settings: Any) -> None:
        super().__init__(hostname, **settings)
        self._client._create_socket_connection = lambda: connection  # type: ignore[method-assign]


_REFUSED_USER = {4, 5, 134, 135}


def translated(error: Exception, address: str) -> DriverError:
    """What an error of aiomqtt means, as one of vfab's."""
    context: dict[str, Any] = {"address": address}
    if isinstance(error, DriverError):
        return error
    if isinstance(error, aiomqtt.MqttCodeError) and error.rc is not None:
        code = getattr(error.rc, "value", error.rc)
        context["code"] = code
        if isinstance(error, aiomqtt.exceptions.MqttConnectError):
            if code in _REFUSED_USER:
                return PermissionRefused(
                    f"{address} does not let this user in: {error}",
                    context=context,
                    original_error=error,
                    remedy="Check the settings username and password.",
                )
            return ConnectError(
                f"{address} refuses the connection: {error}",
                context=context,
                original_error=error,
                remedy="Check the settings client_id and protocol.",
            )
    text = str(error) or "the broker closed the connection"  # aiomqtt's own asserts and cancels, when it went meanwhile
    if "timed out" in text:
        return TimeoutExceeded(f"{address}: {text}", context=context, original_error=error)
    if isinstance(error, ValueError):
        return Refused(f"{text}", context=context, original_error=error, remedy="Check topic and payload.")
    return LinkLost(f"the link to {address} is lost: {text}", context=context, original_error=error)
