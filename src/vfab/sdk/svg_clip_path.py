"""What the <clipPath> elements of a file let through (css-masking 1 §7); `svg_clip` has the areas themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from vfab.sdk import svg_notes as why
from vfab.sdk.svg_clip import Nothing, Outline, Region, region_of
from vfab.sdk.svg_context import Context, RawStroke
from vfab.sdk.svg_document import Document, fragment
from vfab.sdk.svg_path import Matrix, times
from vfab.sdk.svg_shapes import SHAPES
from vfab.sdk.svg_xml import Node

__all__ = ["Box", "ClipPaths"]

_DEPTH_MAX: Final = 8

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in an element's own user units."""


class _Walker(Protocol):
    """What is needed of whoever walks the tree."""

    def note(self, name: str, reason: str) -> None: ...

    def bounds(self, node: Node, context: Context) -> Box: ...

    def transformed(self, node: Node, style: Mapping[str, str], context: Context) -> Context: ...

    def outline(self, node: Node, context: Context) -> list[RawStroke]: ...


class ClipPaths:
    """The clip paths of a document; an area is made once for each place where it is needed.

    The walker is given anew each time: with a circle of references, the tree would outlive the walk.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._areas: dict[tuple[Node, Matrix], Region] = {}
        self._open: list[Node] = []

    @property
    def making(self) -> bool:
        """Whether what is walked now is the outline of a clip path."""
        return bool(self._open)

    def clipped(self, walker: _Walker, node: Node, text: str, context: Context) -> Context | None:
        """What holds inside an element whose `clip-path` is `text`; None when the clip lets nothing through."""
        if not fragment(text):
            walker.note(context.name(node), why.CLIP)
            return context
        target = self._document.referred(text, "clipPath")
        if target is None:
            return context  # a reference to nothing clips nothing (css-masking 1 §5.1)
        region = self._area(walker, target, node, context)
        if region is None:
            walker.note(context.name(node), why.CLIP)
            return context
        return None if isinstance(region, Nothing) else context._replace(clips=(*context.clips, region))

    def _area(self, walker: _Walker, clip: Node, node: Node, context: Context) -> Region | None:
        """What a <clipPath> lets through of `node`; None when it is made of what has no outline here."""
        style = self._document.style(clip)
        matrix = context.matrix
        if clip.get("clipPathUnits") == "objectBoundingBox":
            left, top, right, bottom = walker.bounds(node, context)
            matrix = times(matrix, (right - left, 0, 0, bottom - top, left, top))
        if (clip, matrix) in self._areas:
            return self._areas[clip, matrix]
        if clip in self._open or len(self._open) >= _DEPTH_MAX:
            return None
        if any(isinstance(child, Node) and self._is_text(child) for child in clip):
            return None
        plain = Context(matrix, context.view, measures=context.measures.with_font(style))
        plain = walker.transformed(clip, style, plain)
        self._open.append(clip)
        try:
            outer: Context | None = plain
            if style.get("clip-path", "none") not in {"none", ""}:
                outer = self.clipped(walker, clip, style["clip-path"], plain)
            outlines = self._outlines(walker, clip, outer) if outer is not None else []
        finally:
            self._open.pop()
        made = self._areas[clip, matrix] = region_of(outlines)
        return made

    def _is_text(self, node: Node) -> bool:
        shown = self._document.used(node) if node.tag == "use" else node
        return shown is not None and shown.tag == "text"

    def _outlines(self, walker: _Walker, clip: Node, context: Context) -> list[Outline]:
        """The outlines of a <clipPath>'s children, each of which goes by its own `clip-rule`."""
        found: list[Outline] = []
        style = self._document.style
        own = style(clip).get("clip-rule", "nonzero")
        for child in clip:
            if not isinstance(child, Node) or child.tag not in SHAPES | {"use"}:
                continue
            target = self._document.used(child) if child.tag == "use" else child
            if target is None or target.tag not in SHAPES:
                continue
            rule = style(target).get("clip-rule") or style(child).get("clip-rule") or own
            strokes = walker.outline(child, context._replace(fill="black", hidden=False))
            found.append(([stroke.points for stroke in strokes], rule == "evenodd"))
        return found
