"""Planning a drawing: the order of steps, the totals, the time left, and going on after an interruption."""

import math
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.drawing import Drawing, Polyline
from vfab.sdk.motion import Limits, Move, PenDown, PenUp, PlotProfile, Resume, Stroke, plan_drawing

SQUARE = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0), (10.0, 10.0)]
LINE = [(30.0, 10.0), (60.0, 10.0), (90.0, 40.0)]


def drawing(*paths):
    return Drawing(
        [Polyline(path, element=f"path{i}", layer=i + 1) for i, path in enumerate(paths)], 200.0, 200.0, 0.02
    )


def kinds(plan):
    return [type(step).__name__ for step in plan]


def test_each_stroke_is_travelled_to_and_the_pen_goes_home_at_the_end():
    plan = plan_drawing(drawing(SQUARE, LINE))
    assert kinds(plan) == ["Move", "PenDown", "Stroke", "PenUp"] * 2 + ["Move"]
    moves = [(step.stroke, step.start, step.end) for step in plan if isinstance(step, Move)]
    assert moves == [(0, (0.0, 0.0), (10.0, 10.0)), (1, (10.0, 10.0), (30.0, 10.0)), (2, (90.0, 40.0), (0.0, 0.0))]
    assert [(s.element, s.layer) for s in plan if isinstance(s, Stroke)] == [("path0", 1), ("path1", 2)]


def test_staying_where_the_drawing_ends_is_a_choice():
    plan = plan_drawing(drawing(SQUARE), PlotProfile(return_home=False), start=(10.0, 10.0))
    assert kinds(plan) == ["PenDown", "Stroke", "PenUp"]


def test_a_stroke_that_begins_where_the_last_one_ended_is_drawn_without_lifting():
    plan = plan_drawing(drawing([(0.0, 0.0), (5.0, 0.0)], [(5.0, 0.0), (5.0, 5.0)]), PlotProfile(return_home=False))
    assert kinds(plan) == ["PenDown", "Stroke", "Stroke", "PenUp"]
    assert plan.lifts == 1


def test_an_empty_drawing_takes_no_time():
    plan = plan_drawing(drawing())
    assert list(plan) == []
    assert (plan.duration_s, plan.lifts, plan.segments, plan.remaining_s(0)) == (0, 0, 0, 0)


PATHS = st.lists(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 200)), min_size=1, max_size=12), min_size=0, max_size=6
)


@given(PATHS)
@settings(deadline=None)
def test_totals_are_the_sums_of_the_steps_and_of_their_blocks(paths):
    plan = plan_drawing(drawing(*paths))
    steps = list(plan)
    by_blocks = 0.0
    for step in steps:
        if isinstance(step, Move | Stroke):
            blocks = list(step.blocks())
            assert math.isclose(sum(b.duration_s for b in blocks), step.duration_s, rel_tol=1e-6, abs_tol=1e-6)
            assert math.isclose(sum(b.length_mm for b in blocks), step.length_mm, rel_tol=1e-9, abs_tol=1e-9)
            by_blocks += sum(b.duration_s for b in blocks)
        else:
            by_blocks += step.duration_s
    assert math.isclose(plan.duration_s, by_blocks, rel_tol=1e-6, abs_tol=1e-5)
    assert math.isclose(plan.duration_s, sum(step.duration_s for step in steps), rel_tol=1e-12)
    assert plan.pen_down_mm == pytest.approx(plan.drawing.pen_down_mm, abs=0.01 * plan.segments + 1e-6)
    assert plan.pen_up_mm == pytest.approx(sum(s.length_mm for s in steps if isinstance(s, Move)))
    assert plan.lifts == sum(isinstance(s, PenUp) for s in steps) == sum(isinstance(s, PenDown) for s in steps)
    assert plan.segments == plan.drawing.segments


def test_the_time_left_falls_from_the_whole_to_the_way_home():
    plan = plan_drawing(drawing(SQUARE, LINE))
    first, second = plan.stroke_end_s(0), plan.stroke_end_s(1)
    assert 0 < first < second < plan.duration_s
    assert plan.remaining_s(0) == plan.duration_s
    assert plan.remaining_s(0, 1.0) == plan.duration_s - 1.0
    assert plan.remaining_s(1) == plan.duration_s - first
    assert plan.remaining_s(2) == plan.duration_s - second
    assert plan.remaining_s(2, 1e9) == 0


def test_the_origin_moves_the_page_on_the_machine():
    plan = plan_drawing(drawing(SQUARE), origin=(5.0, -3.0))
    move, _, stroke, *_ = plan
    assert move.end == (15.0, 7.0)
    block = next(stroke.blocks())
    assert (block.x0_mm, block.y0_mm) == (15.0, 7.0)
    assert plan.duration_s != plan_drawing(drawing(SQUARE)).duration_s  # the way there is another


