"""PlotterDriver: the contract of everything that draws with a pen, and the parts of it that every plotter shares.

A driver of a new plotter gives its primitives (`machine`, `stream`, `lift`, `lower`, `where`, `idle`,
`keeps_position`) and the connection (`connect`, `disconnect`); reading the file, refusing what lies off the page,
planning, progress, pause, cancel, resume and the report are here. Coordinates are machine millimetres: (0, 0) is home
and the page's top-left corner, x to the right, y down.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from vfab.model.errors import Cancelled, ConfigurationError, DriverError, HandedOver, IllegalTransition, Refused
from vfab.sdk.cancel import CancelToken, check_token, current_token
from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.driver import BaseDriver, command
from vfab.sdk.motion import Plan, PlotProfile, Resume, plan_drawing
from vfab.sdk.plot_carry import CarriedPlot
from vfab.sdk.plot_checkpoint import Checkpoint, CheckpointFile, fingerprint
from vfab.sdk.plot_job import PlotJob, Reached, Wanted
from vfab.sdk.plot_options import PlotOptions
from vfab.sdk.plot_planning import PlanningProgress
from vfab.sdk.plot_report import estimate_of, report_of
from vfab.sdk.plot_travel import TravelPlan
from vfab.sdk.svg import check_on_page, read_drawing

__all__ = ["Machine", "PlotterDriver"]

HOME: Point = (0.0, 0.0)
_BUTTON_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plotter can do, known without the device.

    Attributes:
        width_mm, height_mm: how far the pen reaches from home.
        profile: limits and pen times; its `return_home` says whether a plot ends at home.
        step_mm: the smallest movement, millimetres.
        top_speed_mm_s: no speed may be above this.
    """

    width_mm: float
    height_mm: float
    profile: PlotProfile
    step_mm: float
    top_speed_mm_s: float


