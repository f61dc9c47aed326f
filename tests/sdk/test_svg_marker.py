"""Markers: where they are put, turned and scaled, what they inherit, limits, and what resvg makes of them."""

from __future__ import annotations

from math import atan2, degrees, dist
from pathlib import Path

import pytest

import resvg_referee
from vfab.model.errors import BadResource
from vfab.sdk.drawing import Drawing
from vfab.sdk.svg import SvgOptions, read_drawing

AS_IT_IS = SvgOptions(merge=False, sort=False)
ARROW = '<marker id="m" {}><path id="tip" d="M0 0L2 1"/></marker>'
"""A stroke whose direction shows how the marker is turned."""


def svg_of(body: str) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="80mm" viewBox="0 0 100 80">{body}</svg>'
    ).encode()


def read(body: str) -> Drawing:
    return read_drawing(svg_of(body), source="a.svg", options=AS_IT_IS)


def tips(body: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The markers' strokes: start and end."""
    found = [path.points for path in read(body).paths if path.element.endswith("#tip")]
    return [((round(a[0], 4), round(a[1], 4)), (round(b[0], 4), round(b[1], 4))) for a, *_, b in found]


def marked(attributes: str, shape: str = '<polyline points="10 10 20 10 20 20"/>') -> list:
    """The strokes of a marker of these attributes on all corners of a shape."""
    return tips(f'{ARROW.format(attributes)}<g fill="none" style="marker:url(#m)">{shape}</g>')


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ("", [((10, 10), (12, 11)), ((20, 10), (22, 11)), ((20, 20), (22, 21))]),
        ('orient="90"', [((10, 10), (9, 12)), ((20, 10), (19, 12)), ((20, 20), (19, 22))]),
        ('orient="100grad"', [((10, 10), (9, 12)), ((20, 10), (19, 12)), ((20, 20), (19, 22))]),
        ('orient="wrong"', [((10, 10), (12, 11)), ((20, 10), (22, 11)), ((20, 20), (22, 21))]),
        ('orient="auto"', [((10, 10), (12, 11)), ((20, 10), (20.7071, 12.1213)), ((20, 20), (19, 22))]),
        ('orient="auto-start-reverse"', [((10, 10), (8, 9)), ((20, 10), (20.7071, 12.1213)), ((20, 20), (19, 22))]),
        ('refX="2" refY="1"', [((8, 9), (10, 10)), ((18, 9), (20, 10)), ((18, 19), (20, 20))]),
        ('refX="right" refY="50%"', [((7, 8.5), (9, 9.5)), ((17, 8.5), (19, 9.5)), ((17, 18.5), (19, 19.5))]),
        ('viewBox="0 0 6 3" markerHeight="1.5"',
         [((10, 10), (11, 10.5)), ((20, 10), (21, 10.5)), ((20, 20), (21, 20.5))]),
        ('viewBox="-1 -1 4 4" markerWidth="4" markerHeight="4" refX="-1"',
         [((11, 10), (13, 11)), ((21, 10), (23, 11)), ((21, 20), (23, 21))]),
        ('viewBox="0 0 0 3"', []),
        ('markerWidth="0"', []),
        ('markerHeight="-1"', []),
    ],
)  # fmt: skip
def test_markers_are_turned_scaled_and_put_on_every_corner(attributes: str, wanted: list) -> None:
    assert marked(f"overflow='visible' {attributes}") == wanted


@pytest.mark.parametrize(
    ("style", "factor"),
    [
        ("stroke-width:2", 2), ("stroke-width:0", 0), ("stroke-width:1%", (100**2 + 80**2) ** 0.5 / 2**0.5 / 100),
        ("stroke-width:-1", 1), ("font-size:4px;stroke-width:.5em", 2),
    ],
)  # fmt: skip
def test_a_marker_grows_with_the_stroke_unless_it_is_measured_in_user_space(style: str, factor: float) -> None:
    shape = f'<line x1="10" y1="10" x2="20" y2="10" style="{style}"/>'
    ends = [end for _, end in marked("", shape)]
    assert ends == [pytest.approx((x + 2 * factor, 10 + factor), abs=1e-3) for x in (10, 20) if factor]
    assert marked('markerUnits="userSpaceOnUse"', shape) == [((10, 10), (12, 11)), ((20, 10), (22, 11))]


