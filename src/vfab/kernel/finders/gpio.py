"""GPIO chips: `/dev/gpiochip*`, which say their name, label and number of lines (linux/gpio.h, GPIO_GET_CHIPINFO)."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import Ask, ask_node, children, node_device, usb_behind
from vfab.kernel.node_access import User
from vfab.model.devices import DeviceInfo

__all__ = ["GpioHandler"]

_CHIPINFO = 0x8044B401
_LAYOUT = struct.Struct("32s32sI")


class GpioHandler(DetectionHandler):
    """Finds GPIO chips.

    Args:
        dev: where the nodes are.
        sysfs: where the kernel lists the chips.
        ask: asks a node.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self,
        dev: Path = Path("/dev"),
        sysfs: Path = Path("/sys/bus/gpio/devices"),
        *,
        ask: Ask = ask_node,
        user: User | None = None,
    ) -> None:
        super().__init__("gpio", priority=30)
        self._dev = dev
        self._sysfs = sysfs
        self._ask = ask
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every chip; attributes `chip` (gpiochip0), `label` and `lines`. The id is by label, which stays."""
        nodes = children(self._dev, "gpiochip*")
        user = self._user or User.current() if nodes else None
        return [self._device(node, user) for node in nodes if user is not None and not node.is_symlink()]

    def _device(self, node: Path, user: User) -> DeviceInfo:
        usb = usb_behind(self._sysfs / node.name)
        device = node_device("gpio", node.name, str(node), node.name, user=user, usb=usb, chip=node.name)
        if not device.accessible:
            return device
        try:
            name, label, lines = _LAYOUT.unpack(self._ask(str(node), _CHIPINFO, bytes(_LAYOUT.size)))
        except OSError as error:
            return msgspec.structs.replace(
                device,
                accessible=False,
                problem=f"{node} does not answer as a GPIO chip: {error.strerror}",
                remedy="The kernel needs CONFIG_GPIO_CDEV; look into the kernel's log.",
            )
        called, text = _text(label), _text(name)
        return msgspec.structs.replace(
            device,
            id=f"gpio:{(called or node.name).replace(' ', '_')}",
            name=f"{called or text or node.name}, {lines} lines",
            attributes={**device.attributes, "chip": text or node.name, "label": called, "lines": str(lines)},
        )


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
