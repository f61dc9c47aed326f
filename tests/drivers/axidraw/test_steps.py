"""From planned motion to motor steps: exact positions, exact ticks, no move that the board could not finish."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plotink import ebb_calc

from vfab.model.errors import ConfigurationError
from vfab.protocols.ebb.commands import LM, SM, Firmware, encode
from vfab.protocols.ebb.motion import NEVER, TICKS_PER_MS, lm_axis
from vfab.sdk.drawing import Drawing, Polyline
from vfab.sdk.ebb.steps import (
    STEPS_PER_MM,
    TOP_SPEED_MM_S,
    BoardMove,
    StepGenerator,
    board_moves,
    point_of,
    steps_of,
)
from vfab.sdk.motion import Limits, PenDown, PenUp, PlotProfile, Resume, Stroke, plan_drawing, plan_stroke

V2, V3 = Firmware(2, 8, 1), Firmware(3, 0, 2)
STEP_MM = 1 / STEPS_PER_MM
COORDINATE = st.one_of(st.floats(0, 300), st.floats(10, 10.1), st.integers(0, 5).map(float))
PATH = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=2, max_size=25)
LIMITS = st.builds(
    Limits,
    st.sampled_from([50.0, 200.0]) | st.floats(1.0, 220.0),
    st.sampled_from([200.0, 400.0]) | st.floats(20, 4000),
    st.just(0.127) | st.floats(0, 1),
)


def stepped(path, limits=None, **options):
    generator = StepGenerator(path[0], **options)
    return generator, list(generator.moves(plan_stroke(path, limits, simplify_mm=0.005)))


def distance_to_path(point, path):
    return min(distance_to_segment(point, a, b) for a, b in pairwise(path))


def distance_to_segment(point, start, end):
    (px, py), (x0, y0), (x1, y1) = point, start, end
    dx, dy = x1 - x0, y1 - y0
    square = dx * dx + dy * dy
    along = min(1.0, max(0.0, ((px - x0) * dx + (py - y0) * dy) / square)) if square else 0.0
    return math.hypot(px - x0 - along * dx, py - y0 - along * dy)


def axes(command, firmware):
    one = lm_axis(command.rate1, command.steps1, command.accel1, firmware=firmware)
    two = lm_axis(command.rate2, command.steps2, command.accel2, firmware=firmware)
    return one, two


def count_ticks(rate, steps, accel, limit):
    """The interrupt routine's loop, literally: (ticks, lowest rate) until the steps are done."""
    rate -= int(accel / 2)
    accumulator = taken = tick = 0
    lowest = math.inf
    while taken < abs(steps):
        tick += 1
        assert tick <= limit, "the move would not end"
        rate += accel
        lowest = min(lowest, rate)
        accumulator += rate
        if accumulator >= 2**31:
            accumulator -= 2**31
            taken += 1
    return tick, lowest


@given(PATH, LIMITS, st.sampled_from(["lm", "sm"]))
@example([(0.0, 0.0), (0.0, 0.004)], Limits(), "lm")
@example([(0.0, 0.0), (100.0, 0.007)], Limits(), "lm")
@example([(0.0, 0.0), (100.0, 0.0), (0.0, 0.0)], Limits(), "lm")
@settings(deadline=None)
def test_the_steps_add_up_to_the_rounded_end_and_every_move_ends_beside_the_path(path, limits, method):
    generator, moves = stepped(path, limits, method=method)
    at1, at2 = steps_of(path[0])
    for move in moves:
        at1 += move.command.steps1
        at2 += move.command.steps2
        assert (at1, at2) == (move.end1, move.end2)
        assert (move.command.steps1, move.command.steps2) != (0, 0)
        assert distance_to_path(point_of((at1, at2)), path) <= STEP_MM
    assert (at1, at2) == steps_of(path[-1]) == (generator.end1, generator.end2)


@given(PATH, LIMITS)
@settings(deadline=None)
def test_no_vertex_of_the_input_is_further_than_one_step_from_the_way_of_the_motors(path, limits):
    _, moves = stepped(path, limits)
    corners = [point_of(steps_of(path[0])), *(point_of((m.end1, m.end2)) for m in moves)]
    way = corners if len(corners) > 1 else corners * 2
    assert max(distance_to_path(point, way) for point in path) <= STEP_MM * (1 + 1e-9)