def test_start_mid_and_end_are_chosen_one_by_one_and_inherited() -> None:
    markers = "".join(f'<marker id="{name}"><path id="{name}-tip" d="M0 0L1 0"/></marker>' for name in "abc")
    said = 'marker-start="url(#a)" marker-mid="url(#b)" marker-end="url(#c)"'

    def names(inside: str, around: str = "") -> list[str]:
        body = f'<g {around}><polyline points="0 9 5 9 9 9 9 30" {inside}/></g>'
        return [path.element.rpartition("#")[2] for path in read(markers + body).paths[1:]]

    assert names(said) == ["a-tip", "b-tip", "b-tip", "c-tip"]
    assert names("", said) == names(said)
    assert names('marker-mid="none"', said) == ["a-tip", "c-tip"]
    assert names('style="marker:none"', said) == []
    assert names('style="marker:none;marker-end:url(#b)"', said) == ["b-tip"]
    assert names('marker="url(#a)"') == []  # the shorthand is no attribute
    assert len(read(f"{markers}<rect width='5' height='5' {said}/>").paths) == 1


def test_a_marker_inherits_from_where_it_stands_and_is_named_with_what_it_marks() -> None:
    defs = '<g display="none" fill="none" stroke="none"><marker id="m"><path id="unseen" d="M0 0H1"/></marker></g>'
    body = f'{defs}<line id="l" x2="9" y2="0" marker-end="url(#m)"/>'
    drawing = read(body)
    assert [path.element for path in drawing.paths] == ["line#l"]
    assert "line#l > marker#m > path#unseen" in drawing.warnings[0]
    shown = read(body.replace('stroke="none"', ""))
    assert [path.element for path in shown.paths] == ["line#l", "line#l > marker#m > path#unseen"]


def test_an_invisible_line_shows_its_markers_and_a_hidden_one_does_not() -> None:
    shape = '<line x1="10" y1="10" x2="20" y2="10" {}/>'
    assert len(marked("", shape.format('fill="none" stroke="none"'))) == 2
    assert marked("", shape.format('visibility="hidden"') + '<circle r="3"/>') == []


def test_what_sticks_out_of_a_marker_is_cut_unless_overflow_is_visible() -> None:
    big = '<marker id="m" markerWidth="4" markerHeight="4" {}><path id="tip" d="M1 2H9"/></marker>'
    line = '<line x1="10" y1="10" x2="30" y2="10" marker-start="url(#m)"/>'
    assert tips(big.format("") + line) == [((11, 12), (14.005, 12))]
    assert tips(big.format('overflow="visible"') + line) == [((11, 12), (19, 12))]
    assert tips(big.format('style="overflow:visible"') + line) == [((11, 12), (19, 12))]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("M10 10H20", [0, 0]),
        ("M10 10C10 10 10 20 20 20", [90, 0]),
        ("M10 10C10 20 20 20 20 20", [90, 0]),
        ("M10 10Q10 20 20 20", [90, 0]),
        ("M10 10A5 5 0 0 1 20 10", [-90, 90]),
        ("M10 10A5 5 0 0 0 20 10", [90, -90]),
        ("M10 10H20H10", [0, 90, 180]),
        ("M10 10V20H20z", [157.5, 45, -67.5, 157.5]),
        ("M10 10V20M40 40H50", [90, 90, 0, 0]),
        ("M10 10L10 10V20", [90, 90, 90]),
        ("M10 10V20L10 20H20", [90, 90, 45, 0]),
        ("M10 10V20H20zL40 40", [157.5, 45, -67.5, 157.5, 45]),
    ],
)
def test_a_marker_goes_half_way_between_the_directions_of_its_corner(data: str, wanted: list[float]) -> None:
    flat = '<marker id="m" orient="auto"><path id="tip" d="M0 0L1 0"/></marker>'
    drawn = tips(f'{flat}<path d="{data}" style="marker:url(#m)"/>')
    assert [degrees(atan2(b[1] - a[1], b[0] - a[0])) for a, b in drawn] == pytest.approx(wanted, abs=0.01)


def test_a_marker_that_would_show_itself_is_left_out_and_named() -> None:
    loop = '<marker id="m"><path id="tip" d="M0 0L1 0" marker-start="url(#m)"/></marker>'
    drawing = read(f'{loop}<line id="l" x2="9" y2="0" marker-end="url(#m)"/>')
    assert len(drawing.paths) == 2
    assert "line#l > marker#m > path#tip: it would show itself" in drawing.warnings[0]


@pytest.mark.parametrize("value", ["url(#nowhere)", "url(#l)", "url(other.svg#m)"])
def test_a_marker_that_is_not_in_the_file_is_named(value: str) -> None:
    (warning,) = read(f'<line id="l" x2="9" y2="0" marker-end="{value}"/>').warnings
    assert warning.startswith("line#l: it refers to a marker that is not in this file")


