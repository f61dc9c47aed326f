"""A look-ahead motion planner in simulated time, as the firmware's: a ring of blocks, junction speeds, feed hold.

Motion between two moments is exact: within a phase the acceleration is constant. Millimetres and seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt

__all__ = ["BLOCKS", "Motion", "Planner", "axis_limited"]

BLOCKS = 15
"""Motions that GRBL 1.1's planner takes (a ring of 16, one of them always empty)."""
_REST = 1e-9
_STRAIGHT = 0.999999


@dataclass(slots=True)
class Motion:
    """One straight motion.

    Attributes:
        start, end: machine position.
        nominal: speed that the line asks for, within the axes' limits, mm/s.
        acceleration: along its direction, mm/s².
        line: the G-code line's number; None without one.
        jog: a jog; cancelled as a whole.
    """

    start: tuple[float, ...]
    end: tuple[float, ...]
    nominal: float
    acceleration: float
    line: int | None = None
    jog: bool = False
    length: float = 0.0
    unit: tuple[float, ...] = ()
    entry_max2: float = 0.0
    entry2: float = 0.0

    def __post_init__(self) -> None:
        self.length = sqrt(sum((b - a) ** 2 for a, b in zip(self.start, self.end, strict=True)))
        self.unit = tuple((b - a) / self.length for a, b in zip(self.start, self.end, strict=True))

    def at(self, done: float) -> tuple[float, ...]:
        """Where the machine is when `done` millimetres of it are behind."""
        if done >= self.length:
            return self.end
        return tuple(a + u * done for a, u in zip(self.start, self.unit, strict=True))