@given(PATH, LIMITS)
@settings(max_examples=60, deadline=None)
def test_every_lm_ends_on_both_firmwares_with_its_steps_done_and_its_rate_never_negative(path, limits):
    _, moves = stepped(path, limits)
    for move in moves:
        encode(move.command, V2)
        encode(move.command, V3)
        for firmware in (V2, V3):
            one, two = axes(move.command, firmware)
            assert max(one.ticks, two.ticks) == move.ticks < NEVER
            assert (one.steps(), two.steps()) == (move.command.steps1, move.command.steps2)
            for axis in (one, two):
                assert not axis.wraps
                assert not axis.turns()


@given(PATH, LIMITS)
@settings(max_examples=60, deadline=None)
def test_the_vendors_arithmetic_gives_the_same_ticks(path, limits):
    _, moves = stepped(path, limits)
    for move in moves:
        command = move.command
        ticks = []
        for rate, steps, accel in (
            (command.rate1, command.steps1, command.accel1),
            (command.rate2, command.steps2, command.accel2),
        ):
            taken, position, _ = ebb_calc.calculate_lm(steps, rate, accel)
            assert position == steps
            ticks.append(taken)
        assert max(ticks) == move.ticks


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=2, max_size=6), LIMITS)
@settings(max_examples=25, deadline=None)
def test_counting_tick_by_tick_gives_the_same_end(path, limits):
    _, moves = stepped(path, limits)
    for move in moves:
        command = move.command
        both = [
            count_ticks(command.rate1, command.steps1, command.accel1, move.ticks),
            count_ticks(command.rate2, command.steps2, command.accel2, move.ticks),
        ]
        assert max(ticks for ticks, _ in both) == move.ticks
        assert all(lowest >= 0 for _, lowest in both)


@given(st.lists(PATH, min_size=1, max_size=4), st.sampled_from(["lm", "sm"]))
@settings(deadline=None)
def test_the_moves_of_a_drawing_take_the_planned_time(paths, method):
    plan = plan_drawing(Drawing([Polyline(path) for path in paths], 300, 300, 0.02))
    generator = StepGenerator(plan.start, method=method)
    steps = list(board_moves(plan, generator))
    total = sum(step.duration_s for step in steps)
    strokes = len(paths)
    # 10 ms a motion: the smallest strokes end up to half a step beside their ends
    assert total == pytest.approx(plan.duration_s, rel=0.02, abs=0.02 * (2 * strokes + 1))
    assert (generator.end1, generator.end2) == (0, 0)
    assert sum(isinstance(step, PenUp) for step in steps) == sum(isinstance(step, PenDown) for step in steps)


@given(PATH, LIMITS, st.sampled_from(["lm", "sm"]))
@settings(deadline=None)
def test_no_sustained_run_of_moves_is_too_short_to_feed(path, limits, method):
    shortest = 0.003
    _, moves = stepped(path, limits, min_move_s=shortest, method=method)
    for first in range(len(moves)):
        run = moves[first : first + 20]
        assert sum(move.duration_s for move in run) >= (len(run) - 2) * shortest - len(run) * 0.0006
    assert max((move.duration_s for move in moves), default=0) <= 2.1


@given(PATH)
@settings(deadline=None)
def test_sm_moves_are_within_the_firmwares_ranges(path):
    _, moves = stepped(path, Limits(200, 4000, 1), method="sm")
    for move in moves:
        assert isinstance(move.command, SM)
        assert move.ticks == move.command.duration_ms * TICKS_PER_MS
        encode(move.command, V2)
        for steps in filter(None, (move.command.steps1, move.command.steps2)):
            assert 1.31 <= abs(steps) / move.command.duration_ms * 1000 < 25_000


def test_a_very_slow_line_is_finished_and_takes_its_time():
    slow = Limits(0.05, 0.01, 0)
    for method in ("lm", "sm"):
        _, moves = stepped([(0.0, 0.0), (0.3, 0.1)], slow, method=method)
        planned = sum(block.duration_s for block in plan_stroke([(0.0, 0.0), (0.3, 0.1)], slow))
        assert sum(move.duration_s for move in moves) == pytest.approx(planned, rel=0.1)
        assert (moves[-1].end1, moves[-1].end2) == steps_of((0.3, 0.1))


def test_a_line_faster_than_the_board_is_slowed_to_what_it_can():
    _, moves = stepped([(0.0, 0.0), (200.0, 200.0)], Limits(2 * TOP_SPEED_MM_S, 5000, 0))
    for move in moves:
        assert abs(move.command.steps1) <= move.ticks
    assert (moves[-1].end1, moves[-1].end2) == (32_000, 0)


