"""SVG's basic shapes and paths, followed by a pen (SVG 2 §9 and §10)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from vfab.sdk.svg_path import Pen, parse_path
from vfab.sdk.svg_style import numbers
from vfab.sdk.svg_xml import Node

__all__ = ["SHAPES", "trace"]

SHAPES: Final = frozenset({"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"})


def trace(node: Node, style: Mapping[str, str], size: Callable[[str], float], pen: Pen) -> str:
    """Follow the outline of a shape.

    Args:
        node: an element of `SHAPES`.
        style: what is said about it.
        size: the value of an attribute in user units, 0 without one.
        pen: what follows.

    Returns: what is wrong with the end of it, which was left out; "" when nothing is.

    Raises ValueError: a path's error; what comes before it was followed. FarOut: a point that cannot be drawn.
    """
    tag = node.tag
    if tag == "path":
        data = style.get("d", "")
        css = re.fullmatch(r"path\(\s*[\"'](.*)[\"']\s*\)", data, re.DOTALL)
        pen.follow(parse_path(css.group(1) if css else "" if data == "none" else data))
    elif tag == "line":
        pen.polyline([(size("x1"), size("y1")), (size("x2"), size("y2"))])
    elif tag in {"polyline", "polygon"}:
        return _corners(node, pen)
    elif tag == "rect":
        _rectangle(size, style, pen)
    else:
        rx, ry = (size("r"), size("r")) if tag == "circle" else _radii(size, style)
        if rx > 0 and ry > 0:
            pen.ellipse(size("cx"), size("cy"), rx, ry)
    return ""


def _radii(size: Callable[[str], float], style: Mapping[str, str]) -> tuple[float, float]:
    """Both radii, rx and ry; one that is missing, `auto` or below 0 equals the other (SVG 2 §7.4)."""
    given = [name for name in ("rx", "ry") if style.get(name, "auto") != "auto" and size(name) >= 0]
    if not given:
        return 0.0, 0.0
    return size("rx" if "rx" in given else "ry"), size("ry" if "ry" in given else "rx")


def _corners(node: Node, pen: Pen) -> str:
    text = node.get("points", "")
    fault = ""
    try:
        values = numbers(text)
    except ValueError as err:
        values = err.args[1]
        fault = str(err.args[0])
    else:
        if len(values) % 2:
            fault = "a coordinate is missing at the end"
    pen.polyline(list(zip(values[::2], values[1::2], strict=False)), closed=node.tag == "polygon")
    return fault


def _rectangle(size: Callable[[str], float], style: Mapping[str, str], pen: Pen) -> None:
    x, y, width, height = size("x"), size("y"), size("width"), size("height")
    if width <= 0 or height <= 0:
        return
    rx, ry = _radii(size, style)
    rx, ry = min(max(rx, 0.0), width / 2), min(max(ry, 0.0), height / 2)
    right, bottom = x + width, y + height
    if rx == 0 or ry == 0:
        pen.polyline([(x, y), (right, y), (right, bottom), (x, bottom)], closed=True)
        return
    pen.polyline([(x + rx, y), (right - rx, y)])
    for to_x, to_y, then_x, then_y in (
        (right, y + ry, right, bottom - ry),
        (right - rx, bottom, x + rx, bottom),
        (x, bottom - ry, x, y + ry),
    ):
        pen.arc_to(rx, ry, to_x, to_y)
        pen.line_to(then_x, then_y)
    pen.arc_to(rx, ry, x + rx, y)
    pen.close()
