"""A drawing's motion plan: travels, pen movements and strokes with exact times, made while it is being drawn.

How fast each piece goes is `vfab.sdk.velocity`'s part; its public names are here too. Millimetres and seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import hypot

from vfab.model.errors import Refused
from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.velocity import (
    SAME_MM,
    Block,
    Limits,
    Profile,
    check_number,
    junction_speed_mm_s,
    plan_stroke,
    simplified,
    stroke_duration_s,
)

__all__ = [
    "Block",
    "Limits",
    "Move",
    "PenDown",
    "PenUp",
    "Plan",
    "PlanStep",
    "PlotProfile",
    "Resume",
    "Stroke",
    "junction_speed_mm_s",
    "plan_drawing",
    "plan_stroke",
    "simplified",
    "stroke_duration_s",
]


@dataclass(frozen=True, slots=True)
class PlotProfile:
    """How a plotter draws: limits with the pen down and up, and the times its pen takes.

    Attributes:
        pen_down: limits while drawing.
        pen_up: limits while travelling; a travel is one straight line, so its cornering has no effect.
        pen_lift_s, pen_drop_s: how long the pen takes to rise and to fall; nothing else moves meanwhile.
        simplify_mm: vertices that lie within this distance of the line through their neighbours are left out, where
            the segments are short; 0 keeps every vertex, and it is never more than a quarter of the drawing's own
            tolerance. The default is 0.4 of an AxiDraw's motor steps.
        join_mm: a stroke that starts within this distance of the last one's end is drawn without lifting the pen.
        return_home: whether the plan ends with a travel to where it started.

    Raises:
        ConfigurationError: a value is not a number in its range.
    """

    pen_down: Limits = field(default_factory=Limits)
    pen_up: Limits = field(default_factory=lambda: Limits(200.0, 400.0, 0.0))
    pen_lift_s: float = 0.12
    pen_drop_s: float = 0.12
    simplify_mm: float = 0.005
    join_mm: float = 1e-6
    return_home: bool = True

    def __post_init__(self) -> None:
        for name in ("pen_lift_s", "pen_drop_s", "simplify_mm", "join_mm"):
            check_number("PlotProfile", name, getattr(self, name), above_zero=False)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an interrupted drawing goes on.

    Attributes:
        stroke: index of the stroke in the drawing; strokes before it are done.
        point: index of the last of its points that was reached (`Block.point`).
        at: where the pen really was, between that point and the next, in the drawing's millimetres; the point itself
            if not known.
    """

    stroke: int = 0
    point: int = 0
    at: Point | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A travel with the pen up. `stroke` is the one it leads to, or the number of strokes for the way home."""

    stroke: int
    start: Point
    end: Point
    length_mm: float
    duration_s: float
    _profile: Profile = field(repr=False, compare=False)

    def blocks(self) -> Iterator[Block]:
        """The constant-acceleration pieces."""
        return self._profile.blocks()


@dataclass(frozen=True, slots=True)
class PenDown:
    """The pen falls before `stroke`."""

    stroke: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class PenUp:
    """The pen rises after `stroke`."""

    stroke: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Stroke:
    """A polyline drawn with the pen down, from rest to rest.

    Attributes:
        stroke: its index in the drawing.
        first_point: index in the input of the stroke's first point; above 0 for the rest of an interrupted stroke.
        element, layer: as in the drawing.
        length_mm, duration_s: of the blocks together.
    """

    stroke: int
    first_point: int
    element: str
    layer: int
    length_mm: float
    duration_s: float
    _profile: Profile = field(repr=False, compare=False)

    def blocks(self) -> Iterator[Block]:
        """The constant-acceleration pieces; `Block.point` counts in the input's points."""
        made = self._profile.blocks()
        first = self.first_point
        return made if not first else (block._replace(point=block.point + first) for block in made)

    def corners(self) -> Iterator[tuple[Point, int]]:
        """The points between which it is straight, its first and last included, each with its index in the input.

        For machines that plan their speed by themselves.
        """
        made, first = self._profile, self.first_point
        return ((made.points[index], index + first) for index in made.indices)


PlanStep = Move | PenDown | Stroke | PenUp
"""What a plan consists of."""


@dataclass(frozen=True, slots=True)
class _Totals:
    duration_s: float
    pen_down_mm: float
    pen_up_mm: float
    lifts: int
    ends_s: array[float]


