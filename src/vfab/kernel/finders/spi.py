"""SPI devices that programs may use: `/dev/spidevBUS.CHIPSELECT`."""

from __future__ import annotations

from pathlib import Path

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import children, node_device, read_text, usb_behind
from vfab.kernel.node_access import User
from vfab.model.devices import DeviceInfo

__all__ = ["SpiHandler"]


class SpiHandler(DetectionHandler):
    """Finds SPI devices.

    Args:
        dev: where the nodes are.
        sysfs: where the kernel lists the devices on SPI buses.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self, dev: Path = Path("/dev"), sysfs: Path = Path("/sys/bus/spi/devices"), *, user: User | None = None
    ) -> None:
        super().__init__("spi", priority=30)
        self._dev = dev
        self._sysfs = sysfs
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every SPI device, as `spi:BUS.CHIPSELECT`; attribute `modalias` says what the machine's description names."""
        nodes = children(self._dev, "spidev*")
        if not nodes:
            return []
        user = self._user or User.current()
        return [self._device(node, user) for node in nodes]

    def _device(self, node: Path, user: User) -> DeviceInfo:
        own = node.name.removeprefix("spidev")
        folder = self._sysfs / f"spi{own}"
        modalias = read_text(folder / "modalias").removeprefix("spi:")
        return node_device("spi", own, str(node), f"SPI {own}", user=user, usb=usb_behind(folder), modalias=modalias)
