"""What an EggBot does when vfab drives it: told by the simulator, over a real pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import pi
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.eggbot.driver import EggBotDriver
from vfab.drivers.eggbot.globe import Globe
from vfab.drivers.eggbot.simulator import EggBotSimulator, main
from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, HandedOver, Refused
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.svg import SvgOptions, read_drawing
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
STEP_MM = pi * 40 / 3200
TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" width="3200" height="800" viewBox="0 0 3200 800" fill="none"
  stroke="black">{}</svg>"""
BAND = TEMPLATE.format(
    '<path d="M100 400 C 800 0 1600 800 3100 400"/><circle cx="1600" cy="400" r="200"/><rect x="200" y="50" '
    'width="300" height="700"/>'
).encode()
AROUND = TEMPLATE.format(
    '<path id="seam" d="M3000 300 H3400 V500 H3000 Z"/><path d="M100 400 H-300"/><path d="M3100 600 H3190"/>'
).encode()


@contextmanager
def bench(address: str, state: Path | None = None, **settings: Any) -> Iterator[DriverBench[EggBotDriver]]:
    with DriverBench(EggBotDriver, manifest_in(FOLDER), address, config=settings, state_dir=state) as made:
        yield made


def wanted(svg: bytes, globe: Globe | None = None) -> list[Any]:
    globe = globe or Globe(40.0)
    drawing = read_drawing(svg, options=SvgOptions(tolerance_mm=0.02))
    return [globe.in_first_turn(path.points) for path in globe.mapped(drawing, whole_page=True).paths]


@pytest.mark.parametrize("firmware", ["2.8", "3"])
def test_a_page_of_the_template_goes_once_around_the_egg(firmware: str) -> None:
    with EggBotSimulator(firmware) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.position() == {"x_mm": 0, "y_mm": pytest.approx(15.708, abs=1e-3), "pen": "up"}
        report = b.driver.plot(BAND)
        assert max_deviation_mm(simulator.strokes, wanted(BAND)) <= STEP_MM
        assert report["max_deviation_mm"] <= STEP_MM
        assert report["warnings"] == []
        assert simulator.board.place == (0, 0), "a plot ends at home, on the equator"


def test_a_step_is_a_unit_of_the_template_and_the_pen_is_motor_1() -> None:
    with EggBotSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        globe = Globe(40.0)
        b.driver.move_to(800 / globe.steps_per_mm, 100 / globe.steps_per_mm)
        assert simulator.board.place == (-300, 800)
        assert (globe.geometry(1).steps_of((0, globe.height_mm)), globe.geometry(1).x_motor) == ((0, 400), 1)
        assert globe.geometry(reverse_egg=True, reverse_pen=True).steps_of((1, 0)) == (400, -25)


def test_millimetres_are_millimetres_at_the_equator_of_other_pages() -> None:
    square = b"""<svg xmlns="http://www.w3.org/2000/svg" width="40mm" height="40mm" viewBox="0 0 40 40">
      <rect x="10" y="10" width="20" height="20" fill="none" stroke="black"/></svg>"""
    with EggBotSimulator(diameter_mm=60.0) as simulator, bench(simulator.address, diameter_mm=60.0) as b:
        b.driver.connect()
        report = b.driver.plot(square)
        assert report["pen_down_mm"] == pytest.approx(80, abs=0.2)
        down = (Globe(60.0).height_mm - 40) / 2
        there = [(10, 10 + down), (30, 10 + down), (30, 30 + down), (10, 30 + down), (10, 10 + down)]
        assert max_deviation_mm(simulator.strokes, [there]) <= 2 * STEP_MM


def test_what_lies_off_the_page_is_refused_unless_it_may_go_around() -> None:
    with EggBotSimulator() as simulator, bench(simulator.address) as b:
        b.driver.connect()
        commands = simulator.board.commands
        with pytest.raises(Refused, match="seam"):
            b.driver.plot(AROUND)
        assert simulator.board.commands == commands
        too_high = TEMPLATE.format('<path id="pole" d="M10 -20 V400"/>').encode()
        b.driver.config["wrap"] = True
        with pytest.raises(Refused, match="pole"):
            b.driver.plot(too_high)


def test_a_drawing_around_the_egg_is_drawn_whole_and_the_way_home_is_the_shorter_one() -> None:
    with EggBotSimulator() as simulator, bench(simulator.address, wrap=True) as b:
        b.driver.connect()
        report = b.driver.plot(AROUND, {"sort": False, "merge": False})
        assert max_deviation_mm(simulator.strokes, wanted(AROUND)) <= STEP_MM
        assert report["pen_up_mm"] < 70, "no travel goes the long way round"
        assert b.driver.position()["x_mm"] == 0
        assert simulator.board.place[1] % 3200 == 0
        b.driver.move_to(Globe(40.0).width_mm * 1.25, 10)
        assert b.driver.home()["x_mm"] == 0


