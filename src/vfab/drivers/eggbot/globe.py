"""The egg as a sphere: a page of 3200 × 800 steps, once around and a quarter turn from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, pi

from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.ebb import TwoAxes

__all__ = ["TURN_STEPS", "Globe"]

TURN_STEPS = 3200
"""A turn of a motor of 200 steps at 1/16 microstepping; both motors act on the egg without a gear."""
PAGE_STEPS = 800
"""How far the pen arm swings: 45 degrees of latitude to each side of the equator."""


@dataclass(frozen=True, slots=True)
class Globe:
    """An egg of a diameter. x is longitude, y latitude, both in millimetres at the equator.

    Attributes:
        diameter_mm: across the axis.
    """

    diameter_mm: float

    @property
    def width_mm(self) -> float:
        """Once around."""
        return pi * self.diameter_mm

    @property
    def height_mm(self) -> float:
        """From the upper to the lower end of the pen's way."""
        return self.width_mm * PAGE_STEPS / TURN_STEPS

    @property
    def steps_per_mm(self) -> float:
        """Of both motors, at the equator."""
        return TURN_STEPS / self.width_mm

    def geometry(self, egg_motor: int = 2, *, reverse_egg: bool = False, reverse_pen: bool = False) -> TwoAxes:
        """The motors; both are at 0 with the pen over the equator."""
        return TwoAxes(
            self.steps_per_mm,
            egg_motor,
            (0.0, self.height_mm / 2),
            -1 if reverse_egg else 1,
            -1 if reverse_pen else 1,
        )

    def turns(self, x_mm: float) -> int:
        """In which turn a longitude lies; 0 is the first."""
        return floor(x_mm / self.width_mm)

    @staticmethod
    def is_template(drawing: Drawing) -> bool:
        """Whether the page has the proportions of an egg's, four to one."""
        return abs(drawing.width_mm / drawing.height_mm * PAGE_STEPS / TURN_STEPS - 1.0) < 0.01

    def mapped(self, drawing: Drawing, *, whole_page: bool) -> Drawing:
        """`drawing` on the egg: the middle of its page is on the equator; its width is one turn, if so wanted."""
        scale = self.width_mm / drawing.width_mm if whole_page else 1.0
        down = (self.height_mm - drawing.height_mm * scale) / 2
        paths = [
            replace(path, points=[(x * scale, y * scale + down) for x, y in path.points]) for path in drawing.paths
        ]
        return replace(
            drawing,
            paths=paths,
            width_mm=self.width_mm,
            height_mm=self.height_mm,
            tolerance_mm=drawing.tolerance_mm * scale,
        )

    def wrapped(self, drawing: Drawing) -> Drawing:
        """Each stroke in the turn in which it begins nearest to where the last one ended."""
        here = 0.0
        paths: list[Polyline] = []
        for path in drawing.paths:
            shift = round((here - path.points[0][0]) / self.width_mm) * self.width_mm
            points = [(x + shift, y) for x, y in path.points]
            paths.append(replace(path, points=points))
            here = points[-1][0]
        return replace(drawing, paths=paths)

    def in_first_turn(self, points: Sequence[Point]) -> list[Point]:
        """A stroke moved by whole turns so that its leftmost point is in the first turn."""
        # a point that rounding left a hair before the seam is at the seam
        shift = self.turns(min(x for x, _ in points) + 1e-6) * self.width_mm
        return [(x - shift, y) for x, y in points]
