"""The kernel's `i2c-stub`: a bus whose chips are registers in memory, with the kernel's lm75 on one of them."""

from __future__ import annotations

from pathlib import Path

from lab.modules import load, until

__all__ = ["StubBus"]


class StubBus:
    """Two LM75 on one bus.

    Attributes:
        node: /dev/i2c-N.
        ours: the chip that no kernel driver has.
        kernels: the chip that the kernel's lm75 has, which makes a hwmon of it.
    """

    ours, kernels = 0x48, 0x49

    def __init__(self) -> None:
        load("i2c_stub", f"chip_addr={self.ours:#x},{self.kernels:#x}")
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
        from smbus2 import SMBus

        raw = round(celsius * 2) << 7 & 0xFFFF
        with SMBus(self.node) as bus:
            bus.write_word_data(chip, 0, int.from_bytes(raw.to_bytes(2, "big"), "little"), force=True)

    def kernel_says(self) -> float:
        """What the kernel's own driver reads, °C."""
        (file,) = self.folder.glob(f"*-{self.kernels:04x}/hwmon/hwmon*/temp1_input")
        return int(file.read_text()) / 1000
