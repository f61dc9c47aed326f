"""Thresholds with hysteresis, and a beat that does not drift: decided here, acted on by the driver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Beat", "Threshold"]


@dataclass(slots=True)
class Threshold:
    """One limit of one quantity.

    Attributes:
        quantity: its name.
        level: in the quantity's unit.
        direction: `high` is crossed upwards, `low` downwards.
        hysteresis: how far back the value must go before it counts as back, in the unit; so that noise at the level
            does not ring.
        active: the value is beyond; None until a first value came.
    """

    quantity: str
    level: float
    direction: str = "high"
    hysteresis: float = 0.0
    active: bool | None = None

    def update(self, value: float) -> bool | None:
        """Take a value: True when it is beyond now and was not, False when it is back, None when nothing changed."""
        if math.isnan(value):
            return None
        beyond = value - self.level if self.direction == "high" else self.level - value
        before = self.active
        self.active = beyond >= 0 or (before is True and beyond > -self.hysteresis)
        if self.active == bool(before):
            return None
        return self.active

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        names = ("quantity", "level", "direction", "hysteresis", "active")
        return {name: getattr(self, name) for name in names}


class Beat:
    """Moments at whole periods after the first, whatever happens between them.

    Args:
        period_s: seconds between two.
        start_s: the first moment, by any clock that never goes back.

    Attributes:
        missed: moments that had passed before anybody was ready for them.
    """

    def __init__(self, period_s: float, start_s: float) -> None:
        self.period_s = period_s
        self.missed = 0
        self._start_s = start_s
        self._number = 0

    def wait_s(self, now_s: float) -> float:
        """Seconds from `now_s` to the next moment. Moments that have passed by more than a period are left out."""
        self._number += 1
        due = self._start_s + self._number * self.period_s
        if now_s - due >= self.period_s:
            late = math.floor((now_s - due) / self.period_s)
            self._number += late
            self.missed += late
            due = self._start_s + self._number * self.period_s
        return max(0.0, due - now_s)
