"""The simulated firmware by itself: every command, the queue, the servo, and how true the recording is."""

from __future__ import annotations

from itertools import pairwise
from math import hypot

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vfab.protocols import ebb
from vfab.protocols.ebb import TICKS_PER_MS
from vfab.protocols.ebb.motion import lm_axis, lt_axis
from vfab.sdk.ebb.actions import act
from vfab.sdk.ebb.board import Board
from vfab.sdk.ebb.rates import motor_rate, proportional_rates, refusal
from vfab.sdk.ebb.recording import Recording
from vfab.sdk.simulation import simplified

V2, V3 = ebb.Firmware(2, 8, 1), ebb.Firmware(3, 0, 2)
FAST = b"SC,10,0\rEM,1,1\r"


def instant(firmware: ebb.Firmware = V3) -> Board:
    return Board(firmware, act, instant=True)


def say(board: Board, *lines: str) -> bytes:
    board.receive("".join(line + "\r" for line in lines).encode())
    return board.outgoing()


@pytest.mark.parametrize(
    ("line", "legacy", "future"),
    [
        ("V", b"EBBv13_and_above EB Firmware Version 3.0.2\r\n", b"V,EBBv13_and_above EB Firmware Version 3.0.2\n"),
        ("QM", b"QM,0,0,0,0\n\r", b"QM,0,0,0,0\n"),
        ("QG", b"10\r\n", b"QG,10\n"),
        ("QB", b"0\r\nOK\r\n", b"QB,0\n"),
        ("QS", b"0,0\n\rOK\r\n", b"QS,0,0\n"),
        ("QC", b"0394,0300\r\nOK\r\n", b"QC,0394,0300\n"),
        ("QE", b"0,0\r\nOK\r\n", b"QE,0,0\n"),
        ("QU,2", b"QU,32\r\nOK\r\n", b"QU,32\n"),
        ("ES", b"0\n\rOK\r\n", b"ES,0\n"),
        ("ES,1", b"0\n\rOK\r\n", b"ES,0\n"),
        ("QR", b"0\n\rOK\r\n", b"QR,0\n"),
        ("QN", b"0\r\nOK\r\n", b"QN,0\n"),
        ("I", b"I,128,255,130,000,007\r\n", b"I,128,255,130,000,007\n"),
        ("A", b"A,00:0394\r\n", b"A,00:0394\n"),
        ("MR,7", b"MR,000\r\n", b"MR,000\n"),
        ("PI,B,2", b"PI,1\r\n", b"PI,1\n"),
        ("PI,D,2", b"PI,0\r\n", b"PI,0\n"),
        ("AC,1,1", b"OK\r\n", b"AC\n"),
        ("SM,10,1", b"OK\r\n", b"SM\n"),
        ("TR,100,10,-5", b"OK\r\n", b"TR\n"),
        ("SM,1,100,0", b"!0 Err: <axis1> step rate too high\n\r", b"SM,!0 Err: <axis1> step rate too high\n"),
        ("LM,0,5,0,0,5,0", b"!6 Err: Invalid parameter value\r\n", b"LM,!6 Err: Invalid parameter value\n"),
        ("LM,-5,-5,0,0,5,1", b"!6 Err: Invalid parameter value\r\n", b"LM,!6 Err: Invalid parameter value\n"),
        ("CU,10,7", b"!6 Err: Invalid parameter value\r\n", b"CU,!6 Err: Invalid parameter value\n"),
        ("BL", b"", b""),
    ],
)
def test_answers_of_firmware_3_in_both_syntaxes(line: str, legacy: bytes, future: bytes) -> None:
    assert say(instant(), line) == legacy
    board = instant()
    assert say(board, "CU,10,1") == b"\n"
    assert say(board, line) == future
    assert say(instant(), "CU,10,1", "CU,10,0")[1:] == b"CUOK\r\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("QG", b"D0\r\n"),
        ("ES", b"0,0,0,0,0\n\rOK\r\n"),
        ("CU,10,1", b"OK\r\n"),
        ("QU,2", b"!8 Err: Unknown command 'QU:5155'\r\n"),
        ("SM,1,100,0", b"!0 Err: <axis1> step rate > 25K steps/second.\n\r"),
        ("SM,100000,10,1", b"!0 Err: <axis1> step rate < 1.31Hz.\n\r"),
        ("SM,10,5,5,0,9", b"OK\r\n!7 Err: Extra parameter\r\n"),
        ("LT,10,0,5,0,5", b"!6 Err: Invalid parameter value\r\n"),
        ("HM,1000", b"OK\r\n"),
        ("HM,1000,100,20", b"OK\r\n"),
        ("HM,1000,4294967,0", b"OK\r\n"),
    ],
)
def test_answers_of_firmware_2_8(line: str, said: bytes) -> None:
    assert say(instant(V2), line) == said


