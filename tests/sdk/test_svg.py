"""SVG → strokes: geometry, structure, styles, layers, order."""

from __future__ import annotations

import gzip
from math import cos, dist, hypot, pi, sin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.drawing import Drawing, Polyline
from vfab.sdk.svg import SvgOptions, check_on_page, read_drawing

AS_IT_IS = SvgOptions(merge=False, sort=False)
HEAD = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def read(body: str, attributes: str = 'width="100mm" height="80mm" viewBox="0 0 100 80"', options=AS_IT_IS) -> Drawing:
    return read_drawing(f"<svg {HEAD} {attributes}>{body}</svg>".encode(), source="a.svg", options=options)


def points(body: str, **more) -> list[list[tuple[float, float]]]:
    return [[(round(x, 6), round(y, 6)) for x, y in path.points] for path in read(body, **more).paths]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('<line x1="1" y1="2" x2="3" y2="4"/>', [[(1, 2), (3, 4)]]),
        ('<polyline points="1,2 3,4 5-6"/>', [[(1, 2), (3, 4), (5, -6)]]),
        ('<polygon points="0 0 4 0 4 4"/>', [[(0, 0), (4, 0), (4, 4), (0, 0)]]),
        ('<rect x="1" y="2" width="10%" height="10%"/>', [[(1, 2), (11, 2), (11, 10), (1, 10), (1, 2)]]),
        ('<path d="m1 1h2v3H0V0zl5 5M9 9"/>', [[(1, 1), (3, 1), (3, 4), (0, 4), (0, 0), (1, 1)], [(1, 1), (6, 6)]]),
        ('<path d="M1 1 2 2 3 1m1 0 1 1"/>', [[(1, 1), (2, 2), (3, 1)], [(4, 1), (5, 2)]]),
        ('<path d="M5 5z"/><path d="M6 6l0 0"/>', [[(5, 5)], [(6, 6)]]),
        ('<path d="M0 0A0 5 0 0 1 9 9"/>', [[(0, 0), (9, 9)]]),
        ('<path d="M10.5.5.25-1e1"/>', [[(10.5, 0.5), (0.25, -10)]]),
        ('<g transform="translate(10 5) scale(2)"><line x2="3" y2="4"/></g>', [[(10, 5), (16, 13)]]),
        ('<line x2="3" y2="0" transform="rotate(90, 3, 0)"/>', [[(3, -3), (3, 0)]]),
        ('<line x2="3" y2="3" style="transform:matrix(1,0,0,-1,0,9)"/>', [[(0, 9), (3, 6)]]),
        ('<line x2="3" y2="3" transform="skewX(45)"/>', [[(0, 0), (6, 3)]]),
        ('<line x2="1" y2="0" transform="skewY(45)"/>', [[(0, 0), (1, 1)]]),
        (
            '<svg x="10" y="10" width="20" height="20" viewBox="0 0 10 10"><line x2="10" y2="5"/></svg>',
            [[(10, 10), (30, 20)]],
        ),
        ('<svg width="50%" height="50%"><line x2="50%" y2="100%"/></svg>', [[(0, 0), (25, 40)]]),
        ('<defs><line id="l" x2="3" y2="1"/></defs><use href="#l" x="5" y="6"/>', [[(5, 6), (8, 7)]]),
        (
            '<use xlink:href="#s" width="20" height="40"/>'
            '<symbol id="s" viewBox="0 0 10 10"><line x2="10" y2="10"/></symbol>',
            [[(0, 10), (20, 30)]],
        ),
        (
            '<switch><g requiredExtensions="x"><line x2="9"/></g><line x2="1" y2="0"/><line x2="2"/></switch>',
            [[(0, 0), (1, 0)]],
        ),
    ],
)  # fmt: skip
def test_elements_become_strokes_in_millimetres(body: str, wanted: list[list[tuple[float, float]]]) -> None:
    assert points(body) == wanted


