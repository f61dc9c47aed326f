"""Keeping the board's motion queue fed: far enough ahead that it never runs dry, near enough that a pause acts soon.

The board takes commands into a queue, answers `OK` when it has taken one, and says nothing of how full the queue is.
So the sender keeps a clock of its own: a command begins when it arrives or when the one before it ends, and its
duration is known to the tick. It sends while that clock is less than `LEAD_S` ahead. A status query now and then
corrects it: a board that stands still has finished everything. One that stands still long before it should is no real
one: the clock then goes twice as fast, until it keeps up with a simulator that runs fast or takes no time at all.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import hypot

from vfab.model.errors import DriverError
from vfab.protocols import ebb
from vfab.protocols.ebb import Command, Ok, Reply, Status
from vfab.sdk.drawing import Point
from vfab.sdk.ebb.connection import Conversation
from vfab.sdk.ebb.geometry import Geometry
from vfab.sdk.ebb.steps import StepGenerator
from vfab.sdk.motion import Move, PenDown, PenUp, Plan, Resume, Stroke
from vfab.sdk.plot_job import PlotJob, Reached, Wanted, shielded
from vfab.sdk.plot_travel import Brake

__all__ = ["LEAD_S", "MOVE_S", "Streamer", "queue_depth", "shortest_move_s"]

LEAD_S = 0.12
"""The queue holds motion for about this long: more than Linux and USB delay a write, less than a person waits."""
MOVE_S = 0.025
"""No command lasts longer, so that a pause finds an end soon."""
POLL_S = 0.01
"""While the queue is full enough, the board is asked again after this long."""
BUTTON_S = 0.1
"""The button is looked at this often."""
CERTAIN_S = 0.2
"""A command that should have ended this long ago, by our clock, has ended."""
PACE_MAX = 1024.0
WINDOW = 4
"""Commands on their way to the queue: one in the parser, the others in the board's input buffer of 256 bytes."""
STOP_PATIENCE_S = 1.0
"""A board that does not answer is waited for this long once the job is to stop."""


def queue_depth(firmware: ebb.Firmware) -> int:
    """How many commands the queue should hold: `LEAD_S` of the shortest sustained ones, where firmware allows it."""
    return 32 if firmware >= (3,) else 1


def shortest_move_s(firmware: ebb.Firmware) -> float:
    """No sustained run of commands may be shorter. Parsing one takes the board 3.5 ms (2.x) or 4 ms (3.x).

    The queue of 2.x holds so little that there must be time for a late write, too.
    """
    return 0.0042 if firmware >= (3,) else 0.005