@pytest.mark.parametrize("firmware", [V2, V3])
@pytest.mark.parametrize(
    "line",
    [b"SM,\xb2,1", b"SM,-\xb2,1", b"\xb5x,1", b"\xff", b"\xdf", b"PO,\xff,1,1", b"ST,\xff", b"QL,\xb9", b"V,\xb3"],
)
def test_bytes_that_are_no_ascii_are_answered_and_survived(firmware: ebb.Firmware, line: bytes) -> None:
    for before in (b"", b"CU,10,1\r", b"CU,10,0\rCU,54,1\r"):
        board = instant(firmware)
        board.receive(before + line + b"\r")
        assert board.outgoing()
        board.receive(b"R\rV\r")
        assert board.outgoing()


def test_values_that_are_set_are_read_back_until_reset() -> None:
    board = instant()
    say(board, "SL,5", "SL,125,19", "SN,9", "NI", "ND", "NI", "ST,Bob", "PO,D,3,1", "SR,1000,1", "CU,60,404", "CU,61,9")
    assert say(board, "QL", "QL,19", "QN", "QT") == b"5\r\nOK\r\n125\r\nOK\r\n10\r\nOK\r\nBob\r\nOK\r\n"
    assert say(board, "PI,D,3", "QR", "QU,60", "QU,61") == (b"PI,1\r\n1\n\rOK\r\nQU,404\r\nOK\r\nQU,9\r\nOK\r\n")
    say(board, "SC,4,21000", "SC,5,15000", "SC,11,1", "SC,12,2", "SC,10,3", "SC,1,1", "CU,2,0", "CU,3,1", "CU,50,0")
    here = board.settings
    assert (here.pen_up_pulse, here.pen_down_pulse, here.rate_up, here.rate_down) == (21000, 15000, 3, 3)
    assert (here.limit_checks, here.auto_enable) == (False, False)
    assert say(board, "R", "QL", "QT") == b"OK\r\n0\r\nOK\r\nBob\r\nOK\r\n"


def test_microsteps_scale_the_carriage_and_em_zeroes_the_counters() -> None:
    board = instant()
    say(board, "EM,1,1", "SM,10,16,16", "EM,3,3", "SM,10,16,16")
    assert say(board, "QS", "QE") == b"16,16\n\rOK\r\n4,4\r\nOK\r\n"
    assert board.place == (16 + 64, 16 + 64)
    say(board, "EM,0,0")
    assert board.place == (80, 80)
    assert say(board, "QS", "QE") == b"0,0\n\rOK\r\n0,0\r\nOK\r\n"
    assert say(board, "PI,E,0", "PI,C,1") == b"PI,1\r\nPI,1\r\n"


def test_motors_that_are_off_count_steps_and_do_not_move() -> None:
    board = instant()
    say(board, "CU,50,0", "EM,1,0", "SM,100,80,80")
    assert say(board, "QS") == b"80,80\n\rOK\r\n"
    assert board.place == (80, 0)


