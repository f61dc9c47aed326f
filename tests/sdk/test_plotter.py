"""What every plotter has in common, on a plotter that is nothing but arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import (
    BadResource,
    Cancelled,
    ConfigurationError,
    HardwareError,
    IllegalTransition,
    Refused,
    TimeoutExceeded,
)
from vfab.model.manifest import Manifest
from vfab.sdk.cancel import CancelToken
from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.driver import Environment
from vfab.sdk.motion import Move, Plan, PlotProfile, Resume, Stroke, plan_stroke
from vfab.sdk.plot_job import PROGRESS_S, SAVE_S, PlotJob, Reached, Wanted
from vfab.sdk.plot_options import PlotOptions
from vfab.sdk.plot_planning import PlanningProgress
from vfab.sdk.plot_travel import Brake, TravelPlan
from vfab.sdk.plotter import Machine, PlotterDriver
from vfab.sdk.testing import DriverBench
from vfab.sdk.velocity import Limits

THREE = b"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"
  width="50mm" height="50mm" viewBox="0 0 50 50" fill="none" stroke="black">
  <g inkscape:groupmode="layer" inkscape:label="1 outline"><path d="M0 0 H10"/><path d="M20 0 H30"/></g>
  <g inkscape:groupmode="layer" inkscape:label="2 detail"><path d="M5 20 H25"/></g></svg>"""


class PaperPlotter(PlotterDriver):
    """Draws on a list. `on_step` is called before each step of a plan and may do what a person would."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.at: Point = (0.0, 0.0)
        self.up = True
        self.steps: list[str] = []
        self.on_step: Callable[[int], None] = lambda _: None
        self.kept = True
        self.idled = 0

    def is_connected(self) -> bool:
        return True

    def machine(self) -> Machine:
        return Machine(100.0, 80.0, PlotProfile(), 0.01, 220.0)

    def stream(self, plan: Plan, job: PlotJob) -> Resume | None:
        done_s = done_mm = 0.0
        for step in plan:
            self.on_step(len(self.steps))
            if job.wanted is not Wanted.RUN:
                self.up = True
                return Resume(step.stroke)
            self.steps.append(type(step).__name__)
            if isinstance(step, Move):
                self.at = step.end
            elif isinstance(step, Stroke):
                for point in plan.drawing.paths[step.stroke].points:
                    job.pen_at(point, True)
                    self.at = point
                done_mm += step.length_mm
            else:
                self.up = type(step).__name__ == "PenUp"
                job.pen_at(self.at, not self.up)
            done_s += step.duration_s
            job.reached(Reached(Resume(step.stroke + isinstance(step, Stroke)), self.at, done_s, done_mm))
        return None

    def lift(self) -> None:
        self.up = True

    def lower(self) -> None:
        self.up = False

    def where(self) -> tuple[Point, bool]:
        return self.at, self.up

    def idle(self, job: PlotJob) -> None:
        self.idled += 1

    def keeps_position(self, since_s: float) -> bool:
        return self.kept


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The device's state folder, as deep as the kernel makes it."""
    folder = tmp_path / "driver" / "device"
    folder.mkdir(parents=True)
    return folder


def bench(state: Path | None = None) -> DriverBench[PaperPlotter]:
    manifest = Manifest(name="paper", version="1", author="-", description="-", driver_class="x.Y", category="plotter")
    return DriverBench(PaperPlotter, manifest, state_dir=state)


def test_a_plot_is_travel_pen_down_stroke_pen_up_for_each_stroke_and_then_the_way_home() -> None:
    with bench() as b:
        report = b.driver.plot(THREE)
        assert b.driver.steps == [
            *("PenDown", "Stroke", "PenUp", "Move"),
            *("PenDown", "Stroke", "PenUp", "Move"),
            *("PenDown", "Stroke", "PenUp", "Move"),
        ]
        assert b.driver.at == (0.0, 0.0)
        assert (report["pen_down_mm"], report["lifts"], report["max_deviation_mm"]) == (40.0, 3, 0.0)


def test_layers_are_drawn_alone_when_asked_for_and_listed_in_the_estimate() -> None:
    with bench() as b:
        assert b.driver.plot(THREE, {"layers": [2]})["pen_down_mm"] == 20.0
        layers = b.driver.estimate(THREE)["layers"]
        assert [(layer["number"], layer["strokes"], layer["pen_down_mm"]) for layer in layers] == [
            (1, 2, 20),
            (2, 1, 20),
        ]


def test_the_way_home_is_left_out_when_the_caller_says_so() -> None:
    with bench() as b:
        with_home = b.driver.plot(THREE)
        b.driver.home()
        without = b.driver.plot(THREE, {"home": False})
        assert b.driver.at != (0.0, 0.0)
        assert without["planned_s"] < with_home["planned_s"]
        assert without["pen_up_mm"] < with_home["pen_up_mm"]


