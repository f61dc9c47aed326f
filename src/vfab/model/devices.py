"""Devices: what detection finds, and the rules by which a manifest says which of them a driver fits."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["SCANNED", "UNSEEN", "DeviceInfo", "Fit", "MatchRule"]

SCANNED = "attributes_as_given"
"""The attribute that holds, as JSON, those that a driver's own scan gave: vfab's own are text."""
UNSEEN = "unseen"
"""The attribute of a device that somebody named, and that no scan has found."""

_HEX4 = "^(0[xX])?[0-9a-fA-F]{4}$"


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A driver that fits a device.

    Attributes:
        driver: its name.
        score: how well it fits; more is better.
        installed: nothing that it needs is missing.
        remedy: what to install, "" when nothing is missing.
    """

    driver: str
    score: int
    installed: bool = True
    remedy: str = ""


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found.

    Attributes:
        id: stable as long as the same thing stays the same: `usb:04d8:fd92:SERIAL`, `serial:by-id/…`, `tcp:host:port`.
        bus: the kind of detection that found it: usb, serial, tcp, pty, …
        address: what a link is opened by: `/dev/ttyACM0`, `tcp://127.0.0.1:4000`.
        name: for people.
        vid, pid: USB ids, four lower-case hex digits, or "".
        serial_number, manufacturer, product: as the device says, or "".
        accessible: this user may open it.
        problem, remedy: why not, and what to do about it.
        drivers: names of the drivers that fit, best first.
        fits: the same with how well each fits, and what it needs that is missing.
        attributes: what else the detection handler learned.
    """

    id: str
    bus: str
    address: str
    name: str = ""
    vid: str = ""
    pid: str = ""
    serial_number: str = ""
    manufacturer: str = ""
    product: str = ""
    accessible: bool = True
    problem: str = ""
    remedy: str = ""
    drivers: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


class MatchRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which devices a driver fits: every field that is given must match.

    Texts are globs without regard to case. `vid` and `pid` are four hex digits.
    """

    bus: Annotated[str | None, Meta(description="the kind: usb, serial, tcp, v4l2, can, i2c, visa, mdns, …")] = None
    vid: Annotated[str | None, Meta(description="USB vendor id, four hex digits in quotes")] = None
    pid: Annotated[str | None, Meta(description="USB product id, four hex digits in quotes")] = None
    manufacturer: Annotated[str | None, Meta(description="manufacturer, as the device says")] = None
    product: Annotated[str | None, Meta(description="product, as the device says")] = None
    serial_number: Annotated[str | None, Meta(description="serial number, as the device says")] = None
    address: Annotated[str | None, Meta(description="what a link is opened by: tcp://10.0.0.*:23")] = None
    name: Annotated[str | None, Meta(description="the device's name for people")] = None
    attributes: Annotated[
        dict[str, str] | None,
        Meta(description="what else detection learned, by name: `driver: uvcvideo`, `service: _rtsp._tcp`"),
    ] = None

    def problems(self, where: str) -> list[tuple[str, str, str]]:
        """What breaks a rule here, as (field, what was found, what would be right)."""
        found = []
        for field in ("vid", "pid"):
            value = getattr(self, field)
            if value is not None and not re.match(_HEX4, value):
                found.append((f"{where}.{field}", repr(value), 'write four hex digits in quotes: "04d8"'))
        if not any(getattr(self, field) for field in self.__struct_fields__):
            found.append((where, "an empty rule", "give at least one of " + ", ".join(self.__struct_fields__)))
        return found

    def score(self, device: DeviceInfo) -> int:
        """How well the rule fits `device`: 0 not at all, otherwise more for each field that had to match."""
        points = 0
        for field, weight in _WEIGHTS.items():
            wanted = getattr(self, field)
            if wanted is None:
                continue
            actual = getattr(device, field)
            if field in {"vid", "pid"}:
                if _hex4(wanted) != actual.lower():
                    return 0
            elif not fnmatchcase(actual.lower(), wanted.lower()):
                return 0
            points += weight
        for key, pattern in (self.attributes or {}).items():
            found = device.attributes.get(key)
            if found is None or not fnmatchcase(found.lower(), pattern.lower()):
                return 0
            points += _ATTRIBUTE_WEIGHT
        return points


_WEIGHTS = {
    "serial_number": 40,
    "vid": 10,
    "pid": 10,
    "product": 8,
    "manufacturer": 6,
    "address": 5,
    "name": 4,
    "bus": 1,
}
_ATTRIBUTE_WEIGHT = 3


def _hex4(text: str) -> str:
    return text.lower().removeprefix("0x")
