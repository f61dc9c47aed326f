"""What an AxiDraw does when vfab drives it: told by the simulator, over a real pseudo-terminal or TCP port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from math import hypot
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.axidraw.driver import AxiDrawDriver
from vfab.drivers.axidraw.simulator import AxiDrawSimulator
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DriverError,
    HardwareError,
    IllegalTransition,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.protocols.ebb import EM, QS, Firmware, Ok, Steps, Syntax
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.ebb.connection import Conversation
from vfab.sdk.link import Link
from vfab.sdk.svg import SvgOptions, read_drawing
from vfab.sdk.testing import DriverBench, FaultProxy, manifest_in, patience, soon

FOLDER = Path(__file__).parent
STEP_MM = 1 / 80
TOLERANCE_MM = 0.02
FIRMWARES = ["2.8", "3"]
SQUARE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="100mm" viewBox="0 0 100 100">
  <rect x="10" y="10" width="40" height="40" fill="none" stroke="black"/></svg>"""
PICTURE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="100mm" viewBox="0 0 100 100"
     fill="none" stroke="black">
  <rect id="frame" x="10" y="10" width="60" height="40"/>
  <circle id="sun" cx="60" cy="70" r="15"/>
  <path id="wave" d="M10 80 C 20 60 30 100 40 80 S 50 60 55 95"/>
  <path id="dot" d="M90 90 h0" stroke-linecap="round"/>
</svg>"""
OFF_PAGE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="100mm" viewBox="0 0 100 100">
  <path id="escape" d="M10 10 L130 10" stroke="black"/></svg>"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The device's state folder, as deep as the kernel makes it."""
    folder = tmp_path / "driver" / "device"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def bench(address: str, state: Path | None = None, **settings: Any) -> Iterator[DriverBench[AxiDrawDriver]]:
    with DriverBench(AxiDrawDriver, manifest_in(FOLDER), address, config=settings, state_dir=state) as made:
        yield made


def wanted(svg: bytes) -> list[Any]:
    return [path.points for path in read_drawing(svg, options=SvgOptions(tolerance_mm=TOLERANCE_MM)).paths]


def put_home(simulator: AxiDrawSimulator) -> None:
    """What a person does after a loss of power: push the carriage to its home corner."""
    simulator.board.recording.touch(False)
    simulator.board.recording.go(0, 0)
    simulator.board.place = (0, 0)


# -- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("address", ["pty", "tcp"])
def test_what_the_pen_draws_is_the_file_within_one_step_and_the_curve_tolerance(firmware: str, address: str) -> None:
    with AxiDrawSimulator(firmware, address=address) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        report = b.driver.plot(PICTURE, {"tolerance_mm": TOLERANCE_MM})
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM
        assert report["max_deviation_mm"] <= STEP_MM
        assert report["completed"] is True
        assert report["resumed_from"] is None
        assert report["lifts"] == simulator.board.recording.lifts == 4
        assert simulator.board.place == (0, 0), "a plot ends at home"
        assert simulator.board.pen_up


def test_the_report_has_its_fixed_names_and_true_figures() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        report = b.driver.plot(SQUARE, {"source": "square.svg"})
        assert set(report) == {
            "input_segments", "pen_down_mm", "pen_up_mm", "planned_s", "elapsed_s", "max_deviation_mm", "completed",
            "resumed_from", "lifts", "warnings",
        }  # fmt: skip
        assert report["input_segments"] == 4
        assert report["pen_down_mm"] == pytest.approx(160, abs=0.01)
        assert report["pen_up_mm"] == pytest.approx(2 * hypot(10, 10), abs=0.01)
        estimate = b.driver.estimate(SQUARE)
        for name in ("input_segments", "pen_down_mm", "pen_up_mm", "planned_s", "lifts"):
            assert estimate[name] == pytest.approx(report[name])


