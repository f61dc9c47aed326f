"""resvg as a referee: what it understands an SVG to be, as strokes in millimetres, and its pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drawings import NPM
from vfab.sdk.drawing import Point

PX_MM = 25.4 / 96
SAMPLING_MM = 0.004
ARC_PX = 0.1
"""resvg turns arcs into Béziers, which lie within this distance of them."""


def needed() -> None:
    """Skip the test where resvg is not installed."""
    if shutil.which("node") is None or not (NPM / "node_modules").exists():
        pytest.skip("node or tests/drawings is not installed")


def _run(script: str, files: list[Path]) -> list[dict]:
    names = "\n".join(map(str, files))
    command = ["node", str(NPM / script)]
    done = subprocess.run(command, input=names, capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def pictures(files: list[Path]) -> list[bytes]:
    """What resvg paints of each file: 0 for black ink to 255, pixel by pixel."""
    return [b64decode(found["rgba"])[::4] for found in _run("render.mjs", files)]


def sampled(path, matrix) -> list[list[Point]]:
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


def simplified_by_resvg(files: list[Path]) -> dict[str, str]:
    """What resvg makes of each file: one SVG of absolute paths in pixels, groups and transforms left."""
    return {found["file"]: found["svg"] for found in _run("simplify.mjs", files) if "svg" in found}


def strokes_of(svg: str, grown_mm: float) -> list[list[Point]]:
    """The strokes, each cut to its clip paths, which are grown by `grown_mm`."""
    import numpy as np
    import shapely
    from svgpathtools import parse_path
    from svgpathtools.parser import parse_transform

    lines: list[list[Point]] = []
    root = ElementTree.fromstring(svg)
    clips = {element.get("id"): element for element in root.iter() if element.tag.endswith("clipPath")}

    def area(clip, matrix):
        rings = [ring for path in clip for ring in sampled(parse_path(path.get("d")), matrix)]
        return shapely.union_all([shapely.Polygon(ring).buffer(grown_mm) for ring in rings])

    def walk(element, matrix, within):
        tag = element.tag.rpartition("}")[2]
        if tag in {"defs", "clipPath", "mask"}:
            return
        matrix = matrix @ parse_transform(element.get("transform", ""))
        if clip := element.get("clip-path"):
            within = within & area(clips[clip.removeprefix("url(#").removesuffix(")")], matrix)
        if tag == "path":
            whole = shapely.MultiLineString(sampled(parse_path(element.get("d")), matrix))
            left = shapely.get_parts(whole & within)
            lines.extend([*part.coords] for part in left if part.geom_type == "LineString")
        for child in element:
            walk(child, matrix, within)

    walk(root, np.diag([PX_MM, PX_MM, 1.0]), shapely.box(-1e5, -1e5, 1e5, 1e5))
    return lines


def farthest_mm(lines: list[list[Point]], others: list[list[Point]]) -> float:
    """How far any place of `lines` is from the nearest of `others`."""
    import shapely

    places = [shapely.segmentize(shapely.LineString(line), 0.1).coords for line in lines if len(line) > 1]
    near = shapely.MultiLineString([line for line in others if len(line) > 1])
    shapely.prepare(near)
    return float(max(shapely.distance(shapely.points(place), near).max() for place in places))
