"""How far what the pen drew is from what it should have drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

from vfab.model.errors import Refused
from vfab.sdk.drawing import Point

__all__ = ["max_deviation_mm"]

_EXACT_MM: Final = 0.0005
"""The largest error of the result."""

_CHUNK: Final = 50_000
_ROUNDS_MAX: Final = 40


def max_deviation_mm(drawn: Iterable[Sequence[Point]], wanted: Iterable[Sequence[Point]]) -> float:
    """The largest distance between two sets of polylines, in millimetres: their Hausdorff distance.

    Looks both ways: no drawn point is farther than this from anything wanted (nothing was drawn beside it), and no
    wanted point is farther than this from anything drawn (nothing was left out). Every point of every segment
    counts, not its ends alone; order, direction and the number of strokes do not. Pen-up travel is not looked at.

    Args:
        drawn: polylines in millimetres; one of a single point is a dot.
        wanted: likewise.

    Returns:
        The distance, at most 0.0005 mm below the exact one and never above it; 0.0 when both are empty.

    Raises:
        Refused: one is empty and the other is not: no distance says how far that is.
    """
    ours, theirs = _segments(drawn), _segments(wanted)
    if not len(ours) and not len(theirs):
        return 0.0
    if not len(ours) or not len(theirs):
        empty = "what was drawn" if not len(ours) else "what was wanted"
        raise Refused(
            f"{empty} has no strokes, so there is no deviation to measure",
            context={"drawn_segments": len(ours), "wanted_segments": len(theirs)},
            remedy="Compare a drawing that has at least one stroke.",
        )
    there = _one_way(ours, theirs, 0.0)
    return max(there, _one_way(theirs, ours, there))


def _segments(lines: Iterable[Sequence[Point]]) -> Any:
    """An array (n, 2, 2) of distinct segments: index, end, x or y. A dot is a segment of no length."""
    import numpy as np

    flat: list[tuple[Point, Point]] = []
    for line in lines:
        flat.extend(pairwise(line))
        if len(line) == 1:
            flat.append((line[0], line[0]))
    # GEOS fails on lengths near the smallest float, so a millionth of a micrometre is the finest that counts.
    return np.array(flat, dtype=float).reshape(-1, 2, 2).round(9)


def _one_way(ours: Any, theirs: Any, known_mm: float) -> float:
    """The largest distance of any point of `ours` from `theirs`, at least `known_mm`.

    The distance to one straight segment is convex, so along a piece of ours it is largest at one of the piece's two
    ends. Measured to the segment that is nearest to an end, that bounds the distance to all of `theirs`. Pieces
    whose bound exceeds the largest distance found are halved until none is left.
    """
    import numpy as np
    import shapely

    tree = shapely.STRtree(shapely.linestrings(theirs))

    def nearest(points: Any) -> tuple[Any, Any]:
        chunks = [
            tree.query_nearest(shapely.points(points[i : i + _CHUNK]), return_distance=True, all_matches=False)
            for i in range(0, len(points), _CHUNK)
        ]
        return np.concatenate([pairs[1] for pairs, _ in chunks]), np.concatenate([found for _, found in chunks])

    starts, stops = ours[:, 0], ours[:, 1]
    (near_start, from_start), (near_stop, from_stop) = nearest(starts), nearest(stops)
    best = max(known_mm, float(from_start.max()), float(from_stop.max()))
    for _ in range(_ROUNDS_MAX):
        by_start = np.maximum(from_start, _distance(stops, theirs[near_start]))
        by_stop = np.maximum(from_stop, _distance(starts, theirs[near_stop]))
        slope = (from_start + from_stop + np.hypot(*(stops - starts).T)) / 2
        open_ = np.minimum(np.minimum(by_start, by_stop), slope) > best + _EXACT_MM
        if not open_.any():
            break
        starts, stops = starts[open_], stops[open_]
        middles = (starts + stops) / 2
        near_middle, from_middle = nearest(middles)
        best = max(best, float(from_middle.max()))
        starts, stops = np.concatenate([starts, middles]), np.concatenate([middles, stops])
        near_start = np.concatenate([near_start[open_], near_middle])
        near_stop = np.concatenate([near_middle, near_stop[open_]])
        from_start = np.concatenate([from_start[open_], from_middle])
        from_stop = np.concatenate([from_middle, from_stop[open_]])
    return best


def _distance(points: Any, segments: Any) -> Any:
    """How far each point is from the segment of the same index."""
    import numpy as np

    origin = segments[:, 0]
    along = segments[:, 1] - origin
    squared = (along * along).sum(axis=1)
    share = ((points - origin) * along).sum(axis=1) / np.where(squared > 0, squared, 1.0)
    return np.hypot(*(points - origin - np.clip(share, 0.0, 1.0)[:, None] * along).T)
