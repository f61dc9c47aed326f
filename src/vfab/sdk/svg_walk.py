"""An SVG tree → raw strokes in millimetres, each with the name of its element and its layer's number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt
from typing import Final

from vfab.model.errors import BadResource
from vfab.sdk import svg_clip, svg_dash
from vfab.sdk import svg_notes as why
from vfab.sdk.cancel import check_token
from vfab.sdk.drawing import Point
from vfab.sdk.svg_clip import Region, region_of
from vfab.sdk.svg_clip_path import Box, ClipPaths
from vfab.sdk.svg_conditions import chosen, suits
from vfab.sdk.svg_context import Context, RawStroke
from vfab.sdk.svg_dash import SOLID, Dashes, TooFine, dashed, dashes_of
from vfab.sdk.svg_document import Document
from vfab.sdk.svg_marker import MARKED, NO_MARKERS, CornerPen, markers_of
from vfab.sdk.svg_marker_element import SIZE, MarkerElements
from vfab.sdk.svg_page import Page, view_box, wrong
from vfab.sdk.svg_path import IDENTITY, FarOut, Matrix, Pen, times
from vfab.sdk.svg_shapes import SHAPES, trace
from vfab.sdk.svg_style import PX_MM, Measures, fit_view_box, length_px, numbers, origin_of, transform_matrix
from vfab.sdk.svg_use import GROUPS, USE_DEPTH_MAX, Budget
from vfab.sdk.svg_xml import Node

__all__ = ["Walker"]

_POINTS_MAX: Final = 5_000_000
_TOLD_EVERY: Final = 256


def _no_size(view_box: str) -> bool:
    """Whether a viewBox has a width or height of 0, which disables rendering (SVG 2 §8.6)."""
    try:
        _, _, width, height = numbers(view_box)
    except ValueError:
        return False
    return width * height == 0


class Walker:
    """Walks a tree and collects strokes and warnings.

    Args:
        root: the outermost element.
        source: the file's name, for messages.
        tolerance_mm: how far a polyline may lie from its curve.
        drop_hidden: leave out what a browser would not show.
        dashes: whether dashed strokes are drawn dashed.
        tell: is given how many elements were walked, and how many the file has, every now and then.
    """

    def __init__(
        self,
        root: Node,
        source: str,
        tolerance_mm: float,
        *,
        drop_hidden: bool = True,
        dashes: bool = True,
        tell: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._document = Document(root, source)
        self._clip_paths = ClipPaths(self._document)
        self._tolerance_mm = tolerance_mm
        self._drop_hidden = drop_hidden
        self._dashes = dashes
        self._tell = tell
        self._strokes: list[RawStroke] = []
        self._notes = why.Notes()
        self._asides = 0
        self._open: set[Node] = set()
        self._points = 0
        self._budget = Budget(self._document)
        self.outmost = Context(IDENTITY, (0.0, 0.0))
        self._markers = MarkerElements(self._document, self._budget, self._open)

    def walk(self, page: Page, matrix: Matrix, layers: Mapping[Node, tuple[int, str]]) -> list[RawStroke]:
        """All strokes in the file's order; `matrix` takes the root's user units to millimetres.

        Raises BadResource: an attribute that cannot be drawn by, or more than the limits allow.
        """
        root = self._document.root
        inner = Measures(page_px=(page.width_mm / PX_MM, page.height_mm / PX_MM)).with_font(self._document.style(root))
        inner = replace(inner, root_px=inner.font_px)
        self.outmost = Context(matrix, page.view, measures=inner)
        context = self._inherit(root, self.outmost)
        if context is not None:
            self._open.add(root)
            for child in root:
                if isinstance(child, Node):
                    number, _ = layers.get(child, (1, ""))
                    self._visit(child, context._replace(layer=number))
        return self._strokes

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each thing that was not drawn as the file has it: elements, reason, remedy."""
        return self._notes.sentences()

    def note(self, name: str, reason: str) -> None:
        """Note that an element is not drawn as the file has it."""
        self._notes.add(name, reason)

    def _inherit(self, node: Node, outer: Context) -> Context | None:
        """What holds inside `node`; None when nothing of it shows."""
        style = self._document.style(node)
        if self._drop_hidden and style.get("display") == "none":
            return None
        for name, reason in why.WARN_ON.items():
            if style.get(name, "none") not in {"none", "", "0"}:
                self.note(outer.name(node), reason)
        inner = self.transformed(node, style, self.styled(node, style, outer))
        if style.get("clip-path", "none") not in {"none", ""}:
            return self._clip_paths.clipped(self, node, style["clip-path"], inner)
        return inner

    def styled(self, node: Node, style: Mapping[str, str], outer: Context) -> Context:
        """What an element with that style takes over from those around it, and what it says itself."""
        inner = outer.styled(style)

        def invalid(attribute: str, found: str) -> None:
            self._notes.add_invalid(outer.name(node), attribute, found)

        dashes = dashes_of(style, outer.dashes, inner.measures, invalid)
        markers = markers_of(style, outer.markers, inner.measures, invalid)
        same = dashes is outer.dashes and markers is outer.markers
        return inner if same else inner._replace(dashes=dashes, markers=markers)

    def transformed(self, node: Node, style: Mapping[str, str], context: Context) -> Context:
        """The context inside an element's own `transform`."""
        if "transform" not in style:
            return context
        return context._replace(matrix=times(context.matrix, self._transform(node, style, context)))

    def _transform(self, node: Node, style: Mapping[str, str], context: Context) -> Matrix:
        text = style["transform"]
        try:
            matrix = transform_matrix(text)
        except ValueError:
            self._notes.add_invalid(context.name(node), "transform", text)
            return IDENTITY
        box = style.get("transform-box", "view-box")
        where = style.get("transform-origin", "")
        if box in {"fill-box", "content-box", "stroke-box", "border-box"}:
            left, top, right, bottom = self.bounds(node, context)
        elif where:
            left, top, right, bottom = 0.0, 0.0, *context.view
        else:
            return matrix
        try:
            x, y = origin_of(where or "0 0", right - left, bottom - top, context.measures)
        except ValueError:
            self._notes.add_invalid(context.name(node), "transform-origin", where)
            return matrix
        x, y = x + left, y + top
        return times(times((1, 0, 0, 1, x, y), matrix), (1, 0, 0, 1, -x, -y))

    def bounds(self, node: Node, context: Context) -> Box:
        """The bounding box of an element; zeros when it shows nothing."""
        bare = context._replace(matrix=(PX_MM, 0.0, 0.0, PX_MM, 0.0, 0.0), clips=(), hidden=False, fill="black")
        with self.aside() as strokes:
            self._inside(node, bare)
        xs = [x / PX_MM for stroke in strokes for x, _ in stroke.points]
        ys = [y / PX_MM for stroke in strokes for _, y in stroke.points]
        return (min(xs), min(ys), max(xs), max(ys)) if xs else (0.0, 0.0, 0.0, 0.0)

    def outline(self, node: Node, context: Context) -> list[RawStroke]:
        """The strokes of an element that itself is not drawn."""
        with self.aside() as strokes:
            self._visit(node, context)
        return strokes

    @contextmanager
    def aside(self) -> Iterator[list[RawStroke]]:
        """What is walked meanwhile is not drawn and not noted: its strokes are given to the caller."""
        strokes, notes = self._strokes, self._notes
        self._strokes, self._notes = [], why.Notes()
        self._asides += 1
        try:
            yield self._strokes
        finally:
            self._asides -= 1
            self._strokes, self._notes = strokes, notes

    def _visit(self, node: Node, outer: Context) -> None:
        self._budget.spend()
        check_token()
        if self._budget.spent % _TOLD_EVERY == 0:
            self._tell(self._budget.spent, self._document.elements)
        tag = node.tag
        if tag in SHAPES or tag in GROUPS or tag in {"svg", "use"}:
            context = self._inherit(node, outer)
            if context is not None and not self._left_out(node, context):
                self._inside(node, context)
        elif tag in {"text", "image", "foreignObject"}:
            self._undrawable(node, outer)

    def _inside(self, node: Node, context: Context) -> None:
        """Draw what `node` is, in its own context."""
        tag = node.tag
        if tag in SHAPES:
            self._shape(node, context)
            return
        self._open.add(node)
        if tag == "use":
            self._use(node, context)
        elif tag == "svg":
            self.viewport(node, context, self._document.style(node))
        else:
            self._children(chosen(node) if tag == "switch" else node, context)
        self._open.discard(node)

    def _left_out(self, node: Node, context: Context) -> bool:
        """Whether nothing of `node` shows, and says why: it asks for what is not here, or is scaled to nothing."""
        a, b, c, d, _, _ = context.matrix
        reason = why.FLAT if a * d == b * c else "" if suits(node) or not self._drop_hidden else why.CONDITION
        if node.tag == "switch" and not reason and not chosen(node):
            reason = why.CONDITION
        if reason:
            self.note(context.name(node), reason)
        return bool(reason)

    def _children(self, nodes: Iterable[object], context: Context) -> None:
        for child in nodes:
            if isinstance(child, Node):
                self._visit(child, context)

    def _undrawable(self, node: Node, outer: Context) -> None:
        context = self._inherit(node, outer)
        if context is None or (context.hidden and self._drop_hidden):
            return
        if node.tag == "text" and not "".join(node.itertext()).strip():
            return
        reason = {"text": why.TEXT, "image": why.IMAGE}.get(node.tag, why.FOREIGN)
        self.note(outer.name(node), reason)

    def _use(self, node: Node, context: Context) -> None:
        href, target = node.get("href", "").strip(), self._document.used(node)
        if target is None:
            self.note(context.name(node), f"it refers to {href!r}, which is not in this file; nothing is drawn")
            return
        if target in self._open:  # an ancestor, or one of a <use> that shows it: not rendered (SVG 2 §5.6)
            self.note(context.name(node), why.CIRCLE)
            return
        if len(context.uses) >= USE_DEPTH_MAX:
            raise wrong(
                node, "href", href, f"at most {USE_DEPTH_MAX} <use> within each other are drawn", self._document.source
            )
        style = self._document.style(node)
        shift: Matrix = (1, 0, 0, 1, self.size(node, style, "x", context), self.size(node, style, "y", context))
        inner = context._replace(matrix=times(context.matrix, shift), uses=(*context.uses, node))
        if target.tag not in {"symbol", "svg"}:
            self._visit(target, inner)
            return
        shown = self._inherit(target, inner)
        if shown is not None:
            own = self._document.style(target)
            sizes = {name: style[name] for name in ("width", "height") if style.get(name, "auto") != "auto"}
            self._open.add(target)
            self.viewport(target, shown, {**own, **sizes})
            self._open.discard(target)

    def viewport(self, node: Node, context: Context, style: Mapping[str, str]) -> None:
        """A nested <svg>, a <symbol> that a <use> shows, or a <marker>."""
        full = {"width": "100%", "height": "100%"}
        merged = {**full, **{key: value for key, value in style.items() if value != "auto"}}
        x, y, width, height = (self.size(node, merged, name, context) for name in ("x", "y", "width", "height"))
        if width <= 0 or height <= 0:
            return
        matrix = times(context.matrix, (1, 0, 0, 1, x, y))
        if style.get("overflow", "hidden") not in {"visible", "auto"}:
            context = context._replace(clips=(*context.clips, self._frame(matrix, width, height)))
        fitted = self.fitted(node, context, width, height)
        if fitted is not None:
            inner, view = fitted
            self._children(node, context._replace(matrix=times(matrix, inner), view=view))

    def fitted(
        self, node: Node, context: Context, width: float, height: float
    ) -> tuple[Matrix, tuple[float, float]] | None:
        """The transform of a viewport's content into it, and the content's own size; None when nothing of it shows."""
        text = node.get("viewBox", "")
        try:
            box = view_box(node, self._document.source)
        except BadResource:
            if _no_size(text):
                self.note(context.name(node), why.EMPTY_BOX)
                return None
            self._notes.add_invalid(context.name(node), "viewBox", text)
            box = None
        if box is None:
            return IDENTITY, (width, height)
        return fit_view_box(box, width, height, node.get("preserveAspectRatio", "")), (box[2], box[3])

    def _frame(self, matrix: Matrix, width: float, height: float) -> Region:
        pen = Pen(matrix, self._tolerance_mm)
        pen.polyline([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)], closed=True)
        return region_of([(pen.finish(), False)])

    def size(self, node: Node, style: Mapping[str, str], name: str, context: Context) -> float:
        """A length in user units; 0 without one."""
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
            self._notes.add_invalid(context.name(node), name, text)
            if name in {"rx", "ry"}:
                return -1.0  # counts as not given
            whole = {"svg": whole, "symbol": whole, "marker": SIZE}.get(node.tag, 0.0)
            return whole if name in {"width", "height"} else 0.0

    def _shape(self, node: Node, context: Context) -> None:
        name = context.name(node)
        markers = context.markers if node.tag in MARKED and not self._asides else NO_MARKERS
        unseen = self._drop_hidden and context.fill == context.stroke == "none"
        if self._drop_hidden and context.hidden:
            return
        if unseen and not markers:
            self.note(name, why.UNSEEN)
            return
        dashes = SOLID if self._asides or not self._dashes or context.stroke == "none" else context.dashes
        pen = (CornerPen if markers else Pen)(context.matrix, self._flattened_to_mm(context, dashes))
        style = self._document.style(node)
        try:
            try:
                fault = trace(node, style, lambda key: self.size(node, style, key, context), pen)
            except FarOut:
                raise
            except ValueError as err:
                fault = str(err.args[0])
            strokes = pen.finish()
        except (FarOut, ArithmeticError) as err:
            field_name = {"path": "d", "polyline": "points", "polygon": "points"}.get(node.tag, "size")
            raise wrong(node, field_name, node.get(field_name, ""), str(err), self._document.source) from err
        if fault:
            self.note(name, f"it is drawn only up to an error: {fault}")
        if dashes.lengths:
            strokes = self._dashed(node, context, strokes)
        if self._document.referred(context.fill, "pattern", "hatch") is not None:
            self.note(name, why.PATTERN)
        if not unseen:
            self._draw(strokes, name, context)
        if isinstance(pen, CornerPen) and strokes:
            self._markers.mark(self, node, pen.corners(), context)

    def _draw(self, strokes: list[list[Point]], name: str, context: Context) -> None:
        for region in context.clips:
            strokes = [part for points in strokes for part in region.cut(points)]
        self._points += sum(map(len, strokes))
        if self._points > _POINTS_MAX:
            raise self._too_many(name, "Raise the curve tolerance, or split the drawing.")
        self._strokes.extend(RawStroke(points, name, context.layer) for points in strokes)

    def _dashed(self, node: Node, context: Context, strokes: list[list[Point]]) -> list[list[Point]]:
        text = node.get("pathLength")
        path_length: float | None = None
        if text is not None:
            try:
                (path_length,) = numbers(text)
            except ValueError:
                path_length = -1.0
            if path_length < 0:
                self._notes.add_invalid(context.name(node), "pathLength", text)
                path_length = None
        room = _POINTS_MAX - self._points
        try:
            return dashed(
                strokes, context.dashes, context.matrix, context.view, path_length=path_length, points_max=room
            )
        except TooFine as err:
            remedy = "Draw it without dashes (--no-dashes), or make the dashes longer."
            raise self._too_many(context.name(node), remedy) from err

    def _too_many(self, name: str, remedy: str) -> BadResource:
        source = self._document.source
        message = f"{source or 'the drawing'} has more than {_POINTS_MAX} points, {name} among them"
        return BadResource(message, context={"file": source, "element": name}, remedy=remedy)

    def _flattened_to_mm(self, context: Context, dashes: Dashes) -> float:
        """How far a polyline may lie from its curve: less for what clips, is clipped or is dashed."""
        fine = self._tolerance_mm
        if self._clip_paths.making or context.clips:
            fine = min(fine, svg_clip.CURVES_MM)
        return min(fine, svg_dash.CURVES_MM) if dashes.lengths else fine
