"""What the finders share: reading sysfs, the USB device behind a node, asking a node by ioctl."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vfab.kernel.node_access import User, check_node
from vfab.model.devices import DeviceInfo

__all__ = ["Ask", "UsbBehind", "ask_node", "children", "name_of_parent", "node_device", "read_text", "usb_behind"]

_SUBSYSTEMS = {"v4l2": "video4linux", "i2c": "i2c-dev", "gpio": "gpio", "spi": "spidev", "usbtmc": "usbmisc"}
"""What udev calls the nodes of a kind."""

Ask = Callable[[str, int, bytes], bytes]
"""(path of a node, ioctl request, what is handed over) -> what comes back. Raises OSError."""


def read_text(path: Path) -> str:
    """A sysfs attribute; "" where there is none, or the device was unplugged meanwhile."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip(" \t\r\n\0")
    except OSError:
        return ""


def children(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in `folder`, by name (numbers counted, not spelled); nothing where there is no such folder."""
    return sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))


def ask_node(path: str, request: int, data: bytes) -> bytes:
    """One ioctl on the device node `path`, which is opened for it without waiting. Raises OSError."""
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, request, data)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class UsbBehind:
    """The USB device that a node belongs to; everything is "" where it belongs to none."""

    vid: str = ""
    pid: str = ""
    serial_number: str = ""
    manufacturer: str = ""
    product: str = ""
    location: str = ""


def usb_behind(node: Path) -> UsbBehind:
    """The USB device whose function `node` (a folder of sysfs, or a link to one) is."""
    real = node.resolve()
    for folder in (real, *real.parents):
        vid = read_text(folder / "idVendor").lower()
        if vid:
            return UsbBehind(
                vid=vid,
                pid=read_text(folder / "idProduct").lower(),
                serial_number=read_text(folder / "serial"),
                manufacturer=read_text(folder / "manufacturer"),
                product=read_text(folder / "product"),
                location=folder.name,
            )
    return UsbBehind()


def name_of_parent(node: Path, stop: str = "devices") -> str:
    """The name of the device above `node`, such as `3f804000.i2c`; "" where it hangs below none."""
    name = node.resolve().parent.name
    return "" if name in {stop, "virtual"} else name


def node_device(
    bus: str, own: str, address: str, name: str, *, user: User, usb: UsbBehind | None = None, **attributes: str
) -> DeviceInfo:
    """A device at the node `address`: whether `user` may open it is looked up. Empty attributes are left out."""
    behind = usb or UsbBehind()
    access = check_node(address, user, vid=behind.vid, pid=behind.pid, subsystem=_SUBSYSTEMS.get(bus, ""))
    known = {"location": behind.location, **attributes}
    return DeviceInfo(
        id=f"{bus}:{own.replace(' ', '_')}",
        bus=bus,
        address=address,
        name=name,
        vid=behind.vid,
        pid=behind.pid,
        serial_number=behind.serial_number,
        manufacturer=behind.manufacturer,
        product=behind.product,
        accessible=access.accessible,
        problem=access.problem,
        remedy=access.remedy,
        attributes={key: value for key, value in known.items() if value},
    )
