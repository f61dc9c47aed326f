"""Joining and sorting strokes: held against looking at all ends, and against vpype's own commands."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, dist, sin
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import Cancelled
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.drawing import Point, Polyline
from vfab.sdk.stroke_index import EndGrid, EndTree
from vfab.sdk.stroke_order import join, link, order, travelled_s
from vfab.sdk.stroke_tour import STROKES_MAX, improved

places = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: (float(pair[0]), float(pair[1])))
ends = st.lists(st.tuples(places, places), min_size=1, max_size=60)


def _strokes(pairs: list[tuple[Point, Point]]) -> list[Polyline]:
    return [
        Polyline((start, (start[0], stop[1] + 0.25), stop), f"path {i}", 1) for i, (start, stop) in enumerate(pairs)
    ]


def _travel(strokes: list[Polyline]) -> float:
    here, total = (0.0, 0.0), 0.0
    for stroke in strokes:
        total += dist(here, stroke.points[0])
        here = stroke.points[-1]
    return total


def _random(count: int) -> list[Polyline]:
    random = Random(7)
    spots = [(random.uniform(0, 200), random.uniform(0, 200)) for _ in range(count)]
    return [
        Polyline((spot, (spot[0] + random.uniform(-9, 9), spot[1] + random.uniform(-9, 9))), f"path {i}", 1)
        for i, spot in enumerate(spots)
    ]


@given(ends, st.lists(places, min_size=60, max_size=60))
@settings(deadline=None)
def test_the_tree_finds_the_nearest_end_that_is_left(pairs: list[tuple[Point, Point]], questions: list[Point]) -> None:
    tree = EndTree(pairs)
    left = set(range(len(pairs)))
    for here in questions:
        if not left:
            break
        number, backward = tree.nearest(here)
        assert number in left
        assert dist(here, pairs[number][backward]) == min(dist(here, end) for i in left for end in pairs[i])
        tree.take(number)
        left.discard(number)
        assert bool(len(tree)) == bool(left)


@given(ends, st.lists(places, min_size=5, max_size=5), st.sampled_from([0.5, 1.0, 2.5]))
@settings(deadline=None)
def test_the_grid_finds_the_nearest_end_within_reach(
    pairs: list[tuple[Point, Point]], questions: list[Point], reach: float
) -> None:
    grid = EndGrid(reach, [(i, start, stop) for i, (start, stop) in enumerate(pairs)])
    left = set(range(len(pairs)))
    for here in questions:
        found = grid.nearest(here)
        near = [dist(here, end) for i in left for end in pairs[i]]
        if found is None:
            assert not near or min(near) > reach - 1e-9
            continue
        number, backward = found
        assert dist(here, pairs[number][backward]) == min(near)
        grid.take(number)
        left.discard(number)
        assert number not in grid


@given(ends, places, st.none() | places)
@settings(deadline=None)
def test_an_improved_order_has_every_stroke_once_and_takes_no_longer(
    pairs: list[tuple[Point, Point]], start: Point, home: Point | None
) -> None:
    def taken_s(heads: list[int]) -> float:
        strokes = [Polyline((pairs[head >> 1][head & 1], pairs[head >> 1][not head & 1])) for head in heads]
        return travelled_s(strokes, start, home)

    plain = [2 * number for number in range(len(pairs))]
    better = improved(pairs, plain, start, home)
    assert sorted(head >> 1 for head in better) == [*range(len(pairs))]
    assert taken_s(better) <= taken_s(plain) + 1e-9
    assert improved(pairs, plain, start, home) == better


def test_a_long_way_back_is_avoided_where_the_nearest_stroke_would_lead_into_it() -> None:
    # from 0 the nearest are 1, then -2, then 5, then -9: to and fro over all of them
    pairs = [((x, 0.0), (x, 1.0)) for x in (1.0, -2.0, 5.0, -9.0, 20.0, -40.0)]
    strokes = [Polyline(pair, f"path {number}", 1) for number, pair in enumerate(pairs)]
    places_mm = [stroke.points[0][0] for stroke in order(strokes, (0.0, 0.0), home=(0.0, 0.0))]
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(places_mm, places_mm[1:], places_mm[2:], strict=False))
    assert turns <= 2


@pytest.mark.parametrize("alike", [lambda i: (5.0, 5.0), lambda i: (float(i), 0.0), lambda i: (float(i % 2), 0.0)])
def test_strokes_that_lie_on_each_other_are_ordered_as_soon_as_others(alike: Callable[[int], Point]) -> None:
    strokes = [Polyline((alike(i), alike(i + 1)), f"path {i}", 1) for i in range(STROKES_MAX)]
    assert len(order(strokes, (0.0, 0.0))) == STROKES_MAX


@given(ends)
@settings(deadline=None)
def test_ordering_loses_and_doubles_nothing(pairs: list[tuple[Point, Point]]) -> None:
    strokes = _strokes(pairs)
    found = order(strokes, (0.0, 0.0))
    assert sorted(stroke.element for stroke in found) == sorted(stroke.element for stroke in strokes)
    given_ = {stroke.element: set(stroke.points) for stroke in strokes}
    assert all(set(stroke.points) == given_[stroke.element] for stroke in found)


@pytest.mark.parametrize("sort", [order, lambda strokes, here, tell: join(strokes, 0.01, tell=tell)])
def test_sorting_and_joining_say_how_far_they_are_and_end_when_nobody_waits(sort: Callable[..., object]) -> None:
    strokes, told = _random(2000), list[tuple[int, int]]()
    sort(strokes, (0.0, 0.0), tell=lambda done, total: told.append((done, total)))
    assert len(told) > 5
    assert told == sorted(told)
    assert {total for _, total in told} == {2000}

    token = CancelToken()
    before = current_token.set(token)
    try:
        with pytest.raises(Cancelled):
            sort(strokes, (0.0, 0.0), tell=lambda done, _total: token.cancel() if done else None)
    finally:
        current_token.reset(before)


@pytest.mark.parametrize(
    "place",
    [
        lambda random: (random.uniform(0, 300), random.uniform(0, 200)),
        lambda random: (5.0, random.uniform(0, 200)),
        lambda random: (random.gauss(50, 0.001), random.gauss(100, 50)),
        lambda random: (float(random.randrange(30)), float(random.randrange(30))),
    ],
    ids=["spread", "one line", "narrow", "on a grid"],
)
def test_a_large_tree_finds_the_nearest_end_until_it_is_empty(place: Callable[[Random], Point]) -> None:
    random = Random(5)
    pairs = [(place(random), place(random)) for _ in range(1500)]
    tree = EndTree(pairs)
    left = set(range(len(pairs)))
    here = (0.0, 0.0)
    while left:
        number, backward = tree.nearest(here)
        assert number in left
        if len(left) % 20 == 0:
            assert dist(here, pairs[number][backward]) == min(dist(here, end) for i in left for end in pairs[i])
        tree.take(number)
        left.remove(number)
        here = pairs[number][not backward]
    assert not len(tree)


def test_rays_of_one_point_are_sorted_and_joined_into_lines_no_more() -> None:
    rays = [Polyline(((100.0, 100.0), (100 + 90 * cos(i), 100 + 90 * sin(i))), f"path {i}", 1) for i in range(3000)]
    assert len(join(rays, 0.01)) == 3000
    assert _travel(order(rays, (0.0, 0.0))) < _travel(rays) / 100


def test_what_begins_where_the_last_stroke_ended_needs_no_lift() -> None:
    ring = Polyline(((0.0, 0.0), (5.0, 0.0), (5.0, 5.0), (0.0, 0.0)), "ring", 2)
    line = Polyline(((0.004, 0.003), (-9.0, 0.0)), "line", 2)
    dot, far = Polyline(((-9.0, 0.0),), "dot", 2), Polyline(((-9.0, 0.02), (-9.0, 1.0)), "far", 2)
    found = link([ring, line, dot, far], 0.005)
    assert [stroke.points for stroke in found] == [(*ring.points, *line.points), far.points]
    assert [found[0].element_at(i) for i in range(6)] == ["ring"] * 4 + ["line"] * 2
    assert {stroke.layer for stroke in found} == {2}
    assert link([], 0.1) == []


def test_rays_are_drawn_in_pairs() -> None:
    rays = [Polyline(((100.0, 100.0), (100 + 90 * cos(i), 100 + 90 * sin(i))), f"path {i}", 1) for i in range(300)]
    assert len(link(order(rays, (0.0, 0.0)), 0.01)) == 150


@pytest.mark.referee
def test_the_travel_is_shorter_than_that_of_vpypes_linesort() -> None:
    strokes = _random(400)
    assert _travel(order(strokes, (0.0, 0.0))) < 0.95 * _linesort_travel(strokes)


@pytest.mark.referee
def test_the_travel_of_very_many_strokes_is_that_of_vpypes_linesort() -> None:
    strokes = _random(STROKES_MAX + 1)
    assert _travel(order(strokes, (0.0, 0.0))) == pytest.approx(_linesort_travel(strokes), rel=0.02)


def _linesort_travel(strokes: list[Polyline]) -> float:
    import numpy as np
    import vpype

    lines = vpype.LineCollection(np.array([complex(*point) for point in stroke.points]) for stroke in strokes)
    index = vpype.LineIndex(lines, reverse=True)
    here, theirs = 0j, 0.0
    while len(index):
        place, backward = index.find_nearest(here)
        line = index.pop(place)
        theirs += abs(here - line[-1 if backward else 0])
        here = line[0 if backward else -1]
    return theirs


@pytest.mark.referee
def test_as_many_strokes_are_joined_as_by_vpypes_linemerge() -> None:
    import numpy as np
    import vpype

    random = Random(3)
    sides = [(x, y, down) for x in range(12) for y in range(12) for down in (0, 1)]
    random.shuffle(sides)
    strokes = [
        Polyline(((float(x), float(y)), (x + 1.0 - down, y + float(down))), f"path {i}", 1)
        for i, (x, y, down) in enumerate(sides)
    ]
    lines = vpype.LineCollection(np.array([complex(*point) for point in stroke.points]) for stroke in strokes)
    lines.merge(0.01, flip=True)
    joined = join(strokes, 0.01)
    assert len(joined) <= len(lines) * 1.1
    assert sum(len(stroke.points) - 1 for stroke in joined) == len(sides)
