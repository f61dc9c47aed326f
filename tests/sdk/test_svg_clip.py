"""Clip paths and viewports: strokes are cut where they leave them."""

from __future__ import annotations

from math import dist

import pytest

from vfab.sdk.drawing import Drawing
from vfab.sdk.svg import SvgOptions, read_drawing
from vfab.sdk.svg_clip import region_of

SQUARE = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]


def read(body: str, tolerance_mm: float = 0.02) -> Drawing:
    options = SvgOptions(merge=False, sort=False, tolerance_mm=tolerance_mm)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="80mm" viewBox="0 0 100 80">{body}</svg>'
    return read_drawing(svg.encode(), source="t.svg", options=options)


def lengths(body: str) -> list[float]:
    return [round(sum(map(dist, path.points, path.points[1:])), 1) for path in read(body).paths]


@pytest.mark.parametrize(
    ("clip", "line", "wanted"),
    [
        ('<clipPath id="c"><rect x="20" width="30" height="9"/></clipPath>', 'x2="90" y1="5" y2="5"', [30.0]),
        ('<clipPath id="c"><rect x="20" width="30" height="9"/></clipPath>', 'x1="25" x2="45" y1="5" y2="5"', [20.0]),
        ('<clipPath id="c"><rect x="20" width="30" height="9"/></clipPath>', 'x2="90" y1="50" y2="50"', []),
        ('<clipPath id="c"><circle cx="50" cy="40" r="10"/></clipPath>', 'x2="90" y1="40" y2="40"', [20.0]),
        ('<clipPath id="c"><rect width="9" height="9"/><rect x="50" width="9" height="9"/></clipPath>',
         'x2="90" y1="5" y2="5"', [9.0, 9.0]),
        ('<clipPath id="c"><path clip-rule="evenodd" d="M0 0H90V30H0zM30 0H60V30H30z"/></clipPath>',
         'x2="90" y1="5" y2="5"', [30.0, 30.0]),
        ('<clipPath id="c"><path d="M0 0H90V30H0zM30 0H60V30H30z"/></clipPath>', 'x2="90" y1="5" y2="5"', [90.0]),
        ('<clipPath id="c" clipPathUnits="objectBoundingBox"><rect width=".5" height="1"/></clipPath>',
         'x1="10" x2="90" y2="60"', [50.0]),
        ('<clipPath id="c" transform="translate(10 0)"><rect width="20" height="9"/></clipPath>',
         'x2="90" y1="5" y2="5"', [20.0]),
        ('<clipPath id="c" clip-path="url(#d)"><rect width="30" height="9"/></clipPath>'
         '<clipPath id="d"><rect x="20" width="30" height="9"/></clipPath>', 'x2="90" y1="5" y2="5"', [10.0]),
        ('<clipPath id="c"><use href="#r"/></clipPath><defs><rect id="r" width="40" height="9"/></defs>',
         'x2="90" y1="5" y2="5"', [40.0]),
        ('<clipPath id="c"/>', 'x2="90" y1="5" y2="5"', []),
    ],
)  # fmt: skip
def test_a_line_is_cut_where_it_leaves_its_clip_path(clip: str, line: str, wanted: list[float]) -> None:
    found = lengths(f'{clip}<line clip-path="url(#c)" {line}/><line id="kept" x2="1" y1="79" y2="79"/>')
    assert found[-1] == 1.0
    assert found[:-1] == pytest.approx(wanted, abs=0.11)


def test_clips_of_ancestors_hold_together() -> None:
    clips = "".join(
        f'<clipPath id="{name}"><rect x="{x}" width="50" height="80"/></clipPath>' for name, x in (("a", 0), ("b", 30))
    )
    assert lengths(f'{clips}<g clip-path="url(#a)"><line clip-path="url(#b)" x2="90"/></g>') == [20.0]


def test_what_runs_along_the_edge_of_its_clip_path_stays_whole() -> None:
    clip = '<clipPath id="c"><rect width="100" height="80"/></clipPath>'
    (path,) = read(f'{clip}<g clip-path="url(#c)"><rect width="100" height="80"/></g>').paths
    assert path.points[0] == path.points[-1]
    assert len(path.points) == 5


@pytest.mark.parametrize("tolerance_mm", [0.5, 0.02, 0.002])
@pytest.mark.parametrize(("outside_mm", "drawn"), [(0.004, 2), (0.006, 1)])
def test_no_curve_tolerance_decides_whether_a_line_beside_an_edge_is_drawn(
    tolerance_mm: float, outside_mm: float, drawn: int
) -> None:
    clip = '<clipPath id="c"><rect width="50" height="50"/></clipPath>'
    y = 50 + outside_mm
    body = f'{clip}<line clip-path="url(#c)" x1="9" x2="40" y1="{y}" y2="{y}"/><line x2="1" y1="79" y2="79"/>'
    assert len(read(body, tolerance_mm).paths) == drawn


