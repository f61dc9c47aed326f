"""A CP2112 on USB: eight GPIO lines and an I2C bus with chips, as Silicon Labs' AN495 describes its reports.

The kernel's hid-cp2112 makes a /dev/gpiochipN and a /dev/i2c-N of it.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from pathlib import Path

from lab.modules import load, until
from lab.uhid import HidDevice

__all__ = ["Cp2112", "RegisterChip"]

_FEATURES = {0x20: 1, 0x02: 4, 0x03: 1, 0x04: 2, 0x05: 2, 0x06: 13}
_INPUTS = (0x13, 0x16)
_OUTPUTS = (0x10, 0x11, 0x12, 0x14, 0x15, 0x17)
_COMPLETE, _FAILED = 2, 3
_DATA_MAX = 61


def _descriptor() -> bytes:
    """A vendor's collection with a report of bytes for each number."""
    body = b""
    for number, size in _FEATURES.items():
        body += bytes((0x85, number, 0x95, size, 0x75, 8, 0x09, 1, 0xB1, 2))
    for number in _INPUTS:
        body += bytes((0x85, number, 0x95, 63, 0x75, 8, 0x09, 1, 0x81, 2))
    for number in _OUTPUTS:
        body += bytes((0x85, number, 0x95, 63, 0x75, 8, 0x09, 1, 0x91, 2))
    return bytes((0x06, 0x00, 0xFF, 0x09, 1, 0xA1, 1, 0x15, 0, 0x26, 0xFF, 0)) + body + bytes((0xC0,))


class RegisterChip:
    """An I2C chip with registers of two bytes and a pointer."""

    def __init__(self, **registers: int) -> None:
        self.registers = {int(name.removeprefix("r"), 16): value for name, value in registers.items()}
        self.pointer = 0

    def write(self, data: bytes) -> None:
        """The first byte sets the pointer, the next two its register."""
        if data:
            self.pointer = data[0]
        if len(data) > 1:
            self.registers[self.pointer] = int.from_bytes(data[1:3].ljust(2, b"\0"), "big")

    def read(self, size: int) -> bytes:
        """The pointer's register, again and again."""
        return (self.registers.get(self.pointer, 0).to_bytes(2, "big") * size)[:size]


class Cp2112(HidDevice):
    """The bridge; `set_input(line, high)` is what a switch on a line does."""

    name = "CP2112 HID USB-to-SMBus Bridge"
    vendor, product = 0x10C4, 0xEA90
    descriptor = _descriptor()

    def __init__(self, chips: Mapping[int, RegisterChip]) -> None:
        super().__init__()
        load("hid_cp2112", "i2c_dev")
        self.chips = dict(chips)
        self.directions = 0
        self.levels = 0
        self._config = bytes((0x02, 0, 0, 0, 0))
        self._smbus = b"\x06" + bytes(13)
        self._lock = threading.Lock()
        self._status = (_COMPLETE, 0)
        self._answer = b""

    # what a person does, and sees --------------------------------------------------------------------------------

    def set_input(self, line: int, high: bool) -> None:
        """Pull a line high or low."""
        with self._lock:
            self.levels = self.levels & ~(1 << line) | (high << line)

    def gpio_node(self) -> str:
        """The node of its lines."""
        return until(lambda: _node("gpio", "gpiochip*"), "the CP2112 has a gpiochip")

    def i2c_node(self) -> str:
        """The node of its bus."""
        return until(lambda: _node("i2c-dev", "i2c-*"), "the CP2112 has an I2C adapter")

    # what the host does ------------------------------------------------------------------------------------------

    def got_feature(self, number: int, kind: int) -> bytes | None:
        match number:
            case 0x02:
                return self._config
            case 0x03:
                with self._lock:
                    return bytes((0x03, self.levels))
            case 0x05:
                return bytes((0x05, 0x0C, 2))
            case 0x06:
                return self._smbus
            case 0x20:
                return b"\x20\xff"  # nothing of its settings is locked
        return None

    def set_feature(self, report: bytes) -> None:
        match report[0]:
            case 0x02:
                self._config, self.directions = report, report[1]
            case 0x04:
                with self._lock:
                    mask = report[2]
                    self.levels = self.levels & ~mask | (report[1] & mask)
            case 0x06:
                self._smbus = report

    def output(self, report: bytes) -> None:
        match report[0]:
            case 0x10:
                self._chip_read(report[1] >> 1, struct.unpack_from(">H", report, 2)[0])
            case 0x11:
                pointer = report[5 : 5 + report[4]]
                if self._chip_write(report[1] >> 1, pointer):
                    self._chip_read(report[1] >> 1, struct.unpack_from(">H", report, 2)[0])
            case 0x12:
                part, self._answer = self._answer[:_DATA_MAX], self._answer[_DATA_MAX:]
                self.send(bytes((0x13, _COMPLETE, len(part))) + part.ljust(_DATA_MAX, b"\0"))
            case 0x14:
                self._chip_write(report[1] >> 1, report[3 : 3 + report[2]])
            case 0x15:
                self.send(struct.pack(">BBBHH", 0x16, self._status[0], 0, 0, self._status[1]).ljust(64, b"\0"))

    def _chip_write(self, address: int, data: bytes) -> bool:
        chip = self.chips.get(address)
        if chip:
            chip.write(data)
        self._status = (_COMPLETE if chip else _FAILED, 0)
        return chip is not None

    def _chip_read(self, address: int, size: int) -> None:
        chip = self.chips.get(address)
        self._answer = chip.read(size) if chip else b""
        self._status = (_COMPLETE, size) if chip else (_FAILED, 0)


def _node(kind: str, names: str) -> str:
    for folder in Path("/sys/bus/hid/drivers/cp2112").glob(f"0003:10C4:EA90.*/**/{names}"):
        node = Path("/dev") / folder.name
        if node.exists():
            return str(node)
    return ""
