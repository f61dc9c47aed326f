"""Devices as the scans of `drv_NAME.py` give them: `Device` objects, an author's own class, mappings, plain names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vfab.model.errors import DriverFailed

__all__ = ["as_list", "described", "is_at", "is_meant", "parts"]

_IDS = ("device_id", "id")
_NAMES = ("name", "device_name")
_TYPES = ("device_type", "type")


def as_list(found: Any) -> list[Any]:
    """The devices of what a scan returned: a list of them, one alone, none, or a mapping that has them in `devices`."""
    if found is None:
        return []
    if isinstance(found, Mapping):
        inside = found.get("devices")
        return list(inside) if isinstance(inside, list | tuple) else [found] if found else []
    if isinstance(found, str) or any(hasattr(found, name) for name in _IDS):
        return [found]
    return list(found)


def described(device: Any) -> dict[str, Any]:
    """`device_id`, `name`, `device_type` and `attributes` of a device, whatever the author made it of.

    Raises DriverFailed: nothing in it says what it is called.
    """
    if isinstance(device, str | int):
        return {"device_id": str(device), "name": "", "device_type": "", "attributes": {}}
    told = device if isinstance(device, Mapping) else getattr(device, "__dict__", None) or _slots(device)
    own = next((told[name] for name in _IDS if told.get(name) is not None), None)
    own = next((getattr(device, name, None) for name in _IDS if hasattr(device, name)), None) if own is None else own
    if own is None or str(own) == "":
        raise DriverFailed(
            f"_scan_impl returned {device!r:.200}, which has no device_id",
            context={"dialect": "drv_module", "method": "_scan_impl"},
            remedy="Return a list of Device(device_id=…, name=…).",
        )
    given = told.get("attributes")
    known = {*_IDS, *_NAMES, *_TYPES, "attributes"}
    rest = {str(key): value for key, value in told.items() if key not in known and not str(key).startswith("_")}
    return {
        "device_id": str(own),
        "name": str(next((told[key] for key in _NAMES if told.get(key)), "")),
        "device_type": str(next((told[key] for key in _TYPES if told.get(key)), "")),
        "attributes": {**rest, **(given if isinstance(given, Mapping) else {})},
    }


def _slots(device: Any) -> dict[str, Any]:
    names: Sequence[str] = getattr(type(device), "__slots__", ()) or getattr(device, "_fields", ())
    return {name: getattr(device, name) for name in names if hasattr(device, name)}


def is_meant(device: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether one of `names` is the id, the name or an attribute of the described device."""
    return not {device["device_id"], device["name"], *map(str, device["attributes"].values())}.isdisjoint(names)


def is_at(device: Mapping[str, Any], address: str) -> bool:
    """Whether the described device has the host and port, or the path, of `address`."""
    wanted = parts(address)
    attributes = device["attributes"]
    return bool(wanted) and all(
        str(attributes.get(key)) == str(wanted[key]) for key in ("host", "port") if key in wanted
    )


def parts(address: str) -> dict[str, Any]:
    """An address as the settings that drivers look for: `host` and `port`, or `port` for a device node."""
    host, _, port = address.partition("://")[2].rstrip("/").rpartition(":")
    if host and port.isdigit():
        return {"host": host.strip("[]"), "port": int(port)}
    return {"port": address, "path": address} if address.startswith("/") else {}
