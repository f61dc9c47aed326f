"""The simulated instrument: the 2400's settings, trigger model, source with compliance, and readings."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vfab.protocols.scpi import ScpiError

if TYPE_CHECKING or __package__:
    from .dut import Dut, Noise
    from .models import Model
else:
    from dut import Dut, Noise
    from models import Model

__all__ = ["ELEMENTS", "Event", "Reading", "Settings", "SourceMeter", "Status"]

ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
NAN = 9.91e37
OVERFLOW = 9.9e37
LEAD_OHM = 0.1
POINT_S = 0.0005
"""What a point takes beside delay and integration."""
LIST_MAX = 2500
OHMS_RANGES = (
    *((2e1, 1e-1), (2e2, 1e-2), (2e3, 1e-3), (2e4, 1e-4)),
    *((2e5, 1e-5), (2e6, 1e-6), (2e7, 1e-6), (2e8, 1e-7)),
)
"""Ohms at full scale, and the amperes that they are measured with."""
OUTPUT_OFF = (803, "Not permitted with OUTPUT off")
INTERLOCK = (802, "OUTPUT blocked by interlock")


class Status:
    """Bits of the status word of a reading (manual, :FORMat:ELEMents, STATus)."""

    OVERFLOW = 1 << 0
    FILTER = 1 << 1
    FRONT = 1 << 2
    COMPLIANCE = 1 << 3
    OVER_VOLTAGE = 1 << 4
    MEASURES_V = 1 << 11
    MEASURES_I = 1 << 12
    MEASURES_OHM = 1 << 13
    SOURCES_V = 1 << 14
    SOURCES_I = 1 << 15
    RANGE_COMPLIANCE = 1 << 16
    REMOTE_SENSE = 1 << 22


class Event:
    """Bits of the measurement event register (manual, section 15)."""

    READING = 1 << 6
    OVERFLOW = 1 << 7
    BUFFER_AVAILABLE = 1 << 8
    BUFFER_FULL = 1 << 9
    COMPLIANCE = 1 << 14


@dataclass(slots=True)
class Side:
    """What volts and amperes both have, as source and as measurement."""

    mode: str = "FIXed"
    level: float = 0.0
    start: float = 0.0
    stop: float = 0.0
    values: list[float] = field(default_factory=list)
    source_range: float | None = None
    sense_range: float | None = None
    nplc: float = 1.0
    protection: float = 0.0


@dataclass(slots=True)
class Settings:
    """Everything that `*RST` resets."""

    volts: Side
    amperes: Side
    source: str = "VOLTage"
    auto_ohms: bool = True
    """The instrument chooses the current with which it measures resistance."""
    functions: set[str] = field(default_factory=lambda: {"CURRent"})
    concurrent: bool = True
    four_wire: bool = False
    front: bool = True
    delay_s: float = 0.0
    auto_delay: bool = True
    auto_clear: bool = False
    spacing: str = "LINear"
    points: int = 2500
    direction: str = "UP"
    abort_on_compliance: str = "NEVer"
    trigger_count: int = 1
    arm_count: int = 1
    trigger_delay_s: float = 0.0
    arm_source: str = "IMMediate"
    arm_timer_s: float = 0.1
    trigger_source: str = "IMMediate"
    binary: bool = False
    swapped: bool = False
    elements: tuple[str, ...] = ELEMENTS
    over_voltage: float = 210.0

    @classmethod
    def of(cls, model: Model) -> Settings:
        """As after `*RST`."""
        volts = Side(protection=21.0 if model.max_v > 20 else model.max_v)
        return cls(volts, Side(protection=1.05e-4), over_voltage=model.max_v)


@dataclass(frozen=True, slots=True)
class Reading:
    """One point, as the instrument tells it."""

    volts: float
    amperes: float
    ohms: float
    time_s: float
    status: int


class SourceMeter:
    """The instrument, without its parser.

    Args:
        model: which one.
        dut: what hangs between its terminals.
        noise: on its readings.
        changed: told "output" and "idle" whenever the output switches or the trigger model comes to rest.
    """

    def __init__(
        self, model: Model, dut: Dut, noise: Noise, changed: Callable[[str], None] = lambda what: None
    ) -> None:
        self.model = model
        self.dut = dut
        self._noise = noise
        self._changed = changed
        self.line_hz = 50.0
        self.clock_s = 0.0
        self.output = False
        self.interlock_open = False
        self.settings = Settings.of(model)
        self.readings: list[Reading] = []
        self.taken = 0
        self.measurement_event = 0
        self.trace: list[Reading] = []
        self.trace_points = 100
        self.trace_feeds = False
        self.configured = "CURRent"
        self.on_reset: list[Callable[[], None]] = []

    def reset(self) -> None:
        """`*RST`."""
        self.settings = Settings.of(self.model)
        self.readings = []
        self.configured = "CURRent"
        self.trace_feeds = False
        for listener in self.on_reset:
            listener()
        self.switch(False)

    def switch(self, on: bool) -> None:
        """The output. Raises ScpiError +802: the interlock is open."""
        if on and self.interlock_open:
            raise ScpiError(*INTERLOCK)
        if on != self.output:
            self.output = on
            self._changed("output")

    # -- the trigger model --------------------------------------------------------------------------------------------

    def levels(self) -> list[float]:
        """What will be sourced, point by point, once triggered."""
        here = self.settings
        side = here.volts if here.source == "VOLTage" else here.amperes
        count = here.trigger_count * here.arm_count
        if side.mode == "SWEep":
            steps = self._swept(side)
        elif side.mode == "LIST":
            if not side.values:
                raise ScpiError(-221)
            steps = side.values
        else:
            steps = [side.level]
        return [steps[number % len(steps)] for number in range(count)]

    def _swept(self, side: Side) -> list[float]:
        here = self.settings
        last = here.points - 1
        if here.spacing == "LOGarithmic":
            if side.start == 0 or side.stop == 0 or side.start * side.stop < 0:
                raise ScpiError(-221)
            ratio = side.stop / side.start
            steps = [side.start * ratio ** (number / last) for number in range(here.points)]
        else:
            steps = [side.start + (side.stop - side.start) * number / last for number in range(here.points)]
        return steps[::-1] if here.direction == "DOWN" else steps

    def point_s(self) -> float:
        """Seconds that one point takes: delay, integration of each function, the rest."""
        here = self.settings
        nplc = max(here.volts.nplc, here.amperes.nplc)
        delay = 0.001 if here.auto_delay else here.delay_s
        least = here.arm_timer_s if here.arm_source == "TIMer" and here.trigger_count == 1 else 0.0
        return max(least, self._busy_s(delay, nplc))

    def _busy_s(self, delay: float, nplc: float) -> float:
        here = self.settings
        return here.trigger_delay_s + delay + max(1, len(here.functions)) * nplc / self.line_hz + POINT_S

    def begin(self) -> list[float]:
        """`:INITiate`: the levels to go through. Raises ScpiError: the output is off, or nothing can be swept."""
        levels = self.levels()
        if not self.output:
            if not self.settings.auto_clear:
                raise ScpiError(*OUTPUT_OFF)
            self.switch(True)
        self.readings = []
        return levels

    def take(self, level: float) -> bool:
        """One point. False: the sweep ends here, by `:SOURce:SWEep:CABort`."""
        reading = self.measured(level)
        self.clock_s += self.point_s()
        self.taken += 1
        in_compliance = bool(reading.status & Status.COMPLIANCE)
        when = self.settings.abort_on_compliance
        if in_compliance:
            self.measurement_event |= Event.COMPLIANCE
        if in_compliance and when == "EARLy":
            return False
        self.readings.append(reading)
        self.measurement_event |= Event.READING | (Event.OVERFLOW if reading.status & Status.OVERFLOW else 0)
        self._feed(reading)
        return not (in_compliance and when == "LATE")

    def _feed(self, reading: Reading) -> None:
        """Put it into the buffer, while that is being filled."""
        if not self.trace_feeds:
            return
        self.trace.append(reading)
        self.measurement_event |= Event.BUFFER_AVAILABLE if len(self.trace) >= 2 else 0
        if len(self.trace) >= self.trace_points:
            self.trace_feeds = False
            self.measurement_event |= Event.BUFFER_FULL

    def end(self) -> None:
        """Back to idle."""
        if self.settings.auto_clear:
            self.switch(False)
        self._changed("idle")

    # -- one reading --------------------------------------------------------------------------------------------------

    def measured(self, level: float) -> Reading:
        """What is read while `level` is sourced."""
        here = self.settings
        lead = 0.0 if here.four_wire else LEAD_OHM
        if here.auto_ohms and "RESistance" in here.functions:
            volts, amperes, limited = self._ohms_source(lead)
        elif here.source == "VOLTage":
            volts, amperes, limited = self._voltage_source(level, lead)
        else:
            volts, amperes, limited = self._current_source(level, lead)
        status = Status.FRONT if here.front else 0
        status |= Status.COMPLIANCE if limited else 0
        status |= Status.SOURCES_V if here.source == "VOLTage" else Status.SOURCES_I
        status |= Status.REMOTE_SENSE if here.four_wire else 0
        seen_v, full_v = self._seen(volts, here.volts, self.model.ranges_v, "VOLTage")
        seen_a, full_a = self._seen(amperes, here.amperes, self.model.ranges_a, "CURRent")
        if abs(seen_v) == OVERFLOW or abs(seen_a) == OVERFLOW:
            status |= Status.OVERFLOW
        ohms = NAN
        if "RESistance" in here.functions:
            status |= Status.MEASURES_OHM
            ohms = seen_v / seen_a if seen_a else OVERFLOW
        status |= Status.MEASURES_V if full_v else 0
        status |= Status.MEASURES_I if full_a else 0
        return Reading(seen_v, seen_a, ohms, self.clock_s, status)

    def _ohms_source(self, lead_ohm: float) -> tuple[float, float, bool]:
        """The test current of the lowest range that the resistance fits (manual, table 4-1)."""
        for full, amperes in OHMS_RANGES:
            volts = self.dut.at_current(amperes, lead_ohm)
            if abs(volts) <= full * amperes * 1.05:
                break
        limit = self.settings.volts.protection
        return math.copysign(min(abs(volts), limit), volts), amperes, abs(volts) > limit

    def _voltage_source(self, volts: float, lead_ohm: float) -> tuple[float, float, bool]:
        limit = self.settings.amperes.protection
        amperes = self.dut.at_voltage(volts, lead_ohm)
        if abs(amperes) <= limit:
            return volts, amperes, False
        amperes = math.copysign(limit, amperes)
        return self.dut.at_current(amperes, lead_ohm), amperes, True

    def _current_source(self, amperes: float, lead_ohm: float) -> tuple[float, float, bool]:
        limit = self.settings.volts.protection
        volts = self.dut.at_current(amperes, lead_ohm)
        if abs(volts) <= limit:
            return volts, amperes, False
        volts = math.copysign(limit, volts)
        return volts, self.dut.at_voltage(volts, lead_ohm), True

    def _seen(self, value: float, side: Side, ranges: tuple[float, ...], function: str) -> tuple[float, float]:
        """The reading and its full scale (0: this is the source's own setting, or nothing is measured)."""
        here = self.settings
        if function not in here.functions and "RESistance" not in here.functions:
            return (value if here.source == function else NAN), 0.0
        full = side.sense_range or next((item for item in ranges if abs(value) <= item * 1.05), ranges[-1])
        full = next((item for item in ranges if full <= item * 1.1), ranges[-1])
        if abs(value) > full * 1.1:
            return math.copysign(OVERFLOW, value), full
        return self._noise.on(value, full, side.nplc), full

    # -- telling ------------------------------------------------------------------------------------------------------

    def told(self, readings: list[Reading]) -> str | bytes:
        """Readings in the format that is set: text, or 32-bit floats in an indefinite block."""
        here = self.settings
        numbers = [
            value
            for reading in readings
            for element, value in zip(
                ELEMENTS,
                (reading.volts, reading.amperes, reading.ohms, reading.time_s, float(reading.status)),
                strict=True,
            )
            if element in here.elements
        ]
        if here.binary:
            return b"#0" + struct.pack(f"{'<' if here.swapped else '>'}{len(numbers)}f", *numbers)
        return ",".join(f"{number:+.6E}" for number in numbers)