def test_an_estimate_needs_no_device() -> None:
    with bench("/dev/does-not-exist") as b:
        estimate = b.driver.estimate(PICTURE, {"source": "picture.svg"})
    assert estimate["strokes"] == 4
    assert estimate["width_mm"] == estimate["height_mm"] == 100
    assert estimate["layers"] == [
        {"number": 1, "name": "", "strokes": 4, "pen_down_mm": pytest.approx(estimate["pen_down_mm"], abs=0.01)}
    ]


def test_progress_counts_up_to_the_whole_and_the_remaining_time_down_to_nothing() -> None:
    with AxiDrawSimulator(speed=20) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.plot(PICTURE)
        told = [data for data in b.progress if data["phase"] == "drawing"]
        assert b.progress[0]["phase"] == "planning"
        assert len(told) >= 2
        for before, after in pairwise(told):
            assert after["done_s"] >= before["done_s"]
            assert after["done_mm"] >= before["done_mm"]
        last = told[-1]
        assert last["remaining_s"] == 0
        assert last["done_mm"] == last["total_mm"]
        assert last["strokes"] == 4


def test_drawing_takes_as_long_as_planned_and_the_queue_never_runs_dry_in_a_stroke() -> None:
    with AxiDrawSimulator("3", "real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        report = b.driver.plot(SQUARE, {"speed_mm_s": 100, "acceleration_mm_s2": 1000})
        gaps = [gap for gap in simulator.board.gaps_ticks if gap]
        planned_s = report["planned_s"]
        assert 0.9 * planned_s - 0.2 <= report["elapsed_s"] <= patience(1.1 * planned_s + 0.2)
        assert sum(gaps) <= patience(25 * 20), f"the motors stood still for {sum(gaps) / 25:g} ms"


def test_a_path_is_drawn_point_by_point_and_a_dot_is_one_point() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        done = b.driver.draw_path([[20, 20], [40, 20], [40, 30]], speed_mm_s=30)
        assert done["pen_down_mm"] == pytest.approx(30)
        assert (done["x_mm"], done["y_mm"], done["pen"]) == (40, 30, "up")
        b.driver.draw_path([[5, 5]])
        assert max_deviation_mm(simulator.strokes, [[(20, 20), (40, 20), (40, 30)], [(5, 5)]]) <= STEP_MM


def test_pen_and_carriage_obey_one_by_one() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        driver = b.driver
        driver.connect()
        assert driver.position() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert driver.pen_down()["pen"] == "down"
        assert not simulator.board.pen_up
        assert driver.move_to(12.5, 30) == {"x_mm": 12.5, "y_mm": 30, "pen": "up"}, "travel lifts the pen"
        assert simulator.board.place == (3400, -1400)
        assert driver.home() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert simulator.board.place == (0, 0)
        assert simulator.strokes == [[(0, 0)]], "the dot where the pen was lowered"


# -- refused before anything moves ------------------------------------------------------------------------------------


def test_what_lies_off_the_page_is_refused_by_name_before_anything_moves() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        commands = simulator.board.commands
        with pytest.raises(Refused, match="escape"):
            b.driver.plot(OFF_PAGE)
        assert simulator.board.commands == commands, "not one byte went to the board"


def test_what_the_machine_does_not_reach_is_refused_although_the_page_has_it() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address, model="AxiDraw MiniKit") as b:
        b.driver.connect()
        commands = simulator.board.commands
        with pytest.raises(Refused, match=r"160 × 101\.6 mm"):
            b.driver.plot(PICTURE, {"page": [100, 200], "fit": True, "rotate": 90})
        with pytest.raises(Refused):
            b.driver.move_to(200, 10)
        for path in ([[1, 1], [1, -3]], []):
            with pytest.raises(Refused):
                b.driver.draw_path(path)
        assert simulator.board.commands == commands


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tolerence_mm": 1}, "tolerence_mm"),
        ({"layers": "1"}, "layers"),
        ({"layers": []}, "layers"),
        ({"page": "a9"}, "page"),
        ({"page": [100]}, "page"),
        ({"fit": "yes"}, "fit"),
        ({"source": 7}, "source"),
        ({"rotate": 45}, "rotate"),
        ({"margin_mm": True}, "margin_mm"),
        ({"speed_mm_s": 500}, "speed_mm_s"),
        ({"speed_mm_s": -1}, "max_velocity_mm_s"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(options: dict[str, Any], field: str) -> None:
    with bench("/dev/does-not-exist") as b, pytest.raises(ConfigurationError) as refused:
        b.driver.estimate(SQUARE, options)
    assert refused.value.context["field"] == field
    assert refused.value.remedy


def test_nothing_can_be_done_before_connecting() -> None:
    with bench("/dev/does-not-exist") as b:
        assert b.driver.status() == {"state": "disconnected", "position": None, "job": None}
        assert b.driver.test_connection()["success"] is False
        for call in (
            b.driver.home,
            b.driver.pen_up,
            b.driver.board,
            lambda: b.driver.plot(SQUARE),
            b.driver.motors_off,
        ):
            with pytest.raises(IllegalTransition):
                call()
        for call in (b.driver.pause, b.driver.resume):
            with pytest.raises(IllegalTransition):
                call()
        assert b.driver.cancel()["job"] is None


# -- pause, button, cancel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_plot_paused_many_times_is_the_same_drawing(firmware: str) -> None:
    with AxiDrawSimulator(firmware, 5) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        paused = 0
        while not run.done:
            threading.Event().wait(0.15)
            if b.driver.status()["state"] == "drawing":
                try:
                    b.driver.pause()
                except IllegalTransition:
                    break
                soon(lambda: run.done or b.driver.status()["state"] == "paused")
                if not run.done:
                    assert simulator.board.pen_up
                    assert not simulator.board.moving
                    assert b.driver.resume()["job"] is not None
                    paused += 1
        report = run.result()
        assert paused >= 3
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM
        assert report["max_deviation_mm"] <= STEP_MM
        assert "paused" in {data["phase"] for data in b.progress}


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_the_button_on_the_board_pauses_and_pressed_again_goes_on(firmware: str) -> None:
    with AxiDrawSimulator(firmware, 2) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        simulator.press_button()
        soon(lambda: b.driver.status()["state"] == "paused")
        assert simulator.board.pen_up
        with pytest.raises(IllegalTransition, match="while something is being drawn"):
            b.driver.home()
        simulator.press_button()
        run.result()
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM


def test_a_pause_begins_to_slow_down_within_a_fifth_of_a_second() -> None:
    with AxiDrawSimulator("3", "real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.draw_path([[0, 0], [200, 0]]))
        soon(lambda: b.driver.position()["x_mm"] > 20)
        asked = time.monotonic()
        b.driver.pause()
        soon(lambda: b.driver.status()["state"] == "paused")
        slowing_s, lifting_s = 50 / 200, 0.13
        assert time.monotonic() - asked < patience(0.3 + slowing_s + lifting_s)
        b.driver.cancel()
        with pytest.raises(Cancelled):
            run.result()


@pytest.mark.parametrize("how", ["cancel", "token"])
@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_cancel_leaves_the_pen_up_and_the_position_known(firmware: str, how: str) -> None:
    with AxiDrawSimulator(firmware, 5) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        if how == "cancel":
            assert b.driver.cancel()["state"] == "stopping"
        else:
            run.token.cancel()
        with pytest.raises(Cancelled) as cancelled:
            run.result()
        assert cancelled.value.context["progress"]["done_mm"] < cancelled.value.context["progress"]["total_mm"]
        assert simulator.board.pen_up
        assert not simulator.board.moving
        at = b.driver.position()
        assert simulator.board.place == (round((at["x_mm"] + at["y_mm"]) * 80), round((at["x_mm"] - at["y_mm"]) * 80))
        assert b.driver.status()["state"] == "idle"
        assert b.driver.home()["x_mm"] == 0


def test_a_cancel_may_send_the_carriage_home() -> None:
    with AxiDrawSimulator(speed=5) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE, {"home_on_cancel": True}))
        soon(lambda: bool(simulator.strokes))
        b.driver.cancel()
        with pytest.raises(Cancelled):
            run.result()
        assert simulator.board.place == (0, 0)


