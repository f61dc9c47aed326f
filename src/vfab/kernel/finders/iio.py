"""Industrial I/O: converters and sensors that have a kernel driver (Documentation/ABI/testing/sysfs-bus-iio)."""

from __future__ import annotations

import os
from pathlib import Path

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import children, name_of_parent, read_text, usb_behind
from vfab.model.devices import DeviceInfo

__all__ = ["IioHandler"]


class IioHandler(DetectionHandler):
    """Finds IIO devices. They are addressed by their folder in sysfs, where everybody may read values.

    Args:
        sysfs: where the kernel lists IIO devices.
    """

    def __init__(self, sysfs: Path = Path("/sys/bus/iio/devices")) -> None:
        super().__init__("iio", priority=30)
        self._sysfs = sysfs

    def find(self) -> list[DeviceInfo]:
        """Every IIO device; attributes `chip` and `channels`. The id is by chip and place (`ads1015:1-0048`)."""
        return [_device(node) for node in children(self._sysfs, "iio:device*")]


def _device(node: Path) -> DeviceInfo:
    chip, label = read_text(node / "name"), read_text(node / "label")
    usb = usb_behind(node)
    own = ":".join(part for part in (chip or node.name, name_of_parent(node)) if part)
    channels = sorted(
        {path.name.removesuffix("_raw").removesuffix("_input") for path in node.glob("in_*") if _is_value(path.name)}
    )
    readable = os.access(node, os.R_OK | os.X_OK)
    attributes = {"chip": chip, "label": label, "channels": " ".join(channels), "location": usb.location}
    return DeviceInfo(
        id=f"iio:{own.replace(' ', '_')}",
        bus="iio",
        address=str(node),
        name=label or chip or node.name,
        vid=usb.vid,
        pid=usb.pid,
        serial_number=usb.serial_number,
        manufacturer=usb.manufacturer,
        product=usb.product,
        accessible=readable,
        problem="" if readable else f"{node} may not be read",
        remedy="" if readable else "Ask the administrator of this machine why sysfs is closed.",
        attributes={key: value for key, value in attributes.items() if value},
    )


def _is_value(name: str) -> bool:
    return name.endswith(("_raw", "_input"))
