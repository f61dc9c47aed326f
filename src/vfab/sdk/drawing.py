"""What a plotter draws: polylines in millimetres on a page. Plain data, standard library only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import hypot
from operator import itemgetter

__all__ = ["Drawing", "Point", "Polyline"]

Point = tuple[float, float]
"""(x, y) in millimetres from the page's top-left corner, y down."""


@dataclass(frozen=True, slots=True)
class Polyline:
    """One stroke of the pen: down at the first point, up at the last.

    Attributes:
        points: at least one point, millimetres from the page's top-left corner. One point alone is a dot.
        element: how the input names where this came from, for messages: `path#outline`, or `path (line 12)`.
        layer: the layer's number, 1 and up.
        parts: where several elements were joined into one stroke: (index of an element's first point, its name),
            indices rising, the first one 0. Empty when the whole stroke is `element`.
    """

    points: Sequence[Point]
    element: str = ""
    layer: int = 1
    parts: tuple[tuple[int, str], ...] = ()

    def element_at(self, index: int) -> str:
        """The name of the element that point `index` came from."""
        place = bisect_right(self.parts, index, key=itemgetter(0))
        return self.parts[place - 1][1] if place else self.element

    @property
    def length_mm(self) -> float:
        """Length of the stroke in millimetres."""
        return sum(hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(self.points))


@dataclass(frozen=True, slots=True)
class Drawing:
    """Strokes on a page, in the order in which they are drawn.

    Attributes:
        paths: the strokes.
        width_mm, height_mm: the page, in millimetres.
        tolerance_mm: how far the polylines may lie from the curves they stand for.
        source: the file's name, for messages.
        layer_names: what the file calls its layers, by number; a layer without a name is absent.
        warnings: what the file holds and the drawing does not (text, pictures, …): element, reason, remedy.
    """

    paths: Sequence[Polyline]
    width_mm: float
    height_mm: float
    tolerance_mm: float = 0.0
    source: str = ""
    layer_names: dict[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def segments(self) -> int:
        """How many straight segments there are; a dot counts as none."""
        return sum(len(path.points) - 1 for path in self.paths)

    @property
    def pen_down_mm(self) -> float:
        """Total length drawn, in millimetres."""
        return sum(path.length_mm for path in self.paths)

    def gaps(self, start: Point = (0.0, 0.0)) -> Iterator[tuple[Point, Point]]:
        """The pen-up travels: from `start` to the first stroke and from each stroke's end to the next one's start."""
        here = start
        for path in self.paths:
            yield here, path.points[0]
            here = path.points[-1]