def test_home_goes_back_to_where_the_counters_were_zeroed() -> None:
    for firmware in (V2, V3):
        board = instant(firmware)
        say(board, "EM,1,1", "SM,100,500,-300", "HM,2000,100,50")
        assert board.steps == [100, 50]
        say(board, "HM,2000")
        assert board.steps == [0, 0]
        assert board.place == (0, 0)


def test_2_8_goes_home_in_two_legs_when_one_motor_would_be_too_slow() -> None:
    board = instant(V2)
    say(board, "SC,10,0", "EM,1,1", "SP,0", "HM,1000,20000,-6")
    assert board.steps == [20000, -6]
    assert board.recording.strokes_mm()[0] == [(0, 0), (0, 0.075), pytest.approx((124.9625, 125.0375))]


def test_cs_zeroes_the_counters_under_way() -> None:
    board = Board(V3, act)
    say(board, "EM,1,1", "SM,1000,1000,1000")
    board.advance(500 * TICKS_PER_MS)
    say(board, "CS", "QS")
    board.advance(2000 * TICKS_PER_MS)
    assert 480 <= board.steps[0] <= 520
    assert board.place == (1000, 1000)


def test_the_queue_takes_as_many_as_it_is_deep_and_then_nothing_is_answered() -> None:
    for depth in (1, 3):
        board = Board(V3, act)
        say(board, f"CU,4,{depth}")
        board.advance(board.now + 100)
        board.outgoing()
        board.receive(b"SM,1000,100,100\r" * 6 + b"QG\r")
        board.advance(board.now + 500 * TICKS_PER_MS)
        assert board.outgoing() == b"OK\r\n" * (1 + depth)
        assert len(board.queue) == depth
        board.advance(board.now + 10_000 * TICKS_PER_MS)
        assert board.outgoing() == b"OK\r\n" * (5 - depth) + b"1F\r\n"
        assert board.next_event() is None


def test_hm_and_a_new_depth_wait_until_all_motion_has_ended() -> None:
    for line in (b"HM,1000\r", b"CU,4,9\r"):
        board = Board(V3, act)
        board.receive(b"SM,200,100,100\r" + line)
        board.advance(150 * TICKS_PER_MS)
        assert board.outgoing() == b"OK\r\n"
        board.advance(300 * TICKS_PER_MS)
        assert board.outgoing() == b"OK\r\n"


def test_short_moves_starve_the_queue_and_long_ones_do_not() -> None:
    for duration, starves in ((1, True), (10, False)):
        board = Board(V3, act)
        board.receive(b"SC,10,0\rSP,0\r" + b"SM,%d,10,10\r" % duration * 20)
        board.advance(3000 * TICKS_PER_MS)
        assert len(board.gaps_ticks) == 19
        assert (max(board.gaps_ticks) > 0) is starves


@pytest.mark.parametrize("firmware", [V2, V3])
def test_es_tells_what_it_cut_short(firmware: ebb.Firmware) -> None:
    board = Board(firmware, act)
    board.receive(b"SM,1000,1000,-500\rSM,1000,70,80\r")
    board.advance(100 * TICKS_PER_MS)
    board.outgoing()
    board.receive(b"ES\r")
    board.advance(board.now + 20)
    said = board.outgoing()
    taken = board.steps
    assert taken[0] > 50
    if firmware >= V3:
        assert said == b"1\n\rOK\r\n"
    else:
        assert said == f"1,70,80,{1000 - taken[0]},{500 + taken[1]}\n\rOK\r\n".encode()
    board.advance(board.now + 5000 * TICKS_PER_MS)
    assert board.steps == taken
    assert not board.moving


def test_es_of_2_8_leaves_timed_moves_alone() -> None:
    board = Board(V2, act)
    board.receive(b"LT,25000,85899346,0,0,0\r")
    board.advance(100 * TICKS_PER_MS)
    board.receive(b"ES,1\r")
    board.advance(200 * TICKS_PER_MS)
    assert board.outgoing().endswith(b"0,0,0,0,0\n\rOK\r\n")
    assert board.moving
    assert board.enabled == [False, False]


