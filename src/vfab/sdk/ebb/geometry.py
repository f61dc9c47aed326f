"""How the two motors of an EiBotBoard move the pen: an H-bot (AxiDraw), or one motor an axis (EggBot)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vfab.sdk.drawing import Point

__all__ = ["Geometry", "HBot", "TwoAxes"]


class Geometry(Protocol):
    """A linear map between the page, millimetres, and the motors, steps."""

    @property
    def steps_per_mm(self) -> float:
        """Steps of a motor for a millimetre."""

    def exact(self, dx_mm: float, dy_mm: float) -> tuple[float, float]:
        """The motors' steps, not rounded, for a way on the page."""

    def steps_of(self, point: Point) -> tuple[int, int]:
        """The absolute positions (motor 1, motor 2) nearest to a point."""

    def point_of(self, steps: tuple[float, float]) -> Point:
        """The point at absolute motor positions."""


@dataclass(frozen=True, slots=True)
class HBot:
    """Motor 1 goes x + y and motor 2 goes x − y; both are 0 at the page's corner."""

    steps_per_mm: float

    def exact(self, dx_mm: float, dy_mm: float) -> tuple[float, float]:
        """See `Geometry`."""
        return (dx_mm + dy_mm) * self.steps_per_mm, (dx_mm - dy_mm) * self.steps_per_mm

    def steps_of(self, point: Point) -> tuple[int, int]:
        """See `Geometry`."""
        one, two = self.exact(*point)
        return round(one), round(two)

    def point_of(self, steps: tuple[float, float]) -> Point:
        """See `Geometry`."""
        one, two = steps
        return (one + two) / (2.0 * self.steps_per_mm), (one - two) / (2.0 * self.steps_per_mm)


@dataclass(frozen=True, slots=True)
class TwoAxes:
    """One motor moves along x, the other along y.

    Attributes:
        steps_per_mm: of both.
        x_motor: 1 or 2.
        zero: the point at which both motors are at 0.
        x_sign, y_sign: −1 where a motor turns the other way.
    """

    steps_per_mm: float
    x_motor: int = 2
    zero: Point = (0.0, 0.0)
    x_sign: int = 1
    y_sign: int = 1

    def exact(self, dx_mm: float, dy_mm: float) -> tuple[float, float]:
        """See `Geometry`."""
        x, y = dx_mm * self.steps_per_mm * self.x_sign, dy_mm * self.steps_per_mm * self.y_sign
        return (x, y) if self.x_motor == 1 else (y, x)

    def steps_of(self, point: Point) -> tuple[int, int]:
        """See `Geometry`."""
        one, two = self.exact(point[0] - self.zero[0], point[1] - self.zero[1])
        return round(one), round(two)

    def point_of(self, steps: tuple[float, float]) -> Point:
        """See `Geometry`."""
        x, y = steps if self.x_motor == 1 else (steps[1], steps[0])
        per = self.steps_per_mm
        return x / (per * self.x_sign) + self.zero[0], y / (per * self.y_sign) + self.zero[1]
