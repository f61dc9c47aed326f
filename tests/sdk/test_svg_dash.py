"""Dashed strokes: the pattern along a path, what is inherited, limits, and what others make of the same file."""

from __future__ import annotations

from itertools import pairwise
from math import dist, sqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resvg_referee
from vfab.model.errors import BadResource
from vfab.sdk.drawing import Drawing
from vfab.sdk.plot_options import PlotOptions
from vfab.sdk.svg import SvgOptions, read_drawing

AS_IT_IS = SvgOptions(merge=False, sort=False)
TENTH = sqrt((100**2 + 80**2) / 2) / 10


def svg_of(body: str) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="80mm" viewBox="0 0 100 80">{body}</svg>'
    ).encode()


def read(body: str, options: SvgOptions = AS_IT_IS) -> Drawing:
    return read_drawing(svg_of(body), source="a.svg", options=options)


def points(body: str) -> list[list[tuple[float, float]]]:
    return [[(round(x, 6), round(y, 6)) for x, y in path.points] for path in read(body).paths]


def spans(attributes: str, inside: str = "") -> list[tuple[float, float]]:
    """From where to where the dashes of a horizontal line of 10 go."""
    drawn = points(f'<g {attributes}><line x2="10" y2="0" {inside}/></g>')
    assert all(y == 0 for path in drawn for _, y in path)
    return [(path[0][0], path[-1][0]) for path in drawn]


WHOLE = [(0, 10)]


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ('stroke-dasharray="3 1"', [(0, 3), (4, 7), (8, 10)]),
        ('stroke-dasharray="3,1"', [(0, 3), (4, 7), (8, 10)]),
        ('stroke-dasharray="  3 ,1 "', [(0, 3), (4, 7), (8, 10)]),
        ('style="stroke-dasharray:3px 1px"', [(0, 3), (4, 7), (8, 10)]),
        ('font-size="2" stroke-dasharray="1.5em .5em"', [(0, 3), (4, 7), (8, 10)]),
        ('stroke-dasharray="2 1 3"', [(0, 2), (3, 6), (8, 9)]),
        ('stroke-dasharray="4"', [(0, 4), (8, 10)]),
        ('stroke-dasharray="5 5"', [(0, 5)]),
        ('stroke-dasharray="10%"', [(0, TENTH)]),
        ('stroke-dasharray="4" stroke-dashoffset="-10%"', [(TENTH - 8, TENTH - 4), (TENTH, 10)]),
        ('stroke-dasharray="3 1" stroke-dashoffset="1"', [(0, 2), (3, 6), (7, 10)]),
        ('stroke-dasharray="3 1" stroke-dashoffset="3"', [(1, 4), (5, 8), (9, 10)]),
        ('stroke-dasharray="3 1" stroke-dashoffset="-1"', [(1, 4), (5, 8), (9, 10)]),
        ('stroke-dasharray="3 1" stroke-dashoffset="4001"', [(0, 2), (3, 6), (7, 10)]),
        ('stroke-dasharray="3 1" stroke-dashoffset="-4001"', [(1, 4), (5, 8), (9, 10)]),
        ('stroke-dasharray="20 5"', WHOLE),
        ('stroke-dasharray="none"', WHOLE),
        ('stroke-dasharray=""', WHOLE),
        ('stroke-dasharray="0"', WHOLE),
        ('stroke-dasharray="0 0"', WHOLE),
        ('stroke-dasharray="3 0"', WHOLE),
        ('stroke-dasharray="1e300 1e300"', WHOLE),
        ('stroke-dashoffset="3"', WHOLE),
        ('stroke-dasharray="3 1" stroke="none"', WHOLE),
        ('stroke-dasharray="0 4" stroke-linecap="round"', [(0, 0), (4, 4), (8, 8)]),
        ('stroke-dasharray="0 5" stroke-linecap="square"', [(0, 0), (5, 5)]),
        ('stroke-dasharray="0 3 4 3" stroke-linecap="round"', [(0, 0), (3, 7)]),
        ('stroke-dasharray="0 3 4 3"', [(3, 7)]),
    ],
)
def test_a_line_is_drawn_where_the_pattern_has_dashes(attributes: str, wanted: list[tuple[float, float]]) -> None:
    assert spans(attributes) == [pytest.approx(span) for span in wanted]
    assert read(f'<line x2="9" {attributes}/>').warnings == ()


