"""SVG → a Drawing: what a plotter can draw of a file, in millimetres, joined and sorted layer by layer.

Outlines only: fills are not hatched. Text and pictures have no strokes: they are named in `Drawing.warnings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import isfinite
from operator import attrgetter
from typing import Final

from vfab.model.errors import BadResource, ConfigurationError, Refused
from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.stroke_order import FEW, join, link, order, travelled_s
from vfab.sdk.svg_context import RawStroke
from vfab.sdk.svg_page import Page, layers_of, page_of
from vfab.sdk.svg_path import Matrix, times
from vfab.sdk.svg_walk import Walker
from vfab.sdk.svg_xml import Node, parse_svg

__all__ = ["SvgOptions", "check_on_page", "read_drawing"]

_NAMED: Final = 5
_EDGE_MM: Final = 0.001
"""What arithmetic may lose at a page's edge; a tenth of a motor step."""


_FLATTENING = 0.5
_JOINING = 0.5
_MEASURING = 1 / 32
"""Shares of the tolerance: see `SvgOptions.tolerance_mm`; and how finely a drawing is measured for fitting."""


@dataclass(frozen=True, slots=True)
class SvgOptions:
    """How an SVG becomes strokes.

    Attributes:
        tolerance_mm: how far a polyline may lie from its curve. 0.02 is 1.6 motor steps of an AxiDraw and a
            fifteenth of a fine pen's width: below what can be seen, and half the points that 0.005 would need. It is
            the sum of all that moves a line: flattening takes half of it, joining a quarter, and planning may leave
            out points within the last quarter.
        layers: numbers of the layers to draw; None draws all.
        merge: join strokes whose ends touch, which saves lifts.
        merge_tolerance_mm: how far apart touching ends may be; None takes half of `tolerance_mm`, which
            moves an end by a quarter of it.
        sort: shorten the pen-up travel by changing the order of the strokes within each layer.
        page: width and height in millimetres to use instead of the file's own.
        rotate: quarter turns clockwise of drawing and page, in degrees: 0, 90, 180 or 270.
        landscape: turn by another 90 degrees when the page is higher than wide.
        fit: scale all that is drawn to fill the page within `margin_mm`, centred, proportions kept.
        margin_mm: what `fit` leaves free at each edge.
        drop_hidden: leave out what a browser would not show: `display:none`, hidden, fill and stroke both "none".
        dashes: draw dashed strokes dashed; otherwise they are solid.
    """

    tolerance_mm: float = 0.02
    layers: tuple[int, ...] | None = None
    merge: bool = True
    merge_tolerance_mm: float | None = None
    sort: bool = True
    page: tuple[float, float] | None = None
    rotate: int = 0
    landscape: bool = False
    fit: bool = False
    margin_mm: float = 10.0
    drop_hidden: bool = True
    dashes: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a value is out of its range."""
        gap = self.merge_tolerance_mm
        sizes = self.page or (1.0, 1.0)
        for name, value, good, right in (
            ("tolerance_mm", self.tolerance_mm, 0.0001 <= self.tolerance_mm <= 10, "0.0001 to 10"),
            ("merge_tolerance_mm", gap, gap is None or 0 <= gap <= 10, "0 to 10"),
            ("page", self.page, len(sizes) == 2 and all(0 < v <= 100_000 for v in sizes), "two lengths above 0"),
            ("rotate", self.rotate, self.rotate in {0, 90, 180, 270}, "0, 90, 180 or 270"),
            ("margin_mm", self.margin_mm, isfinite(self.margin_mm) and self.margin_mm >= 0, "0 or more"),
        ):
            if not good:
                raise ConfigurationError(
                    f"{name} is {value!r}", context={"field": name, "found": value}, remedy=f"Give {right}."
                )


Tell = Callable[[str, int, int], None]
"""Is given what is being done (reading, joining, sorting), how much of it is done, and how much there is."""


def _nobody(_step: str, _done: int, _total: int) -> None: ...


def read_drawing(svg: bytes, *, source: str = "", options: SvgOptions | None = None, tell: Tell = _nobody) -> Drawing:
    """The drawing that an SVG file holds.

    Args:
        svg: the file's bytes, plain or gzip-compressed.
        source: the file's name, for messages.
        options: how to read it; None takes the defaults.
        tell: is given `("reading", elements done, of all)`, then `("joining", …)` and `("sorting", strokes done, of
            all)` layer by layer, many times a second.

    Returns:
        Strokes in millimetres from the page's top-left corner, layer after layer in the file's order; what could
        not be drawn is in `warnings`. Strokes may lie off the page: `check_on_page` judges that.

    Raises:
        BadResource: not an SVG, damaged, nothing to draw, or a value that cannot be drawn by; names the element.
        Refused: a layer that the file has not was asked for.
        Cancelled, TimeoutExceeded: nobody waits for the running call any more.
    """
    options = options or SvgOptions()
    raw, drawing = _read(svg, source, options, tell)  # the file's tree is gone before strokes are sorted: it is large
    return replace(drawing, paths=_optimised(raw, options, tell))


def _read(svg: bytes, source: str, options: SvgOptions, tell: Tell) -> tuple[list[RawStroke], Drawing]:
    """The strokes in the file's order, and the drawing that they belong to, still without them."""
    root = parse_svg(svg, source=source)
    page = page_of(root, source)
    layers = layers_of(root)
    numbers = _wanted_layers(layers, options, source)
    width, height, matrix = _placed(page, options)

    def walked(share: float) -> tuple[list[RawStroke], Walker]:
        walker = Walker(
            root,
            source,
            options.tolerance_mm * share,
            drop_hidden=options.drop_hidden,
            dashes=options.dashes,
            tell=partial(tell, "reading"),
        )
        return _kept(walker.walk(page, matrix, layers), numbers, walker, source), walker

    raw, walker = walked(_FLATTENING)
    if options.fit:
        # measured once more: at the file's own scale curves may be too coarse to say how far a fitted one reaches
        matrix = times(_fitting(raw, width, height, options), matrix)
        raw, walker = walked(_MEASURING)
        matrix = times(_fitting(raw, width, height, options), matrix)
        raw, walker = walked(_FLATTENING)
    return raw, Drawing(
        paths=(),
        width_mm=width,
        height_mm=height,
        tolerance_mm=options.tolerance_mm,
        source=source,
        layer_names={number: name for number, name in layers.values() if name},
        warnings=page.warnings + walker.warnings,
    )


