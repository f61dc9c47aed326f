"""Instruments on USB: `/dev/usbtmc*` of the kernel's driver for the USB Test and Measurement Class."""

from __future__ import annotations

from pathlib import Path

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import children, node_device, usb_behind
from vfab.kernel.node_access import User
from vfab.model.devices import DeviceInfo

__all__ = ["UsbtmcHandler"]


class UsbtmcHandler(DetectionHandler):
    """Finds instruments on USB.

    Args:
        dev: where the nodes are.
        sysfs: where the kernel lists them.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self, dev: Path = Path("/dev"), sysfs: Path = Path("/sys/class/usbmisc"), *, user: User | None = None
    ) -> None:
        super().__init__("usbtmc", priority=30)
        self._dev = dev
        self._sysfs = sysfs
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every instrument, by USB ids and serial number; attribute `visa` is its VISA resource string."""
        nodes = children(self._dev, "usbtmc*")
        if not nodes:
            return []
        user = self._user or User.current()
        return [self._device(node, user) for node in nodes]

    def _device(self, node: Path, user: User) -> DeviceInfo:
        usb = usb_behind(self._sysfs / node.name / "device")
        own = f"{usb.vid}:{usb.pid}:{usb.serial_number or '@' + usb.location}" if usb.vid else node.name
        visa = f"USB0::0x{usb.vid.upper()}::0x{usb.pid.upper()}::{usb.serial_number}::INSTR" if usb.vid else ""
        return node_device("usbtmc", own, str(node), usb.product or "USB instrument", user=user, usb=usb, visa=visa)