@pytest.mark.parametrize(
    ("inside", "wanted"),
    [
        ("", [(0, 3), (4, 7), (8, 10)]),
        ('stroke-dasharray="inherit"', [(0, 3), (4, 7), (8, 10)]),
        ('stroke-dasharray="none"', WHOLE),
        ('style="stroke-dasharray:initial"', WHOLE),
        ('stroke-dasharray="6"', [(0, 6)]),
        ('stroke-dashoffset="1"', [(0, 2), (3, 6), (7, 10)]),
        ('pathLength="20"', [(0, 1.5), (2, 3.5), (4, 5.5), (6, 7.5), (8, 9.5)]),
        ('pathLength="0"', WHOLE),
        ('transform="scale(2 9)"', [(0, 6), (8, 10)]),
    ],
)
def test_dashes_are_inherited_and_measured_in_the_elements_own_units(
    inside: str, wanted: list[tuple[float, float]]
) -> None:
    end = 5 if "transform" in inside else 10
    body = f'<g stroke-dasharray="3 1"><line x2="{end}" y2="0" {inside}/></g>'
    assert [(path[0][0], path[-1][0]) for path in points(body)] == wanted


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ('stroke-dasharray="3 -1"', "stroke-dasharray='3 -1'"),
        ('stroke-dasharray="3 one"', "stroke-dasharray='3 one'"),
        (f'stroke-dasharray="{"1 " * 300}"', "stroke-dasharray='1 1"),
        ('stroke-dashoffset="far"', "stroke-dashoffset='far'"),
        ('pathLength="-5"', "pathLength='-5'"),
        ('pathLength="5 5"', "pathLength='5 5'"),
    ],
)
def test_what_makes_no_sense_counts_as_not_given_and_is_named(inside: str, named: str) -> None:
    body = f'<g stroke-dasharray="3 1"><line id="l" x2="10" y2="0" {inside}/></g>'
    drawing = read(body)
    assert [(path.points[0][0], path.points[-1][0]) for path in drawing.paths] == [(0, 3), (4, 7), (8, 10)]
    (warning,) = drawing.warnings
    assert named in warning
    assert "line#l" in warning


def test_each_subpath_begins_the_pattern_anew_but_shares_the_path_length() -> None:
    body = '<path d="M0 0H3M0 5H3M0 9H10" stroke-dasharray="2 6"/>'
    assert points(body) == [[(0, 0), (2, 0)], [(0, 5), (2, 5)], [(0, 9), (2, 9)], [(8, 9), (10, 9)]]
    body = '<path d="M0 0H3M0 5H3M0 9H10" stroke-dasharray="1 3" pathLength="8"/>'
    assert points(body) == [[(0, 0), (2, 0)], [(0, 5), (2, 5)], [(0, 9), (2, 9)], [(8, 9), (10, 9)]]


def test_a_dash_goes_round_corners_and_over_the_beginning_of_a_closed_stroke() -> None:
    drawn = points('<rect width="4" height="4" stroke-dasharray="3 1" stroke-dashoffset="1.5"/>')
    assert drawn == [
        [(0, 1.5), (0, 0), (1.5, 0)],
        [(2.5, 0), (4, 0), (4, 1.5)],
        [(4, 2.5), (4, 4), (2.5, 4)],
        [(1.5, 4), (0, 4), (0, 2.5)],
    ]
    (solid,) = points('<rect width="4" height="4" stroke-dasharray="16 1"/>')
    assert solid[0] == solid[-1] == (0, 0)


def test_dashes_are_cut_by_clip_paths_and_clip_paths_have_none() -> None:
    clip = '<clipPath id="c"><rect width="6" height="9" stroke-dasharray="1"/></clipPath>'
    drawn = points(f'{clip}<line x2="10" y2="0" y1="0" stroke-dasharray="4 1" clip-path="url(#c)"/>')
    assert drawn == [[(0, 0), (4, 0)], [(5, 0), (6.005, 0)]]


def test_a_box_is_that_of_the_whole_shape_not_of_its_dashes() -> None:
    turned = '<line x2="10" y2="0" stroke-dasharray="2 20" transform="rotate(180)" style="transform-box:fill-box;{}"/>'
    assert points(turned.format("transform-origin:center")) == [[(10, 0), (8, 0)]]


def test_dashes_are_drawn_solid_when_asked_for() -> None:
    body = '<line x2="10" y2="0" stroke-dasharray="3 1"/>'
    assert len(read(body, PlotOptions.from_dict({"merge": False}).svg_options()).paths) == 3
    (solid,) = read(body, PlotOptions.from_dict({"dashes": False}).svg_options()).paths
    assert [*solid.points] == [pytest.approx((0, 0)), pytest.approx((10, 0))]


@pytest.mark.parametrize("tiny", ["0.000001", "1e-300", "0.00001 0.00002"])
def test_more_dashes_than_can_be_drawn_are_refused_at_once(tiny: str) -> None:
    with pytest.raises(BadResource, match=r"5000000 points, line#l among them") as caught:
        read(f'<line id="l" x2="100" stroke-dasharray="{tiny}"/>')
    assert "--no-dashes" in caught.value.remedy
    assert read(f'<line x2="100" stroke-dasharray="{tiny}"/>', SvgOptions(dashes=False)).segments == 1