def check_on_page(drawing: Drawing, width_mm: float | None = None, height_mm: float | None = None) -> None:
    """Let a drawing pass only when every point lies on the page, edges included (to a thousandth of a millimetre).

    Args:
        drawing: what is to be drawn.
        width_mm: how wide the area is that the pen can reach; None takes the drawing's own page.
        height_mm: how high it is, likewise.

    Raises:
        Refused: something lies off it. The message names the first elements, how far off each is, and how many
            there are; the context has them as `elements`: `[{"element", "layer", "beyond_mm", "edge"}]`.
    """
    width = drawing.width_mm if width_mm is None else width_mm
    height = drawing.height_mm if height_mm is None else height_mm
    worst: dict[tuple[str, int], tuple[float, str]] = {}
    for path in drawing.paths:
        for index, (x, y) in enumerate(path.points):
            if -_EDGE_MM <= x <= width + _EDGE_MM and -_EDGE_MM <= y <= height + _EDGE_MM:
                continue
            beyond, edge = max((-x, "left"), (x - width, "right"), (-y, "top"), (y - height, "bottom"))
            key = (path.element_at(index), path.layer)
            worst[key] = max(worst.get(key, (0.0, "")), (beyond, edge))
    if not worst:
        return
    listed = [
        {"element": name, "layer": layer, "beyond_mm": round(beyond, 3), "edge": edge}
        for (name, layer), (beyond, edge) in worst.items()
    ]
    said = ", ".join(
        f"{item['element']} ({item['beyond_mm']:g} mm beyond the {item['edge']} edge)" for item in listed[:_NAMED]
    )
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    raise Refused(
        f"{drawing.source or 'the drawing'} does not lie on the page of {width:g} × {height:g} mm: {said}{more}",
        context={
            "file": drawing.source, "page_mm": [width, height], "count": len(listed), "elements": listed[:_NAMED * 4]
        },
        remedy="Scale it to the page with --fit, name a larger page with --page, or move these elements in the file.",
    )  # fmt: skip


def _wanted_layers(layers: dict[Node, tuple[int, str]], options: SvgOptions, source: str) -> frozenset[int] | None:
    if options.layers is None:
        return None
    known = {1: "", **dict(layers.values())}
    missing = sorted(set(options.layers) - known.keys())
    if missing:
        listed = ", ".join(f"{number} ({name})" if name else f"{number}" for number, name in sorted(known.items()))
        raise Refused(
            f"{source or 'the drawing'} has no layer {', '.join(map(str, missing))}",
            context={"file": source, "field": "layers", "found": missing, "layers": sorted(known)},
            remedy=f"Its layers are {listed}.",
        )
    return frozenset(options.layers)


