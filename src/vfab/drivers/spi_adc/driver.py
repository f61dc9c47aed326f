"""MCP3004/3008 and MCP3204/3208: converters of 10 and 12 bits with four or eight inputs.

The chip is sent a start bit, single-ended or differential, and the channel; its answer begins with a null bit. Sent so
that the answer ends with the third byte (datasheets, "Using the MCP3X0X with microcontroller SPI ports").

Sources: Microchip DS21295 (MCP3004/3008), DS21298 (MCP3204/3208).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, ProtocolError
from vfab.sdk.bus_sensor import BusSensorDriver
from vfab.sdk.sensor import Quantity, Sample
from vfab.sdk.spi import SpiBus, Transfers

__all__ = ["MODELS", "Channel", "Model", "SpiAdcDriver", "counts_of", "parse_channel", "request_of"]


@dataclass(frozen=True, slots=True)
class Model:
    """One kind of the chip: its `bits`, its `inputs`, its greatest errors in steps, and the datasheet."""

    bits: int
    inputs: int
    nonlinearity: float
    offset: float
    gain: float
    source: str

    @property
    def steps(self) -> int:
        """Steps of the whole range."""
        return 1 << self.bits

    @property
    def uncertainty_steps(self) -> float:
        """Standard uncertainty in steps: the greatest errors, and half a step, each taken as rectangular."""
        return math.sqrt((self.nonlinearity**2 + self.offset**2 + self.gain**2 + 0.25) / 3)


_10 = "Microchip DS21295: INL ±1, offset ±1.5, gain ±1 LSB"
_12 = "Microchip DS21298 (class C): INL ±2, offset ±3, gain ±5 LSB"
MODELS: Mapping[str, Model] = {
    "MCP3004": Model(10, 4, 1, 1.5, 1, _10),
    "MCP3008": Model(10, 8, 1, 1.5, 1, _10),
    "MCP3204": Model(12, 4, 2, 3, 5, _12),
    "MCP3208": Model(12, 8, 2, 3, 5, _12),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """An input against ground (`minus` is None), or against its neighbour."""

    name: str
    plus: int
    minus: int | None = None

    @property
    def selection(self) -> int:
        """The four bits that choose it: single-ended or not, and three of the channel (datasheets, table 5-2)."""
        return 0x8 | self.plus if self.minus is None else self.plus


def parse_channel(text: str) -> Channel:
    """`3`, `0-1`, `light=3`. Raises ConfigurationError: it is none."""
    match = re.fullmatch(r"(?:([a-z_][a-z0-9_]*)=)?([0-7])(?:-([0-7]))?", text)
    if match is None or (match[3] is not None and int(match[3]) != int(match[2]) ^ 1):
        raise ConfigurationError(
            f"{text!r} is no channel",
            context={"field": "channels", "found": text},
            remedy="Write 0 to 7, a pair such as 0-1 (plus and minus, neighbours), or with a name: light=3.",
        )
    plus, minus = int(match[2]), None if match[3] is None else int(match[3])
    return Channel(match[1] or (f"voltage{plus}" if minus is None else f"voltage{plus}_{minus}"), plus, minus)


def request_of(channel: Channel, bits: int) -> bytes:
    """The three bytes that ask for `channel`: start bit, selection, and room for the answer of `bits` bits."""
    asked = 0b1_0000 | channel.selection
    return (asked << (24 - 5 - (24 - bits - 7))).to_bytes(3, "big")


def counts_of(answer: bytes, bits: int) -> int:
    """The number in the chip's answer.

    Raises ProtocolError: the null bit before it is not 0: no chip drives the line.
    """
    value = int.from_bytes(answer, "big")
    if value >> bits & 1:
        raise ProtocolError(
            "no converter answers: the bit before its number is not 0",
            context={"answer": answer.hex()},
            remedy="Check wiring, supply, chip select and the setting `model`.",
        )
    return value & ((1 << bits) - 1)


class SpiAdcDriver(BusSensorDriver[Transfers]):
    """Measures voltages with an MCP3X0X."""

    interface: ClassVar[str] = "spi"
    bus_factory: ClassVar[Callable[..., Transfers]] = SpiBus
    """Makes the bus: (descriptor, mode=…, speed_hz=…)."""

    @property
    def model(self) -> Model:
        """The chip that the settings name."""
        return MODELS[self.config["model"]]

    @property
    def channels(self) -> list[Channel]:
        """What is measured. Raises ConfigurationError: the chip has no such input, or two have one name."""
        inputs = self.model.inputs
        given = self.config["channels"] or [str(number) for number in range(inputs)]
        channels = [parse_channel(text) for text in given]
        names = [channel.name for channel in channels]
        for text, channel in zip(given, channels, strict=True):
            if max(channel.plus, channel.minus or 0) >= inputs or names.count(channel.name) > 1:
                raise ConfigurationError(
                    f"{self.config['model']} cannot measure {text!r}",
                    context={"field": "channels", "found": text, "inputs": inputs},
                    remedy=f"Its inputs are 0 to {inputs - 1}; each channel has a name of its own.",
                )
        return channels

    def quantities(self) -> Sequence[Quantity]:
        """A voltage for each channel."""
        model, reference_v = self.model, float(self.config["reference_v"])
        step_v = reference_v / model.steps
        u = math.hypot(model.uncertainty_steps * step_v, float(self.config["reference_uncertainty_v"]))
        source = f"{model.source}, at {reference_v:g} V reference, rectangular"
        return [
            Quantity(
                name=channel.name,
                unit="V",
                uncertainty=u,
                uncertainty_source=source,
                resolution=step_v,
                minimum=0.0,
                maximum=reference_v,
            )
            for channel in self.channels
        ]

    def open_sensor(self) -> None:
        """Open the node, set mode and speed, convert once.

        Raises ProtocolError: no converter answers.
        """
        self.quantities()
        self.bus = self.open_bus(mode=self.config["mode"], speed_hz=self.config["speed_hz"])
        self.take_sample()

    def take_sample(self) -> Sample:
        """Convert every channel, one after another. A full scale is flagged: the voltage may be higher."""
        assert self.bus is not None
        model = self.model
        step_v = float(self.config["reference_v"]) / model.steps
        raw: dict[str, int] = {}
        for channel in self.channels:
            answer = self.bus.transfer(request_of(channel, model.bits))
            raw[channel.name] = counts_of(answer, model.bits)
        flags = ("full-scale",) if model.steps - 1 in raw.values() else ()
        return Sample({name: counts * step_v for name, counts in raw.items()}, raw=raw, flags=flags)

    def describe(self) -> dict[str, Any]:
        """Maker and model, from the settings: the chip has no identification."""
        chosen = {channel.name: [channel.plus, channel.minus] for channel in self.channels}
        details = {"bits": self.model.bits, "reference_v": self.config["reference_v"], "channels": chosen}
        return {"manufacturer": "Microchip", "model": self.config["model"], "details": details}
