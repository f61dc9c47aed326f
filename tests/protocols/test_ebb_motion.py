"""The closed form of the step generator against a loop that does what the interrupt routine does, tick by tick."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vfab.model.errors import Refused
from vfab.protocols import ebb
from vfab.protocols.ebb.motion import FULL, NEVER, lm_axis, lt_axis, steady_axis

V2, V3 = ebb.Firmware(2, 8, 1), ebb.Firmware(3, 0, 2)
TICKS = 6000

rates = st.one_of(st.integers(0, 10**5), st.integers(0, 10**7), st.integers(0, FULL // 2))
accels = st.one_of(st.just(0), st.integers(-1000, 1000), st.integers(-(10**6), 10**6), st.integers(-(10**7), 10**7))
starts = st.one_of(st.none(), st.sampled_from([0, FULL - 1]), st.integers(0, FULL - 1))


def half(value: int, by: int = 2) -> int:
    return int(value / by)


def loop_3(rate: int, accel: int, jerk: int, start: int | None, steps: int | None, ticks: int) -> list[tuple[int, ...]]:
    """(steps, accumulator, rate) after each tick on firmware 3."""
    if steps is not None and steps < 0:
        rate, accel, jerk, steps = -rate, -accel, -jerk, -steps
    rate = rate - half(accel) + half(jerk, 6)
    if start is None:
        signs = [sign for sign in (rate + accel, accel + jerk, jerk) if sign]
        start = FULL - 1 if signs and signs[0] < 0 else 0
    accel -= jerk
    total, position, taken, seen = start, 0, 0, []
    while len(seen) < ticks and taken != steps:
        accel += jerk
        rate += accel
        total += rate
        if total >= FULL:
            total, position, taken = total - FULL, position + 1, taken + 1
        elif total < 0:
            total, position, taken = total + FULL, position - 1, taken + 1
        seen.append((position, total, rate))
    return seen


def loop_2(rate: int, accel: int, start: int, steps: int | None, ticks: int) -> list[tuple[int, ...]]:
    """(steps, accumulator, rate) after each tick on firmware 2.8, whose rates have 32 bits and lose the highest."""
    rate = (rate - half(accel)) % 2**32
    total, taken, seen = start, 0, []
    while len(seen) < ticks and taken != steps:
        rate = (rate + accel) % 2**32
        if rate >= FULL:
            rate -= FULL
        total += rate
        if total >= FULL:
            total, taken = total - FULL, taken + 1
        seen.append((taken, total, rate))
    return seen


def same(axis: ebb.Axis, seen: list[tuple[int, ...]]) -> None:
    for tick in sorted({1, len(seen) // 3, len(seen) // 2, len(seen) - 1, len(seen)} - {0}):
        position, total, rate = seen[tick - 1]
        assert (axis.steps(tick), axis.accumulator(tick), axis.rate_at(tick)) == (position, total, rate)


@given(rates, st.integers(-80, 80), accels, st.one_of(st.just(0), st.integers(-3000, 3000)), starts)
@settings(max_examples=400, deadline=None)
def test_lm_and_l3_of_firmware_3_are_the_interrupt_routine_s(
    rate: int, steps: int, accel: int, jerk: int, start: int | None
) -> None:
    assume(steps)
    seen = loop_3(rate, accel, jerk, start, steps, TICKS)
    assume(len(seen) < TICKS and all(abs(rate) < FULL for _, _, rate in seen))
    axis = lm_axis(rate, steps, accel, jerk, accumulator=start)
    assert axis.ticks == len(seen)
    same(axis, seen)
    positions = [0, *(position for position, _, _ in seen)]
    moves = [b - a for a, b in pairwise(positions) if b != a]
    assert len(moves) == abs(steps)


@given(rates, st.integers(-80, 80), accels, st.integers(0, FULL - 1))
@settings(max_examples=400, deadline=None)
def test_lm_of_firmware_2_8_is_the_interrupt_routine_s_even_where_the_rate_wraps(
    rate: int, steps: int, accel: int, start: int
) -> None:
    assume(steps)
    seen = loop_2(rate, accel, start, abs(steps), TICKS)
    assume(len(seen) < TICKS)
    axis = lm_axis(rate, steps, accel, accumulator=start, firmware=V2)
    assert axis.ticks == len(seen)
    sign = -1 if steps < 0 else 1
    same(axis, [(sign * position, total, rate) for position, total, rate in seen])


@given(st.integers(-(FULL // 4), FULL // 4), accels, st.integers(-3000, 3000), starts, st.integers(1, 2000))
@settings(deadline=None)
def test_lt_and_t3_are_the_interrupt_routine_s(rate: int, accel: int, jerk: int, start: int | None, ticks: int) -> None:
    seen = loop_3(rate, accel, jerk, start, None, ticks)
    assume(all(abs(rate) < FULL for _, _, rate in seen))
    same(lt_axis(ticks, rate, accel, jerk, accumulator=start), seen)
    sign = -1 if rate < 0 else 1
    old = loop_2(abs(rate), accel, start or 0, None, ticks)
    same(lt_axis(ticks, rate, accel, accumulator=start or 0, firmware=V2), [(sign * s, t, r) for s, t, r in old])


@given(st.integers(1, FULL - 1), st.integers(-200, 200), st.integers(0, FULL - 1))
@settings(deadline=None)
def test_steady_moves_end_with_their_last_step(rate: int, steps: int, start: int) -> None:
    assume(steps)
    axis = steady_axis(rate, steps, accumulator=start)
    assert axis.steps() == steps
    assert abs(axis.steps(axis.ticks - 1)) == abs(steps) - 1


speeds = st.one_of(st.just(0.0), st.floats(1.0, 25000.0))


@given(st.integers(-5000, 5000), st.integers(-5000, 5000), speeds, speeds)
@settings(max_examples=400, deadline=None)
def test_a_planned_move_takes_exactly_its_steps_on_both_generations(
    steps1: int, steps2: int, start: float, end: float
) -> None:
    assume((steps1 or steps2) and (start or end))
    move = ebb.plan_lm(steps1, steps2, start, end)
    command = move.command
    assert command.clear == 3
    ebb.encode(command, V2)
    for firmware in (V2, V3):
        one = lm_axis(command.rate1, command.steps1, command.accel1, firmware=firmware)
        two = lm_axis(command.rate2, command.steps2, command.accel2, firmware=firmware)
        assert (one.steps(), two.steps()) == (steps1, steps2)
        assert max(one.ticks, two.ticks) == move.ticks
        assert not one.turns()
        assert not two.turns()
        assert not (one.wraps or two.wraps)
    longest = max(abs(steps1), abs(steps2))
    ideal = max(2 * longest * 25000 / (start + end), longest)
    assert move.ticks <= ideal + 1
    assert move.duration_s == move.ticks / 25000


@given(st.integers(200, 5000), st.floats(100.0, 12000.0), st.floats(100.0, 12000.0))
@settings(deadline=None)
def test_a_planned_move_has_the_speeds_that_were_asked_for(steps: int, start: float, end: float) -> None:
    command = ebb.plan_lm(steps, -steps // 2, start, end).command
    axis = lm_axis(command.rate1, command.steps1, command.accel1)
    allowed = 0.02 * max(start, end) + 2
    assert abs(axis.rate_at(1) * 25000 / FULL - start) <= allowed
    assert abs(axis.rate_at() * 25000 / FULL - end) <= allowed


@given(st.integers(-3000, 3000), st.integers(-3000, 3000), speeds, speeds)
@settings(max_examples=150, deadline=None)
def test_a_planned_move_of_up_to_5_s_is_straight_to_within_a_step(x: int, y: int, start: float, end: float) -> None:
    assume((x or y) and start + end > 0 and max(start, end) < 17000)
    move = ebb.plan_xy(x, y, start, end)
    assume(move.ticks < 5 * 25000)
    command = move.command
    one = lm_axis(command.rate1, command.steps1, command.accel1)
    two = lm_axis(command.rate2, command.steps2, command.accel2)
    length = (command.steps1**2 + command.steps2**2) ** 0.5
    for part in range(1, 16):
        tick = move.ticks * part // 16
        aside = abs(one.exact(tick) * command.steps2 - two.exact(tick) * command.steps1) / length
        assert aside < 1.0


def test_an_h_bot_s_motors_go_x_plus_y_and_x_minus_y() -> None:
    command = ebb.plan_xy(300, 100, 1000, 1000).command
    assert (command.steps1, command.steps2) == (400, 200)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (-1, 10), (10, 25001), (float("nan"), 1)])
def test_impossible_speeds_are_refused(start: float, end: float) -> None:
    with pytest.raises(Refused):
        ebb.plan_lm(10, 10, start, end)


def test_no_motion_and_double_signs_are_refused() -> None:
    with pytest.raises(Refused):
        ebb.plan_xy(0, 0, 100, 100)
    with pytest.raises(Refused):
        lm_axis(-5, -5, 0)


def test_a_motor_without_rate_never_ends() -> None:
    assert lm_axis(0, 5, 0).ticks == NEVER
    assert lm_axis(0, 5, 0, firmware=V2).ticks == NEVER
    assert lm_axis(0, 0, 0).steps() == 0
    assert steady_axis(0, 5, accumulator=0).ticks == NEVER


def test_the_reference_s_examples_last_as_long_as_it_says() -> None:
    assert ebb.lm_ticks(ebb.LM(85899346, 10, 0, 17180814, 2, 0)) == pytest.approx(250, abs=1)
    assert ebb.lm_ticks(ebb.LM(17179000, 75, -687, 8592000, 75, 687)) == pytest.approx(12500, rel=0.01)
    assert ebb.lm_ticks(ebb.LM(42950000, 50, 13400, 0, 0, 0)) == pytest.approx(77 * 25, rel=0.01)
