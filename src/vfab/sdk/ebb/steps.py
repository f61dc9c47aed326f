"""From planned motion to the moves of an EiBotBoard: whole motor steps, exact 40 µs ticks.

On an AxiDraw, motor 1 goes x + y and motor 2 goes x − y, 2032 steps an inch at 1/16 microstepping, which is 80 steps a
millimetre.
Every move ends at the rounded *absolute* position, so rounding never adds up; its speed is the planned one. Pieces
that last less than the board can be fed with (`min_move_s`) are joined, where the path that joining cuts stays within
`tolerance_mm`; pieces that last long are cut, so that a pause finds an end soon and whole-number accelerations
stay true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, hypot, sqrt
from typing import Literal

from vfab.model.errors import ConfigurationError
from vfab.protocols.ebb.commands import LM, SM
from vfab.protocols.ebb.motion import TICKS_PER_MS, TICKS_PER_S, plan_lm
from vfab.sdk.drawing import Point
from vfab.sdk.ebb.geometry import Geometry, HBot
from vfab.sdk.motion import Block, Move, PenDown, PenUp, Plan, Stroke

__all__ = ["STEPS_PER_MM", "TOP_SPEED_MM_S", "BoardMove", "StepGenerator", "board_moves", "point_of", "steps_of"]

STEPS_PER_MM = 80.0
"""2032 steps / 25.4 mm, at 1/16 microstepping."""
TOP_SPEED_MM_S = TICKS_PER_S / (STEPS_PER_MM * sqrt(2.0))
"""Highest speed in every direction, mm/s: along a diagonal one motor makes √2 × 80 steps a millimetre."""
_SM_SLICE_S = 0.025
"""While the speed changes, `SM` moves of constant speed are this short."""
_SM_LONGEST_S = 0.5
_SM_STEPS_MS = 24.9
"""Fastest `SM`, a little below the 25 steps/ms that no firmware allows."""
_SM_MS_PER_STEP = 763
"""Slowest `SM` that 2.x takes is 1.31 steps/s."""


def steps_of(point: Point, steps_per_mm: float = STEPS_PER_MM) -> tuple[int, int]:
    """The absolute positions (motor 1, motor 2), in steps, nearest to a point in machine millimetres."""
    return HBot(steps_per_mm).steps_of(point)


def point_of(steps: tuple[int, int], steps_per_mm: float = STEPS_PER_MM) -> Point:
    """The point, in machine millimetres, at absolute motor positions."""
    return HBot(steps_per_mm).point_of(steps)


@dataclass(frozen=True, slots=True)
class BoardMove:
    """One command that moves the motors, and what the driver must know of it.

    Attributes:
        command: to be sent. An `LM` clears the accumulators first, so its duration is exact.
        ticks: its duration in ticks of 40 µs.
        end1, end2: the motors' absolute positions after it, in steps.
        stroke, point: where a drawing goes on from that is interrupted during the move (see `motion.Resume`).
        pen_down: whether it draws.
    """

    command: LM | SM
    ticks: int
    end1: int
    end2: int
    stroke: int
    point: int
    pen_down: bool

    @property
    def duration_s(self) -> float:
        """Its exact duration in seconds."""
        return self.ticks / TICKS_PER_S


class _Chunk:
    """Consecutive blocks that become one move."""

    __slots__ = ("corners", "duration_s", "first", "last")

    def __init__(self, block: Block) -> None:
        self.first = self.last = block
        self.duration_s = block.duration_s
        self.corners: list[Point] = []

    def take(self, other: _Chunk) -> None:
        """Make the next chunk part of this one."""
        self.corners += [(self.last.x1_mm, self.last.y1_mm), *other.corners]
        self.last = other.last
        self.duration_s += other.duration_s

    def fits(self, other: _Chunk, tolerance_mm: float) -> bool:
        """Whether the straight way to the next chunk's end passes all corners between within the tolerance."""
        x0, y0 = self.first.x0_mm, self.first.y0_mm
        dx, dy = other.last.x1_mm - x0, other.last.y1_mm - y0
        length2 = dx * dx + dy * dy
        for x, y in (*self.corners, (self.last.x1_mm, self.last.y1_mm), *other.corners):
            along = ((x - x0) * dx + (y - y0) * dy) / length2 if length2 > 0.0 else 0.0
            along = min(1.0, max(0.0, along))
            if hypot(x - x0 - along * dx, y - y0 - along * dy) > tolerance_mm:
                return False
        return True

    def speeds(self) -> tuple[float, float]:
        """Speeds at the start and end of one even change that takes as long and goes as far; none above the highest."""
        first, last = self.first, self.last
        mean = hypot(last.x1_mm - first.x0_mm, last.y1_mm - first.y0_mm) / self.duration_s
        v0, v1 = first.v0_mm_s, last.v1_mm_s
        if first is last:
            return v0, v1
        if mean >= max(v0, v1):
            return mean, mean
        if 2.0 * mean >= v0 + v1:
            return (v0, 2.0 * mean - v0) if v0 > v1 else (2.0 * mean - v1, v1)
        scale = 2.0 * mean / (v0 + v1)
        return v0 * scale, v1 * scale


