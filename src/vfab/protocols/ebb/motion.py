"""What the board's step generator does, exactly: where each motor is after every 40 µs tick.

Each tick (25 kHz) a motor's rate grows by its acceleration (which grows by its jerk) and is added to a 31-bit
accumulator; each overflow is one step. Everything here is the closed form of that loop, in whole numbers.

Two differences between the generations matter. 3.x lets a rate go below zero, and then steps backwards; 2.8 drops
the rate's sign bit, and so jumps to nearly full speed. And 3.x starts a cleared accumulator at 2³¹ − 1 when
the first tick goes backwards. Moves that `plan_lm` builds keep their rates positive and so are the same on both.

Source: the sections LM and LT of the EBB command reference, and the firmware's interrupt routine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

from vfab.model.errors import Refused
from vfab.protocols.ebb.commands import LM, Firmware

__all__ = [
    "FULL",
    "NEVER",
    "TICKS_PER_MS",
    "TICKS_PER_S",
    "Axis",
    "PlannedMove",
    "lm_axis",
    "lm_ticks",
    "lt_axis",
    "plan_lm",
    "plan_xy",
    "rate_of",
    "steady_axis",
]

TICKS_PER_S = 25_000
TICKS_PER_MS = 25
FULL = 2**31
"""An accumulator's overflow, and the rate of one step a tick."""
NEVER = 2**62
"""The duration in ticks of a move that never ends."""