@contextmanager
def _short_collections() -> Iterator[None]:
    """Python does not search its whole memory for garbage in here: with a large drawing that takes 0.1 s and more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(slots=True)
class _Item:
    """One command of the queue, and what is true before it has been executed."""

    command: Command
    duration_s: float
    resume: Resume
    start: tuple[int, int]
    end: tuple[int, int]
    done_s: float = 0.0
    done_mm: float = 0.0
    drawn_mm: float = 0.0
    pen_down: bool | None = None
    number: int = 0
    ends_s: float = 0.0


class Streamer:
    """Streams plans to one board.

    Args:
        talk: the conversation; nobody else uses it meanwhile.
        steps: where the motors stand.
        geometry: how the motors move the pen.
        depth: of the board's motion queue.
        shortest_s: no sustained run of commands is shorter.
        lift_ms, drop_ms: how long the pen takes.
        clock: seconds that never go back.

    Attributes:
        steps: where the motors were commanded to stand.
        pen_up: the pen was commanded up.
        dry: how often the queue's clock ran out while the pen was drawing.
    """

    def __init__(
        self,
        talk: Conversation,
        steps: tuple[int, int],
        *,
        geometry: Geometry,
        depth: int,
        shortest_s: float,
        lift_ms: int,
        drop_ms: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps = steps
        self.pen_up = True
        self.dry = 0
        self._talk = talk
        self._geometry = geometry
        self._depth = depth
        self._shortest_s = shortest_s
        self._lift_ms, self._drop_ms = lift_ms, drop_ms
        self._clock = clock
        self._busy_until = clock()
        self._sent = self._taken = self._idle_upto = 0
        self._under_way: deque[_Item] = deque()
        self._pace = 1.0
        self._asked: tuple[float, int] | None = None
        self._ask_at = 0.0
        self._button_at = 0.0

    @property
    def position(self) -> Point:
        """Where the pen was commanded to be, machine millimetres."""
        return self._geometry.point_of(self.steps)

    def now(self) -> float:
        """The streamer's clock."""
        return self._clock()

    def run(self, plan: Plan, job: PlotJob) -> Resume | None:
        """See `PlotterDriver.stream`. On every error the board is told to stop and to raise its pen."""
        try:
            with shielded(), _short_collections():
                return self._run(plan, job)
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Have the board stop and raise its pen, whatever it answers."""
        self._talk.stop_blindly(self._lift_ms)
        self.pen_up = True
        self._under_way.clear()

    def pen(self, up: bool) -> None:
        """Raise or lower the pen and wait until it has arrived. On every error the board is told to raise it."""
        end_s = (self._lift_ms if up else self._drop_ms) / 1000
        try:
            self._send(self._pen_item(up, end_s, Resume()), None)
            self._finish(None)
        except DriverError:
            self._give_up()
            raise

    def poll(self, job: PlotJob) -> None:
        """Ask the board for its status now: the button, and whether the link lives."""
        with shielded():
            self._ask()
            while self._asked is not None:
                self._receive(POLL_S, job)

    # what is sent ------------------------------------------------------------------------------------------------

    def _run(self, plan: Plan, job: PlotJob) -> Resume | None:
        stopped: list[Resume] = []
        done_s = done_mm = 0.0
        for item in self._items(plan, job, stopped):
            item.done_s, item.done_mm = done_s, done_mm
            done_s += item.duration_s
            done_mm += item.drawn_mm
            self._make_room(job)
            self._send(item, job)
        end = stopped[0] if stopped else Resume(self._last_stroke(plan))
        self._finish(job)
        job.reached(Reached(end, self.position, done_s, done_mm))
        return stopped[0] if stopped else None

    @staticmethod
    def _last_stroke(plan: Plan) -> int:
        return max(plan.resume.stroke, len(plan.drawing.paths))

    def _items(self, plan: Plan, job: PlotJob, stopped: list[Resume]) -> Iterator[_Item]:
        """The commands of `plan`. When the job is to stop: to a stand-still, pen up; `stopped` gets where to go on."""
        moves = StepGenerator(
            self.position,
            geometry=self._geometry,
            min_move_s=self._shortest_s,
            max_move_s=2 * MOVE_S,
            tolerance_mm=0.1 / self._geometry.steps_per_mm,
        )
        for step in plan:
            before = _before(plan, step.stroke)
            if isinstance(step, PenUp):
                yield self._pen_item(True, step.duration_s, Resume(step.stroke + 1))
            elif job.wanted is not Wanted.RUN and not isinstance(step, Stroke):
                stopped.append(before)
                return
            elif isinstance(step, PenDown):
                yield self._pen_item(False, step.duration_s, before)
            else:
                brake = self._brake(step, plan, job)
                yield from self._moves(moves, brake, step)
                if brake.halted is None:
                    continue
                if isinstance(step, Stroke):
                    before = Resume(step.stroke, brake.halted.point, moves.position)
                    yield self._pen_item(True, self._lift_ms / 1000, before)
                stopped.append(before)
                return

    @staticmethod
    def _brake(step: Move | Stroke, plan: Plan, job: PlotJob) -> Brake:
        limits = plan.profile.pen_down if isinstance(step, Stroke) else plan.profile.pen_up
        brakes = (Wanted.PAUSE, Wanted.STOP)  # a stroke is drawn to its end before another process goes on
        return Brake(step.blocks(), limits.acceleration_mm_s2, lambda: job.wanted in brakes, MOVE_S)

    def _moves(self, moves: StepGenerator, brake: Brake, step: Move | Stroke) -> Iterator[_Item]:
        drawing = isinstance(step, Stroke)
        here = (moves.end1, moves.end2)
        for move in moves.moves(brake, stroke=step.stroke, pen_down=drawing):
            end = (move.end1, move.end2)
            at = self._geometry.point_of(here)
            resume = Resume(step.stroke, move.point, at) if drawing else Resume(step.stroke)
            there = self._geometry.point_of(end)
            drawn_mm = hypot(there[0] - at[0], there[1] - at[1]) if drawing else 0.0
            yield _Item(move.command, move.duration_s, resume, here, end, drawn_mm=drawn_mm)
            here = end

    def _pen_item(self, up: bool, duration_s: float, resume: Resume) -> _Item:
        command = ebb.SP(1, self._lift_ms) if up else ebb.SP(0, self._drop_ms)
        return _Item(command, duration_s, resume, self.steps, self.steps, pen_down=not up)

    def _send(self, item: _Item, job: PlotJob | None) -> None:
        now = self._clock()
        if now > self._busy_until and not self.pen_up and item.pen_down is None and self._under_way:
            self.dry += 1
        self._busy_until = max(now, self._busy_until) + item.duration_s / self._pace
        self._sent += 1
        item.number, item.ends_s = self._sent, self._busy_until
        self._under_way.append(item)
        self._talk.send(item.command, lasts_s=self._busy_until - now)
        if item.pen_down is None:
            self.steps = item.end
        else:
            self.pen_up = not item.pen_down
        if job is not None:
            job.pen_at(self.position, not self.pen_up)
            if len(self._under_way) == 1:
                self._tell(item, job)

    # what comes back ---------------------------------------------------------------------------------------------

    def _make_room(self, job: PlotJob) -> None:
        """Wait until another command may be sent."""
        self._receive(0.0, job)
        while True:
            now = self._clock()
            lead_s = self._busy_until - now
            waits = self._sent - self._taken >= WINDOW
            if not waits and lead_s < LEAD_S:
                if now >= self._button_at:
                    self._ask()
                return
            if (now >= self._ask_at and not waits) or now >= self._button_at:
                self._ask()
            self._receive(POLL_S, job)

    def _finish(self, job: PlotJob | None) -> None:
        """Wait until the board has executed all that was sent."""
        while self._under_way:
            if self._clock() >= self._ask_at:
                self._ask()
            self._receive(POLL_S, job)

    def _ask(self) -> None:
        """Ask for the status, unless an answer is still to come."""
        if self._asked is None:
            now = self._clock()
            self._asked = (now, self._sent)
            self._button_at = now + BUTTON_S
            gc.collect(1)
            self._talk.send(ebb.QG(), lasts_s=max(0.0, self._busy_until - now))

    def _receive(self, wait_s: float, job: PlotJob | None) -> None:
        stopping = job is not None and job.wanted is Wanted.STOP
        for reply in self._talk.receive(wait_s, patience_s=STOP_PATIENCE_S if stopping else None):
            self._note(reply, job)
        self._settle(job)

    def _note(self, reply: Reply, job: PlotJob | None) -> None:
        if isinstance(reply, Ok) and reply.command is not None and reply.command.queued:
            self._taken += 1
        elif isinstance(reply, Status) and self._asked is not None:
            now = self._clock()
            (asked_s, upto), self._asked = self._asked, None
            if reply.executing or reply.queued:
                self._ask_at = now + POLL_S
            else:
                self._idle_upto = upto
                self._ask_at = now
                if upto == self._sent:
                    if self._busy_until - asked_s > LEAD_S / 2:
                        self._pace = min(2 * self._pace, PACE_MAX)
                    self._busy_until = min(self._busy_until, now)
            if reply.button and job is not None:
                job.button()

    def _settle(self, job: PlotJob | None) -> None:
        """Forget the commands that have certainly been executed, and tell how far that is."""
        now = self._clock()
        over: _Item | None = None
        while self._under_way and self._is_over(self._under_way[0], now):
            over = self._under_way.popleft()
        if over is None or job is None:
            return
        if self._under_way:
            self._tell(self._under_way[0], job)

    def _tell(self, item: _Item, job: PlotJob) -> None:
        """All before `item` has certainly been executed."""
        job.reached(Reached(item.resume, self._geometry.point_of(item.start), item.done_s, item.done_mm))

    def _is_over(self, item: _Item, now: float) -> bool:
        if item.number > self._taken:
            return False
        # of what the queue has taken, one is being executed and `depth` wait
        return (
            item.number <= max(self._idle_upto, self._taken - self._depth - 1) or item.ends_s + CERTAIN_S < now
        )  # fmt: skip


def _before(plan: Plan, stroke: int) -> Resume:
    """Where to go on when nothing of `stroke` has been drawn in this run."""
    return plan.resume if stroke == plan.resume.stroke else Resume(stroke)
