"""plotink, the vendor's own client, drives our simulated board and judges our step arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vfab.drivers.axidraw.simulator import AxiDrawSimulator
from vfab.protocols import ebb
from vfab.protocols.ebb.motion import FULL, lm_axis, lt_axis

ebb_calc = pytest.importorskip("plotink.ebb_calc", reason="plotink (PyPI) is not installed")
from plotink import ebb3_motion, ebb_motion, ebb_serial  # noqa: E402 (after the skip)

pytestmark = pytest.mark.referee


@pytest.fixture(params=["2.8", "3"])
def sim(request: pytest.FixtureRequest) -> Iterator[AxiDrawSimulator]:
    with AxiDrawSimulator(request.param) as simulator:
        yield simulator


def test_the_vendor_s_legacy_client_draws_and_reads_everything_back(sim: AxiDrawSimulator) -> None:
    port = ebb_serial.testPort(sim.address)
    assert port is not None
    try:
        assert ebb_serial.queryVersion(port).strip().endswith(str(sim.board.firmware))
        assert ebb_serial.min_version(port, "2.8.0")
        assert ebb_serial.write_nickname(port, "East EBB")
        assert ebb_serial.query_nickname(port, verbose=False) == "East EBB"
        assert ebb_motion.queryVoltage(port)
        ebb_motion.sendEnableMotors(port, 1)
        assert ebb_motion.query_enable_motors(port) == (1, 1)
        ebb_motion.setPenUpPos(port, 20000)
        ebb_motion.setPenDownPos(port, 15000)
        ebb_motion.setPenUpRate(port, 0)
        ebb_motion.setPenDownRate(port, 0)
        ebb_motion.sendPenUp(port, 100)
        assert ebb_motion.QueryPenUp(port)
        ebb_motion.sendPenDown(port, 100)
        assert not ebb_motion.QueryPenUp(port)
        ebb_motion.doABMove(port, 800, 0, 500)
        ebb_motion.doXYMove(port, -400, 400, 500)
        assert ebb_motion.query_steps(port) == (1200, 400)
        ebb_motion.doLowLevelMove(port, 85899346, 100, 0, 85899346, -100, 0, 3)
        assert ebb_motion.query_steps(port) == (1300, 300)
        ebb_motion.doTimedPause(port, 1000)
        ebb_motion.TogglePen(port)
        assert ebb_motion.QueryPenUp(port)
        ebb_motion.doAbsMove(port, 4000)
        assert ebb_motion.query_steps(port) == (0, 0)
        sim.press_button()
        assert ebb_motion.QueryPRGButton(port).strip() == "1"
        assert ebb_motion.QueryPRGButton(port).strip() == "0"
        ebb_motion.setEBBLV(port, 42)
        assert ebb_motion.queryEBBLV(port) == 42
        ebb_motion.sendDisableMotors(port)
        assert ebb_motion.query_enable_motors(port) == (0, 0)
    finally:
        ebb_serial.closePort(port)
    assert sim.strokes == [[(0, 0), (10, 0), (10, 6.25)]]


def test_the_vendor_s_client_survives_what_a_client_before_it_left(sim: AxiDrawSimulator) -> None:
    for _ in range(3):
        port = ebb_serial.testPort(sim.address)
        assert ebb_motion.query_steps(port) == (0, 0)
        ebb_serial.closePort(port)


class NamedBoard(ebb3_motion.EBBMotionWrap):  # type: ignore[misc]
    """plotink looks for boards among the computer's USB ports only; this one is told where its board is."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def _get_port_name(self, given_name: str | None = None) -> None:
        self.port_name = given_name or self._address


