"""Two chips on the stub's bus that the kernel's Industrial I/O has: a power meter with a buffer, a thermometer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.modules import load, until
from lab.stub_bus import StubBus

__all__ = ["IioChips"]

_METER, _THERMOMETER = "ina226", "mlx90614"


class IioChips:
    """An INA226 and an MLX90614, as registers; what they show is set as their datasheets have it.

    The INA226 is an IIO device because `ina2xx-adc` is loaded alone: the same chip has a driver in hwmon as well.
    """

    SHUNT_V, BUS_V, POWER_W, CURRENT_A = 2.5e-6, 1.25e-3, 6.25e-3, 0.25e-3
    """What a step of the INA226 is, with the shunt of 10 mOhm that the kernel takes when nobody says another."""

    def __init__(self, stub: StubBus) -> None:
        self.stub = stub
        load("ina2xx-adc", "mlx90614")
        self.measure(bus_v=12.0, shunt_v=0.0025, power_w=0.75, current_a=0.0625)
        self.warm_to(ambient_celsius=25.01, object_celsius=86.85)
        self._give(_METER, StubBus.meter)
        self._give(_THERMOMETER, StubBus.thermometer)

    @property
    def meter(self) -> Path:
        """The INA226's folder in /sys/bus/iio/devices."""
        return self._folder(_METER)

    @property
    def thermometer(self) -> Path:
        """The MLX90614's folder in /sys/bus/iio/devices."""
        return self._folder(_THERMOMETER)

    @property
    def node(self) -> str:
        """The node of the INA226's buffer."""
        return f"/dev/{self.meter.name}"

    def measure(self, *, bus_v: float, shunt_v: float, power_w: float, current_a: float) -> None:
        """Set what the INA226 measured, and that it has: its kernel thread asks for the flag at each conversion."""
        steps = (shunt_v / self.SHUNT_V, bus_v / self.BUS_V, power_w / self.POWER_W, current_a / self.CURRENT_A)
        for register, number in enumerate(steps, start=1):
            self.stub.write(StubBus.meter, register, round(number) & 0xFFFF, "big")
        self.stub.write(StubBus.meter, 6, 0x0008, "big")

    def warm_to(self, *, ambient_celsius: float, object_celsius: float) -> None:
        """Set what the MLX90614 measured, in steps of 0.02 K above absolute zero."""
        for register, celsius in ((6, ambient_celsius), (7, object_celsius)):
            self.stub.write(StubBus.thermometer, register, round((celsius + 273.15) / 0.02), "little")

    def fail(self) -> None:
        """The MLX90614 says that what it measured is no measurement: the highest bit."""
        self.stub.write(StubBus.thermometer, 6, 0x8000, "little")

    @contextmanager
    def meter_pulled(self) -> Iterator[None]:
        """While this lasts, the kernel does not have the INA226; its registers are the same after it."""
        (self.stub.folder / "delete_device").write_text(f"{StubBus.meter:#x}")
        try:
            yield
        finally:
            self._give(_METER, StubBus.meter)

    def _give(self, chip: str, address: int) -> None:
        (self.stub.folder / "new_device").write_text(f"{chip} {address:#x}")
        until(lambda: self._found(chip), f"the kernel has an IIO device {chip}")

    def _folder(self, chip: str) -> Path:
        found = self._found(chip)
        assert found is not None, f"there is no {chip}"
        return found

    @staticmethod
    def _found(chip: str) -> Path | None:
        every = Path("/sys/bus/iio/devices").glob("iio:device*")
        return next((path for path in every if (path / "name").read_text().strip() == chip), None)