class PlotterDriver(BaseDriver):
    """Base of drivers of plotters.

    Every movement ends with an error only after the pen was raised, as far as the link allowed it. Errors that any
    movement may raise:

    - Refused: it leads off the area that the pen reaches; nothing moved.
    - Cancelled: somebody cancelled; the machine slowed down, the pen is up, the position is known.
    - LinkLost: the link broke; the machine finished or stopped by itself, the pen may be down; position unknown.
    - TimeoutExceeded, ProtocolError, HardwareError: the machine was told to stop and to lift its pen.
    """

    _job: PlotJob | None = None
    _preparing: CancelToken | None = None
    """What `cancel` cancels while a plot is read and planned."""
    hands_over: ClassVar[bool] = False
    """`stream` knows `Wanted.HAND_OVER`, and `connect` disturbs neither position nor pen: a plot goes on in the next
    process when the driver is replaced."""

    # -- what a driver of one kind of plotter gives -------------------------------------------------------------------

    @abstractmethod
    def machine(self) -> Machine:
        """What the plotter can do, by its settings. Works without a device."""

    @abstractmethod
    def stream(self, plan: Plan, job: PlotJob) -> Resume | None:
        """Execute a plan, from its start to its end, and wait until the machine has.

        Tells the job by `job.pen_at` what was commanded and by `job.reached` what is certainly done, and looks at
        `job.wanted` at least every 50 ms of motion. When that is not RUN: slow down along the path, lift the pen, and
        return where to go on. Ignores the call's token (`plot_job.shielded`): the job looks at it.

        Returns: None when all is drawn; otherwise where it stopped.
        """

    @abstractmethod
    def lift(self) -> None:
        """Raise the pen and wait until it is up."""

    @abstractmethod
    def lower(self) -> None:
        """Lower the pen and wait until it is down."""

    @abstractmethod
    def where(self) -> tuple[Point, bool]:
        """Where the pen was commanded to be, in machine millimetres, and whether it is up. Asks nobody."""

    @abstractmethod
    def idle(self, job: PlotJob) -> None:
        """Called every 0.1 s of a pause: find out whether the link lives and the machine's button was pressed."""

    @abstractmethod
    def keeps_position(self, since_s: float) -> bool:
        """Whether the position was counted without a break since `since_s` (seconds since 1970): power never failed."""

    def home_from(self, at: Point) -> Point:
        """Where home is, seen from `at`, machine millimetres: (0, 0), unless a machine has it elsewhere or often."""
        return HOME

    def on_machine(self, drawing: Drawing) -> Drawing:
        """A drawing as the machine draws it, in its millimetres.

        Raises Refused: something lies off the page, or out of the pen's reach.
        """
        machine = self.machine()
        check_on_page(drawing)
        check_on_page(drawing, machine.width_mm, machine.height_mm)
        return drawing

    def warnings(self) -> list[str]:
        """What a user should know of the machine before it draws, such as a missing power supply; maybe nothing."""
        return []

    # -- the contract -------------------------------------------------------------------------------------------------

    @command
    def home(self) -> dict[str, Any]:
        """Lift the pen and travel to home (0, 0), at the pen-up limits.

        Returns: `position()`.
        """
        return self.move_to(*self.home_from(self.where()[0]))

    @command
    def pen_up(self) -> dict[str, Any]:
        """Raise the pen; returns `position()` once it is up."""
        self._refuse_while_plotting("pen_up")
        self.lift()
        return self.position()

    @command
    def pen_down(self) -> dict[str, Any]:
        """Lower the pen; returns `position()` once it is down. It stays down until something raises it."""
        self._refuse_while_plotting("pen_down")
        self.lower()
        return self.position()

    @command
    def move_to(self, x_mm: float, y_mm: float) -> dict[str, Any]:
        """Lift the pen and travel to (x_mm, y_mm), millimetres from home, x right, y down. Returns `position()`.

        Raises Refused: outside of what the pen reaches; nothing moved. Cancelled: it stands somewhere on the way.
        """
        self._refuse_while_plotting("move_to")
        self._check_points([(x_mm, y_mm)])
        self._draw([], end=(float(x_mm), float(y_mm)), profile=self.machine().profile)
        return self.position()

    @command
    def draw_path(self, points: Sequence[Sequence[float]], *, speed_mm_s: float | None = None) -> dict[str, Any]:
        """Draw one stroke: travel to the first point, lower the pen, follow the points, raise the pen.

        Args:
            points: (x, y) in millimetres from home, at least one; one point alone makes a dot.
            speed_mm_s: top speed with the pen down; None takes the settings'.

        Returns: `{"pen_down_mm", "planned_s", "elapsed_s", "x_mm", "y_mm", "pen"}`.

        Raises Refused: a point lies outside of what the pen reaches, or there is none; nothing was drawn.
            Cancelled, LinkLost, …: part of the path is drawn.
        """
        self._refuse_while_plotting("draw_path")
        path = [(float(x), float(y)) for x, y in points]
        if not path:
            raise Refused("draw_path was given no points", remedy="Give at least one point, [x_mm, y_mm].")
        self._check_points(path)
        profile = self._profile(PlotOptions(speed_mm_s=speed_mm_s))
        began = time.monotonic()
        job = self._draw([path], end=None, profile=profile)
        done = {"pen_down_mm": job.total_mm, "planned_s": job.total_s, "elapsed_s": time.monotonic() - began}
        return {**done, **self.position()}

    @command(concurrent=True)
    def estimate(self, svg: bytes, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan a plot without drawing it; works without a device.

        Args:
            svg: the file's bytes.
            options: see `PlotOptions`; the same as for `plot`.

        Progress, when it takes more than a second, at most ten times a second: `phase` (planning), `step` (reading,
        joining, sorting), `done` and `total`: the elements of the file, or the strokes of the layer.

        Returns: `{"planned_s", "pen_down_mm", "pen_up_mm", "lifts", "strokes", "input_segments", "width_mm",
            "height_mm", "warnings", "layers"}`; a layer is `{"number", "name", "strokes", "pen_down_mm"}`.

        Raises BadResource: no SVG, or nothing in it to draw. Refused: something lies off the page or the machine.
        """
        wanted = PlotOptions.from_dict(options)
        drawing = self._read(svg, wanted)
        return estimate_of(drawing, plan_drawing(drawing, self._profile(wanted), start=self.home_from(HOME)))

    @command
    def plot(
        self, svg: bytes, options: dict[str, Any] | None = None, *, carried: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw an SVG file: read, check, plan, draw, travel home.

        Args:
            svg: the file's bytes.
            options: see `PlotOptions`: `source`, `layers`, `fit`, `margin_mm`, `tolerance_mm`, `page`, `resume`, …
            carried: what another process had done of this very plot when it handed it over; the kernel gives it.

        Progress, at most ten times a second: `phase` planning, with `step`, `done` and `total` as in `estimate` when
        that takes long; then `phase` (drawing, paused), `done_s`, `total_s`, `remaining_s`
        (planned seconds), `done_mm`, `total_mm` (pen down), `stroke` (the one being drawn, from 0), `strokes`, `x_mm`,
        `y_mm`.

        Returns: the report: `input_segments` (of the whole file), `pen_down_mm`, `pen_up_mm`, `planned_s`, `lifts`
            (of this run: what was left to draw when it began), `elapsed_s` (pauses included), `max_deviation_mm`
            (largest distance, both ways, between the path commanded in whole motor steps and the flattened input),
            `completed`, `resumed_from` (share of the pen-down length, 0 to 1, that an earlier run had drawn; null for
            a fresh plot), `warnings`.

        Raises BadResource, Refused, ConfigurationError: nothing moved. Cancelled, LinkLost, TimeoutExceeded,
            ProtocolError, HardwareError: part is drawn, the pen was raised if the link allowed it, and the place is
            saved: the same call with `resume` true goes on from there.
        """
        self._refuse_while_plotting("plot")
        with self._cancellable() as token:
            return self._plot(svg, PlotOptions.from_dict(options), CarriedPlot.from_dict(carried), token)

    @contextmanager
    def _cancellable(self) -> Iterator[CancelToken]:
        """The call's token, for `cancel` to cancel before there is a job; one of its own where nobody gave one."""
        token = current_token.get() or CancelToken()
        before = current_token.set(token)
        self._preparing = token
        try:
            yield token
        finally:
            self._preparing = None
            current_token.reset(before)

    def _plot(self, svg: bytes, wanted: PlotOptions, earlier: CarriedPlot | None, token: CancelToken) -> dict[str, Any]:
        self.progress(phase="planning")
        drawing = self._read(svg, wanted)
        check_token()
        saved = CheckpointFile(self.environment.state_dir, self.log)
        mark = fingerprint(svg)
        found = saved.load_for(mark, wanted) if wanted.resume else None
        resume, before_mm = (found.resume, found.done_mm) if found else (Resume(), 0.0)
        if earlier is not None:
            resume = earlier.resume
        notes = [*self.warnings(), *self._position_notes(found, saved.elsewhere is not None)]
        profile = self._profile(wanted)
        plan = plan_drawing(drawing, replace(profile, return_home=False), start=self.where()[0], resume=resume)
        end = _end_of(drawing)
        way_home = TravelPlan(end, self.home_from(end), profile) if profile.return_home else None

        def save(reached: Reached, lasting: bool) -> None:
            saved.save(Checkpoint.of(mark, wanted, drawing, reached, before_mm), lasting=lasting)

        planned_s = plan.duration_s + (way_home.duration_s if way_home else 0.0)
        job = PlotJob(drawing, planned_s, plan.pen_down_mm, tell=self._tell, save=save, token=token)
        job.last = Reached(resume, plan.start)
        job.may_be_handed_over = self.hands_over
        if earlier is not None:
            earlier.put_into(job, planned_s)
        began = time.monotonic() - (earlier.elapsed_s if earlier else 0.0)
        try:
            self._run(job, plan, goes_home=way_home is not None, home_on_cancel=wanted.home_on_cancel)
        except HandedOver as over:
            figures = earlier.figures if earlier else _figures(plan, way_home)
            over.context["kwargs"] = {"carried": CarriedPlot.of(job, time.monotonic() - began, figures).to_dict()}
            raise
        elapsed_s = time.monotonic() - began
        job.finish()
        saved.remove()
        report = report_of(
            drawing, plan, job, elapsed_s, resumed=resume if found and not earlier else None, before_mm=before_mm
        )
        report |= earlier.figures if earlier else _figures(plan, way_home)
        report["warnings"] = [*drawing.warnings, *notes]
        return report

    @command(concurrent=True)
    def pause(self) -> dict[str, Any]:
        """Pause the running job: it slows down along the path and lifts the pen. Returns `status()` at once.

        Raises IllegalTransition: nothing is being drawn.
        """
        self._running("pause").ask_pause()
        return self.status()

    @command(concurrent=True)
    def resume(self) -> dict[str, Any]:
        """Go on after a pause, from exactly where the pen was lifted. Returns `status()` at once.

        Raises IllegalTransition: nothing is being drawn.
        """
        self._running("resume").ask_resume()
        return self.status()

    @command(concurrent=True)
    def cancel(self) -> dict[str, Any]:
        """End the running job: it slows down, lifts the pen, and its call raises Cancelled. Returns `status()` at once.

        A plot that is still read and planned ends before anything moves. Without a running job nothing happens.
        """
        job, preparing = self._job, self._preparing
        if job is not None:
            job.ask_stop()
        elif preparing is not None:
            preparing.cancel()
        return self.status()

    def reach_safe_point(self) -> bool:
        """Have a plot stop between two strokes, pen up, so that the next process goes on with it."""
        job = self._job
        return job is not None and job.ask_hand_over()

    @command(concurrent=True)
    def position(self) -> dict[str, Any]:
        """Where the pen was commanded to be: `{"x_mm", "y_mm", "pen"}`, millimetres from home, pen `up` or `down`."""
        (x, y), up = self.where()
        return {"x_mm": round(x, 4), "y_mm": round(y, 4), "pen": "up" if up else "down"}

    @command(concurrent=True)
    def status(self) -> dict[str, Any]:
        """What the plotter does: `{"state", "position", "job"}`.

        `state` is disconnected, idle, drawing, pausing, paused or stopping; `job` is the latest progress, or null;
        `position` is null while disconnected: nobody knows then where the pen is.
        """
        job, connected = self._job, self.is_connected()
        return {
            "state": _state(job) if job is not None else ("idle" if connected else "disconnected"),
            "position": self.position() if job is not None or connected else None,
            "job": job.snapshot() if job is not None else None,
        }

    # -- shared parts -------------------------------------------------------------------------------------------------

    def _read(self, svg: bytes, options: PlotOptions) -> Drawing:
        return self.on_machine(
            read_drawing(
                svg, source=options.source, options=options.svg_options(), tell=PlanningProgress(self.progress)
            )
        )

    def _profile(self, options: PlotOptions) -> PlotProfile:
        machine = self.machine()
        profile = options.apply(machine.profile)
        for name, limits in (("speed_mm_s", profile.pen_down), ("travel_mm_s", profile.pen_up)):
            if limits.max_velocity_mm_s > machine.top_speed_mm_s:
                raise ConfigurationError(
                    f"{name} is {limits.max_velocity_mm_s:g}, and the machine reaches {machine.top_speed_mm_s:g} mm/s",
                    context={"field": name, "found": limits.max_velocity_mm_s, "maximum": machine.top_speed_mm_s},
                    remedy=f"Give {machine.top_speed_mm_s:g} or less.",
                )
        return profile if options.home is None else replace(profile, return_home=options.home)

    def _tell(self, data: dict[str, Any]) -> None:
        self.progress(**data)

    def _check_points(self, points: Sequence[Point]) -> None:
        machine = self.machine()
        path = Polyline(points, "the point" if len(points) == 1 else "the path")
        try:
            check_on_page(Drawing([path], machine.width_mm, machine.height_mm))
        except Refused as error:
            error.message = (
                f"{path.element} is out of the pen's reach of {machine.width_mm:g} × {machine.height_mm:g} mm"
            )
            error.remedy = "Give points within reach, or name the machine by the setting model."
            raise

    def _position_notes(self, found: Checkpoint | None, elsewhere: bool) -> list[str]:
        """What a resumed plot takes for granted about where the carriage stands."""
        notes: list[str] = []
        if elsewhere:
            notes.append(
                "the plot was interrupted on another port or machine: the carriage is taken to stand at home now"
            )
        elif found is not None and not self.keeps_position(found.time):
            notes.append(
                "the machine lost its power or its position since the plot was interrupted: the carriage is taken to "
                "stand at home now"
            )
        for note in notes:
            self.log.warning(note)
        return notes

    def _draw(self, paths: Sequence[Sequence[Point]], *, end: Point | None, profile: PlotProfile) -> PlotJob:
        """Draw `paths` and travel to `end`, as a job of its own that leaves no checkpoint."""
        machine = self.machine()
        drawing = Drawing([Polyline(path) for path in paths], machine.width_mm, machine.height_mm)
        start = self.where()[0]
        plan: Plan
        if end is not None:
            plan = TravelPlan(start, end, profile)
        else:
            plan = plan_drawing(drawing, replace(profile, return_home=False), start=start)
        job = PlotJob(drawing, plan.duration_s, plan.pen_down_mm, tell=self._tell, token=current_token.get())
        job.last = Reached(Resume(), start)
        self._run(job, plan, goes_home=False)
        return job

    def _run(self, job: PlotJob, plan: Plan, *, goes_home: bool, home_on_cancel: bool = False) -> None:
        """Draw `plan` through all pauses; on every error the place is saved before it is raised."""
        self._job = job
        try:
            if not self.where()[1]:
                self.lift()
            way_home = self._way_home(job, plan.profile, _end_of(job.drawing)) if goes_home else None
            self._draw_through_pauses(job, plan, way_home.duration_s if way_home else 0.0)
            job.may_be_handed_over = False
            if way_home:
                job.go_on(way_home.duration_s)
                self._draw_through_pauses(job, way_home, 0.0)
        except Exception as error:
            job.settle(job.last.resume, job.last.at)
            if isinstance(error, DriverError):
                error.context.setdefault("progress", job.snapshot())
            if home_on_cancel and isinstance(error, Cancelled) and not isinstance(error, HandedOver):
                self._go_home_quietly(job, plan.profile)
            raise
        finally:
            self._job = None

    def _draw_through_pauses(self, job: PlotJob, plan: Plan, after_s: float) -> None:
        """Draw `plan`, which something that lasts `after_s` follows, and what is left of it after each pause."""
        while (stopped := self.stream(plan, job)) is not None:
            if job.wanted is Wanted.HAND_OVER:
                job.settle(stopped, self.where()[0])
                raise HandedOver("the plot stopped between two strokes, for another process to go on")
            self._wait_out_pause(job, stopped)
            here = self.where()[0]
            if isinstance(plan, TravelPlan):
                plan = TravelPlan(here, plan.end, plan.profile, plan.stroke)
            else:
                plan = plan_drawing(job.drawing, plan.profile, start=here, resume=stopped)
            job.go_on(plan.duration_s + after_s)

    def _wait_out_pause(self, job: PlotJob, stopped: Resume) -> None:
        """Pen up, standing still: until somebody resumes. Raises Cancelled, or what `idle` raises."""
        job.settle(stopped, self.where()[0])
        while job.wanted is Wanted.PAUSE:
            if job.is_to_be_handed_over:
                raise HandedOver("the plot is paused, for another process to go on")
            job.set_phase("paused")
            self.idle(job)
            job.wait_change(_BUTTON_POLL_S)
        job.check()
        job.set_phase("drawing")

    def _way_home(self, job: PlotJob, profile: PlotProfile, start: Point) -> TravelPlan:
        return TravelPlan(start, self.home_from(start), profile, len(job.drawing.paths))

    def _go_home_quietly(self, job: PlotJob, profile: PlotProfile) -> None:
        plan = self._way_home(job, profile, self.where()[0])
        try:
            self.stream(plan, PlotJob(job.drawing, plan.duration_s, 0.0))
        except DriverError as error:
            self.log.warning("travelling home after the cancel failed: %s", error.message)

    def _running(self, verb: str) -> PlotJob:
        job = self._job
        if job is None:
            raise IllegalTransition(f"there is nothing to {verb}: nothing is being drawn", context={"command": verb})
        return job

    def _refuse_while_plotting(self, name: str) -> None:
        if self._job is not None:
            raise IllegalTransition(
                f"{name} is not possible while something is being drawn",
                context={"command": name},
                remedy="Wait for its end, or cancel it.",
            )


def _figures(plan: Plan, way_home: TravelPlan | None) -> dict[str, Any]:
    """What a report says of the plot as it was planned when it began."""
    home_mm, home_s = (way_home.pen_up_mm, way_home.duration_s) if way_home else (0.0, 0.0)
    return {
        "pen_down_mm": round(plan.pen_down_mm, 3),
        "pen_up_mm": round(plan.pen_up_mm + home_mm, 3),
        "planned_s": round(plan.duration_s + home_s, 3),
        "lifts": plan.lifts,
    }


def _state(job: PlotJob) -> str:
    if job.wanted is Wanted.STOP:
        return "stopping"
    if job.phase == "paused":
        return "paused"
    return "pausing" if job.wanted is Wanted.PAUSE else "drawing"


def _end_of(drawing: Drawing) -> Point:
    return drawing.paths[-1].points[-1]