place = st.tuples(st.floats(0, 99), st.floats(0, 79))
pattern = st.lists(st.floats(0.2, 30), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(place, min_size=2, max_size=6), pattern, st.floats(-100, 100), st.booleans())
def test_dashes_lie_on_the_path_and_gaps_are_what_they_leave(
    corners: list[tuple[float, float]], lengths: list[float], offset: float, closed: bool
) -> None:
    tag = "polygon" if closed else "polyline"
    shape = f'<{tag} points="{" ".join(f"{x:.6f},{y:.6f}" for x, y in corners)}" transform="skewX(20)" {{}}/>'
    (solid,) = read(shape.format("")).paths
    pairs = (lengths * 2)[: len(lengths) + len(lengths) % 2 * len(lengths)]

    def drawn(moved: list[float], begin: float) -> list:
        said = f'stroke-dasharray="{" ".join(map(repr, moved))}" stroke-dashoffset="{begin!r}"'
        drawing = read_or_nothing(shape.format(said))
        return [[*path.points] for path in drawing]

    dashes = drawn(pairs, offset)
    gaps = drawn([*pairs[1:], pairs[0]], offset - pairs[0])
    together = sum(dist(*pair) for path in dashes + gaps for pair in pairwise(path))
    assert together == pytest.approx(solid.length_mm, abs=1e-6)
    for x, y in (place for path in dashes for place in path):
        assert min(off(segment, (x, y)) for segment in pairwise([*solid.points, solid.points[-1]])) < 1e-6


def read_or_nothing(body: str) -> list:
    """The strokes beside one far away, which is there so that a drawing of gaps alone is one, too."""
    return [path for path in read(f'{body}<line id="far" x1="-9" x2="-8"/>').paths if path.element != "line#far"]


def off(segment: tuple, where: tuple[float, float]) -> float:
    (ax, ay), (bx, by) = segment
    along, up = bx - ax, by - ay
    whole = along * along + up * up
    share = ((where[0] - ax) * along + (where[1] - ay) * up) / whole if whole else 0.0
    share = min(1.0, max(0.0, share))
    return dist(where, (ax + along * share, ay + up * share))


@pytest.mark.referee
@pytest.mark.parametrize(
    "data", ["M10 40A30 12 20 1 1 70 50", "M80 40A30 30 0 1 1 50 10", "M5 5C90 10 -20 60 80 70", "M5 70Q50 -60 95 70"]
)
def test_dashes_of_curves_begin_and_end_where_svgpathtools_has_them(data: str) -> None:
    from svgpathtools import parse_path

    path = parse_path(data)
    whole = path.length()
    drawn = read(f'<path d="{data}" stroke-dasharray="7 3"/>').paths
    assert len(drawn) == whole // 10 + 1
    for number, dash in enumerate(drawn):
        for end, along in ((dash.points[0], 10 * number), (dash.points[-1], min(whole, 10 * number + 7))):
            wanted = path.point(path.ilength(along))
            assert dist(end, (wanted.real, wanted.imag)) < 0.02
    lengths = sum(dash.length_mm for dash in drawn)
    assert lengths == pytest.approx(7 * (whole // 10) + min(7, whole % 10), abs=0.02)


DASHED = [
    '<line x1="5" y1="5" x2="95" y2="70" stroke-dasharray="9 4"/>',
    '<path d="M5 5H95V75H5M20 20H80V60" stroke-dasharray="9 4 1" stroke-dashoffset="3"/>',
    '<rect x="10" y="10" width="70" height="50" rx="12" stroke-dasharray="8%" stroke-dashoffset="-5"/>',
    '<circle cx="50" cy="40" r="30" stroke-dasharray="10 5 2 5"/>',
    '<g stroke-dasharray="6 3"><ellipse cx="50" cy="40" rx="45" ry="20" stroke-dashoffset="100"/></g>',
    '<path d="M5 70C10 -60 60 120 95 10" stroke-dasharray="5"/>',
    '<polygon points="5 5 95 20 50 75" stroke-dasharray="11 4" stroke-dashoffset="4"/>',
    '<path d="M10 10h30v30zM60 40h30v30z" stroke-dasharray="13 7"/>',
    '<line x1="5" y1="5" x2="95" y2="70" stroke-dasharray="9 -4"/>',
    '<svg x="5" y="5" width="40" height="30"><path d="M1 1 30 10 39 29" stroke-dasharray="10%"/></svg>',
]


@pytest.mark.referee
def test_dashes_cover_what_resvg_paints(tmp_path: Path) -> None:
    resvg_referee.needed()
    look = '<g fill="none" stroke="black" stroke-width="1">{}</g>'
    files = []
    for number, body in enumerate(DASHED):
        drawn = "".join(
            f'<polyline points="{" ".join(f"{x:.6f},{y:.6f}" for x, y in path.points)}"/>' for path in read(body).paths
        )
        solid = body.replace("stroke-dash", "data-")
        for kind, shapes in (("theirs", body), ("ours", drawn), ("solid", solid)):
            files.append(tmp_path / f"{number}-{kind}.svg")
            files[-1].write_bytes(svg_of(look.format(shapes)))
    painted = resvg_referee.pictures(files)
    for number, body in enumerate(DASHED):
        theirs, ours, solid = painted[3 * number : 3 * number + 3]
        ink = sum(255 - value for value in theirs)
        # resvg measures curves more coarsely than svgpathtools, which has the ends of dashes where they are here
        allowed = 0.05 if "circle" in body or "ellipse" in body or "rx=" in body or "C10" in body else 0.001
        assert unlike(ours, theirs) < allowed * ink, body
        assert (unlike(ours, solid) > 0.2 * ink) == ("-4" not in body)


def unlike(one: bytes, other: bytes) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
