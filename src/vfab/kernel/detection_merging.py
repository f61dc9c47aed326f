"""What several detection handlers saw, put together: each device once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from vfab.model.devices import DeviceInfo

__all__ = ["merged", "printable", "with_news"]


def merged(found: list[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """Each device once, the first handler's view filled up from the others'.

    Within one handler, devices that share an id (boards sold with the same serial number) are told apart by the port
    that they are plugged into.
    """
    by_key: dict[tuple[str, str], DeviceInfo] = {}
    functions = {each.attributes.get("location") for devices in found for each in devices if each.bus not in _PORTS}
    functions.discard(None)
    instruments = {_usb_ids(each) for devices in found for each in devices if each.bus == "usbtmc" and each.vid}
    for devices in found:
        for device in devices:
            if device.bus == "visa" and _usb_ids(device) in instruments:
                continue  # it was found under its node
            if device.bus == "usb" and "/bus/usb/" in device.address and device.attributes.get("location") in functions:
                continue  # its camera, instrument or bus was found under the node that is opened
            key = (device.id, device.address)
            known = by_key.get(key)
            by_key[key] = device if known is None else _filled(known, device)
    shared = Counter(identity for identity, _ in by_key)
    apart = [_apart(device) if shared[device.id] > 1 else device for device in by_key.values()]
    return tuple(sorted(apart, key=lambda device: device.id))


def _usb_ids(device: DeviceInfo) -> tuple[str, str, str]:
    return device.vid, device.pid, device.serial_number


_PORTS = {"usb", "serial"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(device: DeviceInfo) -> DeviceInfo:
    """`device` without control characters: what a device says of itself may not steer somebody's terminal."""
    texts = (device.name, device.product, device.manufacturer, device.serial_number, device.id, device.address)
    if not any(map(_CONTROL.search, (*texts, *device.attributes.values()))):
        return device
    names = ("name", "product", "manufacturer", "serial_number", "id", "address")
    cleaned: dict[str, Any] = {name: _CONTROL.sub("?", getattr(device, name)) for name in names}
    attributes = {key: _CONTROL.sub("?", value) for key, value in device.attributes.items()}
    return msgspec.structs.replace(device, attributes=attributes, **cleaned)


def with_news(devices: tuple[DeviceInfo, ...], news: Iterable[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """`devices` as probing described them, and those that it found."""
    by_key = {(device.id, device.address): device for device in devices}
    by_key.update({(device.id, device.address): device for found in news for device in found})
    return tuple(sorted(by_key.values(), key=lambda device: device.id))


def _apart(device: DeviceInfo) -> DeviceInfo:
    where = device.attributes.get("location") or device.address
    return msgspec.structs.replace(device, id=f"{device.id}@{where}")


def _filled(first: DeviceInfo, second: DeviceInfo) -> DeviceInfo:
    """`first`, with what only `second` knows."""
    blank = ("vid", "pid", "serial_number", "manufacturer", "product", "name")
    changes: dict[str, Any] = {k: getattr(second, k) for k in blank if not getattr(first, k) and getattr(second, k)}
    return msgspec.structs.replace(first, attributes={**second.attributes, **first.attributes}, **changes)
