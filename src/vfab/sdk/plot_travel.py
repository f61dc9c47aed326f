"""Motion that is no drawing: a single travel, and slowing down along the path when a job is to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil, sqrt

from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.motion import Move, Plan, PlanStep, PlotProfile, Resume
from vfab.sdk.velocity import SAME_MM, Block, Profile

__all__ = ["Brake", "TravelPlan"]

_REST_MM = 1e-6
"""What rounding leaves of a way."""


class TravelPlan(Plan):
    """A plan of one travel with the pen up.

    Args:
        start, end: in machine millimetres.
        profile: its pen-up limits count.
        stroke: what `Move.stroke` says: the number of strokes when all of a drawing is done.
    """

    __slots__ = ("end", "stroke")

    def __init__(self, start: Point, end: Point, profile: PlotProfile, stroke: int = 0) -> None:
        super().__init__(Drawing([], 1.0, 1.0), profile, start, (0.0, 0.0), Resume(stroke))
        self.end = end
        self.stroke = stroke

    def __iter__(self) -> Iterator[PlanStep]:
        """The travel; nothing when it leads nowhere."""
        made = Profile((self.start, self.end), self.profile.pen_up, 0.0)
        if made.length_mm > SAME_MM:
            yield Move(self.stroke, self.start, self.end, made.length_mm, made.duration_s, made)


class Brake:
    """Passes a stroke's blocks on, cut short; when asked to stop, lets the speed fall to 0 along the same path.

    The plan never goes faster than it could still brake from, so slowing down by the same acceleration is always
    within its limits, corners included.

    Args:
        blocks: from rest to rest.
        deceleration_mm_s2: how fast the speed falls.
        stop: asked before each block.
        longest_s: blocks that last longer are cut evenly, so that `stop` is asked often enough.

    Attributes:
        halted: the block within, or before, which it came to rest; None when it went to the end.
    """

    def __init__(
        self, blocks: Iterable[Block], deceleration_mm_s2: float, stop: Callable[[], bool], longest_s: float
    ) -> None:
        self._blocks = blocks
        self._rate = deceleration_mm_s2
        self._stop = stop
        self._longest_s = longest_s
        self.halted: Block | None = None

    def __iter__(self) -> Iterator[Block]:
        """The blocks, until the end or until it stands still."""
        speed: float | None = None
        blocks = _cut(self._blocks, self._longest_s)
        for block in blocks:
            if speed is None:
                if not self._stop():
                    yield block
                    continue
                speed = block.v0_mm_s
            left2 = speed * speed - 2.0 * self._rate * block.length_mm
            if left2 > 0.0 and block.v1_mm_s > 0.0:
                leave = min(sqrt(left2), block.v1_mm_s)
                yield _slowed(block, block.length_mm, speed, leave)
                speed = leave
                continue
            length = min(block.length_mm, speed * speed / (2.0 * self._rate))
            if length > SAME_MM:
                yield _slowed(block, length, speed, 0.0)
            at_end = block.length_mm - length < _REST_MM and next(blocks, None) is None
            self.halted = None if at_end else block
            return


def _slowed(block: Block, length: float, speed: float, leave: float) -> Block:
    share = length / block.length_mm
    return block._replace(
        x1_mm=block.x0_mm + (block.x1_mm - block.x0_mm) * share,
        y1_mm=block.y0_mm + (block.y1_mm - block.y0_mm) * share,
        length_mm=length,
        v0_mm_s=speed,
        v1_mm_s=leave,
        acceleration_mm_s2=(leave - speed) * (leave + speed) / (2.0 * length),
        duration_s=2.0 * length / (speed + leave),
    )


def _cut(blocks: Iterable[Block], longest_s: float) -> Iterator[Block]:
    """Blocks that last too long, cut into pieces of equal time."""
    for block in blocks:
        parts = ceil(block.duration_s / longest_s)
        if parts < 2:
            yield block
            continue
        dx, dy = block.x1_mm - block.x0_mm, block.y1_mm - block.y0_mm
        each, rate = block.duration_s / parts, block.acceleration_mm_s2
        x0, y0, gone, speed = block.x0_mm, block.y0_mm, 0.0, block.v0_mm_s
        for part in range(1, parts):
            upto = each * part
            leave = block.v0_mm_s + rate * upto
            length = min(block.length_mm, (block.v0_mm_s + leave) * 0.5 * upto)
            share = length / block.length_mm
            x1, y1 = block.x0_mm + dx * share, block.y0_mm + dy * share
            yield block._replace(
                x0_mm=x0, y0_mm=y0, x1_mm=x1, y1_mm=y1, length_mm=length - gone, v0_mm_s=speed, v1_mm_s=leave,
                duration_s=each,
            )  # fmt: skip
            x0, y0, gone, speed = x1, y1, length, leave
        yield block._replace(x0_mm=x0, y0_mm=y0, length_mm=block.length_mm - gone, v0_mm_s=speed, duration_s=each)
