"""Serial ports, by pyserial's `list_ports` (Linux, macOS), with the stable names of `/dev/serial/by-id`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.node_access import User, check_node
from vfab.kernel.usb import usb_id
from vfab.model.devices import DeviceInfo

__all__ = ["SerialHandler"]


def _comports() -> Iterable[Any]:
    from serial.tools.list_ports import comports

    return comports()


class SerialHandler(DetectionHandler):
    """Finds serial ports. Those of USB devices carry the USB ids, and the same id as `UsbHandler` gives them.

    Args:
        comports: lists the ports, like `serial.tools.list_ports.comports`.
        by_id: folder of udev's stable links.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self,
        comports: Callable[[], Iterable[Any]] = _comports,
        by_id: Path = Path("/dev/serial/by-id"),
        *,
        user: User | None = None,
    ) -> None:
        super().__init__("serial", priority=10)
        self._comports = comports
        self._by_id = by_id
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every serial port, by name. A port's `/dev/serial/by-id` link is in its attribute `by_id`."""
        ports = sorted(self._comports(), key=lambda port: str(port.device))
        shared = Counter(_location(port) for port in ports if port.vid is not None)
        links = self._links()
        user = self._user or User.current()
        return [self._device(port, shared[_location(port)] > 1, links, user) for port in ports]

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether `device_info` is, or has, a serial port."""
        return device_info.bus in {"serial", "pty"} or device_info.address.startswith("/dev/tty")

    def _device(self, port: Any, several: bool, links: dict[str, str], user: User) -> DeviceInfo:
        address = str(port.device)
        vid = f"{port.vid:04x}" if port.vid is not None else ""
        pid = f"{port.pid:04x}" if port.pid is not None else ""
        link = links.get(str(Path(address).resolve()), "")
        if vid:
            location = _location(port)
            interface = str(port.location or "").partition(":")[2] if several else ""
            stable = usb_id(vid, pid, port.serial_number or "", location or Path(address).name, interface)
        else:
            location = ""
            stable = f"serial:by-id/{Path(link).name}" if link else f"serial:{Path(address).name}"
        access = check_node(address, user, vid=vid, pid=pid)
        attributes = {"location": location, "by_id": link, "hwid": str(port.hwid or "")}
        return DeviceInfo(
            id=stable,
            bus="usb" if vid else "serial",
            address=address,
            name=_text(port.product) or _text(port.description) or Path(address).name,
            vid=vid,
            pid=pid,
            serial_number=_text(port.serial_number),
            manufacturer=_text(port.manufacturer),
            product=_text(port.product),
            accessible=access.accessible,
            problem=access.problem,
            remedy=access.remedy,
            attributes={key: value for key, value in attributes.items() if value and value != "n/a"},
        )

    def _links(self) -> dict[str, str]:
        """The stable link of every port that has one, by the port's real path."""
        try:
            return {str(link.resolve()): str(link) for link in sorted(self._by_id.iterdir())}
        except OSError:  # no USB serial port ever plugged in, or not Linux
            return {}


def _location(port: Any) -> str:
    return str(port.location or "").partition(":")[0]


def _text(value: object) -> str:
    return "" if value in {None, "n/a"} else str(value)