class Planner:
    """Executes motions in order.

    Args:
        corner: called with each place where the path bends or stops, in order.
        capacity: motions that it holds, the one under way included.

    Attributes:
        holding: slowing down to a stand-still, or held there.
        scale: feed override, 1.0 is 100 per cent.
        deviation: the junction deviation `$11`, mm.
    """

    def __init__(self, corner: Callable[[tuple[float, ...]], None], capacity: int = BLOCKS) -> None:
        self.capacity = capacity
        self.holding = False
        self.scale = 1.0
        self.deviation = 0.01
        self._corner = corner
        self._queue: deque[Motion] = deque()
        self._done = self._speed = self._rate = 0.0
        self._phase_s = inf

    # state -------------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Motions that fit in."""
        return self.capacity - len(self._queue)

    @property
    def empty(self) -> bool:
        """All is executed."""
        return not self._queue

    @property
    def moving(self) -> bool:
        """Something moves, or is about to."""
        return bool(self._queue) and (not self.holding or self._speed > _REST)

    @property
    def speed(self) -> float:
        """How fast it goes now, mm/s."""
        return self._speed

    @property
    def current(self) -> Motion | None:
        """The motion under way."""
        return self._queue[0] if self._queue else None

    @property
    def position(self) -> tuple[float, ...] | None:
        """Where it is; None when nothing is queued: at the end of the last motion."""
        return self._queue[0].at(self._done) if self._queue else None

    @property
    def end(self) -> tuple[float, ...] | None:
        """Where the last motion ends; None when nothing is queued."""
        return self._queue[-1].end if self._queue else None

    # change ------------------------------------------------------------------------------------------------------

    def add(self, motion: Motion) -> None:
        """Take a motion; there must be room."""
        if self._queue:
            motion.entry_max2 = self._junction2(self._queue[-1], motion)
        self._queue.append(motion)
        self._plan()

    def hold(self) -> None:
        """Slow down to a stand-still along the path."""
        self.holding = True
        self._set_phase()

    def go(self) -> None:
        """Go on after a hold."""
        self.holding = False
        self._plan()

    def set_scale(self, scale: float) -> None:
        """Change the feed override."""
        self.scale = scale
        self._plan()

    def clear(self) -> tuple[float, ...] | None:
        """Stop where it is, at once, and forget the rest. Returns where; None when nothing was queued."""
        at = self.position
        if at is not None:
            self._corner(at)
        self._queue.clear()
        self._done = self._speed = self._rate = 0.0
        self._phase_s = inf
        self.holding = False
        return at

    def next_event_s(self) -> float:
        """Seconds until the motion changes by itself; infinite when it does not."""
        return self._phase_s

    def advance(self, seconds: float) -> None:
        """Let time pass: not farther than `next_event_s`."""
        if not self._queue or self._phase_s == inf:
            return
        whole = seconds >= self._phase_s
        step = self._phase_s if whole else seconds
        self._done += (self._speed + 0.5 * self._rate * step) * step
        self._speed = max(0.0, self._speed + self._rate * step)
        self._phase_s -= step
        motion = self._queue[0]
        if motion.length - self._done < _REST:
            self._corner(motion.end)
            self._queue.popleft()
            self._done = 0.0
            if not self._queue or (self.holding and self._speed <= 1e-6):
                self._speed = 0.0
            self._set_phase()
        elif whole:
            if self.holding and self._speed <= 1e-6:
                self._speed = 0.0
                self._corner(motion.at(self._done))
            self._set_phase()

    # planning ----------------------------------------------------------------------------------------------------

    def _junction2(self, before: Motion, after: Motion) -> float:
        """The squared speed at the corner, by the junction deviation rule (see `vfab.sdk.velocity`)."""
        cosine = sum(a * b for a, b in zip(before.unit, after.unit, strict=True))
        slowest = min(before.nominal, after.nominal) ** 2
        if cosine > _STRAIGHT:
            return slowest
        if cosine < -_STRAIGHT:
            return 0.0
        half = sqrt(0.5 * (1.0 + cosine))
        grip = min(before.acceleration, after.acceleration) * self.deviation * half / (1.0 - half)
        return min(slowest, grip)

    def _plan(self) -> None:
        """Entry speeds, backwards from a stand-still at the end."""
        leave2 = 0.0
        for motion in reversed(self._queue):
            motion.entry2 = min(motion.entry_max2, leave2 + 2.0 * motion.acceleration * motion.length)
            leave2 = motion.entry2
        self._set_phase()

    def _set_phase(self) -> None:
        """What comes next from the present place and speed: how long it lasts, at what acceleration."""
        self._rate, self._phase_s = 0.0, inf
        if not self._queue:
            return
        motion, speed = self._queue[0], self._speed
        left = motion.length - self._done
        if self.holding:
            if speed > _REST:
                self._rate = -motion.acceleration
                ending2 = speed * speed - 2.0 * motion.acceleration * left
                stop = sqrt(ending2) if ending2 > 0 else 0.0
                self._phase_s = (speed - stop) / motion.acceleration
            return
        leave2 = self._queue[1].entry2 if len(self._queue) > 1 else 0.0
        self._trapezoid(motion, speed, left, leave2)

    def _trapezoid(self, motion: Motion, speed: float, left: float, leave2: float) -> None:
        rate, top = motion.acceleration, max(motion.nominal * self.scale, 1e-3)
        leave2 = min(leave2, top * top)
        speed2 = speed * speed
        braking = (speed2 - leave2) / (2.0 * rate)
        if braking >= left - _REST:  # brake for the corner
            self._rate = (leave2 - speed2) / (2.0 * left) if left > _REST else -rate
            leave = sqrt(max(0.0, speed2 + 2.0 * self._rate * left))
            self._phase_s = 2.0 * left / (speed + leave) if speed + leave > 0 else 0.0
        elif speed > top + _REST:  # an override took effect
            self._rate, self._phase_s = -rate, (speed - top) / rate
        elif speed < top - _REST:
            peak2 = min(top * top, (2.0 * rate * left + speed2 + leave2) / 2.0)
            self._rate, self._phase_s = rate, max((sqrt(peak2) - speed) / rate, 1e-9)
        else:
            self._phase_s = max((left - braking) / speed, 1e-9)


def axis_limited(unit: Sequence[float], limits: Sequence[float]) -> float:
    """The largest speed or acceleration along `unit` by which no axis exceeds its own limit."""
    return min((limit / abs(part) for part, limit in zip(unit, limits, strict=True) if abs(part) > 1e-12), default=inf)
