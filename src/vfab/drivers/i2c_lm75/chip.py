"""An LM75 that is not there: its registers, as TI's datasheet SNIS153D describes them, behind the driver's bus."""

from __future__ import annotations

import errno

from vfab.model.errors import DeviceNotFound, LinkLost

from .driver import CONFIGURATION, HYSTERESIS, OVERTEMPERATURE, TEMPERATURE, register_of

__all__ = ["LM75Chip"]


class LM75Chip:
    """The chip: temperature, configuration, hysteresis and over-temperature registers, and the OS output.

    Attributes:
        bits: of the temperature register; the others read 0.
        present: it acknowledges.
        adapter: the bus is there.
        writes: (register, data) of every write.
    """

    def __init__(self, bits: int = 9, address: int = 0x48) -> None:
        self.bits = bits
        self.address = self._asked = address
        self.present = True
        self.adapter = True
        self.writes: list[tuple[int, bytes]] = []
        self.registers = {CONFIGURATION: b"\0", HYSTERESIS: register_of(75), OVERTEMPERATURE: register_of(80)}
        self._truth = self._shown = 20.0

    def bus(self, fd: int, address: int, *, force: bool = False) -> LM75Chip:
        """What the driver's `bus_factory` makes."""
        self._asked = address
        return self

    def warm_to(self, value: float) -> None:
        """The room has `value` degrees Celsius now; in shutdown the register stays as it was."""
        self._truth = value
        if not self.registers[CONFIGURATION][0] & 0x01:
            self._shown = value

    @property
    def output_active(self) -> bool:
        """The comparator's output, active low at the pin: hot enough for it."""
        hot = int.from_bytes(self.registers[OVERTEMPERATURE], "big", signed=True) / 256
        return self._shown >= hot

    def read(self, register: int, size: int) -> bytes:
        """The pointer picks one of four registers; a longer read repeats the last byte."""
        self._acknowledge()
        data = register_of(self._shown, self.bits) if register == TEMPERATURE else self.registers[register & 3]
        return (data + data[-1:] * size)[:size]

    def write(self, register: int, data: bytes) -> None:
        """The temperature register takes nothing."""
        self._acknowledge()
        self.writes.append((register, data))
        if register != TEMPERATURE:
            self.registers[register] = data
            self.warm_to(self._truth)

    def _acknowledge(self) -> None:
        if not self.adapter:
            raise LinkLost("the I2C adapter is gone", context={"errno": errno.ENODEV})
        if not self.present or self._asked != self.address:
            raise DeviceNotFound(f"no chip answers at 0x{self._asked:02x}", context={"errno": errno.ENXIO})
