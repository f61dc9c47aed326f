"""Any chip on an I2C bus whose quantities stand in registers: which, and in what form, its profile says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from vfab.model.errors import ProtocolError
from vfab.sdk.bus_sensor import BusSensorDriver
from vfab.sdk.driver import Environment
from vfab.sdk.i2c import I2cBus, Registers, chip_address
from vfab.sdk.sensor import Quantity, Sample

from .profile import Profile, load_profile

__all__ = ["I2cSensorDriver"]


class I2cSensorDriver(BusSensorDriver[Registers]):
    """Reads a chip by its profile. Only the registers of the profile's `setup` are written."""

    interface: ClassVar[str] = "i2c"
    bus_factory: ClassVar[Callable[..., Registers]] = I2cBus
    """Makes the bus: (descriptor, chip's address, force=…)."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._profile: tuple[Any, Profile] | None = None

    @property
    def profile(self) -> Profile:
        """The profile that the settings name. Raises ConfigurationError."""
        key = (self.config["profile"], repr(self.config["registers"]))
        if self._profile is None or self._profile[0] != key:
            self._profile = (key, load_profile(self.config["profile"], self.config["registers"]))
        return self._profile[1]

    def quantities(self) -> Sequence[Quantity]:
        """What the profile says."""
        return [register.quantity() for register in self.profile.quantities]

    @property
    def _address(self) -> int:
        return chip_address(self.config, self.device, next(iter(self.profile.addresses), 0x48))

    def open_sensor(self) -> None:
        """Open the bus, identify the chip, set it up, read every register once.

        Raises DeviceNotFound: no chip answers. ProtocolError: it is another chip.
        """
        profile, address = self.profile, self._address
        bus = self.open_bus(address, force=bool(self.config["force"]))
        for check in profile.identify:
            found = int.from_bytes(bus.read(check.register, check.size), check.endian)
            mask = (1 << check.size * 8) - 1 if check.mask is None else check.mask
            if found & mask != check.equals & mask:
                raise ProtocolError(
                    f"the chip at 0x{address:02x} is no {profile.model}: register {check.register:#04x} is {found:#x}",
                    context={"chip_address": f"0x{address:02x}", "found": found, "expected": check.equals},
                    remedy="Check the settings `address` and `profile`; `i2cdetect -y N` shows who answers.",
                )
        for write in profile.setup:
            bus.write(write.register, write.value.to_bytes(write.size, write.endian))
        self.bus = bus
        self.take_sample()

    def take_sample(self) -> Sample:
        """Every register of the profile, one after another."""
        assert self.bus is not None
        values: dict[str, float] = {}
        raw: dict[str, int] = {}
        for register in self.profile.quantities:
            data = self.bus.read(register.register, register.size)
            values[register.name] = register.value(data)
            raw[register.name] = int.from_bytes(data, register.endian)
        return Sample(values, raw=raw)

    def describe(self) -> dict[str, Any]:
        """What the profile says."""
        profile = self.profile
        return {
            "manufacturer": profile.manufacturer,
            "model": profile.model,
            "details": {"chip_address": f"0x{self._address:02x}", "datasheet": profile.datasheet},
        }
