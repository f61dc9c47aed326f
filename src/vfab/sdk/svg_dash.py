"""Dashes: the parts of a stroke that `stroke-dasharray` leaves (SVG 2 §13.5.6).

A pen has its own width and its own round tip, so line caps are not drawn. A dash of no length is all cap: with a round
or a square one it is a dot.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, count, pairwise
from math import fmod, hypot, isfinite, sqrt
from typing import Final, NamedTuple

from vfab.sdk.drawing import Point
from vfab.sdk.svg_path import Matrix
from vfab.sdk.svg_style import Measures, length_px

__all__ = ["CURVES_MM", "SOLID", "Dashes", "TooFine", "dashed", "dashes_of"]

CURVES_MM: Final = 0.0005
"""How far a polyline may lie from its curve where it is dashed. It is shorter than the curve, and where a dash lies
depends on all the length before it: at a radius of 1 mm, the last of 100 mm of dashes is 0.02 mm off."""

_SLIVER: Final = 1e-9
"""What is shorter than this share of the pattern, or of the stroke, is the rounding of a sum."""
_LENGTHS_MAX: Final = 256
"""Longer patterns are taken for mistakes: a long one costs as much for each of thousands of short strokes."""
_NAMES: Final = frozenset({"stroke-dasharray", "stroke-dashoffset", "stroke-linecap"})
_SPLIT: Final = re.compile(r"\s*,\s*|\s+")


class TooFine(ValueError):
    """So many dashes that they are more points than may be drawn."""


class _Length(NamedTuple):
    """A length in user units, or in per cent of the viewport's diagonal."""

    value: float
    percent: bool = False

    def resolved(self, whole: float) -> float:
        return self.value * whole / 100 if self.percent else self.value


class Dashes(NamedTuple):
    """What is said of an element's dashes; without lengths the stroke is solid.

    Attributes:
        lengths: dash, gap, dash, gap…
        offset: where in the pattern a stroke begins.
        capped: whether the line has caps, so that a dash of no length shows.
    """

    lengths: tuple[_Length, ...] = ()
    offset: _Length = _Length(0.0)
    capped: bool = False


SOLID: Final = Dashes()


def dashes_of(
    style: Mapping[str, str], outer: Dashes, measures: Measures, invalid: Callable[[str, str], None]
) -> Dashes:
    """What holds for an element with that style inside another one.

    Args:
        style: what is said about it by itself.
        outer: what holds outside: all three properties are inherited.
        measures: what relative units are relative to.
        invalid: is given name and value of what makes no sense, and counts as not given.
    """
    if _NAMES.isdisjoint(style):
        return outer
    lengths, offset, capped = outer.lengths, outer.offset, outer.capped
    for name in sorted(_NAMES):
        text = style.get(name, "inherit").strip().lower()
        if text in {"inherit", "unset", ""}:
            continue
        try:
            if name == "stroke-linecap":
                capped = text in {"round", "square"}
            elif name == "stroke-dashoffset":
                offset = _Length(0.0) if text == "initial" else _length(text, measures)
            else:
                lengths = () if text in {"none", "initial"} else _lengths(_SPLIT.split(text), measures)
        except ValueError:
            invalid(name, style[name])
    return Dashes(lengths, offset, capped)


def _lengths(words: list[str], measures: Measures) -> tuple[_Length, ...]:
    found = tuple(_length(word, measures) for word in words)
    if len(found) > _LENGTHS_MAX or any(length.value < 0 for length in found):
        raise ValueError("too many, or one below 0")
    return found


def _length(text: str, measures: Measures) -> _Length:
    percent = text.endswith("%")
    return _Length(length_px(text, 100.0, measures), percent)