def test_a_cancelled_pause_ends_the_plot() -> None:
    with AxiDrawSimulator(speed=5) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: b.driver.status()["job"] is not None)
        b.driver.pause()
        soon(lambda: b.driver.status()["state"] == "paused")
        b.driver.cancel()
        with pytest.raises(Cancelled):
            run.result()


def test_a_caller_whose_time_is_up_gets_a_machine_at_rest() -> None:
    with AxiDrawSimulator(speed="real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        with b.call(timeout_s=1.0), pytest.raises(TimeoutExceeded):
            b.driver.plot(PICTURE)
        assert simulator.board.pen_up
        assert not simulator.board.moving


# -- resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("after", [40, 90, 150, 260])
def test_a_plot_goes_on_after_the_cable_was_pulled_and_nothing_is_missing(
    state: Path, firmware: str, after: int
) -> None:
    with AxiDrawSimulator(firmware, faults=[f"unplug@{after}"]) as simulator:
        with bench(simulator.address, state) as b:
            b.driver.connect()
            with pytest.raises(LinkLost) as lost:
                b.driver.plot(PICTURE, {"source": "picture.svg"})
            assert "resume" in lost.value.remedy
            assert b.driver.is_connected() is False
        first = simulator.strokes
        put_home(simulator)
        simulator.plug_in()
        with bench(simulator.address, state) as b:
            b.driver.connect()
            report = b.driver.plot(PICTURE, {"resume": True})
            assert 0 <= report["resumed_from"] < 1
            assert any("home" in note for note in report["warnings"]), "it says what it takes for granted"
            assert report["max_deviation_mm"] <= STEP_MM
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM
        again_mm = _length(simulator.strokes) - _length(wanted(PICTURE))
        assert -0.1 <= again_mm <= 60, f"{again_mm} mm drawn twice"
        assert simulator.strokes[: max(0, len(first) - 1)] == first[:-1], "what was drawn stays"


def _length(strokes: list[Any]) -> float:
    return sum(hypot(x1 - x0, y1 - y0) for stroke in strokes for (x0, y0), (x1, y1) in pairwise(stroke))


def test_a_plot_goes_on_from_the_boards_own_position_when_only_the_program_died(state: Path) -> None:
    with AxiDrawSimulator(speed=5) as simulator:
        with bench(simulator.address, state) as b:
            b.driver.connect()
            run = b.start(lambda: b.driver.plot(PICTURE))
            soon(lambda: bool(simulator.strokes))
            b.driver.cancel()
            with pytest.raises(Cancelled):
                run.result()
            place = simulator.board.place
            assert place != (0, 0)
        with bench(simulator.address, state) as b:
            b.driver.connect()
            assert simulator.board.place == place
            assert b.driver.position()["x_mm"] == pytest.approx(sum(place) / 160)
            report = b.driver.plot(PICTURE, {"resume": True})
            assert report["warnings"] == []
            assert simulator.board.place == (0, 0)
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM
        assert _length(simulator.strokes) == pytest.approx(_length(wanted(PICTURE)), abs=0.5), "nothing is drawn twice"


def test_a_plot_that_was_cancelled_goes_on_in_the_same_connection(state: Path) -> None:
    with AxiDrawSimulator(speed=5) as simulator, bench(simulator.address, state) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        b.driver.cancel()
        with pytest.raises(Cancelled):
            run.result()
        report = b.driver.plot(PICTURE, {"resume": True})
        assert report["warnings"] == [], "the board has counted all the time"
        assert 0 < report["resumed_from"] < 1
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM


def test_a_lost_position_is_remembered_by_later_connections(state: Path) -> None:
    with AxiDrawSimulator(faults=["unplug@90"]) as simulator:
        with bench(simulator.address, state) as b:
            b.driver.connect()
            with pytest.raises(LinkLost):
                b.driver.plot(PICTURE)
        put_home(simulator)
        simulator.plug_in()
        for _ in range(2):
            with bench(simulator.address, state) as b:
                b.driver.connect()
        with bench(simulator.address, state) as b:
            b.driver.connect()
            assert b.driver.plot(PICTURE, {"resume": True})["warnings"]


def test_a_resume_of_another_file_or_other_options_is_refused_and_says_which(state: Path) -> None:
    with AxiDrawSimulator(faults=["unplug@90"]) as simulator:
        with bench(simulator.address, state) as b:
            with pytest.raises(Refused, match="no interrupted plot"):
                b.driver.connect()
                b.driver.plot(PICTURE, {"resume": True})
            with pytest.raises(LinkLost):
                b.driver.plot(PICTURE, {"source": "picture.svg"})
        put_home(simulator)
        simulator.plug_in()
        with bench(simulator.address, state) as b:
            b.driver.connect()
            commands = simulator.board.commands
            with pytest.raises(Refused, match=r"picture\.svg"):
                b.driver.plot(SQUARE, {"resume": True})
            with pytest.raises(Refused, match="sort was True"):
                b.driver.plot(PICTURE, {"resume": True, "sort": False})
            assert simulator.board.commands == commands
            b.driver.plot(PICTURE, {"resume": True, "speed_mm_s": 20})
            with pytest.raises(Refused, match="no interrupted plot"):
                b.driver.plot(PICTURE, {"resume": True})


# -- a board, a cable and a program that fail -------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("kind", ["drop", "garble", "silent", "unplug"])
@pytest.mark.parametrize("after", [3, 30, 100])
def test_every_fault_ends_in_a_clear_error_and_never_in_silence(firmware: str, kind: str, after: int) -> None:
    with (
        AxiDrawSimulator(firmware, faults=[f"{kind}@{after}"]) as simulator,
        bench(simulator.address, timeout_s=0.3, retry_count=0) as b,
    ):
        began = time.monotonic()
        with pytest.raises(DriverError) as failed:
            b.driver.connect()
            b.driver.plot(PICTURE)
        assert time.monotonic() - began < patience(5)
        assert isinstance(failed.value, LinkLost | TimeoutExceeded | ProtocolError)
        assert failed.value.remedy
        assert simulator.address in failed.value.message + str(failed.value.context)
        if kind in ("drop", "garble"):
            soon(lambda: simulator.board.pen_up and not simulator.board.moving)


def test_a_slow_board_is_waited_for() -> None:
    with AxiDrawSimulator(faults=["slow@20"]) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.plot(b"<svg xmlns='http://www.w3.org/2000/svg' width='9mm' height='9mm' viewBox='0 0 9 9'>"
                             b"<path d='M0 0L1 0' stroke='black'/></svg>")["completed"]  # fmt: skip


def test_connecting_is_tried_again_when_that_can_help() -> None:
    with AxiDrawSimulator(faults=["drop@2"]) as simulator, bench(simulator.address, timeout_s=0.2) as b:
        assert b.driver.connect() is True
        assert len(b.links) == 2


def test_after_a_fault_the_same_connection_finds_its_position_again() -> None:
    with AxiDrawSimulator(faults=["garble@100"]) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        with pytest.raises(ProtocolError):
            b.driver.plot(PICTURE)
        b.driver.reset()
        at = b.driver.position()
        assert simulator.board.place == (round((at["x_mm"] + at["y_mm"]) * 80), round((at["x_mm"] - at["y_mm"]) * 80))
        assert b.driver.home()["pen"] == "up"
        assert simulator.board.place == (0, 0)


@pytest.mark.parametrize("command", ["pen_up", "pen_down"])
def test_a_pen_command_that_nobody_answers_ends_when_it_is_cancelled_and_the_pen_is_up(command: str) -> None:
    with (
        AxiDrawSimulator() as simulator,
        FaultProxy(simulator.address) as proxy,
        bench(proxy.address, timeout_s=30.0) as b,
    ):
        b.driver.connect()
        proxy.hold()
        proxy.forget()
        running = b.start(getattr(b.driver, command))
        assert proxy.wait_heard(b"SP,")
        running.token.cancel()
        with pytest.raises(Cancelled):
            running.result(10.0)
        proxy.pass_on()
        soon(lambda: simulator.board.pen_up)
        b.driver.move_to(5, 5)
        assert b.driver.position()["pen"] == "up"


def test_what_is_no_board_is_told_with_its_address() -> None:
    from vfab.sdk.simulation.links import TcpLink

    silent = TcpLink()
    silent.plug_in()
    with bench(silent.address, timeout_s=0.2, retry_count=0) as b:
        with pytest.raises(TimeoutExceeded, match=r"127\.0\.0\.1"):
            b.driver.connect()
        assert b.driver.is_connected() is False
    silent.close()


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_disconnecting_twice_is_fine_and_the_board_is_left_safe(firmware: str) -> None:
    with AxiDrawSimulator(firmware) as simulator, bench(simulator.address, motors_off_on_disconnect=True) as b:
        b.driver.connect()
        b.driver.pen_down()
        b.driver.disconnect()
        b.driver.disconnect()
        soon(lambda: simulator.board.pen_up)
        assert simulator.board.enabled == [False, False]
        assert b.driver.is_connected() is False


def test_both_syntaxes_of_a_board_that_another_program_left_behind_are_understood() -> None:
    with AxiDrawSimulator("3") as simulator:
        for left in (b"CU,10,1\r", b"CU,10,0\r", b"SM,1000,100", b"\r\rXYZ\r", b"CU,1,0\r"):
            with bench(simulator.address) as b:
                link = b.driver.open_link()
                link.write(left)
                b.driver.close_link(link)
                b.driver.connect()
                assert b.driver._talk is not None
                assert b.driver._talk.client.syntax is Syntax.FUTURE
                assert b.driver.pen_down()["pen"] == "down"


def test_motors_off_lets_the_carriage_be_pushed_home() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.move_to(30, 0)
        assert b.driver.motors_off() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert simulator.board.enabled == [False, False]
        put_home(simulator)
        b.driver.draw_path([[10, 0], [20, 0]])
        assert simulator.strokes == [[(10, 0), (20, 0)]]
        assert b.driver.motors_on()["pen"] == "up"


def test_the_board_tells_about_itself() -> None:
    with AxiDrawSimulator("2.8") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        told = b.driver.board()
        assert told["firmware"] == "2.8.1"
        assert told["motors"] == [16, 16]
        assert told["supply_v"] == pytest.approx(9.2, abs=0.3)
        assert b.driver.test_connection()["success"] is True
        simulator.unplug()
        assert b.driver.test_connection()["success"] is False
        assert b.driver.is_connected() is False
        with pytest.raises(LinkLost, match="broke"):
            b.driver.pen_up()
        simulator.plug_in()
        b.driver.reset()
        assert b.driver.is_connected() is True


def test_old_firmware_is_refused_with_what_to_do() -> None:
    class NewerOnly(AxiDrawDriver):
        oldest_firmware = Firmware(3)

    with AxiDrawSimulator("2.8") as simulator, DriverBench(NewerOnly, manifest_in(FOLDER), simulator.address) as b:
        with pytest.raises(HardwareError, match=r"2\.8\.1") as refused:
            b.driver.connect()
        assert "Update" in refused.value.remedy


def test_low_resolution_draws_the_same_with_half_the_steps() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address, resolution="low") as b:
        b.driver.connect()
        b.driver.plot(SQUARE)
        assert max_deviation_mm(simulator.strokes, wanted(SQUARE)) <= 2 * STEP_MM


