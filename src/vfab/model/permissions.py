"""What a plugin may touch. Default is nothing: links come from the broker, which hands out only what is listed here.

A destination is written `scheme://host[:port]` or `scheme://network/prefix[:port]`; a device is written as its bus and
ids, `usb:04d8:fd92`. The device that a driver was started for is always granted: that is what the lease is for.
"""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase

import msgspec

__all__ = ["Permissions", "destination_allows", "parse_destination"]

_DESTINATION = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-fA-F:.]+\](?:/\d+)?|[^/:\[\]]+(?:/\d+)?)(?::(?P<port>\d+|\*))?/?"
)


class Permissions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest's `permissions`.

    Attributes:
        devices: other devices whose links the broker may hand over, as `usb:VVVV:PPPP`, `serial:*` (glob).
        connect: network destinations that the broker may open, as `tcp://192.0.2.0/24:23`.
        probe: detection may ask at ports what the manifest's `identify` lists, when the user wants that.
        files: `read:PATH` or `write:PATH`; `$PLUGIN` and `$STATE` stand for the plugin's and its state folder.
        subprocess: the driver may start other programs.
        network: "none", or "host" for a library that must open its own sockets.
    """

    devices: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    probe: bool = False
    files: tuple[str, ...] = ()
    subprocess: bool = False
    network: str = "none"

    @property
    def outside_files(self) -> bool:
        """Whether it may open files beyond its own folder and state: of the system, or of a device in sysfs."""
        return any(text.partition(":")[2].startswith("/") for text in self.files)

    def problems(self) -> list[tuple[str, str, str]]:
        """What breaks a rule here, as (field, what was found, what would be right)."""
        found: list[tuple[str, str, str]] = []
        for index, text in enumerate(self.connect):
            try:
                parse_destination(text)
            except ValueError as error:
                found.append((f"permissions.connect[{index}]", repr(text), str(error)))
        for index, text in enumerate(self.files):
            if not re.match(r"(read|write):.+", text):
                found.append((f"permissions.files[{index}]", repr(text), "write it as read:$PLUGIN or write:$STATE"))
        for index, text in enumerate(self.devices):
            if ":" not in text:
                found.append((f"permissions.devices[{index}]", repr(text), "write it as bus and id: usb:04d8:fd92"))
        if self.network not in {"none", "host"}:
            found.append(("permissions.network", repr(self.network), 'write "none" or "host"'))
        return found

    def may_connect(self, address: str) -> bool:
        """Whether the broker may open `address` (`tcp://127.0.0.1:23`) for this plugin."""
        return any(destination_allows(pattern, address) for pattern in self.connect)

    def may_use_device(self, device_id: str) -> bool:
        """Whether the broker may hand over the link of another device, by its stable id."""
        return any(fnmatchcase(device_id, pattern) or device_id.startswith(f"{pattern}:") for pattern in self.devices)


def parse_destination(text: str) -> tuple[str, str, int | None]:
    """(scheme, host or network, port); the port is None where any will do.

    Raises ValueError: `text` is not a destination; the message shows what one looks like.
    """
    match = _DESTINATION.fullmatch(text)
    if match is None:
        raise ValueError("write it as scheme://host:port, for example tcp://192.0.2.0/24:23")
    port = match["port"]
    if port not in {None, "*"} and not 0 < int(port) < 65536:
        raise ValueError(f"port {port} is not between 1 and 65535")
    host = match["host"].replace("[", "").replace("]", "")
    if "/" in host:
        try:
            ipaddress.ip_network(host, strict=False)
        except ValueError:
            raise ValueError(f"{host} is not a network; write it like 192.0.2.0/24") from None
    return match["scheme"], host, None if port in {None, "*"} else int(port)


def destination_allows(pattern: str, address: str) -> bool:
    """Whether `address` lies within `pattern`; names match by glob, addresses by network."""
    try:
        scheme, allowed, allowed_port = parse_destination(pattern)
        asked_scheme, host, port = parse_destination(address)
    except ValueError:
        return False
    if scheme != asked_scheme or (allowed_port is not None and allowed_port != port):
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(allowed, strict=False)
    except ValueError:
        return fnmatchcase(host, allowed)
