"""The kernel's `i2c-stub`: a bus whose chips are registers in memory, with the kernel's lm75 on one of them.

Two more are for `iio_chips`: the stub's chips are named when it is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lab.modules import load, until

__all__ = ["StubBus"]


class StubBus:
    """Two LM75 on one bus, and two addresses for chips of Industrial I/O.

    Attributes:
        node: /dev/i2c-N.
        ours: the chip that no kernel driver has.
        kernels: the chip that the kernel's lm75 has, which makes a hwmon of it.
        meter, thermometer: registers without a meaning until a kernel driver takes them.
    """

    ours, kernels, meter, thermometer = 0x48, 0x49, 0x40, 0x5A

    def __init__(self) -> None:
        chips = (self.ours, self.kernels, self.meter, self.thermometer)
        load("i2c_stub", f"chip_addr={','.join(map(hex, chips))}")
        load("i2c_dev", "lm75")
        self.folder = until(self._adapter, "i2c-stub has a bus")
        self.node = f"/dev/{self.folder.name}"
        self.warm_to(self.kernels, 20)
        (self.folder / "new_device").write_text(f"lm75 {self.kernels:#x}")

    @staticmethod
    def _adapter() -> Path | None:
        every = Path("/sys/bus/i2c/devices").glob("i2c-*")
        return next((path for path in every if "stub" in (path / "name").read_text()), None)

    def warm_to(self, chip: int, celsius: float) -> None:
        """Set the temperature register, in steps of half a degree, high byte first, as the datasheet has it."""
        self.write(chip, 0, round(celsius * 2) << 7 & 0xFFFF, "big")

    def write(self, chip: int, register: int, number: int, order: Literal["big", "little"]) -> None:
        """Set a register of 16 bits, whoever has the chip; SMBus sends the low byte first."""
        from smbus2 import SMBus

        with SMBus(self.node) as bus:
            bus.write_word_data(chip, register, int.from_bytes(number.to_bytes(2, order), "little"), force=True)

    def kernel_says(self) -> float:
        """What the kernel's own driver reads, °C."""
        (file,) = self.folder.glob(f"*-{self.kernels:04x}/hwmon/hwmon*/temp1_input")
        return int(file.read_text()) / 1000