def test_an_interrupted_stroke_goes_on_from_where_the_pen_was():
    plan = plan_drawing(drawing(SQUARE, LINE, SQUARE), resume=Resume(1, 1, (70.0, 20.0)), start=(0.0, 0.0))
    steps = list(plan)
    strokes = [step for step in steps if isinstance(step, Stroke)]
    assert [(s.stroke, s.first_point) for s in strokes] == [(1, 1), (2, 0)]
    assert steps[0].end == (70.0, 20.0)
    blocks = list(strokes[0].blocks())
    assert {b.point for b in blocks} == {1}
    assert (blocks[-1].x1_mm, blocks[-1].y1_mm) == (90.0, 40.0)
    assert plan.segments == 1 + 4
    assert plan.stroke_end_s(0) == 0.0
    assert plan.remaining_s(2) == plan.duration_s - plan.stroke_end_s(1)


def test_every_block_of_a_plan_names_a_point_from_which_the_rest_can_be_drawn():
    wave = [(0.05 * i, 50 + 3 * math.sin(i / 20)) for i in range(800)]
    whole = drawing(SQUARE, wave)
    stroke = [step for step in plan_drawing(whole) if isinstance(step, Stroke)][1]
    for block in islice(stroke.blocks(), 0, None, 25):
        here = (block.x0_mm, block.y0_mm)
        rest = plan_drawing(whole, resume=Resume(1, block.point, here))
        left = next(step for step in rest if isinstance(step, Stroke))
        first = next(left.blocks())
        assert (first.x0_mm, first.y0_mm) == here
        before = sum(b.length_mm for b in stroke.blocks() if (b.point, b.x0_mm) < (block.point, block.x0_mm))
        assert before + left.length_mm == pytest.approx(stroke.length_mm, abs=0.02)


def test_no_vertex_is_left_out_beyond_a_quarter_of_what_the_drawing_tolerates():
    wave = [(0.02 * i, 0.4 * math.sin(0.06 * i)) for i in range(500)]

    def blocks(tolerance_mm, simplify_mm=0.005):
        exact = Drawing([Polyline(wave)], 100, 100, tolerance_mm)
        stroke = next(s for s in plan_drawing(exact, PlotProfile(simplify_mm=simplify_mm)) if isinstance(s, Stroke))
        return len(list(stroke.blocks()))

    assert blocks(0.02) == blocks(1.0) < blocks(0.008) == blocks(0.02, 0.002) < blocks(0.0) == blocks(0.02, 0.0)


@pytest.mark.parametrize("where", [Resume(3), Resume(-1), Resume(0, 5), Resume(1, -1)])
def test_resuming_outside_the_drawing_is_refused(where):
    with pytest.raises(Refused, match="no stroke"):
        plan_drawing(drawing(SQUARE, LINE), resume=where)


def test_resuming_after_the_last_stroke_only_goes_home():
    plan = plan_drawing(drawing(SQUARE), resume=Resume(1), start=(1.0, 1.0))
    assert kinds(plan) == []
    assert plan.segments == 0


@pytest.mark.parametrize("field", ["pen_lift_s", "pen_drop_s", "simplify_mm", "join_mm"])
def test_a_profile_out_of_range_is_refused_by_name(field):
    with pytest.raises(ConfigurationError, match=field):
        PlotProfile(**{field: -1.0})


def test_streaming_begins_before_the_whole_drawing_is_planned():
    planned = []

    class Watched(list):
        def __getitem__(self, index):
            if isinstance(index, int):
                planned.append(index)
            return super().__getitem__(index)

    paths = Watched(Polyline([(float(i), 0.0), (float(i), 10.0)]) for i in range(1000))
    first = next(iter(plan_drawing(Drawing(paths, 1000.0, 100.0))))
    assert isinstance(first, PenDown)
    assert max(planned) <= 1


def _peak_bytes(rows: int) -> int:
    """Most memory held while a drawing of `rows` strokes of 200 segments is summed up and planned."""
    paths = [Polyline([(x * 0.1, y * 0.5 + (x % 3) * 0.2) for x in range(201)]) for y in range(rows)]
    plan = plan_drawing(Drawing(paths, 300.0, 300.0), PlotProfile(Limits(), Limits(200, 400, 0)))
    tracemalloc.start()
    try:
        assert plan.duration_s > 0
        for step in plan:
            if isinstance(step, Stroke):
                for _ in step.blocks():
                    pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_stroke_however_many_there_are():
    assert _peak_bytes(60) < _peak_bytes(3) + 60 * 100
