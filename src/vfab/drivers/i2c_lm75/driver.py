"""LM75 thermometers: a temperature in a 16-bit register, left-aligned, and a comparator with an output.

Sources: TI LM75B/LM75C SNIS153D; NXP LM75B rev. 6.1; TI TMP75 SBOS288O, TMP102 SBOS397G, TMP175 SBOS288O; Maxim DS75
19-7508, DS1775 19-7509.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vfab.model.errors import ProtocolError, Refused
from vfab.sdk.bus_sensor import BusSensorDriver
from vfab.sdk.driver import command
from vfab.sdk.i2c import I2cBus, Registers, chip_address
from vfab.sdk.sensor import Quantity, Sample

__all__ = ["MODELS", "LM75Driver", "Model", "celsius", "register_of"]

TEMPERATURE, CONFIGURATION, HYSTERESIS, OVERTEMPERATURE = 0, 1, 2, 3
_SHUTDOWN = 0x01
_COLDEST, _HOTTEST = -55.0, 125.0


@dataclass(frozen=True, slots=True)
class Model:
    """One kind of the chip.

    Attributes:
        bits: of the temperature register that count.
        maker: who makes it.
        setup: bits to set in the configuration register for the full resolution.
        within, outside: greatest error, Cel, from -25 to `warm` Cel, and over the whole range.
        warm: up to where `within` holds, Cel.
        source: the datasheet.
    """

    bits: int
    maker: str
    source: str
    setup: int = 0
    within: float = 2.0
    outside: float = 3.0
    warm: float = 100.0

    @property
    def step(self) -> float:
        """Resolution, Cel."""
        return 2.0 ** (8 - self.bits)

    def uncertainty(self, value: float) -> float:
        """Standard uncertainty at `value`, Cel: the greatest error and the step, both taken as rectangular."""
        most = self.within if -25 <= value <= self.warm else self.outside
        return math.hypot(most / math.sqrt(3), self.step / math.sqrt(12))


_TMP75 = "TI TMP75/TMP175 datasheet SBOS288"
MODELS: Mapping[str, Model] = {
    "LM75": Model(9, "Texas Instruments", "TI LM75 datasheet SNIS153"),
    "LM75A": Model(11, "NXP", "NXP LM75A datasheet"),
    "LM75B": Model(11, "NXP", "NXP LM75B datasheet"),
    "TMP75": Model(12, "Texas Instruments", _TMP75, setup=0x60, warm=85.0),
    "TMP175": Model(12, "Texas Instruments", _TMP75, setup=0x60, within=1.5, outside=2.0, warm=85.0),
    "TMP102": Model(12, "Texas Instruments", "TI TMP102 datasheet SBOS397", warm=85.0),
    "DS75": Model(12, "Maxim", "Maxim DS75 datasheet 19-7508", setup=0x60),
    "DS1775": Model(12, "Maxim", "Maxim DS1775 datasheet 19-7509", setup=0x60, within=2.0, outside=3.0, warm=85.0),
}


def celsius(register: bytes, bits: int) -> float:
    """Degrees Celsius of a temperature register as it came over the wire; only the upper `bits` count."""
    value = int.from_bytes(register, "big", signed=True)
    return (value >> (16 - bits)) * 2.0 ** (8 - bits)


def register_of(value: float, bits: int = 9) -> bytes:
    """The temperature register nearest to `value` degrees Celsius."""
    counts = round(value * 2.0 ** (bits - 8))
    return (counts << (16 - bits)).to_bytes(2, "big", signed=True)


class LM75Driver(BusSensorDriver[Registers]):
    """Reads an LM75 or one of its kin. Nothing is written to the chip, except to wake it and for `write_limits`."""

    interface: ClassVar[str] = "i2c"
    bus_factory: ClassVar[Callable[..., Registers]] = I2cBus
    """Makes the bus: (descriptor, chip's address, force=…)."""

    @property
    def model(self) -> Model:
        """The chip that the settings name."""
        return MODELS[self.config["model"]]

    def quantities(self) -> Sequence[Quantity]:
        """The temperature."""
        model = self.model
        return (
            Quantity(
                name="temperature",
                unit="Cel",
                uncertainty=model.uncertainty(20.0),
                uncertainty_source=f"{model.source}: greatest error ±{model.within:g} Cel (±{model.outside:g} outside "
                f"-25 to {model.warm:g} Cel) and resolution {model.step:g} Cel, both rectangular",
                resolution=model.step,
                minimum=_COLDEST,
                maximum=_HOTTEST,
            ),
        )

    def open_sensor(self) -> None:
        """Open the bus, ask the chip, wake it.

        Raises DeviceNotFound: no chip answers. ProtocolError: what answers is no LM75.
        """
        address = chip_address(self.config, self.device, 0x48)
        bus = self.open_bus(address, force=bool(self.config["force"]))
        temperature = celsius(bus.read(TEMPERATURE, 2), self.model.bits)
        if not _COLDEST - 1 <= temperature <= _HOTTEST + 3:
            raise ProtocolError(
                f"the chip at 0x{address:02x} gives {temperature:g} Cel; that is no LM75",
                context={"chip_address": f"0x{address:02x}", "temperature": temperature},
                remedy="Check the settings `address` and `model`; `i2cdetect -y N` shows who answers.",
            )
        if self.config["model"] != "TMP102":  # its configuration has 16 bits, and it wakes up by itself
            self._wake(bus)
        self.bus = bus

    def _wake(self, bus: Registers) -> None:
        before = bus.read(CONFIGURATION, 1)[0]
        wanted = (before & ~_SHUTDOWN) | self.model.setup
        if wanted != before:
            bus.write(CONFIGURATION, bytes((wanted,)))
            self.log.info("configuration register of the chip: 0x%02x, was 0x%02x", wanted, before)

    def take_sample(self) -> Sample:
        """The temperature that the chip measured last; it measures ten times a second, or four."""
        assert self.bus is not None
        register = self.bus.read(TEMPERATURE, 2)
        value = celsius(register, self.model.bits)
        return Sample(
            {"temperature": value},
            raw=int.from_bytes(register, "big"),
            uncertainties={"temperature": self.model.uncertainty(value)},
        )

    @command(concurrent=True)
    def set_threshold(
        self, threshold: float, quantity: str | None = None, direction: str = "high", hysteresis: float = 0.0
    ) -> bool:
        """Watch a limit; with `write_limits` a high one goes to the chip, too, and its OS output switches by it.

        Raises Refused: the chip cannot hold it.
        """
        made = self._threshold(threshold, quantity, direction, hysteresis)
        if self.config["write_limits"] and direction == "high":
            back = made.level - made.hysteresis
            if not _COLDEST <= back <= made.level <= _HOTTEST:
                raise Refused(
                    f"the chip cannot watch {made.level:g} Cel, back at {back:g} Cel",
                    context={"threshold": made.level, "hysteresis": made.hysteresis},
                    remedy=f"It holds {_COLDEST:g} to {_HOTTEST:g} Cel.",
                )
            with self._sampling:
                if self.bus is not None:
                    self.bus.write(OVERTEMPERATURE, register_of(made.level))
                    self.bus.write(HYSTERESIS, register_of(back))
        return super().set_threshold(threshold, quantity, direction, hysteresis)

    def describe(self) -> dict[str, Any]:
        """Maker and model, from the settings: the chip has no identification."""
        address = chip_address(self.config, self.device, 0x48)
        return {
            "manufacturer": self.model.maker,
            "model": self.config["model"],
            "details": {"chip_address": f"0x{address:02x}", "bits": self.model.bits},
        }
