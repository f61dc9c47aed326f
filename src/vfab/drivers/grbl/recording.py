"""Follows the carriage of a simulated machine, and its pen: a servo on the spindle output, or the Z axis."""

from __future__ import annotations

from vfab.protocols.grbl import Position
from vfab.sdk.simulation import StrokeRecord

__all__ = ["Recording"]

SERVO_DOWN_S = 250.0
"""From this spindle speed on the servo has the pen on the paper."""
UNITS_PER_MM = 100.0


class Recording(StrokeRecord):
    """What the pen draws, on a page whose top-left corner is machine position `corner`.

    Args:
        pen: `servo` or `z`.
        z_down_mm: with `z`, the pen touches the paper at and below this height.
        corner: machine position of the page's corner, mm.
        y_up: the machine's Y grows upwards on the page.
    """

    def __init__(
        self, pen: str = "servo", z_down_mm: float = 0.5, corner: tuple[float, float] = (0.0, 0.0), y_up: bool = True
    ) -> None:
        super().__init__(UNITS_PER_MM)
        self._pen, self._z_down_mm, self._corner, self._y_up = pen, z_down_mm, corner, y_up

    def go(self, at: Position) -> None:
        """The carriage goes straight to `at`, millimetres."""
        x, y = at[0] - self._corner[0], at[1] - self._corner[1]
        self.move((x * UNITS_PER_MM, (-y if self._y_up else y) * UNITS_PER_MM))
        if self._pen == "z":
            self.touch(at[2] <= self._z_down_mm)

    def tool(self, on: bool, speed: float) -> None:
        """The spindle output changes."""
        if self._pen == "servo":
            self.touch(on and speed >= SERVO_DOWN_S)