def test_the_vendor_s_future_client_draws_and_reads_everything_back() -> None:
    with AxiDrawSimulator("3") as sim:
        board = NamedBoard(sim.address)
        assert board.connect(), board.err
        assert board.version == "3.0.2"
        assert board.write_nickname("East")
        board.query_nickname()
        assert board.name == "East"
        board.motors_enable(1, 1)
        assert board.motors_query_enabled() == (1, 1)
        board.pen_pos_up(20000)
        board.pen_pos_down(15000)
        board.pen_rate_up(0)
        board.pen_rate_down(0)
        board.clear_steps()
        board.clear_accumulators()
        board.pen_lower(50)
        board.xy_move(400, 400, 500)
        assert board.query_steps() == (400, 400)
        board.pen_raise(50)
        board.abs_move(4000)
        assert board.query_steps() == (0, 0)
        assert board.query_statusbyte() == 0b0001_0000
        assert board.query("QU,2") == "32"
        assert board.command("CU,4,8")
        assert board.query("QU,3") == "8"
        board.timed_pause(900)
        assert not board.dio_b_read(3) or board.err is None
        assert board.err is None
        assert not board.command("SM,0,1,1")
        assert "!6 Err" in board.err
        board.disconnect()
        assert sim.strokes == [[(0, 0), (5, 0)]]


rates = st.one_of(st.integers(0, 10**5), st.integers(0, 10**7), st.integers(0, FULL // 2))
accels = st.one_of(st.just(0), st.integers(-1000, 1000), st.integers(-(10**6), 10**6))
starts = st.one_of(st.just("clear"), st.integers(0, FULL - 1))


@given(rates, st.integers(-2000, 2000), accels, starts)
@settings(max_examples=1000, deadline=None)
def test_plotink_agrees_how_long_an_lm_takes_and_where_it_ends(
    rate: int, steps: int, accel: int, start: int | str
) -> None:
    assume(steps and (rate or accel))
    ticks, position, left = ebb_calc.calculate_lm(steps, rate, accel, start)
    # it calls moves that turn round within their first tick invalid, and computes in doubles
    assume(0 < ticks < 10**6 and 0 <= left < FULL)
    axis = lm_axis(rate, steps, accel, accumulator=None if start == "clear" else int(start))
    assume(abs(axis.rate_at()) < FULL)
    assert (axis.ticks, axis.steps(), axis.accumulator()) == (ticks, position, left)


@given(st.integers(-(FULL // 4), FULL // 4), accels, st.integers(1, 2000), starts, st.integers(0, 20))
@settings(max_examples=1000, deadline=None)
def test_plotink_agrees_where_an_lt_is_after_every_tick(
    rate: int, accel: int, ticks: int, start: int | str, part: int
) -> None:
    axis = lt_axis(ticks, rate, accel, accumulator=None if start == "clear" else int(start))
    assume(abs(axis.rate_at()) < FULL)
    tick = max(ticks * part // 20, 1)
    assert (axis.steps(tick), axis.accumulator(tick)) == ebb_calc.move_dist_lt(rate, accel, tick, start)


@given(st.integers(0, FULL // 8), st.integers(-1000, 1000), st.integers(-50, 50), st.integers(1, 2000))
@settings(max_examples=500, deadline=None)
def test_plotink_agrees_where_a_t3_ends(rate: int, accel: int, jerk: int, ticks: int) -> None:
    axis = lt_axis(ticks, rate, accel, jerk)
    assert (axis.steps(), axis.accumulator()) == ebb_calc.move_dist_t3(ticks, rate, accel, jerk)
    assert axis.rate_at() == ebb_calc.rate_t3(ticks, rate, accel, jerk)


@given(st.integers(-4000, 4000), st.integers(-4000, 4000), st.floats(10, 17000), st.floats(10, 17000))
@settings(max_examples=300, deadline=None)
def test_plotink_agrees_that_planned_moves_take_exactly_their_steps(x: int, y: int, start: float, end: float) -> None:
    assume(x or y)
    move = ebb.plan_xy(x, y, start, end)
    command = move.command
    assume(move.ticks < 10**6)
    longest = 0
    for rate, steps, accel in (
        (command.rate1, command.steps1, command.accel1),
        (command.rate2, command.steps2, command.accel2),
    ):
        if steps:
            ticks, position, _ = ebb_calc.calculate_lm(steps, rate, accel, "clear")
            assert position == steps
            longest = max(longest, ticks)
    assert longest == move.ticks