@pytest.mark.parametrize(
    ("text", "width_mm"),
    [
        ("50mm", 50),
        ("5cm", 50),
        ("2in", 50.8),
        ("96", 25.4),
        ("96px", 25.4),
        ("72pt", 25.4),
        ("6pc", 25.4),
        ("40Q", 10),
    ],
)
def test_every_unit_of_length_is_known(text: str, width_mm: float) -> None:
    drawing = read('<line x2="1" y2="0"/>', f'width="{text}" height="10mm"')
    assert drawing.width_mm == pytest.approx(width_mm)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('viewBox="0 0 96 192"', (25.4, 50.8)),
        ('width="100%" height="100%" viewBox="0 0 96 192"', (25.4, 50.8)),
        ('width="10mm" viewBox="0 0 96 192"', (10, 20)),
        ('height="10mm" viewBox="0 0 96 192"', (5, 10)),
    ],
)
def test_a_missing_size_comes_from_the_view_box(attributes: str, size: tuple[float, float]) -> None:
    drawing = read('<line x2="1" y2="0"/>', attributes)
    assert (drawing.width_mm, drawing.height_mm) == pytest.approx(size)


def test_a_page_without_any_size_is_told() -> None:
    drawing = read('<line x2="1" y2="0"/>', "")
    assert drawing.width_mm == pytest.approx(1000 * 25.4 / 96)
    assert "1000 px" in drawing.warnings[0]


@pytest.mark.parametrize(
    ("aspect", "corner"),
    [
        ("", (10, 0)), ("xMidYMid meet", (10, 0)), ("xMinYMin", (0, 0)), ("xMaxYMax meet", (20, 0)),
        ("none", (0, 0)), ("xMidYMax slice", (0, -20)), ("xMinYMin slice", (0, 0)),
    ],
)  # fmt: skip
def test_a_view_box_is_placed_as_preserve_aspect_ratio_says(aspect: str, corner: tuple[float, float]) -> None:
    attributes = f'width="40mm" height="20mm" viewBox="0 0 10 10" preserveAspectRatio="{aspect}"'
    assert points('<line x2="1" y2="0"/>', attributes=attributes)[0][0] == corner


@pytest.mark.parametrize("tolerance_mm", [0.1, 0.02, 0.001])
@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_a_circle_stays_within_the_tolerance_at_every_scale(tolerance_mm: float, scale: float) -> None:
    body = f'<circle r="1" transform="scale({scale * 3} {scale})"/>'
    path = read(body, options=SvgOptions(tolerance_mm=tolerance_mm)).paths[0]
    fine = [(3 * scale * cos(i * pi / 20000), scale * sin(i * pi / 20000)) for i in range(40001)]
    assert max_deviation_mm([path.points], [fine]) <= tolerance_mm + 1e-3
    assert path.points[0] == path.points[-1]


corner = st.tuples(st.floats(-50, 50), st.floats(-50, 50))


@settings(max_examples=40, deadline=None)
@given(st.lists(corner, min_size=4, max_size=4), st.sampled_from([0.2, 0.02]))
def test_a_cubic_stays_within_the_tolerance(corners: list[tuple[float, float]], tolerance_mm: float) -> None:
    data = "M{} {}C{} {} {} {} {} {}".format(*(f"{value:.9f}" for pair in corners for value in pair))
    drawing = read(f'<path d="{data}"/>', options=SvgOptions(tolerance_mm=tolerance_mm))
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3) for t in (i / 2000 for i in range(2001))]
    fine = [tuple(sum(w * c[axis] for w, c in zip(ws, corners, strict=True)) for axis in (0, 1)) for ws in weights]
    assert max_deviation_mm([drawing.paths[0].points], [fine]) <= tolerance_mm + 1e-3


def test_smooth_curves_mirror_the_last_control_point_only_of_their_own_kind() -> None:
    long = "M0 0C0 10 10 10 10 0C10 -10 20 -10 20 0M0 40Q5 50 10 40Q15 30 20 40M0 60C0 60 10 70 10 60"
    short = "M0 0C0 10 10 10 10 0S20 -10 20 0M0 40Q5 50 10 40T20 40M0 60S10 70 10 60"
    assert points(f'<path d="{short}"/>') == points(f'<path d="{long}"/>')


@pytest.mark.parametrize(("flags", "middle"), [("0 1", (5, -5)), ("0 0", (5, 5)), ("1 1", (5, -5))])
def test_an_arc_takes_the_side_that_its_flags_name(flags: str, middle: tuple[float, float]) -> None:
    path = read(f'<path d="M0 0a5 5 0 {flags} 10 0"/>').paths[0].points
    assert min(dist(point, middle) for point in path) < 1
    assert all(abs(hypot(x - 5, y) - 5) < 1e-9 for x, y in path)


