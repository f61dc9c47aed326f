"""I2C adapters, and the chips on them: those that the kernel knows, and, when asked for, those that answer.

Looking for chips touches them, and some take harm. So it is done as `i2cdetect` does it by default (its manual page
says why): addresses 0x08 to 0x77 only; where write-protected memories live (0x30 to 0x37, 0x50 to 0x5f) by reading a
byte, which a quick write could lock; elsewhere by a quick write, because reading confuses some chips. Left out are
mainboards' SMBus adapters, whose clock chips and memories a quick write has ruined, and chips that a kernel driver has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import children, name_of_parent, node_device, read_text, usb_behind
from vfab.kernel.node_access import User
from vfab.model.devices import DeviceInfo

__all__ = ["I2cHandler", "answering_chips"]

_SLAVE, _FUNCS, _SMBUS = 0x0703, 0x0705, 0x0720
_QUICK, _BYTE = 0, 1
_CAN_QUICK, _CAN_READ_BYTE = 0x00010000, 0x00020000
_ADDRESSES = range(0x08, 0x78)
_BY_READING = {*range(0x30, 0x38), *range(0x50, 0x60)}
_UNSAFE = re.compile(r"^smbus (?!stub)|gmbus|nvidia|amdgpu|radeon|dpaux|dpdc|aux\b|ddc", re.IGNORECASE)
"""Adapters of a mainboard ("SMBus I801 adapter at …") and of a graphics card, whose chips are the machine's own."""


class I2cHandler(DetectionHandler):
    """Finds I2C adapters that programs may use, and the chips on them that the kernel knows by name.

    Args:
        dev: where the nodes are.
        sysfs: where the kernel lists the adapters, and the chips that it knows.
        chips: the addresses that answer at a node; writes to the bus.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self,
        dev: Path = Path("/dev"),
        sysfs: Path = Path("/sys/bus/i2c/devices"),
        *,
        chips: Callable[[str, frozenset[int]], list[int]] | None = None,
        user: User | None = None,
    ) -> None:
        super().__init__("i2c", priority=30)
        self._dev = dev
        self._sysfs = sysfs
        self._chips = chips or answering_chips
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every adapter with a node, and every chip on it that has a kernel driver or is in the machine's description.

        Attributes: `adapter`, and of chips `chip_address` (0x48), `chip` (lm75) and `kernel_driver`.
        """
        nodes = [node for node in children(self._dev, "i2c-*") if node.name.removeprefix("i2c-").isdigit()]
        if not nodes:
            return []
        user = self._user or User.current()
        found: list[DeviceInfo] = []
        for node in nodes:
            adapter = self._adapter(node, user)
            number = node.name.removeprefix("i2c-")
            found += [adapter, *(self._known(chip, adapter) for chip in children(self._sysfs, f"{number}-*"))]
        return found

    def probe(self, devices: tuple[DeviceInfo, ...]) -> list[DeviceInfo]:
        """Every chip that answers on an adapter whose chips are not the machine's own."""
        found: list[DeviceInfo] = []
        mine = [device for device in devices if device.bus == "i2c" and device.accessible]
        for adapter in mine:
            if "chip_address" in adapter.attributes or _UNSAFE.search(adapter.attributes.get("adapter", "")):
                continue
            known = frozenset(
                int(device.attributes["chip_address"], 16)
                for device in mine
                if device.address == adapter.address and "chip_address" in device.attributes
            )
            found += [_chip(adapter, chip, "", "") for chip in self._chips(adapter.address, known)]
        return found

    def _adapter(self, node: Path, user: User) -> DeviceInfo:
        folder = self._sysfs / node.name
        name = read_text(folder / "name") or node.name
        own = (name_of_parent(folder) if folder.exists() else "") or node.name.removeprefix("i2c-")
        return node_device("i2c", own, str(node), name, user=user, usb=usb_behind(folder), adapter=name)

    def _known(self, folder: Path, adapter: DeviceInfo) -> DeviceInfo:
        chip = int(folder.name.rpartition("-")[2], 16) & 0x3FF
        driver = folder / "driver"
        return _chip(adapter, chip, read_text(folder / "name"), driver.resolve().name if driver.exists() else "")


def _chip(adapter: DeviceInfo, chip: int, name: str, driver: str) -> DeviceInfo:
    learned = {"chip_address": f"0x{chip:02x}", "chip": name, "kernel_driver": driver}
    return msgspec.structs.replace(
        adapter,
        id=f"{adapter.id}:0x{chip:02x}",
        name=f"{name or 'chip'} at 0x{chip:02x} of {adapter.name}",
        attributes={**adapter.attributes, **{key: value for key, value in learned.items() if value}},
    )


def answering_chips(path: str, known: frozenset[int], *, ioctl: Callable[..., object] | None = None) -> list[int]:
    """The addresses that answer at the adapter `path`; `known` ones, which a kernel driver has, are left alone.

    Raises OSError: the adapter cannot be asked.
    """
    import ctypes
    import fcntl

    class Transfer(ctypes.Structure):
        """struct i2c_smbus_ioctl_data of linux/i2c-dev.h."""

        _fields_ = (
            ("read_write", ctypes.c_uint8),
            ("command", ctypes.c_uint8),
            ("size", ctypes.c_uint32),
            ("data", ctypes.c_void_p),
        )

    ask = ioctl or fcntl.ioctl
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        able = bytearray(ctypes.sizeof(ctypes.c_ulong))
        ask(fd, _FUNCS, able)
        functions = int.from_bytes(able, "little")
        data = ctypes.create_string_buffer(34)
        found: list[int] = []
        for chip in _ADDRESSES:
            by_reading = chip in _BY_READING
            if chip in known or not functions & (_CAN_READ_BYTE if by_reading else _CAN_QUICK):
                continue
            transfer = Transfer(by_reading, 0, _BYTE if by_reading else _QUICK, ctypes.addressof(data))
            try:
                ask(fd, _SLAVE, chip)
                ask(fd, _SMBUS, transfer)
            except OSError:  # nobody there, or a kernel driver has it
                continue
            found.append(chip)
        return found
    finally:
        os.close(fd)
