"""Files that nobody of vfab drew, judged by programs that nobody of vfab wrote: resvg and svgpathtools."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drawings import bootstrap, flags, icons, third_party_drawings
from resvg_referee import ARC_PX, PX_MM, SAMPLING_MM, farthest_mm, sampled, simplified_by_resvg, strokes_of
from vfab.model.errors import Refused
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.drawing import Drawing
from vfab.sdk.svg import SvgOptions, check_on_page, read_drawing

EDGE_MM = 0.05
EVERYTHING = SvgOptions(drop_hidden=False)

pytestmark = pytest.mark.referee


def _read(file: Path, options: SvgOptions = EVERYTHING) -> Drawing:
    return read_drawing(file.read_bytes(), source=file.name, options=options)


def _shown(file: Path, folder: Path) -> Path:
    """The file with everything filled and stroked, so that resvg leaves nothing out as invisible."""
    text = file.read_text()
    style = "<style>*{fill:#000!important;stroke:#000!important;marker:none!important}</style>"
    text = re.sub(r"(<svg[^>]*>)", lambda match: match.group(1) + style, text, count=1)
    copy = folder / file.name
    copy.write_text(text)
    return copy


def test_flags_read_like_resvg_reads_them(tmp_path: Path) -> None:
    files = flags() + bootstrap()
    if not files or shutil.which("node") is None:
        pytest.skip("node or tests/drawings is not installed")
    files = [file for file in files if file.stat().st_size < 30_000]
    copies = {str(_shown(file, tmp_path)): file for file in files}
    simplified = simplified_by_resvg([Path(copy) for copy in copies])
    assert len(simplified) == len(files) > 30
    wrong = {}
    for copy, svg in simplified.items():
        drawing = _read(Path(copy))
        drawn = [[*path.points] for path in drawing.paths]
        allowed = drawing.tolerance_mm + SAMPLING_MM + ARC_PX * PX_MM
        # a line within a hair of the edge of its clip path may be drawn or not: neither is asked for
        inner, outer = (strokes_of(svg, grown_mm) for grown_mm in (-EDGE_MM, EDGE_MM))
        beyond, missed = farthest_mm(drawn, outer), farthest_mm(inner, drawn)
        if max(beyond, missed) > allowed:
            wrong[copies[copy].name] = (round(beyond, 4), round(missed, 4))
    assert not wrong


def test_icons_read_like_svgpathtools_reads_them() -> None:
    import numpy as np
    from svgpathtools import parse_path

    files = icons() + bootstrap()
    if not files:
        pytest.skip("XStatic-Font-Awesome is not installed")
    checked = 0
    for file in files:
        root = ElementTree.parse(file).getroot()
        kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
        if not kinds <= {"svg", "path"}:
            continue
        drawing = _read(file)
        scale = drawing.width_mm / float(root.get("viewBox").split()[2])
        matrix = np.diag([scale, scale, 1.0])
        data = [element.get("d") for element in root if element.get("d")]
        wanted = [line for text in data for line in sampled(parse_path(text), matrix)]
        largest = max_deviation_mm([path.points for path in drawing.paths], wanted)
        assert largest <= drawing.tolerance_mm + SAMPLING_MM, file.name
        checked += 1
    assert checked >= 50


def test_every_third_party_drawing_lies_on_its_page_or_is_refused_by_name() -> None:
    refused = 0
    files = third_party_drawings()
    for file in files:
        drawing = _read(file, SvgOptions())
        assert drawing.segments > 0
        try:
            check_on_page(drawing)
        except Refused as error:
            refused += 1
            assert error.context["elements"], file.name
            assert error.context["elements"][0]["element"] in error.message
    assert refused < len(files) / 2


def test_every_third_party_drawing_fits_the_page_that_was_asked_for() -> None:
    options = SvgOptions(fit=True, page=(297.0, 210.0), margin_mm=5)
    for file in third_party_drawings():
        drawing = _read(file, options)
        check_on_page(drawing)
        xs = [x for path in drawing.paths for x, _ in path.points]
        ys = [y for path in drawing.paths for _, y in path.points]
        assert max(xs) - min(xs) == pytest.approx(287, abs=0.05) or max(ys) - min(ys) == pytest.approx(200, abs=0.05)
