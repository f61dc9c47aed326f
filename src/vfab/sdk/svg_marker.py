"""Markers: what `marker-start` and its like put on a path's corners, where, and how it is turned (SVG 2 §13.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import atan2, cos, degrees, hypot, radians, sin, sqrt
from typing import Final, NamedTuple

from vfab.sdk.drawing import Point
from vfab.sdk.svg_path import Matrix, Pen, times
from vfab.sdk.svg_style import Measures, angle_deg, length_px
from vfab.sdk.svg_xml import Node

__all__ = [
    "MARKED",
    "NO_MARKERS",
    "Corner",
    "CornerPen",
    "Mark",
    "Markers",
    "markers_of",
    "marks",
    "placed",
    "reference_of",
    "turned_deg",
]

MARKED: Final = frozenset({"path", "line", "polyline", "polygon"})
"""Shapes that have corners; browsers put no markers on the others."""

_KINDS: Final = ("marker-start", "marker-mid", "marker-end")
_NAMES: Final = frozenset({*_KINDS, "stroke-width"})
_NEUTRAL: Final = frozenset({"inherit", "unset", ""})
_WORDS: Final = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}


class Markers(NamedTuple):
    """What is said of an element's markers, and of its stroke's width, by which they are scaled.

    Attributes:
        start, mid, end: what marks the first corner, those between, and the last; "none" or `url(#id)`.
        stroke_width: a length, or a percentage of the viewport's diagonal.
        percent: whether it is a percentage.
    """

    start: str = "none"
    mid: str = "none"
    end: str = "none"
    stroke_width: float = 1.0
    percent: bool = False

    def __bool__(self) -> bool:
        """Whether there are any."""
        return not self.start == self.mid == self.end == "none"

    def width(self, view: tuple[float, float]) -> float:
        """The stroke's width in user units, in a viewport of that size."""
        return self.stroke_width * hypot(*view) / sqrt(2) / 100 if self.percent else self.stroke_width


NO_MARKERS: Final = Markers()


def markers_of(
    style: Mapping[str, str], outer: Markers, measures: Measures, invalid: Callable[[str, str], None]
) -> Markers:
    """What holds for an element with that style inside another one; all of it is inherited.

    Args:
        style: what is said about it by itself.
        outer: what holds outside.
        measures: what relative units are relative to.
        invalid: is given name and value of what makes no sense, and counts as not given.
    """
    if _NAMES.isdisjoint(style):
        return outer
    said = [style.get(name, "inherit").strip() for name in _KINDS]
    start, mid, end = (
        before if text in _NEUTRAL else text if text.startswith("url(") else "none"
        for text, before in zip(said, outer[:3], strict=True)
    )
    width, percent = outer.stroke_width, outer.percent
    text = style.get("stroke-width", "inherit").strip()
    if text not in _NEUTRAL:
        try:
            found = 1.0 if text == "initial" else length_px(text, 100.0, measures)
            if found < 0:
                raise ValueError("a stroke of less than no width")
            width, percent = found, text.endswith("%")
        except ValueError:
            invalid("stroke-width", text)
    return Markers(start, mid, end, width, percent)


class Corner(NamedTuple):
    """A corner of a path: where it is, in user units, and in which direction the path goes through it, in degrees."""

    x: float
    y: float
    direction_deg: float


class Mark(NamedTuple):
    """A marker to be put on a corner: `url(#id)`, and whether it is the one for the first corner."""

    corner: Corner
    marker: str
    first: bool


def marks(corners: Sequence[Corner], markers: Markers) -> Iterator[Mark]:
    """What goes where, in the order of painting."""
    last = len(corners) - 1
    for index, corner in enumerate(corners):
        if index == 0 and markers.start != "none":
            yield Mark(corner, markers.start, True)
        if 0 < index < last and markers.mid != "none":
            yield Mark(corner, markers.mid, False)
        if index == last and markers.end != "none":
            yield Mark(corner, markers.end, False)


@dataclass(slots=True)
class _Subpath:
    """The segments since a move, each with its directions and its end; a direction of (0, 0) is none."""

    start: Point
    moved: bool = True
    closed: bool = False
    segments: list[tuple[Point, Point, Point]] = field(default_factory=list)