def test_a_pause_waits_pen_up_asks_the_machine_now_and_then_and_goes_on_where_it_was() -> None:
    with bench() as b:

        def person(step: int) -> None:
            if step == 4 and not b.driver.idled:
                assert b.driver.pause()["state"] == "pausing"

        b.driver.on_step = person
        run = b.start(lambda: b.driver.plot(THREE))
        while not b.driver.idled:
            assert not run.done
        assert b.driver.status()["state"] == "paused"
        assert b.driver.up
        b.driver.resume()
        assert run.result()["max_deviation_mm"] == 0.0
        phases = [data["phase"] for data in b.progress]
        assert phases.index("paused") > 0
        assert phases[-1] == "drawing"
        assert b.progress[-1]["remaining_s"] == 0


def test_while_a_plot_runs_nothing_else_may_move_the_pen() -> None:
    with bench() as b:
        refused: list[str] = []

        def person(_: int) -> None:
            for name in ("home", "pen_up", "pen_down", "plot"):
                with pytest.raises(IllegalTransition) as error:
                    getattr(b.driver, name)(*([THREE] if name == "plot" else []))
                refused.append(error.value.context["command"])

        b.driver.on_step = person
        b.driver.plot(THREE)
        assert set(refused) == {"move_to", "pen_up", "pen_down", "plot"}


def test_a_cancel_keeps_the_place_and_a_resume_draws_only_what_was_left(state: Path) -> None:
    with bench(state) as b:
        b.driver.on_step = lambda step: _cancel_at(b.driver, step, 5)
        with pytest.raises(Cancelled) as cancelled:
            b.driver.plot(THREE, {"home_on_cancel": True})
        assert cancelled.value.context["progress"]["stroke"] == 1
        assert b.driver.at == (0.0, 0.0), "it went home"
        b.driver.on_step = lambda _: None
        b.driver.steps.clear()
        b.driver.kept = False
        report = b.driver.plot(THREE, {"resume": True})
        assert b.driver.steps.count("Stroke") == 2
        assert report["resumed_from"] == 0.25
        assert report["input_segments"] == 3
        assert report["max_deviation_mm"] == 0.0
        assert any("home" in note for note in report["warnings"])
        assert list(state.iterdir()) == [], "nothing is left to resume"


@pytest.mark.parametrize("with_token", [True, False])
def test_a_cancel_while_the_plot_is_planned_ends_it_before_anything_moves(
    monkeypatch: pytest.MonkeyPatch, with_token: bool
) -> None:
    with bench() as b:
        on_machine = b.driver.on_machine

        def person(drawing: Drawing) -> Drawing:
            assert b.driver.cancel()["job"] is None
            return on_machine(drawing)

        monkeypatch.setattr(b.driver, "on_machine", person)
        with pytest.raises(Cancelled):
            if with_token:
                with b.call():
                    b.driver.plot(THREE)
            else:
                b.driver.plot(THREE)
        assert b.driver.steps == []
        monkeypatch.setattr(b.driver, "on_machine", on_machine)
        b.driver.cancel()
        assert b.driver.plot(THREE)["completed"], "a cancel of nothing cancels nothing that comes later"


def _cancel_at(driver: PaperPlotter, step: int, when: int) -> None:
    if step == when:
        driver.cancel()


def test_a_plot_goes_on_although_the_machine_was_plugged_into_another_port(state: Path) -> None:
    with bench(state / "port1") as b:
        b.driver.on_step = lambda step: _cancel_at(b.driver, step, 5)
        with pytest.raises(Cancelled):
            b.driver.plot(THREE)
    with bench(state / "port2") as b:
        with pytest.raises(Refused, match="no interrupted plot"):
            b.driver.plot(THREE, {"resume": True, "sort": False})
        report = b.driver.plot(THREE, {"resume": True})
        assert report["resumed_from"] == 0.25
        assert any("another port" in note for note in report["warnings"])
        assert not list(state.glob("*/*.json"))


def test_a_machine_that_fails_leaves_the_place_to_go_on_from(state: Path) -> None:
    def burn(step: int) -> None:
        if step == 5:
            raise HardwareError("smoke")

    with bench(state) as b:
        b.driver.on_step = burn
        with pytest.raises(HardwareError) as failed:
            b.driver.plot(THREE)
        assert failed.value.context["progress"]["done_mm"] == 10
        saved = json.loads((state / "interrupted-plot.json").read_text())
        assert (saved["stroke"], saved["done_mm"]) == (1, 10)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"version": 99}', '{"version": 1, "at": null}', '{"version": 1}'])
def test_a_damaged_checkpoint_is_no_checkpoint(state: Path, damage: str) -> None:
    (state / "interrupted-plot.json").write_text(damage)
    with bench(state) as b, pytest.raises(Refused, match="no interrupted plot"):
        b.driver.plot(THREE, {"resume": True})


def test_without_a_state_folder_there_is_nothing_to_resume_and_a_full_disk_ends_no_plot(state: Path) -> None:
    with bench() as b, pytest.raises(Refused, match="no interrupted plot"):
        b.driver.plot(THREE, {"resume": True})
    (state / "file").write_text("in the way")
    with bench(state / "file" / "folder") as b:
        assert b.driver.plot(THREE)["completed"] is True