def test_thousands_of_corners_are_marked_and_a_file_that_multiplies_itself_is_refused() -> None:
    flat = '<marker id="m"><path id="tip" d="M0 0L1 0"/><g/><g/><g/></marker>'
    many = " ".join(f"{n % 100} {n % 77}" for n in range(12_000))
    assert len(read(f'{flat}<polyline points="{many}" marker-mid="url(#m)"/>').paths) == 11_999
    chain = "".join(
        f'<marker id="m{n}">{"<g/>" * 500}<path d="M0 0H1V1H0" style="marker:url(#m{n + 1})"/></marker>'
        for n in range(9)
    )
    with pytest.raises(BadResource, match="repeats itself"):
        read(f'{chain}<line x2="9" style="marker:url(#m0)"/>')


def test_markers_are_no_part_of_boxes_and_clip_paths() -> None:
    flat = '<marker id="m" overflow="visible"><path id="tip" d="M0 0L0 30"/></marker>'
    turned = 'transform="rotate(180)" style="transform-box:fill-box;transform-origin:center"'
    drawn = tips(f'{flat}<line x1="10" y1="10" x2="20" y2="10" marker-end="url(#m)" {turned}/>')
    assert drawn == [((10, 10), (10, -20))]
    clip = f'{flat}<clipPath id="c"><path d="M0 0H9V9H0z" marker-end="url(#m)"/></clipPath>'
    (line,) = read(f'{clip}<line x2="5" y2="30" x1="5" clip-path="url(#c)"/>').paths
    assert dist(*line.points) == pytest.approx(9.005, abs=0.001)


# resvg marks the joints of the Béziers that it makes of an arc as well, so the arc has no mid markers here
TIP = '<path d="M0 0L10 5L0 10z"/>'
SHAPES = [
    ('orient="auto"', '<polyline points="10 10 40 15 60 60 20 70"/>'),
    ('orient="auto" refX="5" refY="5" viewBox="0 0 10 10"', '<path d="M10 10C40 -10 90 60 50 70S10 40 20 30"/>'),
    ('orient="auto" refX="10" refY="5" viewBox="0 0 10 10"', '<path d="M20 20Q50 70 80 30"/>'),
    ('orient="30" markerWidth="5" markerHeight="2" viewBox="0 0 10 10"', '<line x1="20" y1="20" x2="70" y2="60"/>'),
    (
        'orient="auto" viewBox="0 0 10 10" preserveAspectRatio="xMaxYMid slice"',
        '<path d="M20 60A30 20 20 0 1 80 50" marker-mid="none"/>',
    ),
    ('orient="auto" markerUnits="userSpaceOnUse" markerWidth="9"', '<path d="M20 60H60M30 20V50" stroke-width="3"/>'),
    (
        'orient="1.5rad" overflow="visible" refX="-2"',
        '<path d="M20 60H60V90" transform="skewX(20) scale(.8 .5)"/>',
    ),
    ('orient="auto"', '<svg x="20" y="20" width="30" height="30" viewBox="0 0 60 60"><path d="M5 5H50V58"/></svg>'),
    ('viewBox="2 2 6 6"', '<g stroke-width="4"><line x1="20" y1="20" x2="70" y2="60" stroke-width="2"/></g>'),
]


@pytest.mark.referee
def test_markers_are_where_resvg_has_them(tmp_path: Path) -> None:
    resvg_referee.needed()
    files = [tmp_path / f"{number}.svg" for number in range(len(SHAPES))]
    said = 'marker-start="url(#m)" marker-mid="url(#m)" marker-end="url(#m)"'
    for file, (attributes, shape) in zip(files, SHAPES, strict=True):
        body = f'<marker id="m" {attributes} stroke="black">{TIP}</marker><g stroke="black" {said}>{shape}</g>'
        file.write_bytes(svg_of(body).replace(b'mm"', b'"'))  # resvg counts in pixels
    theirs = resvg_referee.simplified_by_resvg(files)
    assert len(theirs) == len(files)
    for file, pair in zip(files, SHAPES, strict=True):
        drawing = read_drawing(file.read_bytes(), options=AS_IT_IS)
        drawn = [[*path.points] for path in drawing.paths]
        assert len(drawn) > 2
        inner, outer = (resvg_referee.strokes_of(theirs[str(file)], grown_mm) for grown_mm in (-0.05, 0.05))
        allowed = drawing.tolerance_mm + resvg_referee.SAMPLING_MM + resvg_referee.ARC_PX * resvg_referee.PX_MM
        assert resvg_referee.farthest_mm(drawn, outer) < allowed, pair
        assert resvg_referee.farthest_mm(inner, drawn) < allowed, pair
