"""Keeping the controller fed, and knowing how far it has come.

The controller plans and times the motion by itself, so lines go out as fast as its receive buffer takes them: the
planner never starves. What is certainly done follows from three things: a dwell is answered when everything before it
is over; a status report tells where the machine is, and the first line under way that passes through there is the
earliest it can be at; the end of a plan is a dwell of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import hypot

from vfab.model.errors import DriverError, HardwareError
from vfab.protocols import grbl
from vfab.protocols.grbl import Message, State, Status
from vfab.sdk.drawing import Point
from vfab.sdk.motion import Move, PenDown, PenUp, Plan, Resume, Stroke
from vfab.sdk.plot_job import PlotJob, Reached, Wanted, shielded

from .connection import POLL_S, Conversation
from .settings import Settings

__all__ = ["MODES", "SYNC", "Streamer"]

MODES = "G17G21G90G94"
"""What every line that is sent takes for granted."""
SYNC = "G4P0.001"
"""Answered when all motion before it is over."""
_INCH_MM = 25.4
_MM_STEP = 0.002
"""What a report rounds away."""
_BRAKES = (Wanted.PAUSE, Wanted.STOP)
"""What ends a line in its middle; to be handed over, strokes are drawn to their end."""
_FOREIGN_STOPS = frozenset({State.HOLD, State.DOOR})


@dataclass(slots=True)
class _Item:
    """One line, and what is true before the machine has done it.

    Attributes:
        start, end: of its motion, on the page, in whole steps; the same for what moves nothing.
        drawn: it draws.
        pen_down: where it leaves the pen; None leaves it as it is.
        waits: it is answered only when the machine has done it.
        number: of the line that was sent.
        begins: the pen is up before it, and stays so if it is not sent: another process can begin with it.
    """

    text: str
    resume: Resume
    start: Point
    end: Point
    done_s: float
    done_mm: float
    drawn: bool = False
    pen_down: bool | None = None
    waits: bool = False
    lasts_s: float = 0.0
    number: int = 0
    moves: bool = False
    begins: bool = False


class Streamer:
    """Streams plans to one controller.

    Args:
        talk: the conversation; nobody else uses it meanwhile.
        settings: page, pen and speeds.
        at: where the machine is, on the page.

    Attributes:
        position: where the pen certainly is or was last seen, machine millimetres of the page.
        pen_up: the pen was commanded up.
    """

    def __init__(self, talk: Conversation, settings: Settings, at: Point) -> None:
        self.settings = settings
        self.position = at
        self.pen_up = True
        self._talk = talk
        self._under_way: deque[_Item] = deque()
        self._feed = ""
        self._told_mm = 0.0

    # one by one --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """After a reset: set the modes, raise the pen. Raises what `Conversation.pump` raises."""
        self._feed = ""
        self._talk.ask(MODES)
        self.pen(up=True)

    def pen(self, up: bool) -> None:
        """Raise or lower the pen and wait until it has arrived."""
        pen = self.settings.pen
        lines, lasts_s = (pen.up, pen.lift_s) if up else (pen.down, pen.drop_s)
        self._feed = ""
        with shielded():
            self._talk.ask(*lines, lasts_s=lasts_s)
        self.pen_up = up

    def place(self, status: Status) -> Point | None:
        """Where a report says that the machine is, on the page; None when it does not say."""
        if status.mpos is None:
            return None
        inches = bool(self.settings.controller.settings.get(13, 0.0))
        scale = _INCH_MM if inches else 1.0
        return self.settings.to_page((status.mpos[0] * scale, status.mpos[1] * scale))

    # a plan ------------------------------------------------------------------------------------------------------

    def run(self, plan: Plan, job: PlotJob) -> Resume | None:
        """See `PlotterDriver.stream`. On every error the machine is brought to rest, its pen up, if that can be."""
        with shielded():
            try:
                return self._run(plan, job)
            except BaseException as error:
                self._make_safe(job, error)
                raise

    def _run(self, plan: Plan, job: PlotJob) -> Resume | None:
        self._under_way.clear()
        self._feed, self._told_mm = "", 0.0
        for item in self._items(plan):
            while not self._talk.client.fits(item.text) and job.wanted not in _BRAKES:
                self._pump(job)
            if job.wanted in _BRAKES:
                return self._stop(job)
            if item.begins and job.wanted is Wanted.HAND_OVER:
                return self._end_before(item, job)
            self._send(item, job)
        if self._drained(job):
            return self._stop(job)
        job.reached(Reached(_end_of(plan), self.position, plan.duration_s, plan.pen_down_mm))
        return None

    def _drained(self, job: PlotJob) -> bool:
        """Wait until all that was sent is done; whether somebody wants it to stop instead."""
        while self._under_way and job.wanted not in _BRAKES:
            self._pump(job)
        return bool(self._under_way)

    def _end_before(self, item: _Item, job: PlotJob) -> Resume:
        """Between two strokes: what was sent is drawn to its end, so that nothing is left in the controller."""
        self._send(_Item(SYNC, item.resume, item.start, item.start, item.done_s, item.done_mm, waits=True), job)
        if self._drained(job):
            return self._stop(job)
        job.reached(Reached(item.resume, self.position, item.done_s, item.done_mm))
        return item.resume

    def _items(self, plan: Plan) -> Iterator[_Item]:
        """The lines of `plan`, in order."""
        pen, here, done_s, done_mm = self.settings.pen, self.position, 0.0, 0.0
        profile = plan.profile
        for step in plan:
            before = plan.resume if step.stroke == plan.resume.stroke else Resume(step.stroke)
            if isinstance(step, PenDown):
                yield from self._pen_items(pen.down, pen.drop_s, here, (done_s, done_mm), down=True, resume=before)
            elif isinstance(step, PenUp):
                after = Resume(step.stroke + 1)
                yield from self._pen_items(pen.up, pen.lift_s, here, (done_s, done_mm), down=False, resume=after)
            elif isinstance(step, Move):
                end = self.settings.in_steps(step.end)
                if end != here:
                    text = self._line(step.end, profile.pen_up.max_velocity_mm_s)
                    yield _Item(text, before, here, end, done_s, done_mm, moves=True, begins=True)
                here = end
            else:
                for item in self._stroke_items(step, here, profile.pen_down.max_velocity_mm_s, done_s, done_mm):
                    yield item
                    here = item.end
                done_mm += step.length_mm
            done_s += step.duration_s
        yield _Item(SYNC, _end_of(plan), here, here, done_s, done_mm, waits=True)

    def _stroke_items(
        self, step: Stroke, here: Point, speed_mm_s: float, done_s: float, done_mm: float
    ) -> Iterator[_Item]:
        corners = step.corners()
        last, point = next(corners)
        drawn_mm = 0.0
        for corner, index in corners:
            end = self.settings.in_steps(corner)
            share = drawn_mm / step.length_mm if step.length_mm else 0.0
            drawn_mm += hypot(corner[0] - last[0], corner[1] - last[1])
            if end != here:
                resume = Resume(step.stroke, point, here)
                yield _Item(
                    self._line(corner, speed_mm_s),
                    resume,
                    here,
                    end,
                    done_s + share * step.duration_s,
                    done_mm + share * step.length_mm,
                    drawn=True,
                    moves=True,
                )
                here = end
            last, point = corner, index

    @staticmethod
    def _pen_items(
        lines: tuple[str, ...], lasts_s: float, here: Point, done: tuple[float, float], *, down: bool, resume: Resume
    ) -> Iterator[_Item]:
        for number, line in enumerate(lines[:-1]):
            yield _Item(line, resume, here, here, *done, begins=down and number == 0)
        yield _Item(lines[-1], resume, here, here, *done, pen_down=down, waits=True, lasts_s=lasts_s)

    def _line(self, end: Point, speed_mm_s: float) -> str:
        """A straight motion; what the controller remembers is not said again."""
        feed = f"F{max(speed_mm_s * 60, 0.1):.0f}"
        text = f"{'' if self._feed else 'G1'}{self.settings.words(end)}{feed if feed != self._feed else ''}"
        self._feed = feed
        return text

    # sending and receiving ---------------------------------------------------------------------------------------

    def _send(self, item: _Item, job: PlotJob) -> None:
        if "Z" in item.text:
            self._feed = ""
        item.number = self._talk.send(item.text, lasts_s=item.lasts_s).number
        self._under_way.append(item)
        if item.pen_down is not None:
            self.pen_up = not item.pen_down
        if len(self._under_way) == 1:
            self._reached(job, item.start)

    def _pump(self, job: PlotJob) -> None:
        for message in self._talk.pump(POLL_S):
            self._take(message, job)

    def _take(self, message: Message, job: PlotJob) -> None:
        match message:
            case grbl.Ok(line=grbl.Line(number=number)):
                if any(item.number == number and item.waits for item in self._under_way):
                    self._retire(job, number + 1)
            case grbl.Report(status=status):
                if status.state in _FOREIGN_STOPS:  # somebody pressed the machine's own button, or opened its door
                    job.ask_pause()
                at = self.place(status)
                if at is not None:
                    self.position = at
                    if self._under_way:
                        self._retire(job, self._earliest(at).number, at)
            case _:
                pass

    def _earliest(self, at: Point) -> _Item:
        """The first line under way during which the machine can be at `at`; all before it are certainly done."""
        slack = 1.5 * self.settings.machine.step_mm + _MM_STEP
        moving = [item for item in self._under_way if item.moves]
        for item in moving:
            if _distance(at, item.start, item.end) <= slack:
                return item
        return self._under_way[0]

    def _retire(self, job: PlotJob, before: int, at: Point | None = None) -> None:
        """All lines before number `before` are done; the machine is at `at`, if that is known."""
        retired = False
        while self._under_way and self._under_way[0].number < before:
            item = self._under_way.popleft()
            retired = True
            if item.moves or item.pen_down is not None:
                self._note_pen(job, item)
            self.position = item.end if at is None else at
        if self._under_way and (retired or at is not None):
            self._reached(job, at or self._under_way[0].start)

    @staticmethod
    def _note_pen(job: PlotJob, item: _Item) -> None:
        job.pen_at(item.end, item.drawn if item.pen_down is None else item.pen_down)

    def _reached(self, job: PlotJob, at: Point) -> None:
        item = self._under_way[0]
        resume, done_mm = item.resume, item.done_mm
        if item.drawn:
            resume = Resume(resume.stroke, resume.point, at)
            done_mm += hypot(at[0] - item.start[0], at[1] - item.start[1])
        # on a path that turns back over itself the place is taken for the earlier pass: what is told never goes back
        self._told_mm = max(self._told_mm, done_mm)
        job.reached(Reached(resume, at, item.done_s, self._told_mm))

    # stopping ----------------------------------------------------------------------------------------------------

    def _stop(self, job: PlotJob) -> Resume:
        """Feed hold, and once it stands still a reset, which keeps the position; then the pen up."""
        resume = self._settle(job, self._talk.halt())
        self._talk.reset()
        self._under_way.clear()
        self.prepare()
        return resume

    def _settle(self, job: PlotJob, status: Status) -> Resume:
        """Where to go on from the place at which the machine stands now; the job is told what was drawn until there."""
        at = self.place(status) or self.position
        at = self.settings.in_steps(at)
        self.position = at
        if not self._under_way:
            return job.last.resume
        item = self._earliest(at)
        self._retire(job, item.number, at)
        self._reached(job, at)
        if item.drawn:
            job.pen_at(at, True)
        job.pen_at(at, False)
        return job.last.resume

    def _make_safe(self, job: PlotJob, error: BaseException) -> None:
        """After an error: at rest, pen up, position read anew; blindly where the controller does not answer."""
        talk = self._talk
        try:
            if talk.lost:
                return
            if isinstance(error, HardwareError):  # an alarm or a new beginning: nothing moves, no line is left
                talk.reset()
                talk.alarm = error.context.get("alarm", talk.alarm)
                self._lift_unlocked()
            elif talk.sound:
                self._stop(job)
            else:
                talk.stop_blindly()
        except DriverError:
            talk.stop_blindly()
        finally:
            self._under_way.clear()
            self.pen_up = True

    def _lift_unlocked(self) -> None:
        """Unlock to raise the pen. For the driver the machine stays locked (`talk.alarm`) until somebody unlocks it."""
        with suppress(DriverError):
            self._talk.ask("$X", MODES)
            self.pen(up=True)
        with suppress(DriverError):
            self.position = self.place(self._talk.status()) or self.position


def _end_of(plan: Plan) -> Resume:
    return Resume(max(plan.resume.stroke, len(plan.drawing.paths)))


def _distance(at: Point, start: Point, end: Point) -> float:
    """How far `at` is from the straight line between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length2 = dx * dx + dy * dy
    share = ((at[0] - start[0]) * dx + (at[1] - start[1]) * dy) / length2 if length2 > 0 else 0.0
    share = min(1.0, max(0.0, share))
    return hypot(at[0] - start[0] - share * dx, at[1] - start[1] - share * dy)
