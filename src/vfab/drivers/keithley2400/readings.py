"""What the instrument answers to `:READ?`: five numbers a point (manual, `:FORMat:ELEMents`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vfab.model.errors import ProtocolError
from vfab.protocols.scpi import parse_numbers

__all__ = ["COMPLIANCE", "ELEMENTS", "Point", "points_of"]

ELEMENTS = ("VOLT", "CURR", "RES", "TIME", "STAT")
"""The elements in the order in which they always come."""
COMPLIANCE = 1 << 3
"""Bit of the status word: the source is in real compliance."""
RANGE_COMPLIANCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Point:
    """One reading. NaN where the instrument had none, infinity where the range was too small.

    Attributes:
        voltage, current, resistance: volts, amperes, ohms.
        time_s: of the instrument's own clock.
        status: its status word.
    """

    voltage: float
    current: float
    resistance: float
    time_s: float
    status: int

    @property
    def in_compliance(self) -> bool:
        """The source was at its limit, or at that of the measuring range: the level was not reached."""
        return bool(self.status & (COMPLIANCE | RANGE_COMPLIANCE))


def points_of(text: str) -> list[Point]:
    """The points of an answer. Raises ProtocolError: it has no multiple of five numbers."""
    numbers = parse_numbers(text)
    if not numbers or len(numbers) % len(ELEMENTS):
        raise ProtocolError(
            f"{len(numbers)} numbers came, which are no points of {len(ELEMENTS)} each",
            context={"answer": text[:200]},
        )
    groups = (numbers[at : at + len(ELEMENTS)] for at in range(0, len(numbers), len(ELEMENTS)))
    return [_point(*group) for group in groups]


def _point(volts: float, amperes: float, ohms: float, time_s: float, status: float) -> Point:
    return Point(volts, amperes, ohms, time_s, int(status) if math.isfinite(status) else 0)