class StepGenerator:
    """Turns blocks into moves and keeps the motors' absolute position between them.

    Args:
        position: where the pen is, in machine millimetres.
        geometry: how the motors move the pen; by default an H-bot of 80 steps a millimetre.
        steps_per_mm: of each motor of an H-bot, in the place of `geometry`.
        min_move_s: no sustained run of moves shorter than this; single ones may be, as the queue bridges them.
        max_move_s: longer blocks are cut evenly.
        tolerance_mm: how far joining blocks may cut a corner. With `PlotProfile.simplify_mm` (0.4 steps) and rounding
            (0.5 steps) the default makes one motor step in all.
        method: `lm` (constant acceleration, firmware 2.7 and later), or `sm` (slices of constant speed, any firmware).

    Raises:
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        position: Point = (0.0, 0.0),
        *,
        geometry: Geometry | None = None,
        steps_per_mm: float = STEPS_PER_MM,
        min_move_s: float = 0.003,
        max_move_s: float = 1.0,
        tolerance_mm: float = 0.00125,
        method: Literal["lm", "sm"] = "lm",
    ) -> None:
        if not (steps_per_mm > 0 and 0 < min_move_s <= max_move_s and tolerance_mm >= 0 and method in ("lm", "sm")):
            raise ConfigurationError(
                "The step generator was given a value out of range",
                context={"steps_per_mm": steps_per_mm, "min_move_s": min_move_s, "max_move_s": max_move_s,
                         "tolerance_mm": tolerance_mm, "method": method},
                remedy="steps_per_mm and min_move_s are above 0, max_move_s not below min_move_s, method lm or sm.",
            )  # fmt: skip
        self._geometry = geometry or HBot(steps_per_mm)
        self._min_s, self._max_s = min_move_s, max_move_s
        self._tolerance_mm = tolerance_mm
        self._sm = method == "sm"
        self.end1, self.end2 = self._geometry.steps_of(position)
        self._late_s = 0.0  # time of what was too short for a step, for the next move to take

    @property
    def position(self) -> Point:
        """Where the moves made so far lead to, in machine millimetres."""
        return self._geometry.point_of((self.end1, self.end2))

    def moves(self, blocks: Iterable[Block], *, stroke: int = 0, pen_down: bool = True) -> Iterator[BoardMove]:
        """The moves for the blocks of one travel or stroke, which begins where the last one ended."""
        self._late_s = 0.0
        short_s = 0.0  # how much shorter than allowed the latest moves were together
        for chunk in self._chunks(blocks):
            end1, end2 = self._geometry.steps_of((chunk.last.x1_mm, chunk.last.y1_mm))
            steps1, steps2 = end1 - self.end1, end2 - self.end2
            if not steps1 and not steps2:
                self._late_s += chunk.duration_s
                continue
            lasts = self._lasting(chunk, steps1, steps2)
            short_s = max(0.0, short_s + self._min_s - lasts)
            if short_s > 2.0 * self._min_s:
                lasts += short_s - 2.0 * self._min_s
                short_s = 2.0 * self._min_s
            made = self._steady if self._sm else _accelerated
            command, ticks = made(steps1, steps2, lasts, *chunk.speeds())
            self.end1, self.end2 = end1, end2
            yield BoardMove(command, ticks, end1, end2, stroke, chunk.first.point, pen_down)

    def _lasting(self, chunk: _Chunk, steps1: int, steps2: int) -> float:
        """Seconds for the move: the planned speed over the whole steps that it really goes."""
        first, last = chunk.first, chunk.last
        dx, dy = last.x1_mm - first.x0_mm, last.y1_mm - first.y0_mm
        ideal1, ideal2 = self._geometry.exact(dx, dy)
        ideal = ideal1 * ideal1 + ideal2 * ideal2
        share = (ideal1 * steps1 + ideal2 * steps2) / ideal if ideal > 0.0 else 1.0
        late, self._late_s = self._late_s, 0.0
        return chunk.duration_s * min(2.0, max(0.5, share)) + late

    def _chunks(self, blocks: Iterable[Block]) -> Iterator[_Chunk]:
        """Join what is too short with what follows, or else with what came before, within the tolerance."""
        ready: _Chunk | None = None
        for chunk in self._forward(blocks):
            if ready is not None:
                if chunk.duration_s < self._min_s and ready.fits(chunk, self._tolerance_mm):
                    ready.take(chunk)
                    continue
                yield ready
            ready = chunk
        if ready is not None:
            yield ready

    def _forward(self, blocks: Iterable[Block]) -> Iterator[_Chunk]:
        held: _Chunk | None = None
        for whole in self._cut(blocks):
            block: Block | None = whole
            if held is not None and self._wants_more(held):
                wanted = self._min_s - held.duration_s
                head, rest = _split(whole, wanted) if 0.0 < wanted < whole.duration_s - self._min_s else (whole, None)
                if held.fits(one := _Chunk(head), self._tolerance_mm):
                    held.take(one)
                    block = rest
            if block is not None:
                if held is not None:
                    yield held
                held = _Chunk(block)
        if held is not None:
            yield held

    def _wants_more(self, chunk: _Chunk) -> bool:
        """Whether a chunk is too short to be sent, in time or because it has no step."""
        first, last = chunk.first, chunk.last
        return chunk.duration_s < self._min_s or (
            self._geometry.steps_of((first.x0_mm, first.y0_mm)) == self._geometry.steps_of((last.x1_mm, last.y1_mm))
        )

    def _cut(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Cut what lasts too long, evenly in time."""
        for block in blocks:
            longest = self._max_s
            if self._sm:
                longest = min(longest, _SM_SLICE_S if block.acceleration_mm_s2 else _SM_LONGEST_S)
            parts = ceil(block.duration_s / longest)
            each = block.duration_s / parts if parts else 0.0
            rest = block
            for _ in range(parts - 1):
                head, rest = _split(rest, each)
                yield head
            yield rest

    def _steady(self, steps1: int, steps2: int, lasts: float, _v0: float, _v1: float) -> tuple[SM, int]:
        """An `SM`: whole milliseconds; what rounding adds or takes, the next one gives back."""
        sizes = [abs(steps) for steps in (steps1, steps2) if steps]
        lowest, highest = max(1, ceil(max(sizes) / _SM_STEPS_MS)), _SM_MS_PER_STEP * min(sizes)
        duration_ms = max(lowest, min(highest, round(lasts * 1000)))
        self._late_s = lasts - duration_ms / 1000
        return SM(duration_ms, steps1, steps2), duration_ms * TICKS_PER_MS


