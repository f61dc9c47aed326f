"""Devices under test for the simulator: a resistor, a diode, a solar cell, with noise that a seed decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from vfab.model.errors import ConfigurationError

__all__ = ["DUTS", "Dut", "Noise", "dut_named"]

_THERMAL_V = 0.02585
"""kT/q at 300 K."""
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Dut:
    """One-diode model of what hangs between the terminals: a junction with a shunt, behind a series resistance.

    Attributes:
        series_ohm, shunt_ohm: 0 and infinity for none.
        saturation_a: of the junction; 0 for none.
        ideality: of the junction.
        photo_a: what light drives through it.
    """

    series_ohm: float = 0.0
    shunt_ohm: float = math.inf
    saturation_a: float = 0.0
    ideality: float = 1.0
    photo_a: float = 0.0

    def inner_current(self, junction_v: float) -> float:
        """Amperes through the junction at `junction_v` across it."""
        exponent = min(junction_v / (self.ideality * _THERMAL_V), 300.0)
        return self.saturation_a * math.expm1(exponent) + junction_v / self.shunt_ohm - self.photo_a

    def at_voltage(self, volts: float, lead_ohm: float = 0.0) -> float:
        """Amperes that flow when `volts` are at the end of the leads."""
        resistance = self.series_ohm + lead_ohm
        junction = _root(lambda v: v + self.inner_current(v) * resistance - volts, -abs(volts) - 10, abs(volts) + 10)
        return self.inner_current(junction)

    def at_current(self, amperes: float, lead_ohm: float = 0.0, limit_v: float = 2000.0) -> float:
        """Volts at the end of the leads when `amperes` flow; ±`limit_v` where it cannot be driven through."""
        if (self.inner_current(limit_v) - amperes) * (self.inner_current(-limit_v) - amperes) > 0:
            return math.copysign(limit_v, amperes - self.inner_current(0.0))
        junction = _root(lambda v: self.inner_current(v) - amperes, -limit_v, limit_v)
        return junction + amperes * (self.series_ohm + lead_ohm)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that grows is zero."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


DUTS = {
    "resistor": Dut(shunt_ohm=1000.0),
    "diode": Dut(series_ohm=0.6, shunt_ohm=1e9, saturation_a=2.5e-9, ideality=1.75),
    "solar": Dut(series_ohm=0.4, shunt_ohm=2000.0, saturation_a=1e-9, ideality=1.5, photo_a=0.03),
}
"""A 1 kΩ resistor, a 1N4148, a small solar cell in the sun."""


def dut_named(text: str) -> Dut:
    """The device of a name, or `resistor:OHMS`. Raises ConfigurationError."""
    name, _, value = text.partition(":")
    try:
        if name == "resistor" and value:
            ohms = float(value)
            if not 1e-3 <= ohms <= 1e12:
                raise ValueError
            return Dut(shunt_ohm=ohms)
        if not value:
            return DUTS[name]
        raise KeyError(name)
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"{text!r} is no device under test",
            context={"field": "dut", "value": text},
            remedy=f"Write one of {', '.join(DUTS)}, or resistor:OHMS.",
        ) from None


class Noise:
    """Gaussian noise of a source-meter: relative to the range, less with longer integration. `level` 0 is none."""

    def __init__(self, seed: int = 2400, level: float = 1.0) -> None:
        self._random = Random(seed)  # noqa: S311 — noise, no secret
        self._level = level

    def on(self, value: float, full_scale: float, nplc: float) -> float:
        """`value` with noise of some millionths of `full_scale`."""
        if not self._level:
            return value
        sigma = self._level * 2e-6 * full_scale / math.sqrt(max(nplc, 0.01))
        return value + self._random.gauss(0.0, sigma)