def test_safe_stop_in_the_manifest_raises_the_pen_of_a_driver_that_died() -> None:
    manifest = manifest_in(FOLDER)
    with AxiDrawSimulator("3", "real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.draw_path([[0, 0], [200, 0]]))
        soon(lambda: bool(simulator.strokes))
        b.links[-1].write(manifest.safe_stop_bytes())  # what the kernel does through its own descriptor
        soon(lambda: simulator.board.pen_up)
        with pytest.raises(DriverError):
            run.result()


def test_a_parent_that_dies_in_mid_plot_leaves_the_pen_up() -> None:
    with AxiDrawSimulator("3", "real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        b.driver.disconnect()  # what a host does as its last words, whatever runs
        soon(lambda: simulator.board.pen_up and not simulator.board.moving)
        with pytest.raises(DriverError):
            run.result()


def test_a_machine_without_its_power_supply_is_told_so() -> None:
    with AxiDrawSimulator() as simulator, bench(simulator.address) as b:
        simulator.board.supply = 0
        b.driver.connect()
        assert any("power supply" in note for note in b.driver.plot(SQUARE)["warnings"])


# -- the conversation, with the board's part written out --------------------------------------------------------------


@contextmanager
def conversation(*answers: bytes, timeout_s: float = 0.1) -> Iterator[Conversation]:
    """A board of firmware 2.8 that says its lines whatever it is asked."""
    ours, board = socket.socketpair()
    with board:
        link = Link(ours.detach(), "socket")
        talk = Conversation(link, timeout_s, nonce=1)
        board.sendall(b"!8 Err: Unknown command 'ZB:5A42'\r\nEBBv13_and_above EB Firmware Version 2.8.1\r\n")
        board.sendall(b"OK\r\n!8 Err: Unknown command 'ZB:5A42'\r\n")
        link.discard_input = lambda: b""  # type: ignore[method-assign]
        talk.normalise()
        for answer in answers:
            board.sendall(answer)
        yield talk
        link.close()


def test_a_refusal_by_the_board_names_the_command() -> None:
    with (
        conversation(b"!6 Err: Invalid parameter value\r\n") as talk,
        pytest.raises(ProtocolError, match="EM") as error,
    ):
        talk.ask(EM(1, 1), Ok)
    assert error.value.context["code"] == 6


def test_the_limit_switch_is_told_as_what_it_is() -> None:
    with (
        conversation(b"Limit switch triggered. PortB=10\r\n") as talk,
        pytest.raises(HardwareError, match="limit switch"),
    ):
        talk.ask(EM(1, 1), Ok)


def test_an_overdue_answer_is_told_with_the_command_and_the_wait() -> None:
    with conversation() as talk:
        with pytest.raises(TimeoutExceeded, match=r"did not answer QS within 0\.1 s"):
            talk.ask(QS(), Steps)
        assert not talk.sound


def test_a_good_answer_before_rubbish_is_given_and_the_rubbish_is_told_next() -> None:
    with conversation(b"OK\r\nwhat is this\r\n") as talk:
        assert talk.ask(EM(1, 1), Ok).command == EM(1, 1)
        with pytest.raises(ProtocolError, match="what is this"):
            talk.receive(0.0)
        with pytest.raises(ProtocolError, match="what is this"):
            talk.send(QS())


def test_what_talks_all_the_time_and_is_no_board_is_told_so() -> None:
    ours, other = socket.socketpair()
    with other, Link(ours.detach(), "gps") as link:
        talk = Conversation(link, 0.2)
        stop = threading.Event()

        def chatter() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    other.sendall(b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n" * 50)

        thread = threading.Thread(target=chatter, daemon=True)
        thread.start()
        with pytest.raises((ProtocolError, TimeoutExceeded), match="gps"):
            talk.normalise()
        stop.set()
    thread.join(5)
