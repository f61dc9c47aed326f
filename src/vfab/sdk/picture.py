"""Pictures of what a pen did: SVG in millimetres, and PNG to look at. Files appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from vfab.model.errors import Refused
from vfab.sdk.drawing import Point
from vfab.sdk.whole_file import write_whole

__all__ = ["write_png", "write_svg"]

_OVERSAMPLING: Final = 3
_PIXELS_MAX: Final = 40_000_000
_PAPER: Final = (253, 252, 249)
_INK: Final = (24, 42, 96)
_WANTED: Final = (255, 150, 110)
_TRAVEL: Final = (205, 222, 205)
_BORDER: Final = (214, 212, 206)

Strokes = Iterable[Sequence[Point]]


def write_svg(
    path: str | Path,
    strokes: Strokes,
    width_mm: float,
    height_mm: float,
    *,
    pen_mm: float = 0.3,
    title: str = "",
) -> None:
    """Write pen-down strokes as an SVG file: one unit is one millimetre, the origin is the page's top-left corner.

    Args:
        path: the file; an older one is replaced once the new one is complete.
        strokes: polylines in millimetres; a single point becomes a dot.
        width_mm: the page's width, above 0.
        height_mm: the page's height, above 0.
        pen_mm: the line's width.
        title: what a viewer shows as the document's name.

    Raises:
        Refused: the page's size is not above 0. OSError: the file cannot be written.
    """
    _check(width_mm, height_mm)
    width, height = _mm(width_mm), _mm(height_mm)
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{width}mm" height="{height}mm" viewBox="0 0 {width} {height}">',
        f'<g fill="none" stroke="#182a60" stroke-width="{_mm(pen_mm)}" stroke-linecap="round" stroke-linejoin="round">',
    ]
    if title:
        lines.insert(1, f"<title>{quoteattr(title)[1:-1]}</title>")
    for stroke in strokes:
        points = [f"{_mm(x)},{_mm(y)}" for x, y in stroke]
        if points:
            lines.append(f'<polyline points="{" ".join(points if len(points) > 1 else points * 2)}"/>')
    lines.append("</g>\n</svg>\n")
    write_whole(Path(path), "\n".join(lines).encode())


def write_png(
    path: str | Path,
    strokes: Strokes,
    width_mm: float,
    height_mm: float,
    *,
    dpi: float = 150.0,
    wanted: Strokes | None = None,
    travel: bool = False,
    pen_mm: float = 0.3,
) -> None:
    """Write pen-down strokes as a PNG file, dark ink on paper.

    Args:
        path: the file; an older one is replaced once the new one is complete.
        strokes: polylines in millimetres from the page's top-left corner, in the order drawn.
        width_mm: the page's width, above 0.
        height_mm: the page's height, above 0.
        dpi: pixels an inch; fewer are taken for a page so large that the picture would exceed 40 megapixels.
        wanted: what should have been drawn; lies beneath, in light orange and a little wider, so that it shows
            wherever the pen deviated.
        travel: show the pen-up travel between strokes too, faintly.
        pen_mm: the line's width.

    Raises:
        Refused: the page's size or `dpi` is not above 0. OSError: the file cannot be written.
    """
    import io

    from PIL import Image, ImageDraw

    _check(width_mm, height_mm)
    if not (isfinite(dpi) and dpi > 0):
        raise Refused(f"dpi is {dpi}", context={"field": "dpi", "found": dpi}, remedy="Give a number above 0.")
    scale = min(dpi / 25.4, (_PIXELS_MAX / (width_mm * height_mm)) ** 0.5)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    finer = _OVERSAMPLING if size[0] * size[1] * _OVERSAMPLING**2 <= _PIXELS_MAX else 1
    image = Image.new("RGB", (size[0] * finer, size[1] * finer), _PAPER)
    draw = ImageDraw.Draw(image)
    scale *= finer
    draw.rectangle([0, 0, image.width - 1, image.height - 1], outline=_BORDER, width=finer)
    drawn = [list(stroke) for stroke in strokes]
    if wanted is not None:
        _ink(draw, wanted, scale, (pen_mm + 0.25) * scale, _WANTED)
    if travel:
        _ink(draw, [(a[-1], b[0]) for a, b in pairwise(drawn) if a and b], scale, 0.12 * scale, _TRAVEL)
    _ink(draw, drawn, scale, pen_mm * scale, _INK)
    if finer > 1:
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", dpi=(scale / finer * 25.4,) * 2, optimize=False)
    write_whole(Path(path), buffer.getvalue())


def _ink(draw: Any, strokes: Strokes, scale: float, width: float, colour: tuple[int, int, int]) -> None:
    """Lines with round ends and corners; Pillow knows neither round ends nor width below one pixel."""
    thick = max(1, round(width))
    radius = thick / 2
    for stroke in strokes:
        points = [(x * scale, y * scale) for x, y in stroke]
        if len(points) > 1:
            draw.line(points, fill=colour, width=thick, joint="curve" if thick > 2 else None)
        for x, y in points[:1] + points[1:][-1:]:
            if thick > 2 or len(points) == 1:
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _mm(value: float) -> str:
    """Four decimals: a tenth of a micrometre."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _check(width_mm: float, height_mm: float) -> None:
    for name, value in (("width_mm", width_mm), ("height_mm", height_mm)):
        if not (isfinite(value) and value > 0):
            raise Refused(
                f"{name} of the page is {value}", context={"field": name, "found": value}, remedy="Give mm above 0."
            )