def test_an_arc_too_small_for_its_ends_grows_until_it_reaches() -> None:
    path = read('<path d="M0 0A1 1 0 0 1 10 0"/>').paths[0].points
    assert all(abs(hypot(x - 5, y) - 5) < 1e-9 for x, y in path)


def test_a_rectangle_with_round_corners_touches_all_four_sides() -> None:
    path = read('<rect x="10" y="10" width="30" height="20" rx="5"/>').paths[0].points
    assert (min(x for x, _ in path), max(x for x, _ in path)) == pytest.approx((10, 40))
    assert (min(y for _, y in path), max(y for _, y in path)) == pytest.approx((10, 30))
    assert path[0] == path[-1]
    assert all(dist(point, (10, 10)) > 2 for point in path)


@pytest.mark.parametrize(
    "hidden",
    [
        '<line x2="9" y2="9" display="none"/>',
        '<g style="display:none"><line x2="9" y2="9"/></g>',
        '<line x2="9" y2="9" visibility="hidden"/>',
        '<line x2="9" y2="9" class="gone"/>',
        '<g id="away"><line x2="9" y2="9"/></g>',
        '<path fill="none" stroke="none" d="M0 0H24V24"/>',
        '<clipPath id="c"><line x2="9" y2="9"/></clipPath>',
    ],
)
def test_what_a_browser_hides_is_not_drawn_unless_asked_for(hidden: str) -> None:
    style = (
        "<style>/* c */ .gone { visibility: collapse } g#away > line { display: none !important } @import 'x';</style>"
    )
    body = f'{style}{hidden}<line x1="50" y1="50" x2="51" y2="51"/>'
    assert [path[0] for path in points(body)] == [(50, 50)]
    everything = SvgOptions(merge=False, sort=False, drop_hidden=False)
    assert len(points(body, options=everything)) == (1 if "clipPath" in hidden else 2)


def test_style_attributes_win_over_sheets_and_sheets_over_attributes() -> None:
    sheet = "<style>line { display: none } .b { display: inline }</style>"
    body = f'{sheet}<line class="a" y2="1"/><line class="b" x2="2" y2="0"/><line style="display:inline" x2="3" y2="0"/>'
    assert [path[-1][0] for path in points(body)] == [2, 3]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('<text id="t" y="5">Hello</text>', ("text#t", "convert it to paths")),
        ('<image id="i" href="a.png"/>', ("image#i", "trace it")),
        ('<foreignObject id="f"/>', ("foreignObject#f", "not SVG")),
        ('<use id="u" href="#nowhere"/>', ("use#u", "'#nowhere'")),
        ('<use id="u" href="other.svg#a"/>', ("use#u", "not in this file")),
        ('<g id="g" clip-path="circle(5px)"/>', ("g#g", "clip-path")),
        ('<g id="g" mask="url(#c)"/>', ("g#g", "masks")),
        ('<g id="g" filter="url(#c)"/>', ("g#g", "filters")),
        ('<pattern id="c"/><line id="g" fill="url(#c)" x2="9"/>', ("line#g", "patterns")),
        ('<clipPath id="c"><text>A</text></clipPath><g id="g" clip-path="url(#c)"/>', ("g#g", "clip-path")),
        ('<path id="p" d="M0 0L5 5X9"/>', ("path#p", "character 9")),
        ('<path id="p" d="M0 0L5 5 7"/>', ("path#p", "takes 2 numbers")),
        ('<polyline id="p" points="0 0 5 5 7"/>', ("polyline#p", "missing")),
        ('<polyline id="p" points="0 0 5 5 seven"/>', ("polyline#p", "'seven'")),
        ('<path id="p" fill="none" stroke="none" d="M0 0H24"/>', ("path#p", "invisible")),
        ('<g id="z" transform="scale(1 0)"><line x2="3"/></g>', ("g#z", "no height")),
        ('<g id="z" systemLanguage="de, fr"><line x2="3"/></g>', ("g#z", "systemLanguage")),
        ('<switch id="s"><line x2="3" systemLanguage="de"/></switch>', ("switch#s", "systemLanguage")),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_named_with_the_remedy(body: str, words: tuple[str, ...]) -> None:
    (warning,) = read(f'<line x2="9" y2="9"/>{body}').warnings
    for word in words:
        assert word in warning


