"""USB devices, as Linux's sysfs shows them (`Documentation/ABI/stable/sysfs-bus-usb`); no library, no `lsusb`.

A USB device with serial ports is told once for each port, under the port's address, because that is what is opened. The
ids are the same that `serial_ports` computes, so that a port seen by both is one device.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.node_access import User, check_node
from vfab.model.devices import DeviceInfo

__all__ = ["UsbHandler", "usb_id"]

_HUB = "09"


def usb_id(vid: str, pid: str, serial_number: str, location: str, interface: str = "") -> str:
    """The stable id of a USB device: by its serial number, else by the port that it is plugged into.

    `location` is sysfs' name of the port (`1-1.2`); `interface` (`1.0`) tells the ports of one device apart.
    """
    own = serial_number.replace(" ", "_") or f"@{location}"
    return f"usb:{vid}:{pid}:{own}" + (f":if{interface}" if interface else "")


class UsbHandler(DetectionHandler):
    """Finds USB devices, hubs left out.

    Args:
        sysfs: where the kernel lists USB devices.
        dev: where device nodes are.
        user: who wants to open them; this process's user by default.
        platform: `sys.platform`.
    """

    def __init__(
        self,
        sysfs: Path = Path("/sys/bus/usb/devices"),
        dev: Path = Path("/dev"),
        *,
        user: User | None = None,
        platform: str = sys.platform,
    ) -> None:
        super().__init__("usb", priority=20)
        self._sysfs = sysfs
        self._dev = dev
        self._user = user
        self._platform = platform

    def limitation(self) -> str:
        """What this handler cannot find here, for people; "" where it finds everything."""
        if self._platform.startswith("linux"):
            return ""
        return "USB devices without a serial port are found on Linux only; serial ports are found here too"

    def find(self) -> list[DeviceInfo]:
        """Every USB device, in the order of sysfs' names. No sysfs (macOS, some containers) means none."""
        if not self._sysfs.is_dir():
            return []
        user = self._user or User.current()
        found: list[DeviceInfo] = []
        for node in sorted(self._sysfs.iterdir(), key=lambda path: path.name):
            if ":" in node.name or _read(node / "bDeviceClass") == _HUB or not (node / "idVendor").is_file():
                continue
            found += self._devices(node, user)
        return found

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether `device_info` is a USB device."""
        return device_info.bus == "usb"

    def _devices(self, node: Path, user: User) -> list[DeviceInfo]:
        ports = _serial_ports(node)
        if not ports:
            bus, number = _read(node / "busnum"), _read(node / "devnum")
            address = str(self._dev / "bus" / "usb" / bus.zfill(3) / number.zfill(3))
            return [self._device(node, address, "", user)]
        several = len(ports) > 1
        return [
            self._device(node, str(self._dev / name), interface if several else "", user) for interface, name in ports
        ]

    def _device(self, node: Path, address: str, interface: str, user: User) -> DeviceInfo:
        vid, pid = _read(node / "idVendor").lower(), _read(node / "idProduct").lower()
        serial_number = _read(node / "serial")
        manufacturer, product = _read(node / "manufacturer"), _read(node / "product")
        access = check_node(address, user, vid=vid, pid=pid)
        return DeviceInfo(
            id=usb_id(vid, pid, serial_number, node.name, interface),
            bus="usb",
            address=address,
            name=product or f"USB device {vid}:{pid}",
            vid=vid,
            pid=pid,
            serial_number=serial_number,
            manufacturer=manufacturer,
            product=product,
            accessible=access.accessible,
            problem=access.problem,
            remedy=access.remedy,
            attributes={"location": node.name, "usb_class": _read(node / "bDeviceClass")},
        )


def _serial_ports(node: Path) -> list[tuple[str, str]]:
    """(interface, name) of a device's serial ports: cdc-acm has them as `tty/NAME`, usb-serial as `NAME/tty/NAME`."""
    found: list[tuple[str, str]] = []
    for interface in sorted(node.glob(f"{node.name}:*")):
        ports = sorted([*interface.glob("tty/tty*"), *interface.glob("tty*/tty/tty*")])
        found += [(interface.name.partition(":")[2], port.name) for port in ports]
    return found


def _read(path: Path) -> str:
    """A sysfs attribute; "" where the device has none, or was unplugged meanwhile."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return ""