def _placed(page: Page, options: SvgOptions) -> tuple[float, float, Matrix]:
    """Width and height of the page after turning, and the transform onto it."""
    width, height = page.width_mm, page.height_mm
    turn = options.rotate
    if options.landscape and (height > width) == (turn in {0, 180}) and height != width:
        turn = (turn + 90) % 360
    turned: Matrix = {
        0: (1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        90: (0.0, 1.0, -1.0, 0.0, height, 0.0),
        180: (-1.0, 0.0, 0.0, -1.0, width, height),
        270: (0.0, -1.0, 1.0, 0.0, 0.0, width),
    }[turn]
    if turn in {90, 270}:
        width, height = height, width
    if options.page is not None:
        width, height = options.page
        if options.landscape and height > width:
            width, height = height, width
    return width, height, times(turned, page.matrix)


def _kept(strokes: list[RawStroke], numbers: frozenset[int] | None, walker: Walker, source: str) -> list[RawStroke]:
    kept = strokes if numbers is None else [stroke for stroke in strokes if stroke.layer in numbers]
    if kept:
        return kept
    notes = list(walker.warnings)
    raise BadResource(
        f"{source or 'the drawing'} has nothing to draw" + (f": {notes[0]}" if notes else ""),
        context={"file": source, "warnings": notes},
        remedy="A plotter draws paths and shapes that are visible: add some, or convert text and pictures to paths.",
    )


def _fitting(strokes: Iterable[RawStroke], width: float, height: float, options: SvgOptions) -> Matrix:
    """The scaling and shift that centre all strokes on the page, as large as the margins allow."""
    xs = [x for stroke in strokes for x, _ in stroke.points]
    ys = [y for stroke in strokes for _, y in stroke.points]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    room_x, room_y = width - 2 * options.margin_mm, height - 2 * options.margin_mm
    if room_x <= 0 or room_y <= 0:
        raise Refused(
            f"a margin of {options.margin_mm:g} mm leaves nothing of a page of {width:g} × {height:g} mm",
            context={"field": "margin_mm", "found": options.margin_mm, "page_mm": [width, height]},
            remedy="Give a smaller margin or a larger page.",
        )
    ratios = [room / size for room, size in ((room_x, right - left), (room_y, bottom - top)) if size > 0]
    scale = min(ratios, default=1.0)
    return scale, 0.0, 0.0, scale, (width - scale * (left + right)) / 2, (height - scale * (top + bottom)) / 2


def _optimised(raw: list[RawStroke], options: SvgOptions, tell: Tell) -> tuple[Polyline, ...]:
    """Strokes joined and sorted within each layer; layers stay in the order in which the file begins them."""
    places: dict[int, int] = {}
    for stroke in raw:
        places.setdefault(stroke.layer, len(places))
    strokes = sorted((Polyline(tuple(s.points), s.element, s.layer) for s in raw), key=lambda s: places[s.layer])
    raw.clear()
    gap = options.tolerance_mm * _JOINING if options.merge_tolerance_mm is None else options.merge_tolerance_mm
    found: list[Polyline] = []
    home: Point = (0.0, 0.0)
    here, last = home, strokes[-1].layer
    for number, group in groupby(strokes, key=attrgetter("layer")):
        apart = list(group)
        layer = join(apart, gap, tell=partial(tell, "joining")) if options.merge else apart
        if options.sort:
            onward = home if number == last else None
            sort = partial(_sorted, gap=gap if options.merge else None, start=here, home=onward)
            joined, layer = len(layer) < len(apart), sort(layer, tell=partial(tell, "sorting"))
            if joined and len(apart) <= FEW:  # where several strokes meet, the order may join them better than chance
                layer = min(layer, sort(apart), key=partial(travelled_s, start=here, home=onward))
        found.extend(layer)
        here = found[-1].points[-1]
    return tuple(found)


def _sorted(
    strokes: Sequence[Polyline],
    *,
    gap: float | None,
    start: Point,
    home: Point | None,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Polyline]:
    """Strokes of one layer in their order, linked over `gap` if there is one."""
    layer = order(strokes, start, home=home, tell=tell)
    return layer if gap is None else link(layer, gap)