def dashed(
    strokes: Sequence[list[Point]],
    dashes: Dashes,
    matrix: Matrix,
    view: tuple[float, float],
    *,
    path_length: float | None,
    points_max: int,
) -> list[list[Point]]:
    """The dashes of an element's strokes, each of which begins the pattern anew.

    Args:
        strokes: polylines in millimetres.
        dashes: what holds for the element.
        matrix: its user units → millimetres. Dashes are measured before it, so a stretched element has stretched ones.
        view: width and height of the viewport around it, in user units.
        path_length: how long the author says that all the strokes are together; None when nothing is said.
        points_max: how many points there may be.

    Raises TooFine: there would be more.
    """
    reached = [_reached(points, matrix) for points in strokes]
    scale = 1.0
    if path_length is not None:
        scale = sum(along[-1] for along in reached) / path_length if path_length else 0.0
    pattern = _pattern(dashes, sqrt((view[0] ** 2 + view[1] ** 2) / 2), scale)
    if pattern is None:
        return [*strokes]
    lengths, offset = pattern
    found: list[list[Point]] = []
    for points, along in zip(strokes, reached, strict=True):
        likely = len(lengths) * (along[-1] / sum(lengths) + 1) + len(points)
        if not likely <= points_max:
            raise TooFine
        points_max -= int(likely)
        found.extend(_cut(points, along, _spans(lengths, offset, along[-1]), dashes.capped))
    return found


def _pattern(dashes: Dashes, diagonal: float, scale: float) -> tuple[list[float], float] | None:
    """Dash, gap, dash, gap… and where in it a stroke begins; None when nothing is left out of it.

    A path length of 0 makes every length infinite, the first dash too (SVG 2 §9.6.1): `scale` is 0 then.
    """
    lengths = [length.resolved(diagonal) * scale for length in dashes.lengths]
    if len(lengths) % 2:
        lengths += lengths
    whole, gaps = sum(lengths), sum(lengths[1::2])
    offset = dashes.offset.resolved(diagonal) * scale
    if not (gaps > 0 and isfinite(whole) and isfinite(offset)):
        return None
    offset = fmod(offset, whole)
    return lengths, offset + whole if offset < 0 else offset


def _reached(points: Sequence[Point], matrix: Matrix) -> list[float]:
    """How far along a polyline each of its points is, in user units."""
    a, b, c, d, _, _ = matrix
    det = a * d - b * c
    steps = ((x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(points))
    return [*accumulate((hypot(d * x - c * y, a * y - b * x) / abs(det) for x, y in steps), initial=0.0)]


def _spans(lengths: Sequence[float], offset: float, whole: float) -> Iterator[tuple[float, float]]:
    """Where the dashes of a stroke of that length begin and end; one of no length begins and ends at the same place."""
    edges = [*accumulate(lengths, initial=0.0)]
    least = _SLIVER * min(edges[-1], whole)
    for turn in count():
        begin = turn * edges[-1] - offset
        for index in range(0, len(lengths), 2):
            start, stop = begin + edges[index], begin + edges[index + 1]
            if start >= whole - least:
                return
            if stop - start < least:
                if start > -least:
                    yield max(start, 0.0), max(start, 0.0)
            elif stop > least:
                yield max(start, 0.0), min(stop, whole)


def _cut(
    points: list[Point], reached: Sequence[float], spans: Iterator[tuple[float, float]], capped: bool
) -> list[list[Point]]:
    if len(points) == 1:
        return [points]

    def at(place: float) -> Point:
        index = bisect_right(reached, place) - 1
        if index + 1 >= len(points):
            return points[-1]
        (ax, ay), (bx, by) = points[index], points[index + 1]
        share = (place - reached[index]) / (reached[index + 1] - reached[index])
        return ax + (bx - ax) * share, ay + (by - ay) * share

    whole = reached[-1]
    parts: list[list[Point]] = []
    opens = closes = False
    for start, stop in spans:
        if start < stop:
            inner = points[bisect_right(reached, start) : bisect_left(reached, stop)]
            parts.append([at(start), *inner, at(stop)])
            opens, closes = opens or start == 0.0, stop == whole
        elif capped:
            parts.append([at(start)])
            closes = False
    if opens and closes and len(parts) > 1 and points[0] == points[-1]:
        last = parts.pop()  # of a closed stroke both are one line
        parts[0] = [*last, *parts[0][1:]]
    return parts
