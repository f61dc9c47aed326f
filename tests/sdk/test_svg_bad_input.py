"""Files that are no drawing, damaged, or built to do harm: each refused with the place and the remedy."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import BadResource, DriverError
from vfab.sdk.svg import SvgOptions, read_drawing

NS = 'xmlns="http://www.w3.org/2000/svg"'
LINE = '<line x2="9" y2="9"/>'


def refused(data: bytes | str) -> BadResource:
    with pytest.raises(BadResource) as caught:
        read_drawing(data.encode() if isinstance(data, str) else data, source="a.svg")
    assert caught.value.message.startswith("a.svg")
    assert caught.value.context["file"] == "a.svg"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no XML"),
        (b"just words", "no XML"),
        (b"<html><body/></html>", "outermost element is <html>"),
        (b"%PDF <<", "not well-formed XML at line 1"),
        (f"<svg {NS}>{LINE}".encode(), "ends too early"),
        (f"<svg {NS}><path d='M0 0".encode(), "ends too early"),
        (f"<svg {NS}>\n<g></svg>".encode(), "line 2, column 6: mismatched tag"),
        (f"<svg {NS}><text>caf\xe9</text>{LINE}</svg>".encode("latin-1"), "not UTF-8: byte 0xE9"),
        (f'<?xml version="1.0" encoding="klingon"?><svg {NS}/>'.encode(), "unknown encoding"),
        (f"<svg {NS}/>".encode(), "nothing to draw"),
        (f"<svg {NS}><text>words</text></svg>".encode(), "nothing to draw: text (line 1)"),
        (f"<svg {NS}><path d='M nan 1'/></svg>".encode(), "nothing to draw: path (line 1)"),
        (gzip.compress(f"<svg {NS}>{LINE}</svg>".encode(), mtime=0)[:-12], "ends too early"),
        (b"\x1f\x8b broken", "damaged svgz"),
    ],
)
def test_what_is_no_drawing_is_refused_with_the_reason(data: bytes, words: str) -> None:
    assert words in refused(data).message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('<path id="r" d="M0 0L1e999 5"/>', "d"),
        ('<path id="r" d="M0 0C1e300 5 1e300 6 7 7"/>', "d"),
        ('<path id="r" d="M0 0L1e30 5"/>', "d"),
        ('<polygon id="r" points="0 0 1e999 5"/>', "points"),
        ('<rect id="r" width="1e300" height="1e300"/>', "size"),
    ],
)
def test_a_value_that_cannot_be_drawn_by_is_named(body: str, field: str) -> None:
    error = refused(f"<svg {NS} width='99' height='99'>{body}</svg>")
    assert error.context["field"] == field
    assert error.context["element"].endswith("#r")
    assert field in error.message


def lines(data: str) -> tuple[list[list[tuple[float, float]]], str]:
    """The strokes in user units, and all that is noted."""
    svg = f"<svg {NS} width='96mm' height='96mm' viewBox='0 0 96 96'>{data}</svg>"
    drawing = read_drawing(svg.encode(), source="a.svg", options=SvgOptions(sort=False, merge=False))
    return [[(round(x, 6), round(y, 6)) for x, y in path.points] for path in drawing.paths], "\n".join(drawing.warnings)


AS_IT_IS = [[(0.0, 0.0), (3.0, 0.0)]]


@pytest.mark.parametrize(
    ("body", "drawn", "noted"),
    [
        ('<g id="r" transform="turn(5)"><line x2="3"/></g>', AS_IT_IS, "g#r with transform='turn(5)'"),
        ('<g id="r" transform="scale(nan)"><line x2="3"/></g>', AS_IT_IS, "transform='scale(nan)'"),
        ('<g id="r" transform="rotate(5x)"><line x2="3"/></g>', AS_IT_IS, "transform='rotate(5x)'"),
        ('<g id="r" transform="translate(5) junk"><line x2="3"/></g>', AS_IT_IS, "transform='translate(5) junk'"),
        ('<g id="r" transform="scale(2)" transform-origin="x y"><line x2="1.5"/></g>', AS_IT_IS, "transform-origin"),
        ('<line id="r" x1="5furlong" x2="3"/>', AS_IT_IS, "line#r with x1='5furlong'"),
        ('<rect id="r" width="nan" height="5"/>', [], "rect#r with width='nan'"),
        ('<circle id="r" r="inf"/>', [], "circle#r with r='inf'"),
        ('<ellipse id="r" rx="wide" ry="0"/>', [], "rx='wide'"),
        ('<svg id="r" viewBox="0 0 5"><line x2="3"/></svg>', AS_IT_IS, "viewBox='0 0 5'"),
        ('<svg id="r" viewBox="0 0 0 5"><line x2="3"/></svg>', [], "svg#r: its viewBox has no width"),
        ('<svg id="r" width="much"><line x2="3"/></svg>', AS_IT_IS, "svg#r with width='much'"),
        ('<polyline id="r" points="0 0 3 0 nan 5"/>', AS_IT_IS, "polyline#r: it is drawn only up to an error"),
        ('<g id="o"><line x2="3"/><use id="r" href="#o"/></g>', AS_IT_IS, "use#r: it would show itself"),
        ('<use id="r" href="#r"/><line x2="3"/>', AS_IT_IS, "use#r: it would show itself"),
        (
            '<g id="a"><line x2="3"/><use id="u" href="#b"/></g><defs><g id="b"><use href="#a" id="v"/></g></defs>',
            AS_IT_IS,
            "use#u > use#v: it would show itself",
        ),
    ],
)
def test_what_a_browser_ignores_is_noted_and_the_rest_is_drawn(
    body: str, drawn: list[list[tuple[float, float]]], noted: str
) -> None:
    found, notes = lines(f"{body}<line y1='50' x2='9' y2='50'/>")
    assert found == [*drawn, [(0.0, 50.0), (9.0, 50.0)]]
    assert noted in notes


def test_radii_that_are_not_valid_count_as_not_given() -> None:
    valid, _ = lines('<rect width="20" height="10" ry="2"/>')
    found, notes = lines('<rect id="r" width="20" height="10" rx="2furlong" ry="2"/>')
    assert found == valid
    assert notes.count("rect#r") == 1


@pytest.mark.parametrize("size", ["0", "-5mm", "1e9mm", "nan", "wide"])
def test_a_page_of_no_possible_size_is_refused(size: str) -> None:
    assert refused(f'<svg {NS} width="{size}" height="5">{LINE}</svg>').context["field"] == "width"


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (f'<!DOCTYPE svg [<!ENTITY l0 "lol">{BOMB}]>', "entity 'l1'"),
        ('<!DOCTYPE svg [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>', "external entity 'l11' (file:///etc/passwd)"),
        ('<!DOCTYPE svg [<!ENTITY % l11 SYSTEM "http://127.0.0.1:9/">%l11;]>', "external entity"),
        (f'<!DOCTYPE svg [<!ENTITY l11 "{"x" * 20_000}">]>', "longer than"),
    ],
)
def test_entities_that_could_do_harm_are_refused(head: str, words: str) -> None:
    assert words in refused(f'<?xml version="1.0"?>{head}<svg {NS}>{LINE}<text>&l11;</text></svg>').message


def test_a_flat_entity_used_without_end_is_refused() -> None:
    head = f'<!DOCTYPE svg [<!ENTITY a "{"x" * 9_000}">]>'
    assert "exhaust memory" in refused(f"{head}<svg {NS}><text>{'&a;' * 30_000}</text></svg>").message


def test_name_space_entities_of_drawing_programs_are_read() -> None:
    head = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" '
    svg = f'{head}[<!ENTITY ns_svg "http://www.w3.org/2000/svg">]><svg xmlns="&ns_svg;">{LINE}</svg>'
    assert read_drawing(svg.encode()).segments == 1


def test_a_small_svgz_that_unpacks_without_end_is_refused_soon() -> None:
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    assert "larger than 256 MiB" in refused(data).message


@pytest.mark.parametrize("shown", ["g", "symbol", "svg"])
def test_use_inside_use_cannot_multiply_without_end(shown: str) -> None:
    levels = "".join(f'<{shown} id="g{n}">' + f'<use href="#g{n - 1}"/>' * 10 + f"</{shown}>" for n in range(1, 30))
    body = f'<svg {NS}><{shown} id="g0">{LINE}</{shown}>{levels}<use href="#g29"/></svg>'
    assert "repeats itself" in refused(body).message


def test_use_that_multiplies_in_a_circle_is_refused_soon() -> None:
    names = range(12)
    groups = "".join(
        f'<g id="g{n}">{LINE}' + "".join(f'<use href="#g{m}"/>' for m in names if m != n) + "</g>" for n in names
    )
    assert "repeats itself" in refused(f"<svg {NS}>{groups}</svg>").message


def test_boxes_within_boxes_cannot_be_measured_without_end() -> None:
    turned = '<g style="transform: rotate(1deg); transform-box: fill-box">'
    assert "by its own boxes" in refused(f"<svg {NS}>{turned * 60}{LINE}{'</g>' * 60}</svg>").message


def test_many_uses_of_one_thing_are_drawn() -> None:
    found, notes = lines('<defs><g id="o"><line x2="1"/><line x2="2"/></g></defs>' + '<use href="#o"/>' * 3000)
    assert len(found) == 6000
    assert not notes


def test_use_behind_use_is_drawn_down_to_a_depth() -> None:
    chain = "".join(f'<g id="g{n}"><use href="#g{n - 1}"/></g>' for n in range(1, 60))
    body = f'<defs><g id="g0"><line x2="3"/></g>{chain}</defs>'
    assert lines(f'{body}<use href="#g30"/>')[0] == AS_IT_IS
    assert "at most 32" in refused(f'<svg {NS}>{body}<use href="#g59"/></svg>').message


def test_nesting_without_end_is_refused() -> None:
    assert "elements deep" in refused(f"<svg {NS}>{'<g>' * 5000}{LINE}{'</g>' * 5000}</svg>").message


def test_a_drawing_of_too_many_points_is_refused() -> None:
    body = '<circle r="3700000"/>' * 25
    with pytest.raises(BadResource, match="more than"):
        read_drawing(f"<svg {NS}>{body}</svg>".encode(), options=SvgOptions(tolerance_mm=0.0001))


def test_utf_16_is_read() -> None:
    svg = f'<?xml version="1.0" encoding="UTF-16"?><svg {NS}><line id="é" x2="9"/></svg>'
    assert read_drawing(svg.encode("utf-16")).paths[0].element == "line#é"


@settings(max_examples=150, deadline=None)
@given(st.text("MmLlHhVvCcSsQqTtAaZz0123456789.-+e, \nx", max_size=40))
def test_any_path_data_is_drawn_or_refused_and_nothing_else(data: str) -> None:
    svg = f"<svg {NS} width='9' height='9'>{LINE}<path d='{data}'/></svg>"
    try:
        drawing = read_drawing(svg.encode(), options=SvgOptions(sort=False, merge=False))
    except DriverError:
        return
    assert drawing.paths[0].element == "line (line 1)"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 120))
def test_any_damage_to_the_bytes_is_a_clear_refusal_or_a_drawing(noise: bytes, place: int) -> None:
    svg = f"<svg {NS} width='9' height='9'><g transform='scale(2)'>{LINE}</g></svg>".encode()
    try:
        read_drawing(svg[:place] + noise + svg[place + len(noise) :], options=SvgOptions(sort=False, merge=False))
    except DriverError as error:
        assert error.message
        assert error.remedy
