"""What people type for a device: an id, the beginning of one, or an address."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vfab.kernel.node_access import User, check_node
from vfab.model.alike import alike
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DeviceNotFound

__all__ = ["begins", "device_at", "find_device", "is_address", "kind_of_node"]

_VISA = re.compile(r"(TCPIP|USB|GPIB|ASRL|PXI|VXI|VICP|PRLGX-TCPIP|PRLGX-ASRL)[^:\s]*::\S+", re.IGNORECASE)
_NODES = {
    "/dev/pts/": "pty",
    "/dev/video": "v4l2",
    "/dev/i2c-": "i2c",
    "/dev/gpiochip": "gpio",
    "/dev/spidev": "spi",
    "/dev/usbtmc": "usbtmc",
    "/dev/iio:device": "iio",
    "/dev/bus/usb/": "usb",
    "/dev/hidraw": "hid",
}
_LIBRARYS = re.compile(
    r"(genicam|ble)://[^/]+/*"
    r"|can://(virtual|udp_multicast|slcan|pcan|kvaser|vector|gs_usb|ixxat|serial|socketcand)/.+"
)
"""Addresses that a driver's own library opens, not the broker: python-can's `can://udp_multicast/239.74.163.2`."""
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+:\d{1,5}|localhost:\d{1,5}")
"""An address whose scheme was forgotten; ids of devices have no dot before their colon."""


def is_address(text: str) -> bool:
    """Whether `text` is meant as an address: a path, with a scheme like tcp, or a VISA resource."""
    return text.startswith("/") or "://" in text or _VISA.match(text) is not None


def begins(text: str, device_id: str) -> bool:
    """Whether `text` is a beginning of the id; a number is not cut: ttyS1 begins no ttyS10, which is another device."""
    rest = device_id[len(text) :]
    return bool(text) and device_id.startswith(text) and not (text[-1].isdigit() and rest[:1].isdigit())


def find_device(text: str, devices: Sequence[DeviceInfo]) -> DeviceInfo:
    """The device that `text` means: its id, its address, a beginning of exactly one id, or an address nobody found.

    Raises DeviceNotFound: no device is meant, or nothing is at the address; near ids are told. Raises
    ConfigurationError: the text begins several ids, or is no address that can be opened.
    """
    wanted = text.strip()
    for device in devices:
        if wanted in {device.id, device.address, device.attributes.get("by_id")}:
            return device
    if is_address(wanted):
        real = os.path.realpath(wanted) if wanted.startswith("/") else wanted.rstrip("/")
        same = (d for d in devices if d.address.startswith("/") and os.path.realpath(d.address) == real)
        return next((d for d in devices if d.address == real), None) or next(same, None) or device_at(wanted)
    called = [device for device in devices if wanted and device.attributes.get("device_id") == wanted]
    if len(called) == 1:  # a plugin's own scan calls it so
        return called[0]
    begun = [device for device in devices if device in called or begins(wanted, device.id)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        does = "is what plugins call" if called else "begins"
        raise ConfigurationError(
            f"{text!r} {does} {len(begun)} device ids: {', '.join(d.id for d in begun[:5])}",
            context={"device": text, "near": [d.id for d in begun]},
            remedy="Write more of the id.",
        )
    if _HOST_AND_PORT.fullmatch(wanted):
        raise DeviceNotFound(
            f"there is no device {text!r}; did you mean tcp://{wanted}?",
            context={"device": text, "near": [f"tcp://{wanted}"]},
        )
    near = alike(wanted, [d.id for d in devices], 3, 0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise DeviceNotFound(f"there is no device {text!r}{hint}", context={"device": text, "near": near})


def device_at(address: str, *, user: User | None = None, sysfs: Path = Path("/sys")) -> DeviceInfo:
    """The device at an address given by hand.

    `/dev/ttyACM0`, `/dev/pts/5`, `/dev/video0` and other device nodes; the folder of an IIO device below `sysfs`;
    `tcp://127.0.0.1:4000`, `rtsp://cam.local/live` and every other scheme that the broker opens; `can://vcan0`;
    `genicam://192.0.2.9`; a VISA resource like `TCPIP0::192.0.2.7::INSTR`, with `visa://` in front or not;
    one that only names a socket or a serial port is that. Its bus is the scheme, and that of a node
    what detection calls its kind, so that drivers' `match` rules fit it as if it had been found.

    Raises DeviceNotFound: nothing is there. Raises ConfigurationError: it is no address that can be opened.
    """
    if address.startswith("/"):
        return _node(address, user or User.current(), sysfs)
    if _VISA.match(address) or address.lower().startswith("visa://"):
        from vfab.protocols.scpi.resources import as_address, resource_of

        link = as_address(address)
        if link is not None:  # VISA's name of what the broker opens
            return device_at(link, user=user, sysfs=sysfs)
        address = resource_of(address)
        kind = re.match("[A-Za-z-]+", address)
        interface = kind[0].lower() if kind else ""
        return DeviceInfo(
            id=f"visa:{address}", bus="visa", address=address, name=address, attributes={"interface": interface}
        )
    scheme, _, rest = address.partition("://")
    plain = f"{scheme.lower()}://{rest}"
    if _LIBRARYS.fullmatch(plain):
        plain = plain.rstrip("/")
    else:
        from vfab.sdk.link import split_address  # the sdk takes longer to import than most scans last

        try:
            split_address(plain)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{address!r} is not an address",
                context={"device": address},
                remedy="Write a device node like /dev/ttyACM0, or tcp://host:port with a port from 1 to 65535. "
                "There are also ws, http, rtsp, mqtt, udp, unix:///path, can://can0, genicam://host, …, and VISA "
                "resources like TCPIP0::192.0.2.7::INSTR.",
            ) from error
        if urlsplit(plain).path == "/":
            plain = plain.rstrip("/")
    return DeviceInfo(
        id=f"{scheme.lower()}:{_without_password(plain).partition('://')[2]}",
        bus=scheme.lower(),
        address=plain,
        name=_without_password(plain),
    )


def kind_of_node(path: str) -> str:
    """What detection calls the kind of the device node `path`, such as v4l2; serial, if nothing says otherwise."""
    return next((kind for start, kind in _NODES.items() if path.startswith(start)), "serial")


def _without_password(address: str) -> str:
    """`address` for people and for ids: who logs in is left out."""
    return re.sub(r"://[^/@]*@", "://", address)


def _node(path: str, user: User, sysfs: Path) -> DeviceInfo:
    try:
        seen = Path(path).stat()
    except OSError as error:
        raise DeviceNotFound(f"nothing is at {path}: {error.strerror}", context={"device": path}) from error
    real = os.path.realpath(path)
    if stat.S_ISDIR(seen.st_mode) and Path(real).name.startswith("iio:device") and Path(real).is_relative_to(sysfs):
        return DeviceInfo(id=f"iio:{Path(real).name}", bus="iio", address=path.rstrip("/"), name=path)
    if not stat.S_ISCHR(seen.st_mode):
        raise ConfigurationError(
            f"{path} is not a device node",
            context={"device": path},
            remedy="Give the node of a serial port, like /dev/ttyACM0; `vfab device scan` lists them.",
        )
    access = check_node(path, user)
    bus = kind_of_node(real)
    own = f"by-id/{Path(path).name}" if "/serial/by-id/" in path else real.removeprefix("/dev/")
    return DeviceInfo(
        id=f"{bus}:{own}",
        bus=bus,
        address=real,
        name=path,
        accessible=access.accessible,
        problem=access.problem,
        remedy=access.remedy,
    )