def test_what_is_no_drawing_is_refused_before_anything_moves() -> None:
    with bench() as b:
        for svg in (b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
            with pytest.raises(BadResource):
                b.driver.plot(svg)
        assert b.driver.steps == []


def test_an_option_that_does_not_exist_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match="tolerance") as refused:
        PlotOptions.from_dict({"tolerance": 0.1})
    assert "tolerance_mm" in refused.value.remedy
    with pytest.raises(ConfigurationError) as refused:
        PlotOptions.from_dict({"qqq": 0.1})
    assert "source" in refused.value.remedy


def test_pages_have_names_and_nothing_means_the_default() -> None:
    options = PlotOptions.from_dict({"page": "A5", "layers": [2, 1.0], "home": None, "rotate": 90})
    assert options.page == (210.0, 148.0)
    assert options.layers == (2, 1)
    assert options.shape()["page"] == [210.0, 148.0]
    assert PlotOptions.from_dict(None) == PlotOptions()


# -- the job ----------------------------------------------------------------------------------------------------------


def job_with(**arguments: Any) -> PlotJob:
    return PlotJob(Drawing([Polyline([(0, 0), (1, 0)])], 10, 10), 10.0, 100.0, **arguments)


def test_progress_is_told_and_saved_no_more_often_than_promised() -> None:
    now = [0.0]
    told: list[dict[str, Any]] = []
    saved: list[bool] = []
    job = job_with(tell=told.append, save=lambda _, lasting: saved.append(lasting), clock=lambda: now[0])
    for hundredth in range(200):
        now[0] = hundredth / 100
        job.reached(Reached(Resume(), (0, 0), now[0], 0))
    assert len(told) <= 2 / PROGRESS_S + 1
    assert len(saved) <= 2 / SAVE_S + 1
    job.settle(Resume(0, 0, (0.5, 0)), (0.5, 0))
    assert saved[-1] is True


def test_the_button_pauses_and_resumes_in_turn() -> None:
    job = job_with()
    wanted = []
    for _ in range(2):
        job.button()
        wanted.append(job.wanted)
    assert wanted == [Wanted.PAUSE, Wanted.RUN]


def test_a_cancelled_token_or_its_deadline_stops_the_job() -> None:
    token = CancelToken()
    job = job_with(token=token)
    job.check()
    token.cancel()
    assert job.wanted is Wanted.STOP
    with pytest.raises(Cancelled):
        job.check()
    late = CancelToken(timeout_s=1e-9)
    job = job_with(token=late)
    while job.wanted is not Wanted.STOP:
        pass
    with pytest.raises(TimeoutExceeded):
        job.check()


# -- slowing down -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(0, 140, 7))
def test_a_brake_slows_evenly_along_the_path_and_never_leaves_the_limits(after: int) -> None:
    limits = Limits(50.0, 200.0, 0.127)
    path = [(0.0, 0.0), (10.0, 0.0), (10.0, 6.0), (30.0, 7.0), (31.0, 7.0), (31.0, 20.0), (80.0, 20.0)]
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > after

    brake = Brake(plan_stroke(path, limits), limits.acceleration_mm_s2, stop, 0.03)
    blocks = list(brake)
    speed = 0.0
    for block in blocks:
        assert block.v0_mm_s == pytest.approx(speed, abs=0.01)
        assert abs(block.acceleration_mm_s2) <= limits.acceleration_mm_s2 * 1.001
        speed = block.v1_mm_s
    assert speed == pytest.approx(0.0, abs=0.05)
    if brake.halted is None:
        assert (blocks[-1].x1_mm, blocks[-1].y1_mm) == pytest.approx(path[-1])
    elif blocks:
        assert brake.halted.point <= blocks[-1].point + 1


def test_a_brake_that_is_never_asked_changes_nothing_but_the_length_of_the_pieces() -> None:
    planned = plan_stroke([(0.0, 0.0), (40.0, 30.0)])
    brake = Brake(planned, 200.0, lambda: False, 0.03)
    passed = list(brake)
    assert brake.halted is None
    assert sum(block.length_mm for block in passed) == pytest.approx(sum(block.length_mm for block in planned))
    assert sum(block.duration_s for block in passed) == pytest.approx(sum(block.duration_s for block in planned))


def test_a_travel_is_one_move_or_none() -> None:
    plan = TravelPlan((0.0, 0.0), (3.0, 4.0), PlotProfile())
    assert [type(step) for step in plan] == [Move]
    assert plan.pen_up_mm == pytest.approx(5.0)
    assert list(TravelPlan((1.0, 1.0), (1.0, 1.0), PlotProfile())) == []


def test_planning_is_told_of_when_it_takes_long_and_not_too_often() -> None:
    now, told = [0.0], list[dict[str, object]]()
    progress = PlanningProgress(lambda **data: told.append(data), clock=lambda: now[0])
    for tick in range(80):
        now[0] = tick / 64
        progress("sorting", 10 * tick, 1250)
    assert [data["done"] for data in told] == [640, 710, 780]
    progress("sorting", 1300, 1250)
    now[0] = 2.0
    progress("sorting", 1300, 1250)
    assert told[-1] == {"phase": "planning", "step": "sorting", "done": 1250, "total": 1250}
