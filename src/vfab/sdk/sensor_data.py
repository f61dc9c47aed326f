"""What a sensor says: readings with units, uncertainties and times, and what is known about the sensor.

All of it is plain data on the wire: numbers, texts, lists and mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from vfab.model.errors import ConfigurationError
from vfab.sdk.ucum import unit_problem

__all__ = ["CalibrationResult", "Quantity", "ReadingStatus", "Sample", "SensorInfo", "SensorReading"]


class ReadingStatus(StrEnum):
    """How far a reading can be trusted; the words are OPC UA's (part 8, data quality)."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Quantity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One quantity that a sensor measures.

    Attributes:
        name: what it is called in readings: `temperature`.
        unit: UCUM code.
        uncertainty: standard uncertainty (GUM, coverage factor 1) in `unit`; None when it is not known.
        uncertainty_source: where that is from: `TI LM75B datasheet SNIS153D, accuracy ±2 Cel, taken as rectangular`.
        resolution: smallest step in `unit`; None when it is not known.
        minimum, maximum: range in `unit`; readings outside are flagged. None: no limit is known.
    """

    name: str
    unit: str
    uncertainty: float | None = None
    uncertainty_source: str = ""
    resolution: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        problem = unit_problem(self.unit)
        if problem:
            raise ConfigurationError(
                f"{self.unit!r} is not the unit of {self.name}",
                context={"field": "unit", "quantity": self.name, "found": self.unit},
                remedy=f"Units are UCUM codes: {problem}.",
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """What a driver measured, before calibration.

    Attributes:
        values: by quantity's name, in the quantity's unit. A quantity that could not be measured is left out.
        raw: as the device said it: registers, counts, sentences. Plain data.
        device_time_s: when the device measured, Unix seconds by its clock; None when it does not say.
        time_s: when it was measured by this machine's clock; None: now.
        status: what the device says of it.
        flags: what is remarkable about it: `no-fix`, `over-range`.
        uncertainties: those of this sample, by quantity, where they are not the quantity's own.
        uncertainty_source: where they are from; "" when from where the quantity's own is.
    """

    values: Mapping[str, float]
    raw: Any = None
    device_time_s: float | None = None
    time_s: float | None = None
    status: ReadingStatus = ReadingStatus.GOOD
    flags: tuple[str, ...] = ()
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    uncertainty_source: str = ""


class SensorReading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading (seed 000).

    Attributes:
        values: by quantity, calibrated, in `units`.
        units: UCUM code of each quantity.
        uncertainties: standard uncertainty (GUM, k = 1) of each quantity for which one is known, in its unit.
        uncertainty_source: where each is from.
        time_s: when it was taken, Unix seconds by this machine's clock.
        device_time_s: the same by the device's clock; None when it has none.
        sequence: counts the readings of this driver from 1.
        raw: as the device said it.
        status: good, uncertain or bad.
        flags: what is remarkable: `over-range`, `under-range`, `no-fix`, `calibration-unreadable` …
    """

    values: dict[str, float]
    units: dict[str, str]
    uncertainties: dict[str, float]
    uncertainty_source: dict[str, str]
    time_s: float
    device_time_s: float | None
    sequence: int
    raw: Any
    status: str
    flags: tuple[str, ...]

    def value(self, quantity: str | None = None) -> float:
        """The value of `quantity`, or of the only one.

        Raises ConfigurationError: it has several, or not that one.
        """
        if quantity is None and len(self.values) == 1:
            return next(iter(self.values.values()))
        if quantity in self.values:
            return self.values[quantity]
        raise ConfigurationError(
            f"the reading has no {quantity}" if quantity else "the reading has several quantities",
            context={"quantity": quantity, "known": sorted(self.values)},
            remedy=f"Name one of: {', '.join(sorted(self.values)) or 'none was measured'}.",
        )


class SensorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a sensor (seed 000).

    Attributes:
        interface: what it hangs on: `i2c`, `gpio`, `serial` …
        quantities: what it measures.
        calibrated: names of the quantities with a calibration of one's own.
        thresholds: the thresholds that are set, as `set_threshold` took them, with `active`.
        interrupts: events are enabled.
        details: what else the driver knows: registers, lines, receivers.
    """

    name: str
    manufacturer: str = ""
    model: str = ""
    serial_number: str = ""
    firmware: str = ""
    interface: str = ""
    address: str = ""
    quantities: tuple[Quantity, ...] = ()
    calibrated: tuple[str, ...] = ()
    thresholds: tuple[dict[str, Any], ...] = ()
    interrupts: bool = False
    details: dict[str, Any] = {}


class CalibrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a calibration came to (seed 000): a calibrated value is `gain * value + offset`.

    Attributes:
        success: it is in force.
        points: (measured, reference) that it rests on.
        stored: it was written to disk and lasts.
        message: what was done, for people.
    """

    success: bool
    quantity: str
    gain: float
    offset: float
    unit: str
    points: tuple[tuple[float, float], ...] = ()
    stored: bool = False
    time_s: float | None = None
    message: str = ""