class CornerPen(Pen):
    """A pen that remembers the corners that it went through."""

    def __init__(self, matrix: Matrix, tolerance_mm: float) -> None:
        super().__init__(matrix, tolerance_mm)
        self._subpaths: list[_Subpath] = []

    def corners(self) -> list[Corner]:
        """All corners, in order."""
        return [corner for subpath in self._subpaths for corner in _corners(subpath)]

    def _move(self, x: float, y: float) -> None:
        super()._move(x, y)
        self._subpaths.append(_Subpath((x, y)))

    def _line(self, x: float, y: float) -> None:
        along = (x - self._x, y - self._y)
        self._remember(along, along, (x, y))
        super()._line(x, y)

    def _close(self) -> None:
        (x, y), here = self._start, (self._x, self._y)
        self._remember((x - here[0], y - here[1]), (x - here[0], y - here[1]), (x, y))
        self._subpaths[-1].closed = True
        super()._close()

    def _cubic(self, pairs: Sequence[Point]) -> None:
        self._bend([(self._x, self._y), *pairs])
        super()._cubic(pairs)

    def _quadratic(self, pairs: Sequence[Point]) -> None:
        self._bend([(self._x, self._y), *pairs])
        super()._quadratic(pairs)

    def _sweep(self, centre: Point, u: Point, v: Point, begin: float, swept: float) -> None:
        super()._sweep(centre, u, v, begin, swept)
        sign = 1.0 if swept >= 0 else -1.0
        first, last = (
            (sign * (v[0] * cos(a) - u[0] * sin(a)), sign * (v[1] * cos(a) - u[1] * sin(a)))
            for a in (begin, begin + swept)
        )
        co, si = cos(begin + swept), sin(begin + swept)
        self._remember(first, last, (centre[0] + u[0] * co + v[0] * si, centre[1] + u[1] * co + v[1] * si))

    def _bend(self, places: Sequence[Point]) -> None:
        """A Bézier's directions are those to and from the nearest control points that do not lie on its ends."""
        (x0, y0), (x1, y1) = places[0], places[-1]
        first = next(((x - x0, y - y0) for x, y in places if (x, y) != (x0, y0)), (0.0, 0.0))
        last = next(((x1 - x, y1 - y) for x, y in reversed(places) if (x, y) != (x1, y1)), (0.0, 0.0))
        self._remember(first, last, (x1, y1))

    def _remember(self, first: Point, last: Point, end: Point) -> None:
        if self._subpaths[-1].closed:
            self._subpaths.append(_Subpath((self._x, self._y), moved=False))
        self._subpaths[-1].segments.append((first, last, end))


def _corners(subpath: _Subpath) -> list[Corner]:
    segments = _directed(subpath.segments)
    places = [subpath.start, *(end for _, _, end in segments)]
    inward: list[Point | None] = [None, *(last for _, last, _ in segments)]
    outward: list[Point | None] = [*(first for first, _, _ in segments), None]
    if subpath.closed:
        inward[0], outward[-1] = inward[-1], outward[0]
    found = [Corner(x, y, _between_deg(a, b)) for (x, y), a, b in zip(places, inward, outward, strict=True)]
    return found if subpath.moved else found[1:]


def _directed(segments: list[tuple[Point, Point, Point]]) -> list[tuple[Point, Point, Point]]:
    """The same, but segments of no length go on in the direction before them, or else after them (SVG 2 §9.5.1)."""
    found, before = [], next((first for first, _, _ in segments if first != (0.0, 0.0)), (1.0, 0.0))
    for first, last, end in segments:
        begun = before if first == (0.0, 0.0) else first
        before = begun if last == (0.0, 0.0) else last
        found.append((begun, before, end))
    return found


def _between_deg(inward: Point | None, outward: Point | None) -> float:
    """Half way between two directions, on the side of the smaller turn."""
    known = [degrees(atan2(y, x)) for x, y in filter(None, (inward, outward))]
    if len(known) < 2:
        return known[0] if known else 0.0
    before, after = known
    return (before + after) / 2 + (180.0 if abs(before - after) > 180.0 else 0.0)


def turned_deg(orient: str, direction_deg: float, first: bool) -> float:
    """How far a marker with that `orient` is turned on a corner; one that makes no sense is 0."""
    words = orient.strip().lower()
    if words in {"auto", "auto-start-reverse"}:
        return direction_deg + (180.0 if first and words == "auto-start-reverse" else 0.0)
    try:
        return angle_deg(words)
    except ValueError:
        return 0.0


def placed(corner: Corner, turn_deg: float, scale: float, reference: Point) -> Matrix:
    """The transform from a marker's viewport into the user units of the element that is marked.

    Args:
        corner: where the marker is.
        turn_deg: how far it is turned.
        scale: how much larger it is.
        reference: the point of its viewport that lies on the corner.
    """
    co, si = scale * cos(radians(turn_deg)), scale * sin(radians(turn_deg))
    return times((co, si, -si, co, corner.x, corner.y), (1, 0, 0, 1, -reference[0], -reference[1]))


def reference_of(node: Node, size: Point, fitted: Matrix, measures: Measures) -> Point:
    """The point of a marker's viewport that `refX` and `refY` name in its content.

    Args:
        node: the <marker>.
        size: width and height of its content's coordinates.
        fitted: the content's coordinates → the viewport's.
        measures: what relative units are relative to.

    Raises ValueError: they name none.
    """
    said = (node.get(name, "0").strip() for name in ("refX", "refY"))
    x, y = (length_px(_WORDS.get(text, text), whole, measures) for text, whole in zip(said, size, strict=True))
    return fitted[0] * x + fitted[4], fitted[3] * y + fitted[5]
