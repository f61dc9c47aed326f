"""What a clip path or a viewport lets through: strokes are cut where they leave it (css-masking 1 §7, SVG 2 §8.4).

Nearly all clips of real files are rectangles, turned perhaps: those are cut by plain arithmetic. Any other area is left
to GEOS, which is imported for it. Areas are grown by a trifle, so that what runs along an edge stays whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import dist, hypot
from typing import Any, Protocol

from vfab.sdk.drawing import Point

__all__ = ["CURVES_MM", "GROWN_MM", "Nothing", "Outline", "Region", "region_of"]

Outline = tuple[Sequence[Sequence[Point]], bool]
"""The rings of one shape, closed or not, and whether they are filled by the rule `evenodd`; otherwise by `nonzero`."""

GROWN_MM = 0.005
"""How far beyond its edge an area still lets a line through: less than half a motor step of an AxiDraw. It is the same
for every curve tolerance, so that no tolerance decides whether a line beside an edge is drawn."""

CURVES_MM = GROWN_MM / 2
"""How far a polyline may lie from its curve, for edges and for what is cut by them: both together stay within
`GROWN_MM`, so that a curve along a curved edge stays whole."""

_SAME_MM = 1e-7


class Region(Protocol):
    """An area on the page."""

    def cut(self, points: list[Point]) -> list[list[Point]]:
        """The parts of a polyline that lie within, in its own direction; all of it as it is when nothing is outside."""
        ...


@dataclass(frozen=True, slots=True)
class Nothing:
    """A clip path that lets nothing through."""

    def cut(self, points: list[Point]) -> list[list[Point]]:
        """No part."""
        del points
        return []


@dataclass(frozen=True, slots=True)
class _Convex:
    """A convex polygon: for each edge the outward normal (unit length) and how far along it the edge lies."""

    edges: tuple[tuple[float, float, float], ...]

    def cut(self, points: list[Point]) -> list[list[Point]]:
        if all(x * nx + y * ny <= reach for nx, ny, reach in self.edges for x, y in points):
            return [points]
        if len(points) == 1:
            return []
        parts: list[list[Point]] = []
        for start, stop in pairwise(points):
            span = self._span(start, stop)
            if span is not None:
                _append(parts, _between(start, stop, span[0]), _between(start, stop, span[1]))
        return parts

    def _span(self, start: Point, stop: Point) -> tuple[float, float] | None:
        """Which share of a segment is inside, from 0 to 1; None when nothing is."""
        first, last = 0.0, 1.0
        for nx, ny, reach in self.edges:
            here, there = start[0] * nx + start[1] * ny - reach, stop[0] * nx + stop[1] * ny - reach
            if here <= 0.0 and there <= 0.0:
                continue
            if here > 0.0 and there > 0.0:
                return None
            crossing = here / (here - there)
            if here > 0.0:
                first = max(first, crossing)
            else:
                last = min(last, crossing)
        return (first, last) if first < last else None


@dataclass(frozen=True, slots=True)
class _Area:
    """Any area, as GEOS has it."""

    shape: Any

    def cut(self, points: list[Point]) -> list[list[Point]]:
        import shapely

        if len(points) == 1:
            return [points] if self.shape.intersects(shapely.Point(points[0])) else []
        whole = shapely.LineString(points)
        if self.shape.covers(whole):
            return [points]
        if not self.shape.intersects(whole):
            return []
        parts: list[list[Point]] = []
        # segment by segment: cut as a whole, a line that crosses itself would come back in pieces of any order
        for start, stop in pairwise(points):
            left = shapely.intersection(shapely.LineString((start, stop)), self.shape)
            pieces = [
                piece.coords for piece in shapely.get_parts(left) if piece.geom_type == "LineString" and piece.length
            ]
            ends = [sorted((piece[0], piece[-1]), key=lambda end: dist(end, start)) for piece in pieces]
            for near, far in sorted(ends, key=lambda pair: dist(pair[0], start)):
                _append(parts, near, far)
        return parts


def _between(start: Point, stop: Point, share: float) -> Point:
    if share in {0.0, 1.0}:
        return stop if share else start
    return start[0] + (stop[0] - start[0]) * share, start[1] + (stop[1] - start[1]) * share


def _append(parts: list[list[Point]], start: Point, stop: Point) -> None:
    if start == stop:
        return
    if parts and dist(parts[-1][-1], start) <= _SAME_MM:
        parts[-1].append(stop)
    else:
        parts.append([start, stop])


def region_of(outlines: Iterable[Outline], grown_mm: float = GROWN_MM) -> Region:
    """The union of the areas that some shapes fill, grown on all sides; `Nothing` when they fill none."""
    shapes = [(rings, evenodd) for rings, evenodd in outlines if any(len(ring) > 2 for ring in rings)]
    if not shapes:
        return Nothing()
    if len(shapes) == 1:
        corners = _corners(shapes[0][0])
        convex = _convex(corners, grown_mm) if corners is not None else None
        if convex is not None:
            return convex
    return _Area(_area(shapes, grown_mm))


def _corners(rings: Sequence[Sequence[Point]]) -> list[Point] | None:
    """The corners of a single ring; None when there are several."""
    if len(rings) != 1:
        return None
    ring = list(rings[0])
    return ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring


def _convex(corners: list[Point], grown_mm: float) -> _Convex | None:
    """The polygon when it is convex and has few corners."""
    if not 3 <= len(corners) <= 8:
        return None
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*corners, corners[0]]))
    edges = []
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        length = hypot(bx - ax, by - ay)
        if length == 0.0:
            continue
        nx, ny = (by - ay) / length, (ax - bx) / length
        if area < 0:
            nx, ny = -nx, -ny
        reach = ax * nx + ay * ny
        if any(x * nx + y * ny > reach + 1e-9 for x, y in corners):
            return None
        edges.append((nx, ny, reach + grown_mm))
    return _Convex(tuple(edges)) if area else None


def _area(shapes: Sequence[Outline], grown_mm: float) -> Any:
    import shapely

    filled = [_filled([list(ring) for ring in rings if len(ring) > 2], evenodd) for rings, evenodd in shapes]
    made = shapely.union_all([shape for shape in filled if shape is not None]).buffer(grown_mm, join_style="mitre")
    shapely.prepare(made)
    return made


def _filled(rings: list[list[Point]], evenodd: bool) -> Any:
    """What a fill paints: the faces between all lines, those kept in which the winding number says so."""
    import shapely

    if not rings:
        return None
    closed = [ring if ring[0] == ring[-1] else [*ring, ring[0]] for ring in rings]
    lines = shapely.union_all(
        shapely.linestrings(closed[0]) if len(closed) == 1 else [*map(shapely.LineString, closed)]
    )
    faces = shapely.get_parts(shapely.polygonize([*shapely.get_parts(lines)]))
    kept = [face for face in faces if _inside(face.representative_point(), closed, evenodd)]
    return shapely.union_all(kept)


def _inside(place: Any, rings: list[list[Point]], evenodd: bool) -> bool:
    x, y = place.x, place.y
    winding = 0
    for ring in rings:
        for (ax, ay), (bx, by) in pairwise(ring):
            if (ay <= y) != (by <= y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
                winding += 1 if by > ay else -1
    return bool(winding % 2) if evenodd else winding != 0
