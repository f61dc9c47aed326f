"""SVG path data → polylines that stay within a declared distance of the true curve.

A curve is cut into equal parameter steps, as many as its own second derivative asks for. The chord of a step `h`
leaves a curve by at most `h²/8 · max|p″|`; a Bézier's `p″` is bounded by the second differences of its control
points, an ellipse's by its longer half-axis. The bound is taken after the transform, in millimetres on the page,
so that it holds whatever the scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from math import acos, ceil, copysign, cos, hypot, isfinite, pi, radians, sin, sqrt
from typing import Final

from vfab.sdk.drawing import Point

__all__ = ["IDENTITY", "FarOut", "Matrix", "Pen", "parse_path", "times"]

Matrix = tuple[float, float, float, float, float, float]
"""SVG's (a, b, c, d, e, f): x′ = a·x + c·y + e, y′ = b·x + d·y + f."""

IDENTITY: Final[Matrix] = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_ARGUMENTS: Final = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
_COMMAND: Final = re.compile(r"[ \t\r\n\f]*([MmZzLlHhVvCcSsQqTtAa])")
_NUMBER: Final = re.compile(r"[ \t\r\n\f]*,?[ \t\r\n\f]*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_FLAG: Final = re.compile(r"[ \t\r\n\f]*,?[ \t\r\n\f]*([01])")
_END: Final = re.compile(r"[ \t\r\n\f]*\Z")
_STEPS_MAX: Final = 1_000_000
_FAR_MM: Final = 1e6


class FarOut(ValueError):
    """A coordinate is not a finite number, or lies more than a kilometre away."""


def times(outer: Matrix, inner: Matrix) -> Matrix:
    """The transform that does `inner` first, then `outer`."""
    a, b, c, d, e, f = outer
    g, h, i, j, k, m = inner
    return (a * g + c * h, b * g + d * h, a * i + c * j, b * i + d * j, a * k + c * m + e, b * k + d * m + f)


def parse_path(data: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The path's commands in order, repeated ones written out: `("M", (0.0, 0.0)), ("l", (5.0, 0.0)), ("z", ())`.

    Raises ValueError at the first error, after all that comes before it (SVG 2 §9.5.4: draw up to there); the
    message gives the position, counted in characters from 1.
    """
    here = 0
    while not _END.match(data, here):
        match = _COMMAND.match(data, here)
        if match is None:
            raise ValueError(f"character {here + 1}: {data[here : here + 12]!r} is not a path command")
        letter, here = match.group(1), match.end()
        if letter in "Zz":
            yield letter, ()
            continue
        again = letter
        while True:
            arguments, here = _arguments(data, here, letter)
            yield again, arguments
            again = {"M": "L", "m": "l"}.get(letter, letter)
            if _NUMBER.match(data, here) is None:
                break


def _arguments(data: str, here: int, letter: str) -> tuple[tuple[float, ...], int]:
    found: list[float] = []
    wanted = _ARGUMENTS[letter.upper()]
    while len(found) < wanted:
        pattern = _FLAG if wanted == 7 and len(found) in (3, 4) else _NUMBER
        match = pattern.match(data, here)
        if match is None:
            what = f"{data[here : here + 12]!r}" if data[here:].strip() else "the end"
            raise ValueError(f"character {here + 1}: {letter} takes {wanted} numbers, {what} follows {len(found)}")
        found.append(float(match.group(1)))
        here = match.end()
    return tuple(found), here


class Pen:
    """Follows drawing commands in user units and leaves polylines in millimetres in `strokes`.

    Args:
        matrix: user units → millimetres on the page.
        tolerance_mm: how far a polyline may lie from its curve.

    Attributes:
        strokes: the polylines; a stroke of no length is one point, a bare move leaves nothing.
    """

    def __init__(self, matrix: Matrix, tolerance_mm: float) -> None:
        self.strokes: list[list[Point]] = []
        self._matrix = matrix
        self._tolerance_mm = tolerance_mm
        self._points: list[Point] = []
        self._x = self._y = 0.0
        self._start = (0.0, 0.0)
        self._handle = (0.0, 0.0)
        self._last = ""

    def follow(self, commands: Iterable[tuple[str, Sequence[float]]]) -> None:
        """Draw path commands as `parse_path` gives them. What came before an error is kept.

        Raises ValueError: the path does not begin with a move. FarOut: a coordinate is not drawable.
        """
        for letter, arguments in commands:
            self._command(letter, arguments)

    def finish(self) -> list[list[Point]]:
        """End the last stroke; all strokes.

        Raises FarOut: a coordinate is not a finite number or absurdly far away.
        """
        self._lift()
        return self.strokes

    def polyline(self, points: Iterable[Point], *, closed: bool = False) -> None:
        """Draw straight lines from point to point, and back to the first when `closed`."""
        for index, (x, y) in enumerate(points):
            self._move(x, y) if index == 0 else self._line(x, y)
        if closed and self._points:
            self._close()

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> None:
        """Draw a whole ellipse, from its right-most point clockwise (SVG 2 §10.4)."""
        self._move(cx + rx, cy)
        self._sweep((cx, cy), (rx, 0.0), (0.0, ry), 0.0, 2 * pi)
        self._points[-1] = self._points[0]

    def arc_to(self, rx: float, ry: float, x: float, y: float) -> None:
        """Draw the short clockwise elliptical arc from here to (x, y)."""
        self._arc((rx, ry, 0.0, 0.0, 1.0), x, y)

    def line_to(self, x: float, y: float) -> None:
        """Draw a straight line from here to (x, y)."""
        self._line(x, y)

    def close(self) -> None:
        """Draw back to the stroke's first point and end it."""
        self._close()

    def _command(self, letter: str, arguments: Sequence[float]) -> None:
        name = letter.upper()
        if not self._last and name != "M":
            raise ValueError(f"character 1: a path begins with M or m, not {letter}")
        ox, oy = (self._x, self._y) if letter.islower() else (0.0, 0.0)
        pairs = [(ox + u, oy + v) for u, v in zip(arguments[::2], arguments[1::2], strict=False)]
        match name:
            case "M":
                self._move(*pairs[0])
            case "L":
                self._line(*pairs[0])
            case "H":
                self._line(ox + arguments[0], self._y)
            case "V":
                self._line(self._x, oy + arguments[0])
            case "C" | "S":
                self._cubic([self._reflected("CS"), *pairs] if name == "S" else pairs)
            case "Q" | "T":
                self._quadratic([self._reflected("QT"), *pairs] if name == "T" else pairs)
            case "A":
                self._arc(arguments[:5], ox + arguments[5], oy + arguments[6])
            case _:
                self._close()
        self._last = name

    def _place(self, x: float, y: float) -> Point:
        a, b, c, d, e, f = self._matrix
        return a * x + c * y + e, b * x + d * y + f

    def _lift(self) -> None:
        points, self._points = self._points, []
        if len(points) < 2:
            return
        if not all(isfinite(v) and abs(v) <= _FAR_MM for v in chain.from_iterable(points)):
            raise FarOut("a coordinate is not a finite number within a kilometre of the page")
        kept = points[:1]
        kept.extend(here for before, here in pairwise(points) if here != before)
        self.strokes.append(kept)

    def _down(self) -> None:
        if not self._points:
            self._points.append(self._place(self._x, self._y))

    def _move(self, x: float, y: float) -> None:
        self._lift()
        self._start = self._x, self._y = x, y
        self._down()

    def _line(self, x: float, y: float) -> None:
        self._down()
        self._points.append(self._place(x, y))
        self._x, self._y = x, y

    def _close(self) -> None:
        self._down()
        self._points.append(self._points[0])
        self._lift()
        self._x, self._y = self._start

    def _reflected(self, family: str) -> Point:
        """The first control point of a smooth curve: the last one mirrored, or the pen's place."""
        if self._last not in family or not self._last:
            return self._x, self._y
        return 2 * self._x - self._handle[0], 2 * self._y - self._handle[1]

    def _cubic(self, pairs: Sequence[Point]) -> None:
        self._down()
        p0, p1, p2, p3 = self._points[-1], *(self._place(x, y) for x, y in pairs)
        bend = max(_second_difference(p0, p1, p2), _second_difference(p1, p2, p3))
        steps = self._steps(6 * bend)
        for index in range(1, steps):
            t = index / steps
            s = 1 - t
            w0, w1, w2, w3 = s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t
            x = w0 * p0[0] + w1 * p1[0] + w2 * p2[0] + w3 * p3[0]
            self._points.append((x, w0 * p0[1] + w1 * p1[1] + w2 * p2[1] + w3 * p3[1]))
        self._points.append(p3)
        self._handle = pairs[1]
        self._x, self._y = pairs[2]

    def _quadratic(self, pairs: Sequence[Point]) -> None:
        self._down()
        p0, p1, p2 = self._points[-1], *(self._place(x, y) for x, y in pairs)
        steps = self._steps(2 * _second_difference(p0, p1, p2))
        for index in range(1, steps):
            t = index / steps
            s = 1 - t
            w0, w1, w2 = s * s, 2 * s * t, t * t
            self._points.append((w0 * p0[0] + w1 * p1[0] + w2 * p2[0], w0 * p0[1] + w1 * p1[1] + w2 * p2[1]))
        self._points.append(p2)
        self._handle = pairs[0]
        self._x, self._y = pairs[1]

    def _steps(self, second_derivative: float) -> int:
        """How many equal steps keep every chord within the tolerance."""
        wanted = sqrt(second_derivative / (8 * self._tolerance_mm))
        if not wanted <= _STEPS_MAX:
            raise FarOut(f"a curve would need more than {_STEPS_MAX} segments")
        return max(1, ceil(wanted))

    def _arc(self, shape: Sequence[float], x: float, y: float) -> None:
        """An elliptical arc from here to (x, y), by SVG 2 appendix B.2.4 and B.2.5."""
        rx, ry, turn, large, sweep = shape
        rx, ry = abs(rx), abs(ry)
        if (x, y) == (self._x, self._y):
            self._down()
            return
        if rx == 0 or ry == 0:
            self._line(x, y)
            return
        co, si = cos(radians(turn)), sin(radians(turn))
        hx, hy = (self._x - x) / 2, (self._y - y) / 2
        u, v = (co * hx + si * hy) / rx, (co * hy - si * hx) / ry
        size = u * u + v * v
        if size > 1:
            rx, ry, u, v = rx * sqrt(size), ry * sqrt(size), u / sqrt(size), v / sqrt(size)
            size = 1.0
        reach = sqrt(max(0.0, 1 / size - 1)) if isfinite(size) and size else 0.0
        reach = reach if bool(large) != bool(sweep) else -reach
        cu, cv = reach * v, -reach * u
        begin = _angle(u - cu, v - cv)
        swept = _angle(-u - cu, -v - cv) - begin
        if sweep and swept < 0:
            swept += 2 * pi
        elif not sweep and swept > 0:
            swept -= 2 * pi
        centre = (self._x + x) / 2 + co * rx * cu - si * ry * cv, (self._y + y) / 2 + si * rx * cu + co * ry * cv
        self._down()
        self._sweep(centre, (co * rx, si * rx), (-si * ry, co * ry), begin, swept)
        self._points[-1] = self._place(x, y)
        self._x, self._y = x, y

    def _sweep(self, centre: Point, u: Point, v: Point, begin: float, swept: float) -> None:
        """Append centre + u·cos + v·sin from just after angle `begin`, through `swept` radians."""
        a, b, c, d, _, _ = self._matrix
        ux, uy, vx, vy = a * u[0] + c * u[1], b * u[0] + d * u[1], a * v[0] + c * v[1], b * v[0] + d * v[1]
        cx, cy = self._place(*centre)
        longest = (hypot(ux + vy, uy - vx) + hypot(ux - vy, uy + vx)) / 2
        steps = max(self._steps(longest * swept * swept), ceil(abs(swept) / (pi / 2) - 1e-9))
        for index in range(1, steps + 1):
            angle = begin + swept * index / steps
            co, si = cos(angle), sin(angle)
            self._points.append((cx + ux * co + vx * si, cy + uy * co + vy * si))


def _second_difference(p: Point, q: Point, r: Point) -> float:
    return hypot(p[0] - 2 * q[0] + r[0], p[1] - 2 * q[1] + r[1])


def _angle(x: float, y: float) -> float:
    """The direction of (x, y) in radians, as SVG's formula has it."""
    length = hypot(x, y)
    return copysign(acos(max(-1.0, min(1.0, x / length))), y) if length else 0.0
