"""What a GRBL plotter does when vfab drives it: told by the simulator, over a real pseudo-terminal or TCP port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.grbl.driver import GrblDriver
from vfab.drivers.grbl.settings import Pen
from vfab.drivers.grbl.simulator import GrblSimulator, main
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DriverError,
    HandedOver,
    HardwareError,
    IllegalTransition,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.protocols.grbl import State
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.svg import SvgOptions, read_drawing
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
STEP_MM = 1 / 80
TOLERANCE_MM = 0.02
FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="100mm" viewBox="0 0 100 100" fill="none">{}</svg>'
)
SQUARE = FRAME.format('<rect x="10" y="10" width="40" height="40" stroke="black"/>').encode()
DRAWINGS = {
    "picture": (
        '<rect id="frame" x="10" y="10" width="60" height="40"/><circle id="sun" cx="60" cy="70" r="15"/>'
        '<path id="wave" d="M10 80 C 20 60 30 100 40 80 S 50 60 55 95"/>'
        '<path id="dot" d="M90 90 h0" stroke-linecap="round"/>'
    ),
    "star": '<path d="M50 10 L61 39 L98 39 L68 57 L79 91 L50 70 L21 91 L32 57 L2 39 L39 39 Z"/>',
    "there and back": '<path d="M10 50 H90 H10"/><path d="M50 10 V90"/>',
    "fine": "".join(f'<circle cx="{10 + 4 * n}" cy="{20 + n}" r="{0.3 + 0.1 * n}"/>' for n in range(18)),
    "spiral": '<path d="M50 50 '
    + " ".join(f"A{r} {r} 0 0 1 {50 + (r if n % 2 else -r)} 50" for n, r in enumerate(range(2, 40, 2)))
    + '"/>',
}
DRAWINGS = {name: FRAME.format(f'<g stroke="black">{body}</g>') for name, body in DRAWINGS.items()}
PICTURE = DRAWINGS["picture"].encode()
QUICK: dict[str, Any] = {"timeout_s": 0.5, "boot_s": 1.0, "retry_count": 0}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "driver" / "device"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def bench(address: str, state: Path | None = None, **settings: Any) -> Iterator[DriverBench[GrblDriver]]:
    with DriverBench(GrblDriver, manifest_in(FOLDER), address, config=settings, state_dir=state) as made:
        yield made


def wanted(svg: bytes) -> list[Any]:
    return [path.points for path in read_drawing(svg, options=SvgOptions(tolerance_mm=TOLERANCE_MM)).paths]


def at(simulator: GrblSimulator) -> list[float]:
    return list(simulator.firmware.position)


def put_home(simulator: GrblSimulator) -> None:
    """What a person does after a loss of power: push the carriage to its home corner, and switch on."""
    firmware = simulator.firmware
    firmware.settings[22] = 0
    simulator.record.touch(False)
    firmware.place((0.0, 0.0, 5.0))


# -- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("address", ["pty", "tcp"])
def test_what_the_pen_draws_is_the_file_within_one_step_and_the_curve_tolerance(name: str, address: str) -> None:
    svg = DRAWINGS[name].encode()
    with GrblSimulator(address=address) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        report = b.driver.plot(svg, {"tolerance_mm": TOLERANCE_MM})
        assert max_deviation_mm(simulator.strokes, wanted(svg)) <= STEP_MM
        assert report["max_deviation_mm"] <= STEP_MM
        assert report["completed"] is True
        assert report["lifts"] == simulator.record.lifts
        assert at(simulator) == [0, 0, 0], "a plot ends at home"
        assert simulator.firmware.input.dropped == 0
        assert simulator.firmware.input.most <= 127


@pytest.mark.parametrize("kind", ["hal", "z", "wpos", "inches", "other axes", "offset"])
def test_machines_differ_and_the_drawing_is_the_same(kind: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "hal": {"hal": True},
        "z": {"pen": "z"},
        "wpos": {"settings": {10: 0}},
        "inches": {"settings": {13: 1}},
        "other axes": {"corner": (-300.0, 0.0)},
        "offset": {},
    }
    settings: dict[str, dict[str, Any]] = {"z": {"pen": "z"}, "other axes": {"origin_x_mm": -300.0}}
    with GrblSimulator("instant", **options[kind]) as simulator:
        if kind == "offset":
            simulator.firmware.offsets["G54"] = (12.5, -7.0, 3.0)
        with bench(simulator.address, **settings.get(kind, {})) as b:
            b.driver.connect()
            b.driver.plot(PICTURE, {"tolerance_mm": TOLERANCE_MM})
            assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= STEP_MM
            assert b.driver.board()["window_bytes"] == (1023 if kind == "hal" else 127)


def test_a_plot_takes_as_long_as_planned_and_the_planner_never_starves() -> None:
    with GrblSimulator("real", settings={10: 3}) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        report = b.driver.plot(DRAWINGS["star"].encode(), {"speed_mm_s": 100, "travel_mm_s": 150})
        assert report["elapsed_s"] == pytest.approx(report["planned_s"], rel=0.15, abs=0.3)
        assert simulator.firmware.input.dropped == 0


def test_progress_counts_up_to_the_whole_and_the_remaining_time_down_to_nothing() -> None:
    with GrblSimulator(3) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.plot(PICTURE)
        told = [data for data in b.progress if data["phase"] == "drawing"]
        assert len(told) >= 4
        assert all(before["done_mm"] <= after["done_mm"] for before, after in pairwise(told))
        assert told[-1]["remaining_s"] == 0
        assert told[-1]["done_mm"] == told[-1]["total_mm"]


def test_pen_and_carriage_obey_one_by_one() -> None:
    with GrblSimulator() as simulator, bench(simulator.address) as b:
        driver = b.driver
        driver.connect()
        assert driver.position() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert driver.pen_down()["pen"] == "down"
        assert simulator.record.down
        assert driver.move_to(12.5, 30) == {"x_mm": 12.5, "y_mm": 30, "pen": "up"}, "travel lifts the pen"
        assert at(simulator) == [12.5, -30, 0], "Y grows upwards"
        done = driver.draw_path([[20, 20], [40, 20]], speed_mm_s=30)
        assert done["pen_down_mm"] == pytest.approx(20)
        assert driver.home() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert simulator.strokes == [[(0, 0)], [(20, 20), (40, 20)]]


# -- pause, cancel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mask"), [("picture", 1), ("there and back", 3), ("fine", 0)])
def test_a_plot_paused_many_times_is_the_same_drawing(name: str, mask: int) -> None:
    svg = DRAWINGS[name].encode()
    with GrblSimulator(4, settings={10: mask}) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(svg))
        paused = 0
        while not run.done:
            threading.Event().wait(0.3)
            try:
                b.driver.pause()
            except IllegalTransition:
                break
            soon(lambda: run.done or b.driver.status()["state"] == "paused")
            if not run.done:
                assert not simulator.record.down
                assert not simulator.firmware.planner.moving
                assert b.driver.resume()["job"] is not None
                paused += 1
        report = run.result()
        assert paused >= 2
        assert max_deviation_mm(simulator.strokes, wanted(svg)) <= 2 * STEP_MM
        assert report["max_deviation_mm"] <= 2 * STEP_MM


@pytest.mark.parametrize("how", ["cancel", "token"])
def test_a_cancel_holds_then_lifts_the_pen_and_the_position_is_known(how: str) -> None:
    with GrblSimulator(2) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        if how == "cancel":
            assert b.driver.cancel()["state"] == "stopping"
        else:
            run.token.cancel()
        with pytest.raises(Cancelled):
            run.result()
        assert not simulator.record.down
        assert simulator.firmware.state[0] is State.IDLE, "no alarm: it was reset at rest"
        told = b.driver.position()
        assert simulator.firmware.position[:2] == pytest.approx((told["x_mm"], -told["y_mm"]), abs=0.002)
        assert b.driver.home()["x_mm"] == 0


def test_an_interrupted_plot_goes_on_in_another_process_without_a_gap(state: Path) -> None:
    with GrblSimulator(4, settings={10: 3}) as simulator:
        with bench(simulator.address, state) as b:
            b.driver.connect()
            run = b.start(lambda: b.driver.plot(PICTURE))
            soon(lambda: len(simulator.strokes) > 1)
            b.driver.cancel()
            with pytest.raises(Cancelled):
                run.result()
        with bench(simulator.address, state) as b:
            b.driver.connect()
            report = b.driver.plot(PICTURE, {"resume": True})
            assert 0 < report["resumed_from"] < 1
            assert report["warnings"] == [], "the controller counted all the time"
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= 2 * STEP_MM


def handed_over(
    simulator: GrblSimulator, svg: bytes, state: Path, times: int, *, paused: bool = False, pen: str = "servo"
) -> Any:
    """The report of a plot that goes on in another process `times` times, while one of its strokes is drawn."""
    saved: dict[str, Any] = {}
    carried: dict[str, Any] | None = None
    for left in range(times, -1, -1):
        with bench(simulator.address, state, pen=pen) as b:
            b.driver.load_state(saved, 0)
            b.driver.take_over()
            if left == times:
                b.driver.move_to(5, 5)
                b.driver.set_origin()
            run = b.start(lambda b=b, carried=carried: b.driver.plot(svg, carried=carried))  # type: ignore[misc]
            if paused and left < times:
                soon(lambda b=b: b.driver.status()["state"] == "paused")  # type: ignore[misc]
                b.driver.resume()
            if not left:
                return run.result()
            drawn = len(simulator.strokes)
            soon(lambda drawn=drawn: len(simulator.strokes) > drawn)  # type: ignore[misc]
            if paused:
                b.driver.pause()
            assert b.driver.reach_safe_point()
            with pytest.raises(HandedOver) as over:
                run.result()
            assert not simulator.record.down and simulator.firmware.input.dropped == 0
            carried, saved = over.value.context["kwargs"]["carried"], b.driver.save_state(0)
            for link in b.links:  # as a host does before its driver tidies up
                link.close()
    raise AssertionError("the last one returns")


@pytest.mark.parametrize("options", [{}, {"pen": "z"}, {"hal": True}])
def test_a_plot_goes_on_in_the_next_process_between_two_strokes_and_nobody_can_tell(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    svg, pen = DRAWINGS["fine"].encode(), options.get("pen", "servo")
    with GrblSimulator("instant", **options) as simulator:
        usual, drawn = handed_over(simulator, svg, tmp_path, 0, pen=pen), simulator.strokes
    with GrblSimulator(4, **options) as simulator:  # it may be some strokes ahead, and is not to be at its end
        report = handed_over(simulator, svg, tmp_path, 2, pen=pen)
        assert len(drawn) == 18 and simulator.strokes == drawn
        assert at(simulator) == pytest.approx([5, -5, at(simulator)[2]], abs=STEP_MM), "home is where it was put"
    same = ("pen_down_mm", "pen_up_mm", "planned_s", "lifts", "max_deviation_mm", "completed", "resumed_from")
    assert {key: report[key] for key in same} == {key: usual[key] for key in same}


def test_a_plot_that_is_paused_in_a_stroke_is_handed_over_there_and_stays_paused(tmp_path: Path) -> None:
    svg = DRAWINGS["star"].encode()
    with GrblSimulator(4, settings={10: 3}) as simulator:
        report = handed_over(simulator, svg, tmp_path, 2, paused=True)
        moved = [[(x - 5, y - 5) for x, y in stroke] for stroke in simulator.strokes]
        assert max_deviation_mm(moved, wanted(svg)) <= 2 * STEP_MM
        assert report["completed"] and report["resumed_from"] is None


def test_a_plot_that_is_to_be_handed_over_can_still_be_cancelled(tmp_path: Path) -> None:
    with GrblSimulator(1) as simulator, bench(simulator.address, tmp_path) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(DRAWINGS["spiral"].encode()))
        soon(lambda: len(simulator.strokes) > 0)
        assert b.driver.reach_safe_point()
        b.driver.cancel()
        with pytest.raises(Cancelled) as cancelled:
            run.result()
        assert not isinstance(cancelled.value, HandedOver) and not simulator.record.down


def test_the_door_of_the_machine_pauses_the_plot() -> None:
    with GrblSimulator(2) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.plot(PICTURE))
        soon(lambda: bool(simulator.strokes))
        simulator.open_door()
        soon(lambda: b.driver.status()["state"] == "paused")
        assert not simulator.record.down
        simulator.close_door()
        b.driver.resume()
        run.result()
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= 2 * STEP_MM


# -- what goes wrong --------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[type[DriverError], str]] = {
    "alarm@12": (HardwareError, "alarm 1"),
    "error@12": (ProtocolError, "error 2"),
    "reset@12": (HardwareError, "began anew"),
    "unplug@12": (LinkLost, "ttyACM0"),
    "drop@12": (TimeoutExceeded, "has not answered"),
    "silent@12": (TimeoutExceeded, "has not answered"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("pen", ["servo", "z"])
def test_a_fault_mid_job_ends_it_with_a_remedy_and_it_can_be_resumed(fault: str, pen: str, state: Path) -> None:
    kind, text = FAULTS[fault]
    settings: dict[str, Any] = {**QUICK, "pen": pen}
    with GrblSimulator(8, settings={10: 3}, pen=pen) as simulator, bench(simulator.address, state, **settings) as b:
        b.driver.connect()
        before = simulator.firmware.lines
        simulator.break_by(fault.replace("12", str(before + 12)))
        with pytest.raises(kind, match=text) as caught:
            b.driver.plot(PICTURE)
        assert caught.value.remedy
        assert caught.value.context["progress"]["done_mm"] <= caught.value.context["progress"]["total_mm"]
        if kind is LinkLost:
            assert not b.driver.is_connected()
            simulator.plug_in()
        elif fault.startswith("silent"):
            simulator.limit(None)
        elif pen == "servo" or kind is not TimeoutExceeded:
            assert not simulator.record.down, "the pen is up"
        put_home(simulator)
        recover(b, simulator)
        report = b.driver.plot(PICTURE, {"resume": True})
        assert report["completed"]
        assert max_deviation_mm(simulator.strokes, wanted(PICTURE)) <= 2 * STEP_MM + 0.01


def recover(b: DriverBench[GrblDriver], simulator: GrblSimulator) -> None:
    """What a user does: reset or connect, and unlock."""
    b.driver.reset()
    if b.driver.board()["alarm"] is not None:
        b.driver.unlock()


def test_after_an_alarm_nothing_moves_until_it_is_unlocked_or_homed() -> None:
    with GrblSimulator(faults=["alarm@20"]) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        with pytest.raises(HardwareError, match="alarm 1"):
            b.driver.plot(PICTURE)
        with pytest.raises(HardwareError, match="locked"):
            b.driver.move_to(1, 1)
        assert b.driver.test_connection()["success"] is False
        assert b.driver.unlock()["pen"] == "up"
        assert b.driver.move_to(1, 1)["x_mm"] == 1


def test_a_slow_planner_is_waited_for() -> None:
    with GrblSimulator(20, parse_s=0.4) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.plot(SQUARE)
        assert max_deviation_mm(simulator.strokes, wanted(SQUARE)) <= STEP_MM


def test_soft_limits_of_the_controller_are_an_alarm_that_keeps_the_position() -> None:
    with GrblSimulator(settings={22: 1, 20: 1, 130: 30}) as simulator, bench(simulator.address, width_mm=100) as b:
        b.driver.connect()
        b.driver.unlock()
        with pytest.raises(HardwareError, match="alarm 2"):
            b.driver.plot(SQUARE)
        assert b.driver.unlock()["x_mm"] == 0


def test_a_machine_with_switches_is_locked_until_it_is_homed() -> None:
    settings = {22: 1, 23: 1, 20: 1, 25: 60_000, 27: 1}
    page: dict[str, Any] = {"origin_x_mm": -299.0, "origin_y_mm": -1.0, "width_mm": 290, "height_mm": 200}
    with GrblSimulator(settings=settings, corner=(-299.0, -1.0)) as simulator, bench(simulator.address, **page) as b:
        b.driver.connect()
        with pytest.raises(HardwareError, match="home"):
            b.driver.plot(SQUARE)
        assert b.driver.home() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        assert b.driver.limits()["homing"] is True
        b.driver.plot(SQUARE)
        assert max_deviation_mm(simulator.strokes, wanted(SQUARE)) <= STEP_MM


def test_a_homing_cycle_that_is_cancelled_leaves_the_machine_locked() -> None:
    with GrblSimulator("real", settings={22: 1}) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(b.driver.home)
        soon(lambda: simulator.firmware.homing)
        run.token.cancel()
        with pytest.raises(Cancelled):
            run.result()
        assert simulator.firmware.state[0] is State.ALARM
        with pytest.raises(HardwareError, match="homing was ended"):
            b.driver.pen_down()


def test_a_driver_that_died_in_motion_is_followed_by_one_that_connects() -> None:
    manifest = manifest_in(FOLDER)
    with GrblSimulator("real") as simulator:
        with bench(simulator.address) as b:
            b.driver.connect()
            run = b.start(lambda: b.driver.plot(PICTURE))
            soon(lambda: simulator.record.down)
            b.links[-1].write(manifest.safe_stop_bytes())  # what the kernel does through its own descriptor
            with pytest.raises(DriverError):
                run.result()
        assert not simulator.record.down
        with bench(simulator.address) as b:
            b.driver.connect()
            assert b.driver.pen_up()["pen"] == "up"


def test_a_job_of_another_program_is_brought_to_rest_and_the_position_kept() -> None:
    with GrblSimulator(2) as simulator, bench(simulator.address) as b:
        Path(simulator.address).write_bytes(b"G21G90\nG1X100F6000\nM3S1000\n")
        soon(lambda: simulator.firmware.planner.speed > 10)
        b.driver.connect()
        assert simulator.firmware.state[0] is State.IDLE
        assert b.driver.position()["x_mm"] == pytest.approx(simulator.firmware.position[0], abs=0.002)
        assert b.driver.position()["x_mm"] > 1


def test_nothing_can_be_done_before_connecting_and_estimates_need_no_device() -> None:
    with bench("/dev/does-not-exist", **QUICK) as b:
        assert b.driver.status() == {"state": "disconnected", "position": None, "job": None}
        assert b.driver.estimate(PICTURE)["strokes"] == 4
        assert b.driver.limits()["soft_limits"] is None
        calls: list[Callable[[], Any]] = [
            b.driver.home, b.driver.pen_up, b.driver.unlock, b.driver.board, b.driver.settings, b.driver.sleep,
            b.driver.set_origin, lambda: b.driver.jog(1, 1), lambda: b.driver.plot(SQUARE),
            lambda: b.driver.send("G0X1"), lambda: b.driver.set_setting(10, 3),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(IllegalTransition):
                call()
        with pytest.raises(DriverError):
            b.driver.connect()
        b.driver.disconnect()


# -- what only GRBL has -----------------------------------------------------------------------------------------------


def test_a_jog_moves_by_a_distance_and_stays_within_reach() -> None:
    with GrblSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.jog(10, 5)["x_mm"] == 10
        assert at(simulator) == [10, -5, 0]
        with pytest.raises(Refused):
            b.driver.jog(-20, 0)


def test_a_jog_is_cancelled_on_its_way() -> None:
    with GrblSimulator("real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        run = b.start(lambda: b.driver.jog(200, 0, 50))
        soon(lambda: simulator.firmware.planner.speed > 20)
        b.driver.jog_cancel()
        stopped = run.result()
        assert 0 < stopped["x_mm"] < 200
        assert simulator.firmware.state[0] is State.IDLE
        run = b.start(lambda: b.driver.jog(100, 0, 50))
        soon(lambda: simulator.firmware.planner.speed > 20)
        run.token.cancel()
        with pytest.raises(Cancelled):
            run.result()
        assert simulator.firmware.state[0] is State.IDLE


def test_the_origin_is_where_the_user_says() -> None:
    with GrblSimulator(corner=(20.0, -30.0)) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.move_to(20, 30)
        assert b.driver.set_origin() == {"x_mm": 0, "y_mm": 0, "pen": "up"}
        b.driver.plot(SQUARE)
        assert max_deviation_mm(simulator.strokes, wanted(SQUARE)) <= STEP_MM


def test_settings_are_read_written_and_checked() -> None:
    with GrblSimulator("real") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        known = {each["number"]: each for each in b.driver.settings()}
        assert known[110] == {"number": 110, "name": "X maximum rate", "unit": "mm/min", "value": 12_000}
        assert b.driver.set_setting(11, 0.05) == {"number": 11, "value": 0.05}
        assert simulator.firmware.settings[11] == 0.05
        with pytest.raises(Refused):
            b.driver.set_setting(0, 1)
        with pytest.raises(ProtocolError, match="soft limits need homing"):
            b.driver.set_setting(20, 1)


def test_raw_lines_are_guarded() -> None:
    with GrblSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.send("G0 X12")["x_mm"] == 12
        assert b.driver.send("$G")["replies"] == ["[GC:G0 G54 G17 G21 G90 G94 M5 M9 T0 F0 S0]"]
        assert b.driver.send("M3 S800")["pen"] == "down"
        assert b.driver.home()["pen"] == "up"
        for line in ("$X", "$RST=*", "$110=5", "G10 L2 P1 X0", "G0 X1!", "hello", "G0X1\nG0X2", "$J=X1F1"):
            with pytest.raises(Refused):
                b.driver.send(line)
        with pytest.raises(ProtocolError, match="not supported"):
            b.driver.send("G5 X1")
        assert simulator.firmware.settings[110] == 12_000


def test_a_sleeping_machine_is_woken_by_the_next_movement() -> None:
    with GrblSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.sleep()
        assert simulator.firmware.state[0] is State.SLEEP
        assert b.driver.move_to(5, 5)["x_mm"] == 5


def test_a_pen_by_s_values_or_by_z_is_raised_and_lowered_by_the_right_lines() -> None:
    base = manifest_in(FOLDER).config_schema
    assert base is not None
    config = {name: rule.get("default") for name, rule in base["properties"].items()}
    assert Pen.of(config).up == ("M5", "G4P0.15")
    assert Pen.of({**config, "pen_up_s": 30}).up == ("M3S30", "G4P0.15")
    z = Pen.of({**config, "pen": "z", "pen_up_delay_ms": 0})
    assert (z.up, z.down) == (("G1Z5F300", "G4P0"), ("G1Z0F300", "G4P0.15"))
    assert (z.lift_s, z.drop_s) == (1.0, 1.15)


def test_speeds_above_the_controllers_are_refused_by_name() -> None:
    with GrblSimulator(settings={110: 1200}) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.limits()["top_speed_mm_s"] == 20
        with pytest.raises(ConfigurationError, match="20 mm/s"):
            b.driver.plot(SQUARE, {"speed_mm_s": 50})


@pytest.mark.parametrize("argv", [["--speed", "x"], ["--set", "a=b"], ["--page", "1"], ["--fault", "x"]])
def test_the_simulator_says_what_it_does_not_understand(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) > 1
    assert capsys.readouterr().err