class Plan:
    """A drawing's motion in order: iterate to get Move, PenDown, Stroke and PenUp steps, planned one by one.

    Nothing is planned before it is asked for, so sending can begin at once and memory stays that of one stroke. The
    totals need one quick pass over the drawing, made when the first of them is read.

    Attributes:
        drawing, profile: what is drawn, and how.
        start: where the pen is, up, when the plan begins, in machine millimetres.
        origin: where the page's top-left corner lies, in machine millimetres; all of the plan is in those.
        resume: where the plan begins in the drawing.
    """

    __slots__ = ("_simplify_mm", "_totals", "drawing", "origin", "profile", "resume", "start")

    def __init__(self, drawing: Drawing, profile: PlotProfile, start: Point, origin: Point, resume: Resume) -> None:
        self.drawing = drawing
        self.profile = profile
        self.start = start
        self.origin = origin
        self.resume = resume
        self._simplify_mm = min(profile.simplify_mm, drawing.tolerance_mm / 4.0)
        self._totals: _Totals | None = None

    def __iter__(self) -> Iterator[PlanStep]:
        """The steps, in order; each call starts anew."""
        profile = self.profile
        here = self.start
        last = -1
        for number, first, path, points in self._strokes():
            gap = hypot(points[0][0] - here[0], points[0][1] - here[1])
            if last < 0 or gap > profile.join_mm:
                if last >= 0:
                    yield PenUp(last, profile.pen_lift_s)
                if gap > SAME_MM:
                    yield self._move(number, here, points[0])
                yield PenDown(number, profile.pen_drop_s)
            made = Profile(points, profile.pen_down, self._simplify_mm)
            yield Stroke(number, first, path.element, path.layer, made.length_mm, made.duration_s, made)
            here, last = points[-1], number
        if last >= 0:
            yield PenUp(last, profile.pen_lift_s)
        if profile.return_home and hypot(self.start[0] - here[0], self.start[1] - here[1]) > SAME_MM:
            yield self._move(len(self.drawing.paths), here, self.start)

    def _move(self, stroke: int, start: Point, end: Point) -> Move:
        made = Profile((start, end), self.profile.pen_up, 0.0)
        return Move(stroke, start, end, made.length_mm, made.duration_s, made)

    def _strokes(self) -> Iterator[tuple[int, int, Polyline, Sequence[Point]]]:
        """(index, index of its first point, stroke, its points in machine millimetres) of all that is left to draw."""
        resume, paths, (ox, oy) = self.resume, self.drawing.paths, self.origin
        for number in range(resume.stroke, len(paths)):
            path = paths[number]
            first = resume.point if number == resume.stroke else 0
            points = path.points[first:] if first else path.points
            if number == resume.stroke and resume.at is not None:
                points = [resume.at, *points[1:]]
            if ox or oy:
                points = [(x + ox, y + oy) for x, y in points]
            yield number, first, path, points

    def _sum(self) -> _Totals:
        if self._totals is None:
            clock = down = up = 0.0
            lifts = 0
            ends = array("d")
            for step in self:
                check_token()
                clock += step.duration_s
                if isinstance(step, Stroke):
                    down += step.length_mm
                    ends.append(clock)
                elif isinstance(step, Move):
                    up += step.length_mm
                elif isinstance(step, PenUp):
                    lifts += 1
            self._totals = _Totals(clock, down, up, lifts, ends)
        return self._totals

    @property
    def duration_s(self) -> float:
        """Seconds that all steps take together."""
        return self._sum().duration_s

    @property
    def pen_down_mm(self) -> float:
        """Length that is drawn."""
        return self._sum().pen_down_mm

    @property
    def pen_up_mm(self) -> float:
        """Length that is travelled with the pen up, the way home included."""
        return self._sum().pen_up_mm

    @property
    def lifts(self) -> int:
        """How often the pen rises."""
        return self._sum().lifts

    @property
    def segments(self) -> int:
        """How many straight segments are left to draw."""
        resume = self.resume
        left = sum(len(path.points) - 1 for path in self.drawing.paths[resume.stroke :])
        return left - (resume.point if left else 0)

    def stroke_end_s(self, stroke: int) -> float:
        """Seconds from the plan's beginning to the end of a stroke (its index in the drawing), before the pen rises."""
        at = stroke - self.resume.stroke
        return self._sum().ends_s[at] if at >= 0 else 0.0

    def remaining_s(self, stroke: int, done_s: float = 0.0) -> float:
        """Seconds left when all before `stroke` is done, and `done_s` seconds of its travel, pen and drawing."""
        ends = self._sum().ends_s
        at = min(stroke - self.resume.stroke, len(ends))
        before = ends[at - 1] if at > 0 else 0.0
        return max(0.0, self.duration_s - before - done_s)


def plan_drawing(
    drawing: Drawing,
    profile: PlotProfile | None = None,
    *,
    start: Point = (0.0, 0.0),
    origin: Point = (0.0, 0.0),
    resume: Resume | None = None,
) -> Plan:
    """Plan a drawing: travel, pen down, stroke, pen up, for each stroke in order, then home.

    Args:
        drawing: the strokes, in the order in which they are drawn.
        profile: limits and times; the defaults of an AxiDraw if not given.
        start: where the pen is, up, in machine millimetres; the plan ends there if the profile says so.
        origin: where the page's top-left corner lies, in machine millimetres.
        resume: where an interrupted drawing goes on; from its beginning if not given.

    Raises:
        Refused: `resume` names a stroke or point that the drawing does not have. A bad coordinate is refused when
            the steps or totals that need it are read.
    """
    where = resume or Resume()
    strokes = len(drawing.paths)
    fits = 0 <= where.stroke <= strokes and where.point >= 0
    if fits and where.stroke < strokes:
        fits = where.point < len(drawing.paths[where.stroke].points)
    if not fits:
        raise Refused(
            f"The drawing has no stroke {where.stroke} with a point {where.point}",
            context={"stroke": where.stroke, "point": where.point, "strokes": strokes},
            remedy="Resume with the file that was being plotted, unchanged; or start from its beginning.",
        )
    return Plan(drawing, profile or PlotProfile(), start, origin, where)