def test_a_switch_shows_its_first_child_that_suits_one_of_its_languages() -> None:
    body = (
        '<switch><!-- c --><line x2="1" y2="0" systemLanguage="eno"/><line x2="2" y2="0" requiredExtensions="e"/>'
        '<line x2="3" y2="0" systemLanguage="de, en-GB"/><line x2="4" y2="0"/></switch>'
    )
    assert points(body) == [[(0, 0), (3, 0)]]
    assert read(body).warnings == ()


def test_a_path_is_drawn_up_to_its_error() -> None:
    assert points('<path d="M0 0L5 5L7"/>') == [[(0, 0), (5, 5)]]


def test_an_element_shown_by_use_is_named_with_the_use() -> None:
    drawing = read('<defs><line id="l" x2="3" y2="1"/></defs>\n<use id="u" href="#l"/>\n<line x2="2" y2="0"/>')
    assert [path.element for path in drawing.paths] == ["use#u > line#l", "line (line 3)"]


def test_layers_are_top_level_groups_with_vpypes_numbers() -> None:
    body = (
        '<g xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" inkscape:label="3 Outline"><line x2="3"/></g>'
        '<g id="layer7"><line x2="7"/></g><g><line x2="4" y2="0"/></g><line x2="1"/>'
    )
    drawing = read(body)
    assert [path.layer for path in drawing.paths] == [3, 7, 3, 1] or [path.layer for path in drawing.paths] == [
        3,
        3,
        7,
        1,
    ]
    assert drawing.layer_names == {3: "3 Outline", 7: "layer7"}
    only = read(body, options=SvgOptions(layers=(7,)))
    assert [path.points[-1] for path in only.paths] == [pytest.approx((7, 0))]
    with pytest.raises(Refused, match="no layer 9") as caught:
        read(body, options=SvgOptions(layers=(9,)))
    assert "7 (layer7)" in caught.value.remedy


def test_touching_strokes_are_joined_and_each_part_keeps_its_name() -> None:
    body = '<line id="c" x1="20" x2="30"/><line id="a" x1="0" x2="10"/><line id="b" x1="20.005" x2="10"/>'
    (path,) = read(body, options=SvgOptions(merge=True)).paths
    assert path.length_mm == pytest.approx(30, abs=0.03)
    named = {path.element_at(index): x for index, (x, _) in enumerate(path.points)}
    assert set(named) == {"line#a", "line#b", "line#c"}
    assert "2 more" in path.element


def test_strokes_are_sorted_within_a_layer_and_never_across_layers() -> None:
    row = "".join(f'<line x1="{x}" x2="{x + 1}" y1="{x % 7}" y2="{x % 7}"/>' for x in (50, 10, 30, 70, 20))
    body = f"<g id='layer2'>{row}</g><g id='layer1'>{row}</g>"
    drawing = read(body, options=SvgOptions())
    assert [path.layer for path in drawing.paths] == [2] * 5 + [1] * 5
    plain = read(body)
    travel = [sum(dist(*gap) for gap in one.gaps()) for one in (drawing, plain)]
    assert travel[0] < 0.6 * travel[1]
    assert drawing.pen_down_mm == pytest.approx(plain.pen_down_mm)


def test_a_closed_stroke_begins_where_the_pen_comes_from() -> None:
    drawing = read('<rect x="10" y="10" width="50" height="50" transform="rotate(180 35 35)"/>', options=SvgOptions())
    assert drawing.paths[0].points[0] == pytest.approx((10, 10))
    assert drawing.paths[0].points[-1] == drawing.paths[0].points[0]