def _half(value: int, by: int = 2) -> int:
    """Divide as C does, towards zero."""
    return -(-value // by) if value < 0 else value // by


@dataclass(frozen=True, slots=True)
class Axis:
    """One motor during one command.

    Attributes:
        start: the accumulator before the first tick, 0 to 2³¹ − 1.
        rate, accel, jerk: as the interrupt routine holds them before the first tick.
        ticks: after how many ticks this motor stops; `NEVER` when it does not.
        direction: −1 turns every step around (2.8, and 3.x's steady moves, keep the direction apart from the rate).
        wraps: 2.8's way with a rate that leaves 0 to 2³¹ − 1.
    """

    start: int
    rate: int
    accel: int
    jerk: int
    ticks: int
    direction: int = 1
    wraps: bool = False

    def travelled(self, tick: int) -> int:
        """Accumulator plus steps × 2³¹ after `tick` ticks, not stopped by `ticks`."""
        sum1 = tick * (tick + 1) // 2
        total = self.start + tick * self.rate + (self.accel - self.jerk) * sum1
        if self.jerk:
            total += self.jerk * sum1 * (tick + 2) // 3
        if self.wraps:
            total -= FULL * _floor_sum(tick, FULL, self.accel, self.rate + self.accel)
        return total

    def steps(self, tick: int | None = None) -> int:
        """Steps away from where the command began, after `tick` ticks (at its end when left out)."""
        at = self.ticks if tick is None else min(tick, self.ticks)
        return self.direction * (self.travelled(at) // FULL) if at else 0

    def exact(self, tick: float) -> float:
        """Like `steps`, with the part of a step that the accumulator holds on top of where it began."""
        at = min(int(tick), self.ticks)
        return self.direction * (self.travelled(at) - self.start) / FULL if at else 0.0

    def accumulator(self, tick: int | None = None) -> int:
        """The accumulator after `tick` ticks (at the end when left out)."""
        at = self.ticks if tick is None else min(tick, self.ticks)
        return self.travelled(at) % FULL

    def rate_at(self, tick: int | None = None) -> int:
        """The rate that was added in tick number `tick` (the last one when left out); 2³¹ is 25,000 steps/s."""
        at = self.ticks if tick is None else min(tick, self.ticks)
        value = self.rate + (self.accel - self.jerk) * at + self.jerk * (at * (at + 1) // 2)
        return value % FULL if self.wraps else value

    def turns(self) -> list[int]:
        """The ticks, in order, after which the motor goes the other way."""
        if self.wraps:
            return []
        return _turns(self)


def _floor_sum(count: int, modulus: int, step: int, first: int) -> int:
    """Sum of (first + i × step) // modulus for i from 0 to count − 1, by Euclid's algorithm."""
    total = 0
    if step < 0:
        total += (step // modulus) * (count * (count - 1) // 2)
        step %= modulus
    total += (first // modulus) * count
    first %= modulus
    while True:
        total += (step // modulus) * (count * (count - 1) // 2) + (first // modulus) * count
        step %= modulus
        first %= modulus
        top = step * count + first
        if top < modulus:
            return total
        count, first = divmod(top, modulus)
        modulus, step = step, modulus


def _turns(axis: Axis) -> list[int]:
    if not axis.jerk:
        if not axis.accel:
            return []
        # rate(k) = rate + k × accel; the last tick whose rate has not yet the sign of accel
        last = -axis.rate // axis.accel if axis.accel > 0 else axis.rate // -axis.accel
        return [last] if 1 <= last < axis.ticks else []
    top = max((axis.jerk - 2 * axis.accel) // (2 * axis.jerk), 1)
    ends = sorted({1, top, top + 1, min(axis.ticks, FULL * 2)})
    found = []
    for low, high in pairwise(ends):
        sign = axis.rate_at(low) < 0
        if (axis.rate_at(high) < 0) != sign:
            found.append(_first(lambda tick, s=sign: (axis.rate_at(tick) < 0) != s, low, high) - 1)  # type: ignore[misc]
    return [tick for tick in found if 1 <= tick < axis.ticks]


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number in (low, high] for which `holds`, which turns true once and stays so."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _ticks_up(start: int, rate: int, accel: int, steps: int) -> int:
    """The first tick at which start + Σ rate reaches steps × 2³¹, while the rate stays positive; NEVER if it does not.

    Solves accel t² + (2 rate + accel) t + 2 (start − steps 2³¹) = 0, then corrects the root by whole ticks.
    """
    need = steps * FULL - start
    if accel == 0:
        return -(-need // rate) if rate > 0 else NEVER
    slope = 2 * rate + accel
    inside = slope * slope + 8 * accel * need
    if inside < 0:
        return NEVER
    root = sqrt(inside)
    guess = 2 * need * 2 / (slope + root) if slope + root > 0 and slope >= 0 else (root - slope) / (2 * accel)
    if not isfinite(guess) or guess < 0:
        return NEVER
    tick = max(int(guess), 1)
    last = NEVER if accel > 0 else (rate // -accel)
    tick = min(tick, last)
    while tick < last and tick * rate + accel * (tick * (tick + 1) // 2) < need:
        tick += 1
    while tick > 1 and (tick - 1) * rate + accel * (tick * (tick - 1) // 2) >= need:
        tick -= 1
    return tick if tick * rate + accel * (tick * (tick + 1) // 2) >= need else NEVER


def _search_ticks(axis: Axis, steps: int) -> int:
    """The tick of the last of `steps` steps, whichever way they go: piece by piece between turns."""
    begun, taken = 0, 0
    for end in [*_turns(axis), None]:
        here = axis.travelled(begun) // FULL
        wanted = steps - taken

        def reached(tick: int, here: int = here, wanted: int = wanted) -> bool:
            return abs(axis.travelled(tick) // FULL - here) >= wanted

        if end is None:
            end = begun + 1  # noqa: PLW2901 (the last piece has no end: gallop)
            while not reached(end) and end < NEVER:
                end = 2 * end - begun  # noqa: PLW2901
            return min(_first(reached, begun, end), NEVER)
        if reached(end):
            return _first(reached, begun, end)
        taken += abs(axis.travelled(end) // FULL - here)
        begun = end
    raise AssertionError("the last piece has no end")


def _cleared(rate: int, accel: int, jerk: int) -> int:
    """3.x's accumulator after clearing: 2³¹ − 1 when the first tick that moves goes backwards."""
    for sign in (rate + accel, accel + jerk, jerk):
        if sign:
            return FULL - 1 if sign < 0 else 0
    return 0


def lm_axis(
    rate: int,
    steps: int,
    accel: int,
    jerk: int = 0,
    *,
    accumulator: int | None = None,
    firmware: Firmware = Firmware(3),  # noqa: B008 (a tuple of numbers)
) -> Axis:
    """What one motor does in `LM` (or, with a jerk, `L3`).

    Args:
        rate: added to the accumulator each tick, before `accel`; 2³¹ is 25,000 steps/s.
        steps: how many steps are taken, its sign the direction (3.x: of a positive rate).
        accel: added to the rate each tick.
        jerk: added to the acceleration each tick.
        accumulator: what the accumulator holds before; None = the command clears it.
        firmware: which generation's rules.

    Raises Refused: steps and rate are both negative, which no firmware takes.
    """
    if steps < 0 and rate < 0:
        raise Refused("LM: steps and rate are both negative.", context={"rate": rate, "steps": steps})
    if firmware < (3,):
        begin = rate - _half(accel)
        base = Axis(accumulator or 0, begin, accel, 0, NEVER, -1 if steps < 0 else 1)
        return _stop_2(base, abs(steps))
    if steps < 0:
        rate, steps, accel, jerk = -rate, -steps, -accel, -jerk
    begin = rate - _half(accel) + _half(jerk, 6)
    start = _cleared(begin, accel, jerk) if accumulator is None else accumulator
    if not steps:
        return Axis(start, begin, accel, jerk, 0)
    return Axis(start, begin, accel, jerk, _stop_3(Axis(start, begin, accel, jerk, NEVER), steps))


def _stop_2(base: Axis, steps: int) -> Axis:
    if not steps:
        return Axis(base.start, base.rate, base.accel, 0, 0, base.direction)
    ticks = _ticks_up(base.start, base.rate, base.accel, steps)
    first, last = base.rate + base.accel, base.rate + base.accel * ticks
    if ticks < NEVER and 0 <= first < FULL and 0 <= last < FULL:
        return Axis(base.start, base.rate, base.accel, 0, ticks, base.direction)
    if not base.accel:
        return Axis(base.start, base.rate, 0, 0, ticks, base.direction)
    wrapping = Axis(base.start, base.rate, base.accel, 0, NEVER, base.direction, wraps=True)
    ticks = _search_ticks_wrapping(wrapping, steps)
    return Axis(base.start, base.rate, base.accel, 0, ticks, base.direction, wraps=True)


def _search_ticks_wrapping(axis: Axis, steps: int) -> int:
    def reached(tick: int) -> bool:
        return axis.travelled(tick) // FULL >= steps

    end = 1
    while not reached(end):
        end *= 2
    return _first(reached, 0, end)


def _stop_3(base: Axis, steps: int) -> int:
    if base.jerk:
        return _search_ticks(base, steps)
    if not base.accel and not base.rate:
        return NEVER
    first = base.rate + base.accel or base.accel
    if first > 0:
        ticks = _ticks_up(base.start, base.rate, base.accel, steps)
    else:
        ticks = _ticks_up(FULL - 1 - base.start, -base.rate, -base.accel, steps)
    return ticks if ticks < NEVER else _search_ticks(base, steps)


def lt_axis(
    intervals: int,
    rate: int,
    accel: int,
    jerk: int = 0,
    *,
    accumulator: int | None = None,
    firmware: Firmware = Firmware(3),  # noqa: B008
) -> Axis:
    """What one motor does in `LT` (or, with a jerk, `T3`): as `lm_axis`, but for `intervals` ticks."""
    if firmware < (3,):
        direction, rate = (-1, -rate) if rate < 0 else (1, rate)
        begin = rate - _half(accel)
        first, last = begin + accel, begin + accel * intervals
        wraps = not (0 <= first < FULL and 0 <= last < FULL)
        return Axis(accumulator or 0, begin, accel, 0, intervals, direction, wraps=wraps)
    begin = rate - _half(accel) + _half(jerk, 6)
    start = _cleared(begin, accel, jerk) if accumulator is None else accumulator
    return Axis(start, begin, accel, jerk, intervals)


def steady_axis(rate: int, steps: int, *, accumulator: int) -> Axis:
    """What one motor does in `SM`, `XM`, `HM`, `TR`: `steps` steps at a constant unsigned rate."""
    ticks = -(-(abs(steps) * FULL - accumulator) // rate) if steps and rate else (NEVER if steps else 0)
    return Axis(accumulator, rate, 0, 0, ticks, -1 if steps < 0 else 1)


def lm_ticks(command: LM, firmware: Firmware = Firmware(3)) -> int:  # noqa: B008
    """How many ticks of 40 µs `command` takes on cleared accumulators."""
    one = lm_axis(command.rate1, command.steps1, command.accel1, firmware=firmware)
    two = lm_axis(command.rate2, command.steps2, command.accel2, firmware=firmware)
    return max(one.ticks, two.ticks)


def rate_of(steps_s: float) -> float:
    """The rate (not rounded) of a speed in steps per second."""
    return steps_s * (FULL / TICKS_PER_S)


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """An `LM` and what it will do.

    Attributes:
        command: to be sent; both accumulators are cleared first, so that nothing before it matters.
        ticks: its exact duration in ticks of 40 µs.
    """

    command: LM
    ticks: int

    @property
    def duration_s(self) -> float:
        """Its exact duration in seconds."""
        return self.ticks / TICKS_PER_S


def plan_lm(steps1: int, steps2: int, start_steps_s: float, end_steps_s: float) -> PlannedMove:
    """Build the `LM` that takes exactly these steps, speeding up or slowing down evenly.

    Args:
        steps1: signed steps of motor 1.
        steps2: signed steps of motor 2; not both 0.
        start_steps_s: initial speed of the motor with more steps, 0 to 25,000. The other motor's speeds are in
            proportion, so that the path is straight and both end together.
        end_steps_s: its final speed; not both 0.

    The rounding of the acceleration to whole numbers is taken back by the initial rate; the real speeds differ from
    the asked ones by little, and the path leaves the straight line by less than a step as long as the move lasts no
    longer than 5 s (the rounding grows with the square of the time: cut longer ones). No rate goes below zero on
    the way, on either generation.

    Raises Refused: nothing to move, or a speed out of range.
    """
    longest = max(abs(steps1), abs(steps2))
    if not longest or longest >= FULL:
        raise Refused("LM: at least one motor must move.", context={"steps1": steps1, "steps2": steps2})
    if not (0 <= start_steps_s <= TICKS_PER_S and 0 <= end_steps_s <= TICKS_PER_S and start_steps_s + end_steps_s > 0):
        raise Refused(
            f"LM: {start_steps_s} to {end_steps_s} steps/s is not within 0 to 25000, or no motion at all.",
            context={"start_steps_s": start_steps_s, "end_steps_s": end_steps_s},
        )
    ticks = max(round(2 * longest * TICKS_PER_S / (start_steps_s + end_steps_s)), longest)
    change = rate_of(end_steps_s - start_steps_s) / longest
    rate1, accel1 = _fit(abs(steps1), ticks, change)
    rate2, accel2 = _fit(abs(steps2), ticks, change)
    command = LM(rate1, steps1, accel1, rate2, steps2, accel2, 3)
    return PlannedMove(command, lm_ticks(command))


def _fit(steps: int, ticks: int, change: float) -> tuple[int, int]:
    """Rate and acceleration that reach step number `steps` at tick number `ticks`, or just before it.

    `change` is how much the rate grows in all, per step of this motor.
    """
    if not steps:
        return 0, 0
    limit = (FULL * steps - ticks) * 2 // (ticks * (ticks + 1)) if ticks > 1 else 0
    accel = max(-limit, min(limit, round(change * steps / ticks)))
    while True:
        half = _half(accel)
        rate = -(-(FULL * steps - accel * (ticks * (ticks + 1) // 2)) // ticks) + half
        first, last = rate - half + accel, rate - half + accel * ticks
        if rate >= 0 and first >= 0 and last > 0 and max(rate, first, last) < FULL:
            return rate, accel
        if not accel:
            return min(rate, FULL - 1), 0
        accel -= 1 if accel > 0 else -1


def plan_xy(x_steps: int, y_steps: int, start_steps_s: float, end_steps_s: float) -> PlannedMove:
    """Like `plan_lm` for an H-bot (AxiDraw): motor 1 goes x + y, motor 2 goes x − y.

    The speeds are those of the pen along its path, in steps of x or y per second (80 steps are 1 mm at 1/16).
    """
    path = sqrt(x_steps * x_steps + y_steps * y_steps)
    steps1, steps2 = x_steps + y_steps, x_steps - y_steps
    share = max(abs(steps1), abs(steps2)) / path if path else 0.0
    return plan_lm(steps1, steps2, start_steps_s * share, end_steps_s * share)
