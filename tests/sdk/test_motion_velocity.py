"""Planning one stroke: never above a limit, never below what the limits allow."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.motion import Limits, junction_speed_mm_s, plan_stroke, simplified, stroke_duration_s

LIMITS = st.builds(
    Limits,
    st.sampled_from([1.0, 50.0, 300.0]) | st.floats(0.1, 1000),
    st.sampled_from([200.0, 5000.0]) | st.floats(1, 10000),
    st.sampled_from([0.0, 0.127]) | st.floats(0, 5),
)
COORDINATE = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-300, 300), st.floats(-0.01, 0.01), st.floats(-1e-7, 1e-7)
)
POINT = st.tuples(COORDINATE, COORDINATE)
PATH = st.lists(POINT, min_size=1, max_size=40)
SLACK = 1e-6


def path_length(points):
    return sum(math.dist(a, b) for a, b in pairwise(points))


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-3)


def distance_to_segment(point, start, end):
    (px, py), (x0, y0), (x1, y1) = point, start, end
    dx, dy = x1 - x0, y1 - y0
    square = dx * dx + dy * dy
    along = min(1.0, max(0.0, ((px - x0) * dx + (py - y0) * dy) / square)) if square else 0.0
    return math.hypot(px - x0 - along * dx, py - y0 - along * dy)


@given(PATH, LIMITS)
@example([(0.0, 0.0), (10.0, 0.0), (0.0, 0.0)], Limits())
@example([(0.0, 0.0), (10.0, 0.0), (10.0, 0.0), (20.0, 0.0)], Limits(cornering_mm=0))
@example([(0.0, 0.0), (1e-8, 0.0), (20.0, 0.0)], Limits())
@settings(deadline=None)
def test_no_limit_is_exceeded_and_the_speed_never_jumps(points, limits):
    blocks = plan_stroke(points, limits)
    top, rate = limits.max_velocity_mm_s, limits.acceleration_mm_s2
    for block in blocks:
        assert 0 <= block.v0_mm_s <= top * (1 + SLACK)
        assert 0 <= block.v1_mm_s <= top * (1 + SLACK)
        assert abs(block.acceleration_mm_s2) <= rate * (1 + SLACK)
        assert block.duration_s > 0
        assert block.length_mm > 0
        travelled = block.v0_mm_s * block.duration_s + block.acceleration_mm_s2 * block.duration_s**2 / 2
        assert math.isclose(travelled, block.length_mm, rel_tol=1e-6)
        ended = block.v0_mm_s + block.acceleration_mm_s2 * block.duration_s
        assert math.isclose(ended, block.v1_mm_s, rel_tol=1e-6, abs_tol=1e-6 * top)
    for one, two in pairwise(blocks):
        assert one.v1_mm_s == two.v0_mm_s
        assert (one.x1_mm, one.y1_mm) == (two.x0_mm, two.y0_mm)
    if blocks:
        assert blocks[0].v0_mm_s == blocks[-1].v1_mm_s == 0
        assert (blocks[0].x0_mm, blocks[0].y0_mm) == points[0]
        assert math.dist((blocks[-1].x1_mm, blocks[-1].y1_mm), points[-1]) <= 2e-9


@given(PATH, LIMITS)
@example([(0.0, 0.0), (2.0, 0.0), (2.0, 1e-256), (0.0, 0.0)], Limits())
@settings(deadline=None)
def test_corners_are_taken_no_faster_than_the_junction_rule_allows(points, limits):
    blocks = plan_stroke(points, limits)
    for one, two in pairwise(blocks):
        if one.point == two.point:
            continue  # pieces of one segment
        before, corner, after = points[one.point], points[two.point], (two.x1_mm, two.y1_mm)
        if math.dist(corner, after) < 1e-6:
            continue  # its direction is mostly rounding
        allowed = junction_speed_mm_s(before, corner, after, limits)
        assert one.v1_mm_s <= allowed * (1 + 1e-4) + 1e-2


@given(PATH, LIMITS)
@settings(deadline=None)
def test_the_motion_is_the_fastest_within_the_limits(points, limits):
    blocks = plan_stroke(points, limits)
    top, rate = limits.max_velocity_mm_s, limits.acceleration_mm_s2
    for block in blocks:
        if block.length_mm < 1e-5:
            continue  # may hold the rest of a piece that was too short to stand alone
        assert close(abs(block.acceleration_mm_s2), rate) or close(min(block.v0_mm_s, block.v1_mm_s), top)
    for one, two in pairwise(blocks):
        if one.acceleration_mm_s2 < 0 < two.acceleration_mm_s2:  # it slowed down for this corner, and only as needed
            after = (two.x1_mm, two.y1_mm)
            before = (one.x0_mm, one.y0_mm)
            if min(math.dist(before, points[two.point]), math.dist(after, points[two.point])) > 1e-5:
                allowed = junction_speed_mm_s(before, points[two.point], after, limits)
                assert one.v1_mm_s >= allowed * (1 - 1e-4) - 1e-2


@given(PATH, LIMITS)
@settings(deadline=None)
def test_lengths_and_durations_add_up(points, limits):
    blocks = plan_stroke(points, limits)
    assert math.isclose(sum(b.length_mm for b in blocks), path_length(points), rel_tol=1e-9, abs_tol=1e-7)
    total = stroke_duration_s(points, limits)
    assert math.isclose(sum(b.duration_s for b in blocks), total, rel_tol=1e-6, abs_tol=1e-6)
    assert [b.point for b in blocks] == sorted(b.point for b in blocks)


@given(PATH, st.sampled_from([0.0, 0.005, 0.1, 1.0]), st.sampled_from([math.inf, 0.5]))
@example([(0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.0, 2.0)], 1.0, 0.5)
@settings(max_examples=300, deadline=None)
def test_left_out_points_lie_within_the_tolerance_of_what_replaces_them(points, tolerance, reach):
    kept = simplified(points, tolerance, reach)
    assert kept[0] == 0
    assert kept == sorted(set(kept))
    stands_for_last = math.dist(points[kept[-1]], points[-1])
    assert stands_for_last <= 1e-9
    for first, last in pairwise(kept):
        for index in range(first + 1, last):
            assert distance_to_segment(points[index], points[first], points[last]) <= tolerance + 2e-9


@given(PATH, LIMITS)
@example([(0.0, -1.0), (0.0, 0.0), (0.0, 1e-9), (0.0, -1.0)], Limits(300, 200, 0))
@settings(deadline=None)
def test_simplifying_is_never_slower(points, limits):
    exact = stroke_duration_s(points, limits)
    assert stroke_duration_s(points, limits, simplify_mm=0.005) <= exact * (1 + 1e-6) + 1e-6


@given(st.floats(0.001, 1e4), LIMITS)
@settings(deadline=None)
def test_a_straight_line_takes_the_time_of_the_textbook(length, limits):
    top, rate = limits.max_velocity_mm_s, limits.acceleration_mm_s2
    cruises = length * rate > top * top
    expected = length / top + top / rate if cruises else 2 * math.sqrt(length / rate)
    assert stroke_duration_s([(0.0, 0.0), (length, 0.0)], limits) == pytest.approx(expected, rel=1e-9)
    in_parts = [(length * i / 7, 0.0) for i in range(8)]
    assert stroke_duration_s(in_parts, limits) == pytest.approx(expected, rel=1e-6)


def test_a_right_angle_is_taken_at_the_speed_of_the_arc_that_cuts_it_by_the_cornering_distance():
    limits = Limits(50, 200, 0.127)
    half = math.sqrt(0.5)
    expected = math.sqrt(200 * 0.127 * half / (1 - half))
    assert junction_speed_mm_s((0, 0), (10, 0), (10, 10), limits) == pytest.approx(expected)
    blocks = plan_stroke([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], limits)
    assert [b.v1_mm_s for b in blocks if (b.x1_mm, b.y1_mm) == (10.0, 0.0)] == [pytest.approx(expected)]


def test_a_reversal_stops_and_a_straight_junction_does_not():
    assert junction_speed_mm_s((0, 0), (1, 0), (0, 0), Limits()) == 0
    assert junction_speed_mm_s((0, 0), (1, 0), (2, 0), Limits(cornering_mm=0)) == 50


def test_a_dot_and_repeated_points_have_no_motion():
    assert plan_stroke([(1.0, 2.0)]) == []
    assert plan_stroke([(1.0, 2.0)] * 5) == []
    assert plan_stroke([(1.0, 2.0)] * 5, simplify_mm=0.005) == []
    assert stroke_duration_s([(1.0, 2.0)]) == 0


def test_repeated_points_change_nothing():
    once = plan_stroke([(0.0, 0.0), (5.0, 0.0), (5.0, 5.0)])
    twice = plan_stroke([(0.0, 0.0), (0.0, 0.0), (5.0, 0.0), (5.0, 0.0), (5.0, 5.0), (5.0, 5.0)])
    assert [b[:-1] for b in once] == [b[:-1] for b in twice]


def test_simplifying_beside_repeated_points_keeps_the_corner_rule():
    points = [(0.0, 0.0), (0.1, 0.0), (0.1, 0.0), (0.2, 0.0), (0.2, 0.2), (0.2, 0.2), (0.2, 0.3)]
    assert stroke_duration_s(points, simplify_mm=0.005) == pytest.approx(stroke_duration_s(points), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e9, 1e100])
def test_coordinates_of_every_size_are_planned(scale):
    points = [(0.0, 0.0), (scale, 0.0), (scale, scale), (0.0, 0.0)]
    blocks = plan_stroke(points)
    assert math.isclose(sum(b.length_mm for b in blocks), path_length(points), rel_tol=1e-6)
    assert all(math.isfinite(b.duration_s) and b.duration_s > 0 for b in blocks)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tolerance", [0.0, 0.005])
def test_a_coordinate_that_is_no_number_is_refused(bad, tolerance):
    with pytest.raises(Refused, match="not a number"):
        plan_stroke([(0.0, 0.0), (1.0, bad), (2.0, 0.0)], simplify_mm=tolerance)


def test_a_path_without_points_is_refused():
    with pytest.raises(Refused, match="without a point"):
        plan_stroke([])


@pytest.mark.parametrize(
    "field, value",
    [
        ("max_velocity_mm_s", 0),
        ("max_velocity_mm_s", math.inf),
        ("acceleration_mm_s2", -1),
        ("acceleration_mm_s2", "fast"),
        ("cornering_mm", -0.1),
        ("cornering_mm", math.nan),
    ],
)
def test_limits_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        Limits(**{field: value})
    assert caught.value.context["field"] == field