def test_joining_and_sorting_lose_and_add_nothing() -> None:
    body = "".join(f'<path d="M{x} {y}L{x + 3} {y}L{y} {x}"/>' for x in range(0, 70, 7) for y in range(0, 70, 5))
    plain, tidy = read(body), read(body, options=SvgOptions())
    assert len(tidy.paths) < len(plain.paths)
    apart = max_deviation_mm([path.points for path in tidy.paths], [path.points for path in plain.paths])
    assert apart <= 0.0101
    assert tidy.pen_down_mm == pytest.approx(plain.pen_down_mm, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "size", "end"),
    [
        (SvgOptions(rotate=90), (80, 100), (80, 10)),
        (SvgOptions(rotate=180), (100, 80), (90, 80)),
        (SvgOptions(rotate=270), (80, 100), (0, 90)),
        (SvgOptions(landscape=True), (100, 80), (10, 0)),
        (SvgOptions(landscape=True, rotate=90), (100, 80), (90, 80)),
        (SvgOptions(page=(297, 210)), (297, 210), (10, 0)),
        (SvgOptions(fit=True, page=(200, 100), margin_mm=10), (200, 100), (190, 50)),
    ],
)
def test_drawings_are_turned_and_fitted(
    options: SvgOptions, size: tuple[float, float], end: tuple[float, float]
) -> None:
    drawing = read('<line x1="0.001" x2="10"/>', options=options)
    assert (drawing.width_mm, drawing.height_mm) == pytest.approx(size)
    ends = (drawing.paths[0].points[0], drawing.paths[0].points[-1])
    assert any(point == pytest.approx(end, abs=0.01) for point in ends)


def test_a_fitted_curve_keeps_the_tolerance_when_it_grows() -> None:
    drawing = read('<circle r="1"/>', options=SvgOptions(fit=True, page=(220, 220)))
    path = drawing.paths[0].points
    assert max(abs(dist(point, (110, 110)) - 100) for point in path) < 0.02
    assert len(path) > 150


def test_a_margin_larger_than_the_page_is_refused() -> None:
    with pytest.raises(Refused, match="leaves nothing"):
        read('<line x2="9"/>', options=SvgOptions(fit=True, margin_mm=60))


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance_mm": 0}, {"tolerance_mm": float("nan")}, {"rotate": 45}, {"page": (0, 5)}, {"margin_mm": -1},
     {"merge_tolerance_mm": -1}],
)  # fmt: skip
def test_an_option_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        SvgOptions(**wrong)  # type: ignore[arg-type]


def test_every_element_off_the_page_is_named_with_its_distance() -> None:
    body = '<path id="outline" d="M90 10L110 10"/><circle cx="50" cy="50" r="5"/>\n<line x2="5" y2="-2"/>'
    drawing = read(body, options=SvgOptions())
    with pytest.raises(Refused) as caught:
        check_on_page(drawing)
    assert "path#outline (10 mm beyond the right edge)" in caught.value.message
    assert "line (line 2) (2 mm beyond the top edge)" in caught.value.message
    assert caught.value.context["count"] == 2
    assert "--fit" in caught.value.remedy
    with pytest.raises(Refused, match="line 2"):
        check_on_page(drawing, 300, 300)
    check_on_page(read('<rect width="100" height="80"/>'))


def test_many_elements_off_the_page_are_counted() -> None:
    drawing = read("".join(f'<line id="l{n}" x1="200" x2="{210 + n}"/>' for n in range(30)))
    with pytest.raises(Refused, match="and 25 more") as caught:
        check_on_page(drawing)
    assert caught.value.context["count"] == 30


def test_only_the_part_that_is_off_the_page_is_named_in_a_joined_stroke() -> None:
    drawing = read('<line id="in" x2="90"/><line id="out" x1="90" x2="150"/>', options=SvgOptions())
    assert len(drawing.paths) == 1
    with pytest.raises(Refused) as caught:
        check_on_page(drawing)
    assert [item["element"] for item in caught.value.context["elements"]] == ["line#out"]


def test_a_compressed_svg_is_read_too() -> None:
    plain = f'<svg {HEAD} width="9mm" height="9mm"><line x2="9"/></svg>'.encode()
    assert read_drawing(gzip.compress(plain)).segments == 1


def test_a_part_is_found_by_the_index_of_a_point() -> None:
    path = Polyline(((0, 0), (1, 0), (2, 0)), "a and 1 more", parts=((0, "a"), (2, "b")))
    assert [path.element_at(index) for index in range(3)] == ["a", "a", "b"]


def test_a_star_of_thousands_of_strokes_is_sorted_soon_and_whole() -> None:
    rays = "".join(f'<path d="M50 40L{50 + 30 * cos(k / 400):.4f} {40 + 30 * sin(k / 400):.4f}"/>' for k in range(2500))
    drawing = read(rays + '<line x2="9" y2="0"/>', options=SvgOptions())
    assert drawing.segments == 2501
    assert len(drawing.paths) == 1251  # in through the middle and out again, without a lift
    assert sum(dist(*gap) for gap in drawing.gaps()) < 500