def test_the_place_on_the_egg_outlives_the_driver_however_often_it_has_turned() -> None:
    with EggBotSimulator() as simulator:
        with bench(simulator.address, wrap=True) as b:
            b.driver.connect()
            for _ in range(3):
                b.driver.draw_path([[100, 10], [150, 10]])
        with bench(simulator.address) as b:
            b.driver.connect()
            assert b.driver.position()["x_mm"] == pytest.approx(150 % Globe(40.0).width_mm, abs=STEP_MM)


def test_a_cancelled_plot_is_resumed_without_a_gap(tmp_path: Path) -> None:
    state = tmp_path / "driver" / "device"
    state.mkdir(parents=True)
    with EggBotSimulator(speed=20) as simulator:
        with bench(simulator.address, state, wrap=True) as b:
            b.driver.connect()
            run = b.start(lambda: b.driver.plot(BAND))
            soon(lambda: len(simulator.strokes) > 1)
            b.driver.cancel()
            with pytest.raises(Cancelled):
                run.result()
        with bench(simulator.address, state, wrap=True) as b:
            b.driver.connect()
            assert 0 < b.driver.plot(BAND, {"resume": True})["resumed_from"] < 1
        assert max_deviation_mm(simulator.strokes, wanted(BAND)) <= 2 * STEP_MM


@pytest.mark.parametrize("turns", [AROUND, AROUND.replace(b"M100 400 H-300", b"M100 400 H9900")])
def test_a_plot_goes_on_in_the_next_process_in_whichever_turn_of_the_egg_it_is(tmp_path: Path, turns: bytes) -> None:
    drawn: list[Any] = []
    after = "".join(f'<path d="M{n * 50} 700 h20"/>' for n in range(12))  # it is not to be at its end when it is asked
    turns = turns.replace(b"</svg>", f"{after}</svg>".encode())
    for times in (0, 1):
        saved: dict[str, Any] = {}
        carried: dict[str, Any] | None = None
        with EggBotSimulator(speed=5) as simulator:
            for left in range(times, -1, -1):
                with bench(simulator.address, tmp_path / str(times), wrap=True) as b:
                    b.driver.load_state(saved, 0)
                    b.driver.take_over()
                    run = b.start(lambda b=b, carried=carried: b.driver.plot(turns, carried=carried))  # type: ignore[misc]
                    if not left:
                        run.result()
                        break
                    before = len(simulator.strokes)
                    soon(lambda before=before: len(simulator.strokes) > before)  # type: ignore[misc]
                    assert b.driver.reach_safe_point()
                    with pytest.raises(HandedOver) as over:
                        run.result()
                    carried, saved = over.value.context["kwargs"]["carried"], b.driver.save_state(0)
                    for link in b.links:
                        link.close()
            drawn.append((simulator.strokes, simulator.board.place))
    assert drawn[0] == drawn[1], "to the step, and the egg has turned as often"


def test_a_board_that_calls_itself_otherwise_is_warned_of() -> None:
    with EggBotSimulator(nickname="My AxiDraw") as simulator, bench(simulator.address) as b:
        b.driver.connect()
        [note] = b.driver.plot(BAND)["warnings"]
        assert "My AxiDraw" in note


def test_an_eggbot_without_a_nickname_is_as_likely_an_axidraw_and_the_nickname_decides() -> None:
    egg, axi = manifest_in(FOLDER), manifest_in(FOLDER.parent / "axidraw")
    board: dict[str, Any] = {"id": "usb:1", "bus": "usb", "address": "/dev/ttyACM0", "vid": "04d8", "pid": "fd92"}
    unnamed = DeviceInfo(**board, product="EiBotBoard")
    assert egg.score(unnamed) == axi.score(unnamed) > 0
    named = DeviceInfo(**board, product="EiBotBoard,EggBot")
    assert egg.score(named) > axi.score(named)
    other = DeviceInfo(**board, product="EiBotBoard,AxiDraw 7")
    assert axi.score(other) > egg.score(other)
    [question] = egg.identify
    assert question.read(b"EggBot 2\r\nOK\r\n") == {"name": "EggBot 2"}
    assert question.read(b"\r\nOK\r\n") is None


@pytest.mark.parametrize("argv", [["--diameter", "1"], ["--speed", "x"], ["--firmware", "1"]])
def test_the_simulator_says_what_it_does_not_understand(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) > 1
    assert capsys.readouterr().err
