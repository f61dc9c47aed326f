"""A better order than that of the shortest next travel, for drawings of few strokes: 2-opt and or-opt moves.

The shortest next travel leaves long ones for the end; which of two such orders is shorter is chance where strokes are
few. Parts of the order are turned round, and single strokes put elsewhere, as long as that saves time (J. L. Bentley,
"Fast algorithms for geometric traveling salesman problems", 1992, with lists of near ends). How much is tried is
bounded by counting, never by a clock: the same drawing always has the same order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from math import hypot, sqrt
from typing import Final

from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Point

__all__ = ["STROKES_MAX", "improved", "travel_s"]

STROKES_MAX: Final = 3_000
"""With more strokes chance evens out, and trying would take longer than all the rest."""
_TRIES_MAX: Final = 200_000
"""So many changes are looked at, under half a second's work."""
_NEAR: Final = 6
_CELL: Final = 24
"""No more ends of one cell are looked at: thousands of rays may meet in a point."""
_SAVES_S: Final = 1e-6

_LIFT_S: Final = 0.24
_SPEED_MM_S: Final = 200.0
_ACCELERATION_MM_S2: Final = 400.0
"""What a travel costs is reckoned as for an AxiDraw (`PlotProfile`). Most travels never reach full speed, so that their
time goes with the root of their length: many short ones and a long one take less time than some in between."""


def travel_s(start: Point, stop: Point) -> float:
    """Seconds of a lift, a travel and a drop; none where two strokes touch."""
    away = hypot(stop[0] - start[0], stop[1] - start[1])
    if away < 1e-6:
        return 0.0
    if away < _SPEED_MM_S * _SPEED_MM_S / _ACCELERATION_MM_S2:
        return _LIFT_S + 2.0 * sqrt(away / _ACCELERATION_MM_S2)
    return _LIFT_S + away / _SPEED_MM_S + _SPEED_MM_S / _ACCELERATION_MM_S2


def improved(ends: Sequence[tuple[Point, Point]], heads: Sequence[int], start: Point, home: Point | None) -> list[int]:
    """An order that takes no longer than `heads`.

    Args:
        ends: first and last point of each stroke.
        heads: the strokes in order, each by the end that it begins with: twice its number, and 1 more for its last
            point.
        start: where the pen comes from.
        home: where it goes afterwards; None when that does not matter.
    """
    return _Tour(ends, heads, start, home).improved() if 1 < len(heads) <= STROKES_MAX else [*heads]


class _Tour:
    """An order of strokes. Gap `k` is the travel to the stroke at place `k`; the last one leads home."""

    def __init__(
        self, ends: Sequence[tuple[Point, Point]], heads: Sequence[int], start: Point, home: Point | None
    ) -> None:
        self._heads = [*heads]
        self._count = len(ends)
        self._points = [point for pair in ends for point in pair]
        self._start, self._home = start, home
        self._place = [0] * self._count
        self._note(0, self._count)
        self._near = _near(self._points)
        self._tries = 0

    def improved(self) -> list[int]:
        """Look at each stroke's travels, again where something changed, until nothing saves time any more."""
        waiting = deque(head >> 1 for head in self._heads)
        queued = bytearray(b"\1") * self._count
        while waiting and self._tries < _TRIES_MAX:
            check_token()
            stroke = waiting.popleft()
            queued[stroke] = False
            changed = self._try(self._place[stroke]) or self._try(self._place[stroke] + 1)
            for place in changed:
                for beside in (place - 1, place):
                    if 0 <= beside < self._count and not queued[other := self._heads[beside] >> 1]:
                        queued[other] = True
                        waiting.append(other)
        return self._heads

    def _try(self, gap: int) -> tuple[int, ...]:
        """Change the order around a travel so that it is shorter and all take less time; the gaps that changed."""
        before = self._heads[gap - 1] ^ 1 if gap else -1
        after = self._heads[gap] if gap < self._count else -1
        now_s = self._gap_s(gap)
        for end, onward in ((before, True), (after, False)):
            for other in self._near[end] if end >= 0 else ():
                new_s = travel_s(self._points[end], self._points[other])
                if new_s >= now_s:
                    break
                self._tries += 1
                changed = self._turn(gap, other, new_s - now_s, onward) or self._put(gap, other, new_s - now_s, onward)
                if changed:
                    return changed
        return ()

    def _turn(self, gap: int, other: int, saved_s: float, onward: bool) -> tuple[int, ...]:
        """Turn all between the gap and `other` round, which brings `other` to the gap, if that saves time."""
        place = self._place[other >> 1]
        if onward and place >= gap and self._heads[place] != other:
            first, last, far = gap, place, place + 1
            cost_s = self._between_s(self._after(gap), self._after(far))
        elif not onward and place < gap and self._heads[place] == other:
            first, last, far = place, gap - 1, place
            cost_s = self._between_s(self._before(place), self._before(gap))
        else:
            return ()
        if saved_s + cost_s - self._gap_s(far) > -_SAVES_S:
            return ()
        self._heads[first : last + 1] = [head ^ 1 for head in reversed(self._heads[first : last + 1])]
        self._note(first, last + 1)
        return first, last + 1

    def _put(self, gap: int, other: int, saved_s: float, onward: bool) -> tuple[int, ...]:
        """Put the stroke of `other` into the gap, with `other` at the end that was looked from, if that saves time."""
        place = self._place[other >> 1]
        if place in {gap, gap - 1}:
            return ()
        far = self._points[other ^ 1]
        rest_s = self._between_s(far, self._after(gap)) if onward else self._between_s(self._before(gap), far)
        closed_s = self._between_s(self._before(place), self._after(place + 1))
        if saved_s + rest_s + closed_s - self._gap_s(place) - self._gap_s(place + 1) > -_SAVES_S:
            return ()
        self._heads.pop(place)
        target = gap - (place < gap)
        self._heads.insert(target, other if onward else other ^ 1)
        self._note(min(place, target), max(place, target) + 1)
        return place, place + 1, target, target + 1

    def _note(self, first: int, stop: int) -> None:
        for place in range(first, stop):
            self._place[self._heads[place] >> 1] = place

    def _before(self, gap: int) -> Point:
        return self._points[self._heads[gap - 1] ^ 1] if gap else self._start

    def _after(self, gap: int) -> Point | None:
        return self._points[self._heads[gap]] if gap < self._count else self._home

    def _gap_s(self, gap: int) -> float:
        return self._between_s(self._before(gap), self._after(gap))

    @staticmethod
    def _between_s(start: Point | None, stop: Point | None) -> float:
        return 0.0 if start is None or stop is None else travel_s(start, stop)


def _near(points: Sequence[Point]) -> list[list[int]]:
    """For each end the nearest ends of other strokes, as far as they lie in the cells around it, nearest first."""
    xs, ys = zip(*points, strict=True)
    size = max(sqrt((max(xs) - min(xs)) * (max(ys) - min(ys)) / len(points)), (max(xs) - min(xs)) / len(points))
    size = max(size, (max(ys) - min(ys)) / len(points), 1e-9) * 1.5
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for end, (x, y) in enumerate(points):
        cells[int(x // size), int(y // size)].append(end)
    found = []
    for end, (x, y) in enumerate(points):
        column, row = int(x // size), int(y // size)
        around = [
            (hypot(points[other][0] - x, points[other][1] - y), other)
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            for other in cells.get((column + dx, row + dy), ())[:_CELL]
            if other >> 1 != end >> 1
        ]
        found.append([other for _, other in sorted(around)[:_NEAR]])
    return found
