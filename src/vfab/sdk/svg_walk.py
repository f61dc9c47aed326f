"""An SVG tree → raw strokes in millimetres, each with the name of its element and its layer's number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Final, NamedTuple

from vfab.model.errors import BadResource
from vfab.sdk import svg_notes as why
from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Point
from vfab.sdk.svg_clip import CURVES_MM, Nothing, Outline, Region, region_of
from vfab.sdk.svg_conditions import chosen, suits
from vfab.sdk.svg_page import Page, view_box, wrong
from vfab.sdk.svg_path import IDENTITY, FarOut, Matrix, Pen, times
from vfab.sdk.svg_shapes import SHAPES, trace
from vfab.sdk.svg_style import PX_MM, Measures, Styles, fit_view_box, length_px, numbers, origin_of, transform_matrix
from vfab.sdk.svg_use import GROUPS, shown_elements
from vfab.sdk.svg_xml import Node

__all__ = ["RawStroke", "Walker"]

_ELEMENTS_MAX: Final = 1_000_000
_MEASURED_MAX: Final = 32
"""So often, on the average, an element may be walked: what is clipped or turned by its own box is measured first."""
_CIRCLES_MAX: Final = 4
"""The same where something contains itself, and so cannot be counted before."""
_VISITS_FREE: Final = 50_000
_POINTS_MAX: Final = 5_000_000
_USE_DEPTH_MAX: Final = 32
_CLIP_DEPTH_MAX: Final = 8
_NAMED: Final = 3
_SHOWN_MAX: Final = 40
_TOLD_EVERY: Final = 256


@dataclass(frozen=True, slots=True)
class RawStroke:
    """One stroke as the file has it: before layers are chosen and strokes joined and sorted."""

    points: list[Point]
    element: str
    layer: int


class _Context(NamedTuple):
    """What an element takes over from its ancestors."""

    matrix: Matrix
    view: tuple[float, float]
    layer: int = 1
    hidden: bool = False
    fill: str = ""
    stroke: str = ""
    uses: tuple[Node, ...] = ()
    measures: Measures = Measures()
    clips: tuple[Region, ...] = ()


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _no_size(view_box: str) -> bool:
    """Whether a viewBox has a width or height of 0, which disables rendering (SVG 2 §8.6)."""
    try:
        _, _, width, height = numbers(view_box)
    except ValueError:
        return False
    return width * height == 0


@dataclass(slots=True)
class Walker:
    """Walks a tree and collects strokes and warnings.

    Args:
        root: the outermost element.
        source: the file's name, for messages.
        tolerance_mm: how far a polyline may lie from its curve.
        drop_hidden: leave out what a browser would not show.
        tell: is given how many elements were walked, and how many the file has, every now and then.
    """

    root: Node
    source: str
    tolerance_mm: float
    drop_hidden: bool = True
    tell: Callable[[int, int], None] = lambda _done, _total: None
    strokes: list[RawStroke] = field(default_factory=list)
    _styles: Styles = field(init=False)
    _ids: dict[str, Node] = field(init=False)
    _notes: dict[str, list[str]] = field(default_factory=dict)
    _visits: int = 0
    _elements: int = 0
    _visits_max: int = 0
    _open: set[Node] = field(default_factory=set)
    _points: int = 0
    _areas: dict[tuple[Node, Matrix], Region] = field(default_factory=dict)
    _clipping: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._styles = Styles(self.root)
        self._ids = {}
        for node in self.root.iter():
            self._elements += 1
            name = node.get("id")
            if name and isinstance(node, Node):
                self._ids.setdefault(name, node)
        shown, circular = shown_elements(self.root, self._target)
        if shown > _ELEMENTS_MAX:
            raise self._endless()
        likely = _CIRCLES_MAX * self._elements if circular else _MEASURED_MAX * shown
        self._visits_max = _VISITS_FREE + min(likely, _ELEMENTS_MAX)

    def walk(self, page: Page, matrix: Matrix, layers: Mapping[Node, tuple[int, str]]) -> list[RawStroke]:
        """All strokes in the file's order; `matrix` takes the root's user units to millimetres.

        Raises BadResource: an attribute that cannot be drawn by, or more than the limits allow.
        """
        inner = Measures(page_px=(page.width_mm / PX_MM, page.height_mm / PX_MM)).with_font(self._styles.of(self.root))
        inner = replace(inner, root_px=inner.font_px)
        context = self._inherit(self.root, _Context(matrix, page.view, measures=inner))
        if context is not None:
            self._open.add(self.root)
            for child in self.root:
                if isinstance(child, Node):
                    number, _ = layers.get(child, (1, ""))
                    self._visit(child, context._replace(layer=number))
        return self.strokes

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each thing that was not drawn as the file has it: elements, reason, remedy."""
        return tuple(f"{_some(names)}: {reason}" for reason, names in self._notes.items())

    def _note(self, name: str, reason: str) -> None:
        names = self._notes.setdefault(reason, [])
        if name not in names[-1:]:
            names.append(name)

    def _invalid(self, node: Node, name: str, found: str, context: _Context) -> None:
        """Note an attribute that a browser drops, as SVG 2 §4 and CSS have it: the rest of the file is drawn."""
        shown = found if len(found) <= _SHOWN_MAX else f"{found[: _SHOWN_MAX - 1]}…"
        self._note(f"{self._name(node, context)} with {name}={shown!r}", why.INVALID)

    def _inherit(self, node: Node, outer: _Context) -> _Context | None:
        """What holds inside `node`; None when nothing of it shows."""
        style = self._styles.of(node)
        hidden = outer.hidden
        if "display" in style or "visibility" in style:
            if self.drop_hidden and style.get("display") == "none":
                return None
            seen = style.get("visibility", "inherit")
            hidden = hidden if seen == "inherit" else seen in {"hidden", "collapse"}
        fill, stroke = style.get("fill", "inherit"), style.get("stroke", "inherit")
        for name, reason in why.WARN_ON.items():
            if style.get(name, "none") not in {"none", "", "0"}:
                self._note(self._name(node, outer), reason)
        inner = outer
        measures = outer.measures.with_font(style)
        if not (hidden == outer.hidden and fill == stroke == "inherit" and measures is outer.measures):
            inner = outer._replace(
                hidden=hidden,
                fill=outer.fill if fill == "inherit" else fill,
                stroke=outer.stroke if stroke == "inherit" else stroke,
                measures=measures,
            )
        if "transform" in style:
            inner = inner._replace(matrix=times(outer.matrix, self._transform(node, style, inner)))
        if style.get("clip-path", "none") not in {"none", ""}:
            return self._clipped(node, style["clip-path"], inner)
        return inner

    def _transform(self, node: Node, style: Mapping[str, str], context: _Context) -> Matrix:
        text = style["transform"]
        try:
            matrix = transform_matrix(text)
        except ValueError:
            self._invalid(node, "transform", text, context)
            return IDENTITY
        box = style.get("transform-box", "view-box")
        where = style.get("transform-origin", "")
        if box in {"fill-box", "content-box", "stroke-box", "border-box"}:
            left, top, right, bottom = self._bounds(node, context) or (0.0, 0.0, 0.0, 0.0)
        elif where:
            left, top, right, bottom = 0.0, 0.0, *context.view
        else:
            return matrix
        try:
            x, y = origin_of(where or "0 0", right - left, bottom - top, context.measures)
        except ValueError:
            self._invalid(node, "transform-origin", where, context)
            return matrix
        x, y = x + left, y + top
        return times(times((1, 0, 0, 1, x, y), matrix), (1, 0, 0, 1, -x, -y))

    def _clipped(self, node: Node, text: str, context: _Context) -> _Context | None:
        """What holds inside an element that is clipped; None when the clip lets nothing through."""
        found = re.match(r"url\(\s*[\"']?#([^\"')]+?)[\"']?\s*\)", text)
        if found is None:
            self._note(self._name(node, context), why.CLIP)
            return context
        target = self._ids.get(found.group(1))
        if target is None or target.tag != "clipPath":
            return context  # a reference to nothing clips nothing (css-masking 1 §5.1)
        region = self._area(target, node, context)
        if region is None:
            self._note(self._name(node, context), why.CLIP)
            return context
        return None if isinstance(region, Nothing) else context._replace(clips=(*context.clips, region))

    def _area(self, clip: Node, node: Node, context: _Context) -> Region | None:
        """What a <clipPath> lets through of `node`; None when it is made of what has no outline here."""
        style = self._styles.of(clip)
        matrix = context.matrix
        if clip.get("clipPathUnits") == "objectBoundingBox":
            left, top, right, bottom = self._bounds(node, context) or (0.0, 0.0, 0.0, 0.0)
            matrix = times(matrix, (right - left, 0, 0, bottom - top, left, top))
        if (clip, matrix) in self._areas:
            return self._areas[clip, matrix]
        if clip in self._clipping or len(self._clipping) >= _CLIP_DEPTH_MAX:
            return None
        if any(isinstance(child, Node) and self._is_text(child) for child in clip):
            return None
        plain = _Context(matrix, context.view, measures=context.measures.with_font(style))
        if "transform" in style:
            plain = plain._replace(matrix=times(matrix, self._transform(clip, style, plain)))
        self._clipping.append(clip)
        try:
            outer: _Context | None = plain
            if style.get("clip-path", "none") not in {"none", ""}:
                outer = self._clipped(clip, style["clip-path"], plain)
            outlines = self._outlines(clip, outer) if outer is not None else []
        finally:
            self._clipping.pop()
        made = self._areas[clip, matrix] = region_of(outlines)
        return made

    def _is_text(self, node: Node) -> bool:
        shown = self._ids.get(node.get("href", "").strip().removeprefix("#")) if node.tag == "use" else node
        return shown is not None and shown.tag == "text"

    def _outlines(self, clip: Node, context: _Context) -> list[Outline]:
        """The outlines of a <clipPath>'s children, each of which goes by its own `clip-rule`."""
        found: list[Outline] = []
        own = self._styles.of(clip).get("clip-rule", "nonzero")
        for child in clip:
            if not isinstance(child, Node) or child.tag not in SHAPES | {"use"}:
                continue
            target = self._ids.get(child.get("href", "").strip().removeprefix("#")) if child.tag == "use" else child
            if target is None or target.tag not in SHAPES:
                continue
            rule = self._styles.of(target).get("clip-rule") or self._styles.of(child).get("clip-rule") or own
            with self._aside() as strokes:
                self._visit(child, context._replace(fill="black", hidden=False))
            found.append(([stroke.points for stroke in strokes], rule == "evenodd"))
        return found

    def _bounds(self, node: Node, context: _Context) -> tuple[float, float, float, float] | None:
        """The bounding box of an element in its own user space: left, top, right, bottom; None of nothing."""
        bare = context._replace(matrix=(PX_MM, 0.0, 0.0, PX_MM, 0.0, 0.0), clips=(), hidden=False, fill="black")
        with self._aside() as strokes:
            self._inside(node, bare)
        xs = [x / PX_MM for stroke in strokes for x, _ in stroke.points]
        ys = [y / PX_MM for stroke in strokes for _, y in stroke.points]
        return (min(xs), min(ys), max(xs), max(ys)) if xs else None

    @contextmanager
    def _aside(self) -> Iterator[list[RawStroke]]:
        """What is walked meanwhile is not drawn and not noted: its strokes are given to the caller."""
        strokes, notes = self.strokes, self._notes
        self.strokes, self._notes = [], {}
        try:
            yield self.strokes
        finally:
            self.strokes, self._notes = strokes, notes

    def _name(self, node: Node, context: _Context) -> str:
        return " > ".join([*(use.label for use in context.uses), node.label])

    def _visit(self, node: Node, outer: _Context) -> None:
        self._visits += 1
        check_token()
        if self._visits % _TOLD_EVERY == 0:
            self.tell(self._visits, self._elements)
        if self._visits > self._visits_max:
            raise self._endless()
        tag = node.tag
        if tag in SHAPES or tag in GROUPS or tag in {"svg", "use"}:
            context = self._inherit(node, outer)
            if context is not None and not self._left_out(node, context):
                self._inside(node, context)
        elif tag in {"text", "image", "foreignObject"}:
            self._undrawable(node, outer)

    def _inside(self, node: Node, context: _Context) -> None:
        """Draw what `node` is, in its own context."""
        tag = node.tag
        if tag in SHAPES:
            self._shape(node, context)
            return
        self._open.add(node)
        if tag == "use":
            self._use(node, context)
        elif tag == "svg":
            self._viewport(node, context, self._styles.of(node))
        else:
            self._children(chosen(node) if tag == "switch" else node, context)
        self._open.discard(node)

    def _left_out(self, node: Node, context: _Context) -> bool:
        """Whether nothing of `node` shows, and says why: it asks for what is not here, or is scaled to nothing."""
        a, b, c, d, _, _ = context.matrix
        reason = why.FLAT if a * d == b * c else "" if suits(node) or not self.drop_hidden else why.CONDITION
        if node.tag == "switch" and not reason and not chosen(node):
            reason = why.CONDITION
        if reason:
            self._note(self._name(node, context), reason)
        return bool(reason)

    def _children(self, nodes: Iterable[object], context: _Context) -> None:
        for child in nodes:
            if isinstance(child, Node):
                self._visit(child, context)

    def _undrawable(self, node: Node, outer: _Context) -> None:
        context = self._inherit(node, outer)
        if context is None or (context.hidden and self.drop_hidden):
            return
        if node.tag == "text" and not "".join(node.itertext()).strip():
            return
        reason = {"text": why.TEXT, "image": why.IMAGE}.get(node.tag, why.FOREIGN)
        self._note(self._name(node, outer), reason)

    def _target(self, use: Node) -> Node | None:
        href = use.get("href", "").strip()
        return self._ids.get(href[1:]) if href.startswith("#") else None

    def _endless(self) -> BadResource:
        return BadResource(
            f"{self.source or 'the drawing'} repeats itself through <use> into more than {_ELEMENTS_MAX} elements, or "
            "clips and turns itself by its own boxes as often",
            context={"file": self.source},
            remedy="Split the drawing, or do not use it.",
        )

    def _use(self, node: Node, context: _Context) -> None:
        href, target = node.get("href", "").strip(), self._target(node)
        if target is None:
            self._note(self._name(node, context), f"it refers to {href!r}, which is not in this file; nothing is drawn")
            return
        if target in self._open:  # an ancestor, or one of a <use> that shows it: not rendered (SVG 2 §5.6)
            self._note(self._name(node, context), why.CIRCLE)
            return
        if len(context.uses) >= _USE_DEPTH_MAX:
            raise wrong(node, "href", href, f"at most {_USE_DEPTH_MAX} <use> within each other are drawn", self.source)
        style = self._styles.of(node)
        shift: Matrix = (1, 0, 0, 1, self._size(node, style, "x", context), self._size(node, style, "y", context))
        inner = context._replace(matrix=times(context.matrix, shift), uses=(*context.uses, node))
        if target.tag not in {"symbol", "svg"}:
            self._visit(target, inner)
            return
        shown = self._inherit(target, inner)
        if shown is not None:
            own = self._styles.of(target)
            sizes = {name: style[name] for name in ("width", "height") if style.get(name, "auto") != "auto"}
            self._open.add(target)
            self._viewport(target, shown, {**own, **sizes})
            self._open.discard(target)

    def _viewport(self, node: Node, context: _Context, style: Mapping[str, str]) -> None:
        """A nested <svg>, or a <symbol> that a <use> shows."""
        full = {"width": "100%", "height": "100%"}
        merged = {**full, **{key: value for key, value in style.items() if value != "auto"}}
        x, y, width, height = (self._size(node, merged, name, context) for name in ("x", "y", "width", "height"))
        if width <= 0 or height <= 0:
            return
        matrix = times(context.matrix, (1, 0, 0, 1, x, y))
        view = (width, height)
        if style.get("overflow", "hidden") not in {"visible", "auto"}:
            context = context._replace(clips=(*context.clips, self._frame(matrix, width, height)))
        try:
            box = view_box(node, self.source)
        except BadResource:
            if _no_size(node.get("viewBox", "")):
                self._note(self._name(node, context), why.EMPTY_BOX)
                return
            self._invalid(node, "viewBox", node.get("viewBox", ""), context)
            box = None
        if box is not None:
            matrix = times(matrix, fit_view_box(box, width, height, node.get("preserveAspectRatio", "")))
            view = (box[2], box[3])
        self._children(node, context._replace(matrix=matrix, view=view))

    def _frame(self, matrix: Matrix, width: float, height: float) -> Region:
        pen = Pen(matrix, self.tolerance_mm)
        pen.polyline([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)], closed=True)
        return region_of([(pen.finish(), False)])

    def _size(self, node: Node, style: Mapping[str, str], name: str, context: _Context) -> float:
        text = style.get(name, "")
        if not text or text == "auto":
            return 0.0
        width, height = context.view
        if name in {"x", "width", "cx", "rx", "x1", "x2"}:
            whole = width
        else:
            whole = height if name != "r" else sqrt((width * width + height * height) / 2)
        try:
            return length_px(text, whole, context.measures)
        except ValueError:
            self._invalid(node, name, text, context)
            if name in {"rx", "ry"}:
                return -1.0  # counts as not given
            return whole if name in {"width", "height"} and node.tag in {"svg", "symbol"} else 0.0

    def _shape(self, node: Node, context: _Context) -> None:
        name = self._name(node, context)
        if self.drop_hidden:
            if context.hidden:
                return
            if context.fill == "none" and context.stroke == "none":
                self._note(name, why.UNSEEN)
                return
        pen = Pen(context.matrix, self._flattened_to_mm(context))
        style = self._styles.of(node)
        try:
            try:
                fault = trace(node, style, lambda key: self._size(node, style, key, context), pen)
            except FarOut:
                raise
            except ValueError as err:
                fault = str(err.args[0])
            strokes = pen.finish()
        except (FarOut, ArithmeticError) as err:
            field_name = {"path": "d", "polyline": "points", "polygon": "points"}.get(node.tag, "size")
            raise wrong(node, field_name, node.get(field_name, ""), str(err), self.source) from err
        if fault:
            self._note(name, f"it is drawn only up to an error: {fault}")
        for region in context.clips:
            strokes = [part for points in strokes for part in region.cut(points)]
        if context.fill.startswith("url(") and self._is_pattern(context.fill):
            self._note(name, why.PATTERN)
        self._points += sum(map(len, strokes))
        if self._points > _POINTS_MAX:
            message = f"{self.source or 'the drawing'} has more than {_POINTS_MAX} points, {name} among them"
            remedy = "Raise the curve tolerance, or split the drawing."
            raise BadResource(message, context={"file": self.source, "element": name}, remedy=remedy)
        self.strokes.extend(RawStroke(points, name, context.layer) for points in strokes)

    def _flattened_to_mm(self, context: _Context) -> float:
        """How far a polyline may lie from its curve: less for what clips or is clipped."""
        fine = self._clipping or context.clips
        return min(self.tolerance_mm, CURVES_MM) if fine else self.tolerance_mm

    def _is_pattern(self, paint: str) -> bool:
        found = re.match(r"url\(\s*[\"']?#([^\"')]+?)[\"']?\s*\)", paint)
        target = self._ids.get(found.group(1)) if found else None
        return target is not None and target.tag in {"pattern", "hatch"}
