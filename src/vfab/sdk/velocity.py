"""Motion planning: polylines become pieces of constant acceleration. Standard library only, pure.

The model is the one that plotter programs share: along the path the speed changes by at most the acceleration
limit; at a vertex it is limited by the *junction deviation* rule: the corner is taken as fast as an arc that leaves
the corner by at most `cornering_mm` could be taken with a centripetal acceleration of the same limit, v² = a·c·s/(1−s)
with s the cosine of half the turn (the rule grbl uses; S. Jeon, "Improving Grbl: Cornering Algorithm", 2011).
Under these limits the profile made by one pass forwards and one backwards is the fastest there is.

Units everywhere: millimetres, seconds. The origin is whatever the points' origin is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot, isfinite, sqrt
from typing import NamedTuple

from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.drawing import Point

__all__ = [
    "SAME_MM",
    "Block",
    "Limits",
    "Profile",
    "check_number",
    "junction_speed_mm_s",
    "plan_stroke",
    "simplified",
    "stroke_duration_s",
]

_STRAIGHT = 1e-9
"""A turn so small that 1−s is below this is no corner, and one so near a reversal that 1+cos is below it is one."""
SAME_MM = 1e-9
"""Points closer than this are one point."""
_PIECE_MM = 1e-9
"""Pieces shorter than this are what rounding left over, not motion."""
_MERGE_S = 0.01
"""Only segments shorter than this long at full speed are worth joining with their neighbours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a motion may do.

    Attributes:
        max_velocity_mm_s: highest speed along the path, mm/s, above 0.
        acceleration_mm_s2: highest change of speed along the path, mm/s², above 0.
        cornering_mm: junction deviation, mm, 0 and up. 0 means: stop at every corner.

    Raises:
        ConfigurationError: a value is not a number in its range.
    """

    max_velocity_mm_s: float = 50.0
    acceleration_mm_s2: float = 200.0
    cornering_mm: float = 0.127

    def __post_init__(self) -> None:
        for name, floor in (("max_velocity_mm_s", True), ("acceleration_mm_s2", True), ("cornering_mm", False)):
            check_number("Limits", name, getattr(self, name), above_zero=floor)


def check_number(owner: str, name: str, value: object, *, above_zero: bool) -> None:
    """Raise ConfigurationError unless the value is a finite number above 0, or at least 0."""
    good = isinstance(value, int | float) and isfinite(value) and (value > 0 or (value == 0 and not above_zero))
    if not good:
        wanted = "a number above 0" if above_zero else "a number, 0 or more"
        raise ConfigurationError(
            f"{owner}.{name} is {value!r}",
            context={"field": name, "value": repr(value)},
            remedy=f"Set {name} to {wanted}.",
        )


class Block(NamedTuple):
    """A straight piece with one acceleration: x(t) along the line is v0·t + a·t²/2.

    Attributes:
        x0_mm, y0_mm, x1_mm, y1_mm: where it starts and ends.
        length_mm: its length, above 0.
        v0_mm_s, v1_mm_s: speed at its start and end.
        acceleration_mm_s2: change of speed; negative while braking.
        duration_s: how long it takes, above 0.
        point: index of the input's point at or before which the piece's segment starts: where to go on from.
    """

    x0_mm: float
    y0_mm: float
    x1_mm: float
    y1_mm: float
    length_mm: float
    v0_mm_s: float
    v1_mm_s: float
    acceleration_mm_s2: float
    duration_s: float
    point: int


def junction_speed_mm_s(before: Point, corner: Point, after: Point, limits: Limits) -> float:
    """How fast a corner may be taken, mm/s: 0 at a reversal, full speed where there is no turn."""
    ux, uy, vx, vy = corner[0] - before[0], corner[1] - before[1], after[0] - corner[0], after[1] - corner[1]
    cosine = (ux * vx + uy * vy) / (hypot(ux, uy) * hypot(vx, vy))
    top = limits.max_velocity_mm_s
    return sqrt(_junction2(cosine, limits.acceleration_mm_s2 * limits.cornering_mm, top * top))


def _junction2(cosine: float, grip: float, top2: float) -> float:
    """Squared junction speed; `grip` is acceleration times cornering distance, `cosine` that of the turn."""
    if cosine <= _STRAIGHT - 1.0:
        return 0.0
    half = sqrt((1.0 + cosine) * 0.5)
    slack = 1.0 - half
    if slack < _STRAIGHT or grip * half >= top2 * slack:
        return top2
    return grip * half / slack


def simplified(points: Sequence[Point], tolerance_mm: float, reach_mm: float = float("inf")) -> list[int]:
    """The indices of the points to keep, so that no left-out point lies further than the tolerance from the line.

    One pass: from the last kept point a wedge holds all directions whose line passes every point since; a point
    outside the wedge, or one that comes back, ends it. Distinct points only are kept even for a tolerance of 0.

    Args:
        points: the polyline, at least one point.
        tolerance_mm: largest distance of a left-out point from the segment that replaces it.
        reach_mm: a kept segment that is already this long, and twice the tolerance, is not extended.

    Returns:
        Ascending indices; the first is 0 and, unless all points are one, the last stands for the last point.
    """
    if tolerance_mm <= SAME_MM:
        return _distinct(points)
    reach_mm = max(reach_mm, 2.0 * tolerance_mm)  # the spot around an anchor is always left
    kept = [0]
    ax, ay = points[0]
    last = 0  # the furthest point that the segment from the anchor may end at
    far = 0.0  # its distance
    wedge = False
    lx = ly = hx = hy = 0.0
    for index in range(1, len(points)):
        px, py = points[index]
        dx, dy = px - ax, py - ay
        distance = hypot(dx, dy)
        fits = far < reach_mm and distance >= far and (not wedge or (lx * dy >= ly * dx and dx * hy >= dy * hx))
        if not fits:
            if distance <= tolerance_mm and far <= tolerance_mm:
                continue  # still inside the spot around the anchor
            kept.append(last)
            ax, ay = points[last]
            dx, dy = px - ax, py - ay
            distance = hypot(dx, dy)
            wedge = False
        last, far = index, distance
        if tolerance_mm < distance < reach_mm:
            sine = tolerance_mm / distance
            cosine = sqrt(1.0 - sine * sine)
            qx, qy = dx * cosine + dy * sine, dy * cosine - dx * sine
            rx, ry = dx * cosine - dy * sine, dy * cosine + dx * sine
            if not wedge or lx * qy > ly * qx:
                lx, ly = qx, qy
            if not wedge or rx * hy > ry * hx:
                hx, hy = rx, ry
            wedge = True
    return _closed(kept, points)


def _distinct(points: Sequence[Point]) -> list[int]:
    kept = [0]
    x, y = points[0]
    for index, (px, py) in enumerate(points):
        if hypot(px - x, py - y) > SAME_MM:
            kept.append(index)
            x, y = px, py
    return kept


def _closed(kept: list[int], points: Sequence[Point]) -> list[int]:
    """`kept` with the last point added, unless it is the same place as the last kept one."""
    end = len(points) - 1
    x, y = points[kept[-1]]
    if hypot(points[end][0] - x, points[end][1] - y) > SAME_MM:
        kept.append(end)
    return kept


class Profile:
    """A planned polyline in arrays: the points kept, the lengths between them and the squared speeds at them.

    Raises:
        Refused: no point, or a coordinate that is not a finite number.
    """

    # Not a dataclass: there is one for every stroke of a drawing, and making it is timed.
    __slots__ = ("duration_s", "indices", "length_mm", "lengths", "limits", "points", "speeds2")

    def __init__(self, points: Sequence[Point], limits: Limits, tolerance_mm: float) -> None:
        if not points:
            raise Refused("A path without a point cannot be drawn", remedy="Leave empty paths out of the drawing.")
        if not isfinite(sum(map(sum, points))):
            raise Refused(
                "A path has a coordinate that is not a number, or is too large to be one",
                remedy="Check the drawing's transforms: every coordinate must be a finite number of millimetres.",
            )
        self.points = points
        self.limits = limits
        self.indices = simplified(points, tolerance_mm, limits.max_velocity_mm_s * _MERGE_S)
        self.lengths, self.speeds2 = _corners(points, self.indices, limits)
        _sweep(self.speeds2, self.lengths, 2.0 * limits.acceleration_mm_s2)
        self.length_mm = sum(self.lengths)
        self.duration_s = _duration(self.speeds2, self.lengths, limits)

    def blocks(self) -> Iterator[Block]:
        """The blocks, made one by one."""
        points, indices, speeds2 = self.points, self.indices, self.speeds2
        top, rate = self.limits.max_velocity_mm_s, self.limits.acceleration_mm_s2
        x0, y0 = points[indices[0]]
        enter2 = speeds2[0]
        for at, length in enumerate(self.lengths):
            leave2 = speeds2[at + 1]
            x1, y1 = points[indices[at + 1]]
            made = _pieces(length, enter2, leave2, top, rate)
            point = indices[at]
            if len(made) == 1:
                _, v0, v1 = made[0]
                yield Block(x0, y0, x1, y1, length, v0, v1, *_timing(length, v0, v1), point)
            else:
                yield from _laid((x0, y0), (x1, y1), length, made, point)
            x0, y0, enter2 = x1, y1, leave2


def _corners(points: Sequence[Point], indices: Sequence[int], limits: Limits) -> tuple[list[float], list[float]]:
    """Lengths between the kept points, and the squared speed that each of them allows; 0 at both ends.

    Where neighbours were left out, a kept vertex may be taken as fast as the input's own corner there allows, or the
    simplified one, whichever is more: leaving out what the machine cannot draw never makes it slower.
    """
    top2 = limits.max_velocity_mm_s**2
    grip = limits.acceleration_mm_s2 * limits.cornering_mm
    lengths: list[float] = []
    allowed: list[float] = [0.0]
    add_length, add_speed = lengths.append, allowed.append
    x0, y0 = points[0]
    ux = uy = 0.0
    before = middle = 0
    for index in indices[1:]:
        x1, y1 = points[index]
        dx, dy = x1 - x0, y1 - y0
        length = hypot(dx, dy)
        dx /= length
        dy /= length
        if lengths:
            # _junction2, written out: this loop sets how many segments a second are planned
            cosine = ux * dx + uy * dy
            if cosine > _STRAIGHT - 1.0:
                half = sqrt((1.0 + cosine) * 0.5)
                slack = 1.0 - half
                speed2 = top2 if slack < _STRAIGHT or grip * half >= top2 * slack else grip * half / slack
            else:
                speed2 = 0.0
            if speed2 < top2 and (index - middle > 1 or middle - before > 1):
                speed2 = max(speed2, _own_corner2(points, middle, grip, top2))
            add_speed(speed2)
            before = middle
        add_length(length)
        x0, y0, ux, uy, middle = x1, y1, dx, dy, index
    if lengths:
        add_speed(0.0)
    return lengths, allowed


def _own_corner2(points: Sequence[Point], index: int, grip: float, top2: float) -> float:
    """Squared junction speed of a vertex by its neighbours in the input, those that are the same point skipped."""
    x1, y1 = points[index]
    before, after, end = index - 1, index + 1, len(points) - 1
    while before > 0 and hypot(points[before][0] - x1, points[before][1] - y1) <= SAME_MM:
        before -= 1
    while after < end and hypot(points[after][0] - x1, points[after][1] - y1) <= SAME_MM:
        after += 1
    ux, uy, vx, vy = x1 - points[before][0], y1 - points[before][1], points[after][0] - x1, points[after][1] - y1
    product = hypot(ux, uy) * hypot(vx, vy)
    return _junction2((ux * vx + uy * vy) / product, grip, top2) if product > 0.0 else 0.0


def _sweep(speeds2: list[float], lengths: Sequence[float], twice: float) -> None:
    """Lower the squared speeds until each follows from both neighbours within the acceleration (`twice` is 2·a)."""
    here = speeds2[0]
    for at, length in enumerate(lengths, 1):
        reach = here + twice * length
        here = speeds2[at]
        if reach < here:
            speeds2[at] = here = reach
    for at in range(len(lengths) - 1, -1, -1):
        reach = here + twice * lengths[at]
        here = speeds2[at]
        if reach < here:
            speeds2[at] = here = reach


def _duration(speeds2: Sequence[float], lengths: Sequence[float], limits: Limits) -> float:
    """Seconds for all segments, without making blocks."""
    top, rate = limits.max_velocity_mm_s, limits.acceleration_mm_s2
    top2 = top * top
    total = 0.0
    enter2, enter = speeds2[0], sqrt(speeds2[0])
    for at, length in enumerate(lengths, 1):
        leave2 = speeds2[at]
        leave = sqrt(leave2)
        peak2 = rate * length + (enter2 + leave2) * 0.5
        if peak2 > top2:
            ramps = top2 - (enter2 + leave2) * 0.5
            total += (top + top - enter - leave) / rate + (length - ramps / rate) / top
        else:
            total += (2.0 * sqrt(peak2) - enter - leave) / rate
        enter2, enter = leave2, leave
    return total


def _pieces(length: float, enter2: float, leave2: float, top: float, rate: float) -> list[tuple[float, float, float]]:
    """One segment as (length, speed at start, speed at end): speeding up, cruising, braking, what there is of them."""
    enter, leave = sqrt(enter2), sqrt(leave2)
    peak2 = rate * length + (enter2 + leave2) * 0.5
    least = min(_PIECE_MM, length * 1e-6)
    if peak2 > top * top:
        rise, fall = (top * top - enter2) / (2.0 * rate), (top * top - leave2) / (2.0 * rate)
        peak = top
    else:
        rise, fall = (peak2 - enter2) / (2.0 * rate), (peak2 - leave2) / (2.0 * rate)
        peak = sqrt(peak2)
    rises, falls = rise > least, fall > least
    cruise = length - (rise if rises else 0.0) - (fall if falls else 0.0)
    cruises = cruise > least and peak2 > top * top
    made: list[tuple[float, float, float]] = []
    here = enter
    if rises:
        here = peak if cruises or falls else leave
        made.append((rise, enter, here))
    if cruises:
        made.append((cruise, here, peak if falls else leave))
        here = peak
    if falls:
        made.append((fall, here, leave))
    return made


def _timing(length: float, v0: float, v1: float) -> tuple[float, float]:
    """(acceleration, duration) of a piece."""
    return (v1 - v0) * (v1 + v0) / (2.0 * length), 2.0 * length / (v0 + v1)


def _laid(
    start: Point, end: Point, length: float, made: Sequence[tuple[float, float, float]], point: int
) -> Iterator[Block]:
    """Lay pieces one after the other on a line; the last one ends exactly where the line does."""
    (x0, y0), (xe, ye) = start, end
    ux, uy = (xe - x0) / length, (ye - y0) / length
    done = 0.0
    for piece, v0, v1 in made[:-1]:
        done += piece
        x1, y1 = start[0] + ux * done, start[1] + uy * done
        yield Block(x0, y0, x1, y1, piece, v0, v1, *_timing(piece, v0, v1), point)
        x0, y0 = x1, y1
    piece, v0, v1 = made[-1]
    yield Block(x0, y0, xe, ye, piece, v0, v1, *_timing(piece, v0, v1), point)


def plan_stroke(points: Sequence[Point], limits: Limits | None = None, *, simplify_mm: float = 0.0) -> list[Block]:
    """Plan one stroke, from rest to rest.

    Args:
        points: the polyline, at least one point, millimetres.
        limits: what the motion may do; the pen-down defaults if not given.
        simplify_mm: see `PlotProfile.simplify_mm`.

    Returns:
        The blocks in order; none for a dot. Each starts where, and as fast as, the one before it ends.

    Raises:
        Refused: no point, or a coordinate that is not a finite number.
    """
    return list(Profile(points, limits or Limits(), simplify_mm).blocks())


def stroke_duration_s(points: Sequence[Point], limits: Limits | None = None, *, simplify_mm: float = 0.0) -> float:
    """Seconds that `plan_stroke`'s blocks take together, without making them."""
    return Profile(points, limits or Limits(), simplify_mm).duration_s