def _accelerated(steps1: int, steps2: int, lasts: float, v0: float, v1: float) -> tuple[LM, int]:
    """An `LM` of even acceleration; `v0` and `v1` say only how its speeds compare, its time is `lasts`."""
    mean = max(abs(steps1), abs(steps2)) / lasts
    share = v0 / (v0 + v1) if v0 + v1 > 0.0 else 0.5
    start = min(2.0 * mean * share, TICKS_PER_S)
    end = min(2.0 * mean * (1.0 - share), TICKS_PER_S)
    planned = plan_lm(steps1, steps2, start, end)
    return planned.command, planned.ticks


def _split(block: Block, after_s: float) -> tuple[Block, Block]:
    """The part of a block up to a time, and the rest."""
    rate, v0 = block.acceleration_mm_s2, block.v0_mm_s
    speed = max(0.0, v0 + rate * after_s)
    length = min(block.length_mm, (v0 + speed) * 0.5 * after_s)
    share = length / block.length_mm
    x = block.x0_mm + (block.x1_mm - block.x0_mm) * share
    y = block.y0_mm + (block.y1_mm - block.y0_mm) * share
    head = block._replace(x1_mm=x, y1_mm=y, length_mm=length, v1_mm_s=speed, duration_s=after_s)
    rest = block._replace(
        x0_mm=x, y0_mm=y, length_mm=block.length_mm - length, v0_mm_s=speed, duration_s=block.duration_s - after_s
    )
    return head, rest


def board_moves(plan: Plan, generator: StepGenerator | None = None) -> Iterator[BoardMove | PenDown | PenUp]:
    """A whole plan as the driver sends it: moves, and the pen's steps between them, made one by one."""
    generator = generator or StepGenerator(plan.start)
    for step in plan:
        if isinstance(step, Move | Stroke):
            yield from generator.moves(step.blocks(), stroke=step.stroke, pen_down=isinstance(step, Stroke))
        else:
            yield step
