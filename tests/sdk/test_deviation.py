"""The distance between two drawings, both ways, along whole segments."""

from __future__ import annotations

from math import cos, hypot, pi, sin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import Refused
from vfab.sdk.deviation import max_deviation_mm

LONG = [(0.0, 0.0), (10.0, 0.0)]


@pytest.mark.parametrize(
    ("drawn", "wanted", "distance"),
    [
        ([LONG], [LONG], 0.0),
        ([LONG], [LONG[::-1]], 0.0),
        ([LONG], [[(0, 0), (4, 0)], [(4, 0), (10, 0)]], 0.0),
        ([LONG], [[(0, 1), (10, 1)]], 1.0),
        ([LONG], [[(0, 0), (4, 0)], [(6, 0), (10, 0)]], 1.0),
        ([[(0, 0), (4, 0)], [(6, 0), (10, 0)]], [LONG], 1.0),
        ([LONG], [[(0, 0), (8, 0)]], 2.0),
        ([LONG], [LONG, [(5, 3)]], 3.0),
        ([[(3, 4)]], [[(0, 0)]], 5.0),
        ([[(0, 0), (5, 5), (10, 0)]], [LONG], 5.0),
        ([], [], 0.0),
    ],
)
def test_the_farthest_point_of_either_counts(drawn, wanted, distance: float) -> None:
    assert max_deviation_mm(drawn, wanted) == pytest.approx(distance, abs=0.0006)


def test_an_empty_drawing_has_no_distance_from_another() -> None:
    with pytest.raises(Refused, match="what was drawn"):
        max_deviation_mm([], [LONG])
    with pytest.raises(Refused, match="what was wanted"):
        max_deviation_mm([LONG], [])


def test_a_polygon_in_a_circle_deviates_by_its_arrow_height() -> None:
    circle = [[(50 * cos(k * pi / 5000), 50 * sin(k * pi / 5000)) for k in range(10001)]]
    polygon = [[(50 * cos(k * pi / 6), 50 * sin(k * pi / 6)) for k in range(13)]]
    assert max_deviation_mm(polygon, circle) == pytest.approx(50 * (1 - cos(pi / 12)), abs=0.001)


spot = st.tuples(st.floats(-20, 20), st.floats(-20, 20))
lines = st.lists(st.lists(spot, min_size=1, max_size=5), min_size=1, max_size=4)


def _brute(ours, theirs) -> float:
    def away(x, y, a, b):
        along = (b[0] - a[0], b[1] - a[1])
        squared = along[0] ** 2 + along[1] ** 2
        share = min(1, max(0, ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / squared)) if squared > 1e-12 else 0
        return hypot(x - a[0] - share * along[0], y - a[1] - share * along[1])

    def pieces(group):
        return [(a, b) for line in group for a, b in zip(line, line[1:] or line, strict=False)]

    return max(
        min(away(a[0] + (b[0] - a[0]) * k / 60, a[1] + (b[1] - a[1]) * k / 60, *piece) for piece in pieces(theirs))
        for a, b in pieces(ours)
        for k in range(61)
    )


@settings(max_examples=50, deadline=None)
@given(lines, lines)
def test_no_sampled_point_is_farther_and_none_is_much_nearer(ours, theirs) -> None:
    found = max_deviation_mm(ours, theirs)
    sampled = max(_brute(ours, theirs), _brute(theirs, ours))
    assert sampled - 0.001 <= found <= sampled + 0.5
    assert found == pytest.approx(max_deviation_mm(theirs, ours), abs=0.001)
