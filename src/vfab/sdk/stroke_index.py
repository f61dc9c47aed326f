"""Which end of which stroke is nearest: a k-d tree that strokes are taken out of one by one. Standard library only.

Importing a library's tree takes longer (scipy's 0.5 s) than sorting a usual drawing. Ends at the very same place are
one place of the tree, so that thousands of rays from one point cost no more than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import ceil, floor, inf, log2
from operator import itemgetter
from typing import Final

from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Point

__all__ = ["EndGrid", "EndTree"]

_LEAF: Final = 8
"""So many places are looked through one by one."""

_SAMPLE: Final = 128
"""About so many places say in which direction a node is halved, and where if it has _MANY."""
_MANY: Final = 1000

_Box = tuple[float, float, float, float]
_NOWHERE: Final[_Box] = (inf, inf, -inf, -inf)
"""The box of nothing: infinitely far from everywhere."""
_COORDINATE: Final = (itemgetter(0), itemgetter(1))
_NO_ENDS: Final[dict[int, Point]] = {}


class EndTree:
    """The ends of strokes that are not drawn yet.

    A search begins in the leaf around where it is asked for and climbs, as in J. L. Bentley, "K-d trees for
    semidynamic point sets" (1990): the next end is nearly always in that leaf or in the one beside it.

    Args:
        ends: start and end of each stroke; a stroke's number is its place in this sequence.
    """

    def __init__(self, ends: Sequence[tuple[Point, Point]]) -> None:
        self._ends = ends
        self._gone = bytearray(len(ends))
        self._heads: dict[Point, int] = {}
        """Of each place the end to take next: twice its stroke's number, and 1 more for the stroke's last point."""
        self._behind = [-1] * (2 * len(ends))
        """The next end at the same place, by end; the lowest number comes first."""
        for number in range(len(ends) - 1, -1, -1):
            start, stop = ends[number]
            if stop != start:
                self._behind[2 * number + 1] = self._heads.get(stop, -1)
                self._heads[stop] = 2 * number + 1
            self._behind[2 * number] = self._heads.get(start, -1)
            self._heads[start] = 2 * number
        self._leaf_of: dict[Point, int] = {}
        self._left = self._built = 0
        self._build(list(self._heads))

    def __len__(self) -> int:
        """How many places are left: 0 when all strokes are taken."""
        return self._left

    def _build(self, places: list[Point]) -> None:
        """Halve the places again and again: node 1 is the root, the halves of node n are 2n and 2n + 1."""
        self._left = self._built = len(places)
        depth = max(0, ceil(log2(max(1, len(places)) / _LEAF)))
        self._first_leaf = 1 << depth
        self._axes = bytearray(self._first_leaf)
        self._splits = [0.0] * self._first_leaf
        halves = [places]
        for level in range(depth):
            check_token()
            halves, whole = [], halves
            for node, here in enumerate(whole, 1 << level):
                self._axes[node], self._splits[node], lower, upper = _halved(here)
                halves += (lower, upper)
        self._leaves = halves
        for leaf, here in enumerate(halves):
            self._leaf_of.update(dict.fromkeys(here, leaf))
        self._boxes = [_NOWHERE] * self._first_leaf + [_box(here) for here in halves]
        for node in range(self._first_leaf - 1, 0, -1):
            (a, b, c, d), (e, f, g, h) = self._boxes[2 * node], self._boxes[2 * node + 1]
            self._boxes[node] = min(a, e), min(b, f), max(c, g), max(d, h)

    def take(self, number: int) -> None:
        """Take a stroke out."""
        self._gone[number] = True
        start, stop = self._ends[number]
        for place in (start, stop) if stop != start else (start,):
            end = self._heads[place]
            while end >= 0 and self._gone[end >> 1]:
                end = self._behind[end]
            self._heads[place] = end
            if end < 0:
                self._left -= 1
                leaf = self._leaf_of[place]
                self._leaves[leaf].remove(place)
                if not self._leaves[leaf]:
                    self._close(leaf + self._first_leaf)
        if 0 < self._left < self._built // 8:
            self._build([place for leaf in self._leaves for place in leaf])  # smaller, with boxes that are tight

    def _close(self, node: int) -> None:
        """Nothing is left in a node, nor perhaps in those above it: no search looks there again."""
        boxes = self._boxes
        boxes[node] = _NOWHERE
        while node > 1 and boxes[node ^ 1] is _NOWHERE:
            node >>= 1
            boxes[node] = _NOWHERE

    def nearest(self, here: Point) -> tuple[int, bool]:
        """The stroke with the end that is nearest to `here`, and whether that is its last point; there must be one."""
        end = self._heads[self._nearest_place(here)]
        return end >> 1, bool(end & 1)

    def _nearest_place(self, here: Point) -> Point:
        axes, splits, first_leaf = self._axes, self._splits, self._first_leaf
        node = 1
        while node < first_leaf:
            node += node + (here[axes[node]] >= splits[node])
        best, found = self._look(node, here, inf, here)
        while node > 1:
            beside = node ^ 1
            node >>= 1
            off = here[axes[node]] - splits[node]
            if off * off < best and self._boxes[beside] is not _NOWHERE:
                best, found = self._look(beside, here, best, found)
        return found

    def _look(self, node: int, here: Point, best: float, found: Point) -> tuple[float, Point]:
        """The nearest place below `node` and the square of its distance, if that is below `best`."""
        x, y = here
        boxes, leaves, first_leaf = self._boxes, self._leaves, self._first_leaf
        waiting = [(0.0, node)]
        while waiting:
            bound, node = waiting.pop()
            while bound < best:  # down the nearer side, the other one is kept for later
                if node >= first_leaf:
                    for place in leaves[node - first_leaf]:
                        dx, dy = place[0] - x, place[1] - y
                        away = dx * dx + dy * dy
                        if away < best:
                            best, found = away, place
                    break
                node += node
                left, top, right, bottom = boxes[node]
                dx = left - x if x < left else x - right if x > right else 0.0
                dy = top - y if y < top else y - bottom if y > bottom else 0.0
                bound = dx * dx + dy * dy
                left, top, right, bottom = boxes[node + 1]
                dx = left - x if x < left else x - right if x > right else 0.0
                dy = top - y if y < top else y - bottom if y > bottom else 0.0
                farther = dx * dx + dy * dy
                if farther < bound:
                    if bound < best:
                        waiting.append((bound, node))
                    node, bound = node + 1, farther
                elif farther < best:
                    waiting.append((farther, node + 1))
        return best, found


def _halved(places: list[Point]) -> tuple[int, float, list[Point], list[Point]]:
    """Places cut in two along the axis where they spread farther: axis (0 for x), where, those below, the others."""
    sample = places[:: 1 + len(places) // _SAMPLE]
    left, top, right, bottom = _box(sample)
    axis = int(bottom - top > right - left)
    coordinate = _COORDINATE[axis]
    if len(places) > _MANY:  # a guess at the middle does, where sorting for it would take far longer
        middle = sorted(map(coordinate, sample))[len(sample) // 2]
        lower = [place for place in places if place[axis] < middle]
        if len(places) // 3 < len(lower) < 2 * len(places) // 3:
            return axis, middle, lower, [place for place in places if place[axis] >= middle]
    places.sort(key=coordinate)
    half = len(places) // 2
    return axis, places[half][axis] if places else 0.0, places[:half], places[half:]


def _box(places: list[Point]) -> _Box:
    if not places:
        return _NOWHERE
    xs, ys = zip(*places, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


class EndGrid:
    """Ends of strokes in cells twice as large as the distance that is asked for, so that it reaches into four of them.

    Args:
        reach: no end farther than this is looked for, above 0.
        ends: (number, start, end) of each stroke.
    """

    def __init__(self, reach: float, ends: Iterable[tuple[int, Point, Point]]) -> None:
        self._reach = reach
        self._size = 2.0 * reach
        self._cells: dict[tuple[int, int], dict[int, Point]] = {}
        self._ends: dict[int, tuple[Point, Point]] = {}
        for number, start, stop in ends:
            self._ends[number] = start, stop
            self._cells.setdefault(self._cell(start), {})[2 * number] = start
            self._cells.setdefault(self._cell(stop), {})[2 * number + 1] = stop

    def _cell(self, place: Point) -> tuple[int, int]:
        return floor(place[0] / self._size), floor(place[1] / self._size)

    def take(self, number: int) -> None:
        """Take a stroke out."""
        start, stop = self._ends.pop(number)
        for key, place in ((2 * number, start), (2 * number + 1, stop)):
            cell = self._cell(place)
            ends = self._cells[cell]
            del ends[key]
            if not ends:
                del self._cells[cell]

    def __contains__(self, number: int) -> bool:
        return number in self._ends

    def nearest(self, here: Point) -> tuple[int, bool] | None:
        """The stroke with the end nearest to `here`, and whether that is its last point; None: none within reach."""
        across, down = here[0] / self._size, here[1] / self._size
        column, row = floor(across), floor(down)
        columns = (column, column + (1 if across - column >= 0.5 else -1))
        rows = (row, row + (1 if down - row >= 0.5 else -1))
        best, found = self._reach * self._reach, None
        for cell in product(columns, rows):
            for key, (x, y) in self._cells.get(cell, _NO_ENDS).items():
                away = (x - here[0]) ** 2 + (y - here[1]) ** 2
                if away < best or (away == best and (found is None or key < found)):
                    best, found = away, key
        return None if found is None else (found >> 1, bool(found & 1))