def test_td_is_two_timed_moves_and_one_answer() -> None:
    for board in (instant(), Board(V3, act)):
        board.receive(b"TD,100,0,8589934,100,1000,0,8589934,100,-1000\r")
        board.advance(board.now + 5000)
        assert board.outgoing() == b"OK\r\n"
        first = lt_axis(100, 0, 0, 1000)
        assert board.now >= 200
        assert board.accumulators[0] != first.accumulator()


def test_the_servo_takes_its_time_and_the_pen_touches_midway() -> None:
    board = instant()
    say(board, "SC,4,20000", "SC,5,16000", "SC,10,500", "EM,1,1", "SP,1,1000")
    assert board.pen_up
    say(board, "SP,0", "SM,300,300,300")
    (stroke,) = board.recording.strokes_mm()
    # 2000 of 500 every 24 ms, and one frame more until it is past the middle: 120 ms
    assert stroke[0] == pytest.approx((1.5, 0), abs=0.1)
    say(board, "SP,1", "SM,300,300,300")
    assert board.recording.strokes_mm()[0][-1] == pytest.approx((3.75 + 1.5, 0), abs=0.1)
    assert board.recording.lifts == 1


def test_a_pen_that_turns_round_before_the_paper_draws_nothing() -> None:
    board = instant()
    say(board, "SC,10,100", "EM,1,1", "SP,0,20", "SP,1,20", "SM,2000,300,300")
    assert board.recording.strokes_mm() == []


def test_a_pen_that_touches_and_leaves_draws_a_dot() -> None:
    board = instant()
    say(board, "SC,10,0", "SP,0,20", "TP,20")
    assert board.recording.strokes_mm() == [[(0.0, 0.0)]]
    assert '<polyline points="0,0 0,0"/>' in board.recording.svg((100, 50))


def test_sp_2_and_3_lift_past_the_queue() -> None:
    board = Board(V3, act)
    board.receive(FAST + b"SP,0\rSM,1000,1000,1000\rCU,4,4\r")
    board.advance(1100 * TICKS_PER_MS)
    board.receive(b"SM,1000,1000,1000\rSP,0,10\rSM,100,100,100\r")
    board.advance(board.now + 100 * TICKS_PER_MS)
    assert board.recording.down
    board.receive(b"SP,3\r")
    board.advance(board.now + 100)
    assert not board.recording.down
    board.advance(board.now + 3000 * TICKS_PER_MS)
    assert len(board.recording.strokes_mm()) == 1
    board.receive(b"SP,2\rQP\r")
    board.advance(board.now + 100)
    assert board.outgoing().endswith(b"1\n\rOK\r\n")


def test_s2_drives_the_pen_by_its_pulse() -> None:
    board = instant()
    say(board, "EM,1,1", "S2,15700,4,0,100", "SM,100,80,80", "S2,17750,4,0,100", "S2,0,4", "S2,9000,5,0,10")
    assert board.recording.strokes_mm() == [[(0, 0), (1, 0)]]
    assert not board.recording.down


def test_the_servo_s_power_goes_off_by_itself() -> None:
    board = Board(V3, act)
    board.receive(b"SR,1000\rSP,1,10\r")
    board.advance(100 * TICKS_PER_MS)
    board.receive(b"QR\r")
    board.advance(2000 * TICKS_PER_MS)
    board.receive(b"QR\r")
    board.advance(2100 * TICKS_PER_MS)
    assert board.outgoing() == b"OK\r\nOK\r\n1\n\rOK\r\n0\n\rOK\r\n"


def test_a_move_that_never_ends_is_ended_by_es() -> None:
    board = Board(V3, act)
    board.receive(b"LM,85899346,10,0,0,10,0\r")
    board.advance(10_000)
    assert board.next_event() is None
    assert board.moving
    board.receive(b"ES\rQM\r")
    board.advance(20_000)
    assert board.outgoing() == b"OK\r\n1\n\rOK\r\nQM,0,0,0,0\n\r"


