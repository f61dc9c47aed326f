"""Files that nobody of vfab drew, judged by programs that nobody of vfab wrote: resvg and svgpathtools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drawings import NPM, bootstrap, flags, icons, third_party_drawings
from vfab.model.errors import Refused
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.svg import SvgOptions, check_on_page, read_drawing

PX_MM = 25.4 / 96
SAMPLING_MM = 0.004
RESVG_ARC_PX = 0.1
EDGE_MM = 0.05
EVERYTHING = SvgOptions(drop_hidden=False)

pytestmark = pytest.mark.referee


def _read(file: Path, options: SvgOptions = EVERYTHING) -> Drawing:
    return read_drawing(file.read_bytes(), source=file.name, options=options)


def _sampled(path, matrix) -> list[list[Point]]:
    """A path of svgpathtools as polylines in mm, much finer than the tolerance under test."""
    import numpy as np

    scale = sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
    lines: list[list[Point]] = []
    for part in path.continuous_subpaths():
        places = []
        for segment in part:
            kind = type(segment).__name__
            size = abs(segment.delta) * abs(segment.radius) / 57 if kind == "Arc" else _span(segment.bpoints())
            steps = 1 if kind == "Line" else ceil(sqrt(1.5 * size * scale / SAMPLING_MM)) + 1
            at = np.linspace(0, 1, steps + 1)
            places.append(np.array([segment.point(t) for t in at]) if kind == "Arc" else segment.poly()(at))
        where = np.concatenate(places)
        x, y, _ = matrix @ np.array([where.real, where.imag, np.ones(len(where))])
        lines.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return lines


def _span(corners) -> float:
    """No second difference of the control points is larger than twice this."""
    return max(abs(b - a) for a, b in pairwise(corners))


def _resvg(files: list[Path]) -> dict[str, str]:
    """What resvg makes of each file: one SVG of absolute paths in pixels, groups and transforms left."""
    script = NPM / "simplify.mjs"
    names = "\n".join(map(str, files))
    done = subprocess.run(["node", str(script)], input=names, capture_output=True, text=True, check=True, timeout=120)
    return {item["file"]: item["svg"] for item in map(json.loads, done.stdout.splitlines()) if "svg" in item}


def _strokes_of(svg: str, grown_mm: float) -> list[list[Point]]:
    """The strokes, each cut to its clip paths, which are grown by `grown_mm`."""
    import numpy as np
    import shapely
    from svgpathtools import parse_path
    from svgpathtools.parser import parse_transform

    lines: list[list[Point]] = []
    root = ElementTree.fromstring(svg)
    clips = {element.get("id"): element for element in root.iter() if element.tag.endswith("clipPath")}

    def area(clip, matrix):
        rings = [ring for path in clip for ring in _sampled(parse_path(path.get("d")), matrix)]
        return shapely.union_all([shapely.Polygon(ring).buffer(grown_mm) for ring in rings])

    def walk(element, matrix, within):
        tag = element.tag.rpartition("}")[2]
        if tag in {"defs", "clipPath", "mask"}:
            return
        matrix = matrix @ parse_transform(element.get("transform", ""))
        if clip := element.get("clip-path"):
            within = within & area(clips[clip.removeprefix("url(#").removesuffix(")")], matrix)
        if tag == "path":
            whole = shapely.MultiLineString(_sampled(parse_path(element.get("d")), matrix))
            left = shapely.get_parts(whole & within)
            lines.extend([*part.coords] for part in left if part.geom_type == "LineString")
        for child in element:
            walk(child, matrix, within)

    walk(root, np.diag([PX_MM, PX_MM, 1.0]), shapely.box(-1e5, -1e5, 1e5, 1e5))
    return lines


def _farthest_mm(lines: list[list[Point]], others: list[list[Point]]) -> float:
    """How far any place of `lines` is from the nearest of `others`."""
    import shapely

    places = [shapely.segmentize(shapely.LineString(line), 0.1).coords for line in lines if len(line) > 1]
    near = shapely.MultiLineString([line for line in others if len(line) > 1])
    shapely.prepare(near)
    return float(max(shapely.distance(shapely.points(place), near).max() for place in places))


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
    simplified = _resvg([Path(copy) for copy in copies])
    assert len(simplified) == len(files) > 30
    wrong = {}
    for copy, svg in simplified.items():
        drawing = _read(Path(copy))
        drawn = [[*path.points] for path in drawing.paths]
        allowed = drawing.tolerance_mm + SAMPLING_MM + RESVG_ARC_PX * PX_MM
        # a line within a hair of the edge of its clip path may be drawn or not: neither is asked for
        inner, outer = (_strokes_of(svg, grown_mm) for grown_mm in (-EDGE_MM, EDGE_MM))
        beyond, missed = _farthest_mm(drawn, outer), _farthest_mm(inner, drawn)
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
        wanted = [line for text in data for line in _sampled(parse_path(text), matrix)]
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
