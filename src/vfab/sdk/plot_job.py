"""One running job of a plotter: what other threads ask of it, what it tells its caller, where it could go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from vfab.model.errors import Cancelled, TimeoutExceeded
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.motion import Resume

__all__ = ["CARRIED_MAX", "PROGRESS_S", "SAVE_S", "PlotJob", "Reached", "Wanted", "shielded"]

PROGRESS_S = 0.1
"""Progress is told at most this often."""
CARRIED_MAX = 200_000
"""Points that go over to another process: what was drawn is compared with what was wanted when all is done."""
SAVE_S = 0.25
"""While drawing, the place to go on from is saved at most this often."""


@contextmanager
def shielded() -> Iterator[None]:
    """Links do not look at the call's token in here: what runs is needed to leave the machine safe."""
    before = current_token.set(None)
    try:
        yield
    finally:
        current_token.reset(before)


class Wanted(Enum):
    """What a job should do now."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"
    HAND_OVER = "hand_over"
    """Stop between two strokes, pen up, for another process to go on."""


class Reached:
    """How far the machine has certainly come.

    Attributes:
        resume: where to go on if it ended here, in the drawing's terms.
        at: where the pen is, in machine millimetres.
        done_s: planned seconds behind it, in this run.
        done_mm: length drawn, in this run.
    """

    __slots__ = ("at", "done_mm", "done_s", "resume")

    def __init__(self, resume: Resume, at: Point, done_s: float = 0.0, done_mm: float = 0.0) -> None:
        self.resume = resume
        self.at = at
        self.done_s = done_s
        self.done_mm = done_mm


class PlotJob:
    """A job: its drawing, its clock, and the wishes of pause, resume and cancel.

    The thread that draws calls `wanted`, `reached`, `pen_at`; any thread may call the `ask_…` methods and `snapshot`.

    Args:
        drawing: what is drawn.
        total_s, total_mm: planned seconds, and length with the pen down, of this run.
        tell: is given the progress.
        save: is given how far it has come, to keep it for a later resume.
        token: the call's token; a cancel of the call stops the job.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        drawing: Drawing,
        total_s: float,
        total_mm: float,
        *,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
        save: Callable[[Reached, bool], None] = lambda _reached, _lasting: None,
        token: CancelToken | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drawing = drawing
        self.total_s = self.planned_s = total_s
        self.total_mm = total_mm
        self.phase = "drawing"
        self.drawn: list[list[Point]] = []
        """What was commanded with the pen down, in whole motor steps, as millimetres: one polyline a stroke."""
        self.last = Reached(Resume(), (0.0, 0.0))
        self._base_s = self._base_mm = 0.0
        self._listener, self._save, self._token, self._clock = tell, save, token, clock
        self._told_s = self._saved_s = float("-inf")
        self._paused = self._stopped = self._handing_over = False
        self.may_be_handed_over = False
        """Another process can go on with it; not so on its way home, which soon ends."""
        self._changed = threading.Event()
        self._pen_down = False

    # asked by others ---------------------------------------------------------------------------------------------

    def ask_pause(self) -> None:
        """Stop at the next place where that is possible without a jerk, with the pen up."""
        self._paused = True
        self._changed.set()

    def ask_resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        self._changed.set()

    def ask_hand_over(self) -> bool:
        """Stop between two strokes for another process to go on; False: this job goes on to its end.

        So does one that has drawn more than `CARRIED_MAX` points.
        """
        if sum(map(len, self.drawn)) > CARRIED_MAX:
            return False
        self._handing_over = True
        self._changed.set()
        return self.may_be_handed_over

    def ask_stop(self) -> None:
        """End the job: it raises Cancelled."""
        self._stopped = True
        self._changed.set()

    def button(self) -> None:
        """Somebody pressed the machine's own button: pause, or go on."""
        (self.ask_resume if self._paused else self.ask_pause)()

    @property
    def wanted(self) -> Wanted:
        """What the job should do now."""
        if self._stopped or self._token_over():
            return Wanted.STOP
        if self._paused:
            return Wanted.PAUSE
        return Wanted.HAND_OVER if self.is_to_be_handed_over else Wanted.RUN

    @property
    def is_paused(self) -> bool:
        """Somebody paused it."""
        return self._paused

    @property
    def is_to_be_handed_over(self) -> bool:
        """Another process is to go on with it, and can."""
        return self._handing_over and self.may_be_handed_over

    def wait_change(self, timeout_s: float) -> None:
        """Wait until somebody asks for something, `timeout_s` seconds at most."""
        self._changed.wait(timeout_s)
        self._changed.clear()

    def check(self) -> None:
        """Raises Cancelled when somebody cancelled the job, TimeoutExceeded when its caller's time is up."""
        if self._token is not None:
            self._token.check()
        if self._stopped:
            raise Cancelled("the plot was cancelled")

    def _token_over(self) -> bool:
        if self._token is None:
            return False
        try:
            self._token.check()
        except (Cancelled, TimeoutExceeded):
            return True
        return False

    # told by whoever draws ---------------------------------------------------------------------------------------

    def pen_at(self, at: Point, pen_down: bool) -> None:
        """A command was sent that brings the pen to `at` (machine millimetres), drawing or not."""
        if pen_down:
            if not self._pen_down:
                self.drawn.append([])
            self.drawn[-1].append(at)
        self._pen_down = pen_down

    def reached(self, reached: Reached) -> None:
        """All up to here is certainly done; `done_s` and `done_mm` count from the beginning of the current plan."""
        reached.done_s += self._base_s
        reached.done_mm += self._base_mm
        self.last = reached
        now = self._clock()
        if now - self._saved_s >= SAVE_S:
            self._saved_s = now
            self._save(reached, False)
        if now - self._told_s >= PROGRESS_S:
            self._told_s = now
            self._tell(self.snapshot())

    def settle(self, resume: Resume, at: Point) -> None:
        """Motion has ended: this is where to go on. Saved at once, so that it outlives a power failure."""
        self.last = Reached(resume, at, self.last.done_s, self.last.done_mm)
        self._save(self.last, True)
        self._tell(self.snapshot())

    def go_on(self, left_s: float) -> None:
        """The current plan is over; the next one counts from 0, and after what is done `left_s` is all there is."""
        self._base_s, self._base_mm = self.last.done_s, self.last.done_mm
        self.total_s = self._base_s + left_s

    def finish(self) -> None:
        """All is done: tell so."""
        self.last.done_s, self.last.done_mm = self.total_s, self.total_mm
        self._tell(self.snapshot())

    def set_phase(self, phase: str) -> None:
        """Say that the job is now `drawing`, `paused` or another phase."""
        if phase != self.phase:
            self.phase = phase
            self._tell(self.snapshot())

    def _tell(self, data: dict[str, Any]) -> None:
        """Tell the caller, also from within `shielded`, where links do not see that there is one."""
        before = current_token.set(self._token)
        try:
            self._listener(data)
        finally:
            current_token.reset(before)

    def snapshot(self) -> dict[str, Any]:
        """How far the job has come, as `PlotterDriver.plot` tells it."""
        last = self.last
        done_s = min(last.done_s, self.total_s)
        return {
            "phase": self.phase,
            "done_s": round(done_s, 3),
            "total_s": round(self.total_s, 3),
            "remaining_s": round(self.total_s - done_s, 3),
            "done_mm": round(min(last.done_mm, self.total_mm), 3),
            "total_mm": round(self.total_mm, 3),
            "stroke": min(last.resume.stroke, max(0, len(self.drawing.paths) - 1)),
            "strokes": len(self.drawing.paths),
            "x_mm": round(last.at[0], 4),
            "y_mm": round(last.at[1], 4),
        }
