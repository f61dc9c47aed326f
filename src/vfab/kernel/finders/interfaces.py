"""Network interfaces as people name them: `eth0`, or the address that the machine has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vfab.model.errors import ConfigurationError

__all__ = ["Interface", "chosen_interfaces"]


class Interface(NamedTuple):
    """An IPv4 address of this machine: its interface, the address, and the one that reaches all on its network."""

    name: str
    address: str
    broadcast: str


def _addresses() -> Mapping[str, Sequence[Any]]:
    import psutil

    return psutil.net_if_addrs()


def chosen_interfaces(
    wanted: Sequence[str], *, addresses: Callable[[], Mapping[str, Sequence[Any]]] = _addresses
) -> list[Interface]:
    """The IPv4 interfaces that `wanted` names, by name or address.

    Raises ConfigurationError: one is not there, or has no IPv4 address.
    """
    import socket

    there = [
        Interface(name, str(entry.address), str(entry.broadcast or entry.address))
        for name, entries in addresses().items()
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    found: list[Interface] = []
    for text in wanted:
        mine = [each for each in there if text in {each.name, each.address}]
        if not mine:
            names = ", ".join(f"{each.name} ({each.address})" for each in there) or "none"
            raise ConfigurationError(
                f"there is no network interface {text!r} with an IPv4 address",
                context={"found": text, "interfaces": [each.name for each in there]},
                remedy=f"Correct detection in config.yaml; there are: {names}.",
            )
        found += mine
    return found
