"""An SVG's page and layers, and how a value that cannot be drawn by is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import hypot
from typing import Final

from vfab.model.errors import BadResource
from vfab.sdk.svg_path import Matrix, times
from vfab.sdk.svg_style import PX_MM, Measures, fit_view_box, inline_style, length_px, numbers
from vfab.sdk.svg_xml import Node

__all__ = ["Page", "layers_of", "page_of", "view_box", "wrong"]

_LABEL: Final = "{http://www.inkscape.org/namespaces/inkscape}label"
_PAGE_MAX_MM: Final = 100_000.0
_UNSIZED_PX: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Page:
    """The root's viewport: its size, and the transform from the root's user units to millimetres."""

    width_mm: float
    height_mm: float
    matrix: Matrix
    view: tuple[float, float]
    warnings: tuple[str, ...] = ()


def page_of(root: Node, source: str) -> Page:
    """The page that the root element declares, in millimetres.

    Width or height missing, or in per cent: the viewBox's size in px, keeping its proportions; without a
    viewBox 1000 px, as vpype has it, with a warning. Raises BadResource: a size of 0, below, or above 100 m.
    """
    box = view_box(root, source)
    sizes: list[float | None] = []
    style = inline_style(root.get("style", ""))
    measures = Measures().with_font({**root.attrib, **style})
    for name in ("width", "height"):
        text = style.get(name, root.get(name, "")).strip()
        missing = text in {"", "auto"} or text.endswith(("%", "vw", "vh")) or "(" in text
        try:
            sizes.append(None if missing else length_px(text, 0.0, measures))
        except ValueError as err:
            raise wrong(root, name, text, str(err), source) from err
    width, height = sizes
    notes: tuple[str, ...] = ()
    if box is not None:
        ratio = box[2] / box[3]
        width, height = (
            (height * ratio if height is not None else box[2]) if width is None else width,
            (width / ratio if width is not None else box[3]) if height is None else height,
        )
    elif width is None or height is None:
        notes = (f"{root.label}: no width, height or viewBox gives the page's size; {_UNSIZED_PX:g} px are taken",)
        width, height = width or _UNSIZED_PX, height or _UNSIZED_PX
    for name, size in (("width", width), ("height", height)):
        if not 0 < size * PX_MM <= _PAGE_MAX_MM:
            found = root.get(name, "") or root.get("viewBox", "")
            raise wrong(root, name, found, f"a page is more than 0 and at most {_PAGE_MAX_MM:g} mm", source)
    scale: Matrix = (PX_MM, 0, 0, PX_MM, 0, 0)
    view = (width, height)
    if box is not None:
        scale = times(scale, fit_view_box(box, width, height, root.get("preserveAspectRatio", "")))
        view = (box[2], box[3])
    return Page(width * PX_MM, height * PX_MM, scale, view, notes)


def layers_of(root: Node) -> dict[Node, tuple[int, str]]:
    """Number and name of each top-level group. What is in no group belongs to layer 1.

    As vpype has it: the first digits of the Inkscape label, else of an id like `layer3`, else the group's place.
    """
    found: dict[Node, tuple[int, str]] = {}
    groups = [node for node in root if isinstance(node, Node) and node.tag == "g"]
    for place, group in enumerate(groups, start=1):
        name = group.get(_LABEL, "")
        plain_id = re.sub(r"[-_ ]", "", group.get("id", "").lower())
        digits = re.search(r"\d{1,9}", name) or re.search(r"(?<=layer)\d{1,9}", plain_id)
        found[group] = max(1, int(digits.group())) if digits else place, name or group.get("id", "")
    return found


def wrong(node: Node, name: str, found: str, right: str, source: str) -> BadResource:
    """The error for an attribute that cannot be drawn by: what it is, what would be right, where."""
    shown = found if len(found) <= 60 else f"{found[:57]}…"
    return BadResource(
        f"{source or 'the drawing'}: {node.label} has {name}={shown!r}: {right}",
        context={"file": source, "element": node.label, "line": node.line, "field": name, "found": shown},
        remedy=f"Correct the attribute {name} at line {node.line}, or export the drawing again.",
    )


def view_box(node: Node, source: str) -> tuple[float, float, float, float] | None:
    """The element's viewBox: x, y, width, height; None without one. Raises BadResource: it cannot be drawn by."""
    text = node.get("viewBox", "").strip()
    if not text:
        return None
    try:
        x, y, width, height = numbers(text)
    except ValueError as err:
        raise wrong(node, "viewBox", text, "four numbers are wanted", source) from err
    if not (width > 0 and height > 0 and hypot(x, y, width, height) < 1e12):
        raise wrong(node, "viewBox", text, "width and height above 0 are wanted", source)
    return x, y, width, height
