"""Fewer lifts and shorter pen-up travel: strokes joined and sorted within one layer, as vpype's commands do.

vpype's `linemerge` and `linesort` are loops around its `LineIndex`, whose import takes a second; they hand back arrays
that no longer know where they came from. These are the same loops around an index of ends, so that every stroke keeps
its elements. Orders of few strokes are improved by `stroke_tour`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import dist
from typing import Final

from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Point, Polyline
from vfab.sdk.stroke_index import EndGrid, EndTree
from vfab.sdk.stroke_tour import improved, travel_s

__all__ = ["FEW", "join", "link", "order", "travelled_s"]

FEW: Final = 300
"""With so many strokes it is worth while to try both: to join first and then sort, or to sort and join what touches."""
_CROWD: Final = 40
"""Where more ends than this meet, no strokes are joined: which of them are one line cannot be told."""
_TOLD_EVERY: Final = 256

Tell = Callable[[int, int], None]
"""Is given how many strokes are done, and how many there are."""


def _nobody(_done: int, _total: int) -> None: ...


def _watched(strokes: Iterable[int], total: int, tell: Tell) -> Iterator[int]:
    """The same; now and then it tells how far it has come, and raises when the call is cancelled."""
    for done, number in enumerate(strokes):
        if done % _TOLD_EVERY == 0:
            check_token()
            tell(done, total)
        yield number


def join(strokes: Sequence[Polyline], tolerance_mm: float, *, tell: Tell = _nobody) -> list[Polyline]:
    """Strokes of one layer, those joined whose ends lie within `tolerance_mm` of each other.

    A stroke may be drawn backwards for that. Closed strokes stay as they are. The bridge between two ends is drawn,
    so a point of the result may be half of `tolerance_mm` off. Every stroke stands where its first part stood.

    Raises Cancelled, TimeoutExceeded: nobody waits for the running call any more.
    """
    runs = _consecutive(strokes, tolerance_mm)
    if tolerance_mm <= 0:
        return runs
    crowded = _crowded(runs, tolerance_mm)
    free = [i for i, run in enumerate(runs) if not _closed(run) and len(run.points) > 1 and not crowded[i]]
    grid = EndGrid(tolerance_mm, ((i, runs[i].points[0], runs[i].points[-1]) for i in free))
    chains: dict[int, Polyline] = {}
    for first in _watched(free, len(free), tell):
        if first not in grid:
            continue
        grid.take(first)
        chain: deque[tuple[int, bool]] = deque([(first, False)])
        head, tail = _ends(runs[first], False)
        while True:
            found = grid.nearest(tail)
            if found is not None:
                grid.take(found[0])
                chain.append(found)
                tail = _ends(runs[found[0]], found[1])[1]
                continue
            found = grid.nearest(head)
            if found is None:
                break
            number, backward = found
            grid.take(number)
            chain.appendleft((number, not backward))
            head = _ends(runs[number], not backward)[0]
        chains[first] = _chained([_turned(runs[i]) if back else runs[i] for i, back in chain])
    taken = set(free)
    return [chains.get(i, run) for i, run in enumerate(runs) if i in chains or i not in taken]


def order(
    strokes: Sequence[Polyline], start: Point, *, home: Point | None = None, tell: Tell = _nobody
) -> list[Polyline]:
    """Strokes of one layer in the order of the shortest next travel, beginning from `start`; improved where few.

    A stroke may be drawn backwards; a closed one starts at whatever corner makes the travel to it and on shorter.

    Args:
        strokes: those of the layer.
        start: where the pen comes from.
        home: where it goes afterwards; None when that does not matter, or is not known.
        tell: is given how far it is.

    Raises Cancelled, TimeoutExceeded: nobody waits for the running call any more.
    """
    if len(strokes) < 2:
        return [_rolled(stroke, start, start) for stroke in strokes]
    ends = [(stroke.points[0], stroke.points[-1]) for stroke in strokes]
    tree = EndTree(ends)
    heads: list[int] = []
    here = start
    for _ in _watched(range(len(strokes)), len(strokes), tell):
        number, backward = tree.nearest(here)
        tree.take(number)
        heads.append(2 * number + backward)
        here = ends[number][not backward]
    found = _begun(strokes, heads, start, home)
    better = improved(ends, heads, start, home)
    if better != heads:
        other = _begun(strokes, better, start, home)
        if travelled_s(other, start, home) < travelled_s(found, start, home):
            return other
    return found


def _begun(strokes: Sequence[Polyline], heads: Sequence[int], start: Point, home: Point | None) -> list[Polyline]:
    """Strokes in an order, closed ones begun where it suits the one before and the one after."""
    found = [_turned(strokes[head >> 1]) if head & 1 else strokes[head >> 1] for head in heads]
    here = start
    for place, stroke in enumerate(found):
        onward = found[place + 1].points[0] if place + 1 < len(found) else home or here
        found[place] = _rolled(stroke, here, onward)
        here = found[place].points[-1]
    return found


def travelled_s(strokes: Sequence[Polyline], start: Point, home: Point | None) -> float:
    """Seconds of all travels and lifts, from `start` and on to `home` if that is known."""
    here, total_s = start, 0.0
    for stroke in strokes:
        total_s += travel_s(here, stroke.points[0])
        here = stroke.points[-1]
    return total_s if home is None else total_s + travel_s(here, home)


def link(strokes: Sequence[Polyline], tolerance_mm: float) -> list[Polyline]:
    """Strokes in their final order, those made one that begin within `tolerance_mm` of where the last one ended.

    After sorting that holds for much that `join` leaves alone: closed strokes, and strokes that meet in a crowd. The
    pen need not be lifted there, nor stand still.
    """
    runs: list[list[Polyline]] = []
    for stroke in strokes:
        if runs and dist(runs[-1][-1].points[-1], stroke.points[0]) <= tolerance_mm:
            runs[-1].append(stroke)
        else:
            runs.append([stroke])
    return [_chained(run) for run in runs]


def _consecutive(strokes: Sequence[Polyline], tolerance_mm: float) -> list[Polyline]:
    """Join what already follows end to start: most programs write their chains in order."""
    runs: list[list[Polyline]] = []
    for stroke in strokes:
        if runs and not _closed(stroke) and not _closed(runs[-1][-1]) and len(stroke.points) > 1:
            before = runs[-1]
            returned = len(before) > 1 and before[0].points[0] == before[-1].points[-1]
            near = dist(before[-1].points[-1], stroke.points[0]) <= tolerance_mm
            if near and len(before[-1].points) > 1 and not returned:
                before.append(stroke)
                continue
        runs.append([stroke])
    return [_chained(run) for run in runs]


def _crowded(strokes: Sequence[Polyline], tolerance_mm: float) -> list[bool]:
    def cell(point: Point) -> tuple[int, int]:
        return round(point[0] / (4 * tolerance_mm)), round(point[1] / (4 * tolerance_mm))

    ends = [(cell(stroke.points[0]), cell(stroke.points[-1])) for stroke in strokes]
    count = Counter(place for pair in ends for place in pair)
    return [count[a] > _CROWD or count[b] > _CROWD for a, b in ends]


def _closed(stroke: Polyline) -> bool:
    return stroke.points[0] == stroke.points[-1]


def _ends(stroke: Polyline, backward: bool) -> tuple[Point, Point]:
    first, last = stroke.points[0], stroke.points[-1]
    return (last, first) if backward else (first, last)


def _named(stroke: Polyline) -> tuple[tuple[int, str], ...]:
    return stroke.parts or ((0, stroke.element),)


def _turned(stroke: Polyline) -> Polyline:
    """The same stroke drawn from its other end."""
    points = tuple(reversed(stroke.points))
    if not stroke.parts:
        return Polyline(points, stroke.element, stroke.layer)  # a third of the time that `replace` takes
    stops = [first for first, _ in stroke.parts[1:]] + [len(points)]
    turned = [(len(points) - stop, name) for (_, name), stop in zip(stroke.parts, stops, strict=True)]
    return replace(stroke, points=points, parts=tuple(reversed(turned)))


def _chained(strokes: Sequence[Polyline]) -> Polyline:
    """One stroke of several, each beginning where the last one ended."""
    if len(strokes) == 1:
        return strokes[0]
    points: list[Point] = []
    parts: list[tuple[int, str]] = []
    for stroke in strokes:
        same = bool(points) and points[-1] == stroke.points[0]
        shift = len(points) - same
        for first, name in _named(stroke):
            if not parts or parts[-1][1] != name:
                parts.append((shift + first + (same and first == 0), name))
        points.extend(stroke.points[same:])
    names = list(dict.fromkeys(name for _, name in parts))
    label = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return Polyline(tuple(points), label, strokes[0].layer, tuple(parts) if len(names) > 1 else ())


def _rolled(stroke: Polyline, before: Point, after: Point) -> Polyline:
    """A closed stroke begun at the corner with the least travel from `before` and on to `after`."""
    if len(stroke.points) < 3 or not _closed(stroke) or stroke.parts:
        return stroke
    ring = stroke.points[:-1]
    best = min(range(len(ring)), key=lambda i: dist(before, ring[i]) + dist(ring[i], after))
    return replace(stroke, points=(*ring[best:], *ring[:best], ring[best])) if best else stroke