def test_rates_of_both_generations_make_moves_of_the_right_length() -> None:
    for firmware in (V2, V3):
        for steps, duration in ((100, 100), (3000, 200), (140_000, 9000), (7, 20)):
            axis = ebb.steady_axis(motor_rate(steps, duration, firmware), steps, accumulator=0)
            assert axis.ticks == pytest.approx(duration * 25, rel=0.05, abs=2)
    assert proportional_rates(100, -50, 1000) == (pytest.approx(85899345, abs=10), pytest.approx(42949672, abs=10))
    assert proportional_rates(0, 5, 25000)[0] == 0
    assert refusal(1, (1, 30000), V3) == "<axis2> step rate too high"
    assert refusal(2**32 - 1, (0, 1), V3) == "<axis2> step rate too slow"
    assert refusal(2**25, (0, 1), V2) == "<move_duration> larger than 16777215 ms."
    assert refusal(2**23, (2**25, 1), V2) == "<axis1> larger than 16777215 steps."
    assert refusal(10, (10, 10), V2) is None


def distance(point: tuple[float, float], path: list[tuple[float, float]]) -> float:
    best = float("inf")
    for (ax, ay), (bx, by) in pairwise(path):
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        part = 0.0 if not square else max(0.0, min(1.0, ((point[0] - ax) * dx + (point[1] - ay) * dy) / square))
        best = min(best, hypot(point[0] - ax - part * dx, point[1] - ay - part * dy))
    return best


moves = st.tuples(
    st.integers(0, 10**8), st.integers(-300, 300), st.integers(-20000, 20000),
    st.integers(0, 10**8), st.integers(-300, 300), st.integers(-20000, 20000),
)  # fmt: skip


@given(moves)
@settings(max_examples=60, deadline=None)
def test_what_is_recorded_is_within_a_step_of_where_the_motors_were_at_every_tick(move: tuple[int, ...]) -> None:
    command = ebb.LM(*move, 3)
    assume(command.steps1 or command.steps2)
    assume((command.rate1 or not command.steps1) and (command.rate2 or not command.steps2))
    axes = (
        lm_axis(command.rate1, command.steps1, command.accel1),
        lm_axis(command.rate2, command.steps2, command.accel2),
    )
    assume(max(axis.ticks for axis in axes) < 30_000)
    board = instant()
    board.receive(FAST + b"SP,0\r" + ebb.encode(command))
    path = [(x * 80, y * 80) for x, y in board.recording.strokes_mm()[0]]
    last = max(axis.ticks for axis in axes)
    for tick in range(0, last + 1, max(last // 40, 1)):
        one, two = axes[0].steps(tick), axes[1].steps(tick)
        assert distance(((one + two) / 2, (one - two) / 2), path) <= 1.0
    assert board.steps == [axes[0].steps(), axes[1].steps()]


def test_points_on_a_line_are_left_out_and_turning_points_are_kept() -> None:
    line = [(float(x), 0.0) for x in range(1000)]
    assert simplified(line, 0.1)[0] == (0, 0)
    assert len(simplified(line, 0.1)) < 10
    assert simplified([(0, 0), (10, 0), (5, 0)], 0.1) == [(0, 0), (10, 0), (5, 0)]
    assert simplified([(0, 0), (10, 0), (0, 0)], 0.1) == [(0, 0), (10, 0), (0, 0)]
    assert simplified([(0, 0), (1, 1)], 0.1) == [(0, 0), (1, 1)]


def test_travel_with_the_pen_up_is_measured_and_not_drawn() -> None:
    recording = Recording()
    recording.go(80, 80)
    recording.go(80, 80)
    assert recording.pen_up_steps == 80
    assert recording.strokes_mm() == []
