"""Options that several commands share, and what completes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

__all__ = [
    "DeviceArgument",
    "DeviceOption",
    "DriverArgument",
    "DriverOption",
    "NoNodeFlag",
    "SetOption",
    "driver_names",
    "node",
    "quick_scan",
    "registry",
]


def registry() -> Any:
    """The drivers of this machine."""
    from vfab.apps.finding import drivers_of

    return drivers_of(os.environ)


def node(no_node: bool = False) -> Any:
    """The node that is up, to be asked; None when none is, or this command is to do without."""
    if no_node:
        return None
    from vfab.apps.node.client import find_node

    return find_node(os.environ)


def quick_scan(**options: Any) -> Any:
    """The devices of this machine, each with its drivers; no driver is started. Options are those of `finding.scan`."""
    from vfab.apps.finding import scan
    from vfab.apps.plugin_detection import detection_of

    drivers = registry()
    return scan(drivers, detection_of(os.environ, drivers), **options)


def driver_names(incomplete: str = "") -> list[tuple[str, str]]:
    """Completion: drivers and what they are for."""
    return [(d.name, d.description) for d in registry().drivers if d.name.startswith(incomplete)]


def device_names(incomplete: str) -> list[tuple[str, str]]:
    """Completion: ids and addresses of devices."""
    found = quick_scan().devices
    texts = [(d.id, d.name or d.address) for d in found] + [(d.address, d.id) for d in found]
    return [pair for pair in texts if pair[0].startswith(incomplete)]


DriverArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The driver; `vfab driver list` names them.", autocompletion=driver_names)
]
DriverOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The driver to use; default: the one that fits best.", autocompletion=driver_names
    ),
]
DeviceArgument = Annotated[
    str,
    typer.Argument(metavar="DEVICE", help="Id, beginning of an id, or address.", autocompletion=device_names),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="ID|ADDRESS", help="The device; default: the only one that fits.", autocompletion=device_names
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A setting of the driver for this run; may be repeated."),
]

NoNodeFlag = Annotated[
    bool, typer.Option("--no-node", help="Do it in this command's own process, even when a node is up.")
]


def option_value(arguments: list[str], flag: str) -> str | None:
    """The value of `flag` in raw arguments, before they are parsed."""
    for number, argument in enumerate(arguments):
        if argument == flag and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def lines_of(value: Any, indent: str = "") -> list[str]:
    """A result for people: one line a field."""
    if not isinstance(value, Mapping):
        return [f"{indent}{_shown(value)}"]
    found: list[str] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += [f"{indent}{key}:", *lines_of(item, indent + "  ")]
        else:
            found.append(f"{indent}{key}: {_shown(item)}")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 13 if abs(value) >= 1e6 else 9  # of a time milliseconds count; --json has every digit
        return repr(float(f"{value:.{digits}g}"))
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value) if value else "-"
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "?", str(value))