def test_a_stroke_smaller_than_a_step_makes_no_move():
    generator, moves = stepped([(1.0, 1.0), (1.002, 1.0)])
    assert moves == []
    assert generator.position == (1.0, 1.0)


def test_a_curve_of_tiny_segments_becomes_moves_that_the_board_can_be_fed_with():
    curve = [(10 + math.cos(i / 500), 10 + math.sin(i / 500)) for i in range(3142)]
    _, moves = stepped(curve)
    shortest = sorted(move.duration_s for move in moves)
    assert shortest[1] >= 0.003
    assert len(moves) < 60


def test_a_sawtooth_too_fast_to_feed_is_slowed_and_keeps_its_teeth():
    teeth = [(0.03 * i, 0.03 * (i % 2)) for i in range(400)]
    _, moves = stepped(teeth, Limits(200, 10_000, 5.0))
    planned = sum(block.duration_s for block in plan_stroke(teeth, Limits(200, 10_000, 5.0)))
    lasts = sum(move.duration_s for move in moves)
    assert lasts > planned * 1.5
    assert lasts == pytest.approx(len(moves) * 0.003, rel=0.05)
    way = [point_of((move.end1, move.end2)) for move in moves]
    assert max(distance_to_path(point, way) for point in teeth[1:]) <= STEP_MM


def test_a_generator_that_begins_elsewhere_goes_to_the_path_first():
    generator = StepGenerator((0.5, 0.5))
    moves = list(generator.moves(plan_stroke([(0.0, 0.0), (0.001, 0.0)])))
    assert [(move.end1, move.end2) for move in moves] == [(0, 0)]


def test_speeds_meet_between_the_moves_of_a_straight_line():
    _, moves = stepped([(0.0, 0.0), (40.0, 0.0)])
    ends = [(axes(move.command, V3)[0].rate_at(1), axes(move.command, V3)[0].rate_at()) for move in moves]
    full = 50 * STEPS_PER_MM / 25_000 * 2**31
    for (_, before), (after, _) in pairwise(ends):
        assert after == pytest.approx(before, abs=full * 0.005)
    assert max(max(pair) for pair in ends) <= full * 1.002


def test_a_plan_is_sent_in_order_and_each_move_says_where_to_go_on():
    square = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0)]
    plan = plan_drawing(Drawing([Polyline(square), Polyline([(30.0, 30.0), (40.0, 30.0)])], 100, 100))
    steps = list(board_moves(plan))
    drawn = [step for step in steps if isinstance(step, BoardMove) and step.pen_down]
    assert {(step.stroke, step.point) for step in drawn} == {(0, 0), (0, 1), (1, 0)}
    assert all(isinstance(step.command, LM) and step.command.clear == 3 for step in drawn)
    assert [type(step) for step in steps if not isinstance(step, BoardMove)] == [PenDown, PenUp] * 2
    lengths = [step.length_mm for step in plan if isinstance(step, Stroke)]
    assert lengths == pytest.approx([20.0, 10.0])


def test_a_plot_cut_off_between_moves_goes_on_there_and_ends_at_the_same_place():
    wave = [(0.05 * i, 50 + 3 * math.sin(i / 20)) for i in range(800)]
    drawing = Drawing([Polyline([(0.0, 0.0), (5.0, 0.0)]), Polyline(wave)], 100, 100, 0.02)
    profile = PlotProfile(return_home=False)
    moves = [move for move in board_moves(plan_drawing(drawing, profile)) if isinstance(move, BoardMove)]
    cut = [move for move in moves if move.stroke == 1 and move.pen_down][20]
    here = point_of((cut.end1, cut.end2))
    rest = plan_drawing(drawing, profile, start=here, resume=Resume(cut.stroke, cut.point, here))
    again = [step for step in board_moves(rest) if isinstance(step, BoardMove)]
    assert (again[-1].end1, again[-1].end2) == (moves[-1].end1, moves[-1].end2)
    for move in again:
        assert distance_to_path(point_of((move.end1, move.end2)), wave) <= STEP_MM


@pytest.mark.parametrize(
    "options",
    [{"steps_per_mm": 0}, {"min_move_s": 0}, {"max_move_s": 0.001}, {"tolerance_mm": -1}, {"method": "xm"}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match="out of range"):
        StepGenerator(**options)
