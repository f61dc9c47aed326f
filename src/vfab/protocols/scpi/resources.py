"""VISA resource names (VPP-4.3, section 4.3): which of them are plain links that the broker opens."""

from __future__ import annotations

import re

__all__ = ["as_address", "is_resource", "resource_of"]

_RESOURCE = re.compile(
    r"(TCPIP|ASRL|USB|GPIB|VXI|PXI|FIREWIRE|PRLGX-TCPIP|PRLGX-ASRL)[^:\s]*::\S+|ASRL\S+|GPIB\d*::\d+\S*", re.IGNORECASE
)
_SOCKET = re.compile(r"TCPIP\d*::(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s]+)::(?P<port>\d{1,5})::SOCKET", re.IGNORECASE)
_SERIAL = re.compile(r"ASRL(?P<node>/[^:\s]+)(::INSTR)?", re.IGNORECASE)


def is_resource(text: str) -> bool:
    """Whether `text` is a VISA resource name, or one with `visa://` in front."""
    plain = text.strip()
    return plain.lower().startswith("visa://") or _RESOURCE.fullmatch(plain) is not None


def resource_of(address: str) -> str:
    """The resource name in `visa://NAME`, or `address` itself."""
    plain = address.strip()
    return plain[7:] if plain.lower().startswith("visa://") else plain


def as_address(resource: str) -> str | None:
    """The address of a resource that is only a socket or a serial port: `tcp://host:port`, `/dev/ttyUSB0`.

    None for what needs VISA's own protocols: VXI-11, HiSLIP, USBTMC by libusb, GPIB.
    """
    name = resource_of(resource)
    found = _SOCKET.fullmatch(name)
    if found is not None and 0 < int(found["port"]) < 65536:
        return f"tcp://{found['host']}:{int(found['port'])}"
    found = _SERIAL.fullmatch(name)
    return found["node"] if found is not None else None