@pytest.mark.parametrize("tolerance_mm", [0.5, 0.02, 0.002])
@pytest.mark.parametrize("hole", ["", "M0 0H100V80H0z"])
def test_a_curve_along_a_curved_edge_stays_whole_on_either_side(tolerance_mm: float, hole: str) -> None:
    clip = (
        f'<clipPath id="c"><path clip-rule="evenodd" d="{hole}M20 40A30 30 0 0 0 80 40A30 30 0 0 0 20 40z"/></clipPath>'
    )
    # the same circle by another element: other corners on the same curve
    (path,) = read(
        f'{clip}<circle clip-path="url(#c)" transform="rotate(7 50 40)" cx="50" cy="40" r="30"/>', tolerance_mm
    ).paths
    assert path.points[0] == path.points[-1]


def test_a_clip_path_moves_with_what_it_clips() -> None:
    clip = '<clipPath id="c"><rect width="10" height="10"/></clipPath>'
    (path,) = read(f'{clip}<g transform="translate(40 20)" clip-path="url(#c)"><line y1="5" y2="5" x2="99"/></g>').paths
    assert path.points[0] == pytest.approx((40, 25))
    assert path.points[-1] == pytest.approx((50, 25), abs=0.03)


@pytest.mark.parametrize(("overflow", "length"), [("", 20.0), (' overflow="visible"', 90.0)])
def test_a_nested_viewport_cuts_what_overflows_unless_it_is_visible(overflow: str, length: float) -> None:
    (found,) = lengths(f'<svg x="5" y="5" width="20" height="20"{overflow}><line y1="5" y2="5" x2="90"/></svg>')
    assert found == pytest.approx(length, abs=0.11)


def test_a_clip_path_within_itself_is_told_and_ends() -> None:
    drawing = read(
        '<clipPath id="c"><rect width="9" height="9" clip-path="url(#c)"/></clipPath><line x2="9" clip-path="url(#c)"/>'
    )
    assert drawing.paths


def test_a_line_that_crosses_itself_is_cut_in_its_own_order() -> None:
    star = [(-20.0, 5.0), (30.0, 5.0), (5.0, 30.0), (5.0, -20.0), (5.0, 5.0)]
    for region in (region_of([([SQUARE], False)], 0.0), region_of([([SQUARE], False), ([SQUARE[:3]], False)], 0.0)):
        parts = region.cut(star)
        assert parts[0][0][0] < parts[0][-1][0]
        assert parts[1][0][1] > parts[1][1][1]
        assert parts[-1][-1] == (5.0, 5.0)


@pytest.mark.parametrize(
    ("attributes", "start"),
    [
        ('transform="rotate(180)" transform-origin="center"', (90.0, 80.0)),
        ('transform="rotate(180)" style="transform-origin:50px 40px"', (90.0, 80.0)),
        ('transform="rotate(180)" transform-origin="right top"', (190.0, 0.0)),
        ('transform="rotate(180)" transform-origin="50%"', (90.0, 80.0)),
        ('transform="rotate(180)" style="transform-box:fill-box;transform-origin:center"', (30.0, 0.0)),
    ],
)
def test_a_transform_turns_about_its_origin(attributes: str, start: tuple[float, float]) -> None:
    (path,) = read(f'<line x1="10" x2="30" {attributes}/>').paths
    assert path.points[0] == pytest.approx(start, abs=1e-6)


@pytest.mark.parametrize(
    ("attributes", "length"),
    [('x2="2em"', 32.0), ('x2="2em" font-size="5"', 10.0), ('x2="2em" style="font:italic 7px Arial"', 14.0),
     ('x2="2rem" font-size="5"', 32.0), ('x2="2ex" font-size="5"', 5.0)],
)  # fmt: skip
def test_units_of_the_font_follow_its_size(attributes: str, length: float) -> None:
    assert lengths(f"<line {attributes}/>") == [length]


def test_a_switch_passes_over_what_is_not_svg_to_what_is() -> None:
    body = '<switch><foreignObject width="9"/><line x2="7"/></switch><switch><odd/><line x2="8"/></switch>'
    assert lengths(body) == [7.0, 8.0]


def test_a_radius_below_zero_is_as_good_as_none() -> None:
    (path,) = read('<ellipse cx="50" cy="40" rx="-1" ry="10"/>').paths
    assert max(x for x, _ in path.points) == pytest.approx(60)


def test_numbers_of_a_transform_may_be_glued_together() -> None:
    (path,) = read('<line x1="9" x2="3" transform="translate(3-.5)scale(1 1)"/>').paths
    assert path.points[0] == pytest.approx((12.0, -0.5))
