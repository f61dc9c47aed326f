"""Follows the two motors on a simulated board, curves included."""

from __future__ import annotations

from itertools import pairwise
from math import hypot

from vfab.protocols.ebb import Axis
from vfab.sdk.ebb.geometry import Geometry, HBot
from vfab.sdk.ebb.steps import STEPS_PER_MM
from vfab.sdk.simulation import StrokeRecord

__all__ = ["Recording"]

CURVE_STEPS = 0.1
"""A curve is recorded as chords that leave it by no more than this many steps."""


class Recording(StrokeRecord):
    """Follows the pen. Positions come in as motor positions in 1/16 steps.

    Args:
        geometry: how the motors move the pen; by default an AxiDraw's H-bot.
    """

    def __init__(self, geometry: Geometry | None = None) -> None:
        self._geometry = geometry or HBot(STEPS_PER_MM)
        super().__init__(self._geometry.steps_per_mm)
        self._here = self._at(0, 0)

    def _at(self, motor1: float, motor2: float) -> tuple[float, float]:
        per = self.steps_per_mm
        x, y = self._geometry.point_of((motor1, motor2))
        return x * per, y * per

    def go(self, motor1: float, motor2: float) -> None:
        """The carriage goes straight to where the motors stand."""
        self.move(self._at(motor1, motor2))

    def trace(self, axes: tuple[Axis, Axis], base: tuple[int, int], scale: int, ticks: tuple[int, int]) -> None:
        """Follow a command from its tick number `ticks[0]` to `ticks[1]`.

        Args:
            axes: what each motor does.
            base: where the motors stood at the command's beginning, in 1/16 steps.
            scale: 1/16 steps a step; 0 for motors that are off.
            ticks: from and to.
        """
        begin, end = ticks
        if not scale or end <= begin:
            return
        one, two = axes
        stops = {begin, end}
        for axis in axes:
            stops.update(tick for tick in (axis.ticks, *axis.turns()) if begin < tick < end)
        for last, stop in pairwise(sorted(stops)):
            self._curve(axes, base, scale, (last, stop))
            if stop != end:
                self.go(*(at + scale * axis.exact(stop) for at, axis in zip(base, axes, strict=True)))
        self.go(base[0] + scale * one.steps(end), base[1] + scale * two.steps(end))

    def _curve(self, axes: tuple[Axis, Axis], base: tuple[int, int], scale: int, ticks: tuple[int, int]) -> None:
        begin, end = ticks
        middle = (begin + end) // 2
        if middle == begin or not any(axis.accel or axis.jerk or axis.wraps for axis in axes):
            return
        bend = 0.0
        for axis in axes:
            chord = (axis.exact(begin) + axis.exact(end)) / 2
            # rates change by less than one step a tick, so half a tick of rounding stays far below a step
            bend = max(bend, abs(axis.exact(middle) - chord))
        if bend * scale > CURVE_STEPS and not self._straight(axes, begin, end):
            self._curve(axes, base, scale, (begin, middle))
            self.go(*(at + scale * axis.exact(middle) for at, axis in zip(base, axes, strict=True)))
            self._curve(axes, base, scale, (middle, end))

    @staticmethod
    def _straight(axes: tuple[Axis, Axis], begin: int, end: int) -> bool:
        """Whether the path between two ticks is a straight line, however fast it is run through."""
        one, two = axes
        dx, dy = one.exact(end) - one.exact(begin), two.exact(end) - two.exact(begin)
        length = hypot(dx, dy)
        if length < CURVE_STEPS:
            return True
        for quarter in (1, 2, 3):
            tick = begin + (end - begin) * quarter // 4
            px, py = one.exact(tick) - one.exact(begin), two.exact(tick) - two.exact(begin)
            if abs(px * dy - py * dx) > CURVE_STEPS * length or not -0.5 <= px * dx + py * dy <= length * (
                length + 0.5
            ):
                return False
        return True
