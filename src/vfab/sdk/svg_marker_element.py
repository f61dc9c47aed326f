"""What the <marker> elements of a file show on the corners of its paths; `svg_marker` says where (SVG 2 §13.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from vfab.sdk import svg_notes as why
from vfab.sdk.svg_context import Context
from vfab.sdk.svg_document import Document
from vfab.sdk.svg_marker import Corner, Mark, marks, placed, reference_of, turned_deg
from vfab.sdk.svg_path import Matrix, times
from vfab.sdk.svg_use import USE_DEPTH_MAX, Budget
from vfab.sdk.svg_xml import Node

__all__ = ["SIZE", "MarkerElements"]

SIZE: Final = 3.0
"""A marker's width and height where nothing is said."""


class _Walker(Protocol):
    """What is needed of whoever walks the tree."""

    outmost: Context

    def note(self, name: str, reason: str) -> None: ...

    def aside(self) -> AbstractContextManager[object]: ...

    def styled(self, node: Node, style: Mapping[str, str], outer: Context) -> Context: ...

    def size(self, node: Node, style: Mapping[str, str], name: str, context: Context) -> float: ...

    def fitted(
        self, node: Node, context: Context, width: float, height: float
    ) -> tuple[Matrix, tuple[float, float]] | None: ...

    def viewport(self, node: Node, context: Context, style: Mapping[str, str]) -> None: ...


class MarkerElements:
    """The markers of a document. The walker is given anew each time, as it is to `ClipPaths`.

    Args:
        document: the file.
        budget: counts what is shown.
        opened: the elements inside of which the walker is.
    """

    def __init__(self, document: Document, budget: Budget, opened: set[Node]) -> None:
        self._document = document
        self._budget = budget
        self._open = opened
        self._contexts: dict[Node, Context] = {}

    def mark(self, walker: _Walker, node: Node, corners: Sequence[Corner], context: Context) -> None:
        """Put an element's markers on its corners."""
        known: dict[str, Node | None] = {}
        for mark in marks(corners, context.markers):
            if mark.marker not in known:
                known[mark.marker] = self._shown(walker, mark.marker, node, context)
            marker = known[mark.marker]
            if marker is not None:
                self._budget.repeat(marker)
                self._open.add(marker)
                self._show(walker, marker, node, mark, context)
                self._open.discard(marker)

    def _shown(self, walker: _Walker, text: str, node: Node, context: Context) -> Node | None:
        """The marker that `text` refers to; None when it cannot be shown, which is noted."""
        marker = self._document.referred(text, "marker")
        if marker is None:
            walker.note(context.name(node), why.MARKER)
        elif marker in self._open or len(context.uses) >= USE_DEPTH_MAX:
            walker.note(context.name(node), why.CIRCLE)
            return None
        return marker

    def _show(self, walker: _Walker, marker: Node, node: Node, mark: Mark, context: Context) -> None:
        inner = self._context(walker, marker)._replace(
            view=context.view, layer=context.layer, uses=(*context.uses, node, marker), clips=context.clips
        )
        names = ("width", "markerWidth"), ("height", "markerHeight")
        style = {name: marker.get(given, str(SIZE)) for name, given in names}
        style["overflow"] = self._document.style(marker).get("overflow", "hidden")
        width, height = (walker.size(marker, style, name, inner) for name in ("width", "height"))
        fitted = walker.fitted(marker, inner, width, height) if width > 0 and height > 0 else None
        scale = 1.0 if marker.get("markerUnits") == "userSpaceOnUse" else context.markers.width(context.view)
        if fitted is None or scale <= 0:
            return
        try:
            reference = reference_of(marker, fitted[1], fitted[0], inner.measures)
        except ValueError:
            reference = (0.0, 0.0)
        turn_deg = turned_deg(marker.get("orient", ""), mark.corner.direction_deg, mark.first)
        matrix = times(context.matrix, placed(mark.corner, turn_deg, scale, reference))
        walker.viewport(marker, inner._replace(matrix=matrix), style)

    def _context(self, walker: _Walker, marker: Node) -> Context:
        """What a marker's content takes over: from where the <marker> is, not from what is marked (SVG 2 §13.7.1)."""
        if marker not in self._contexts:
            with walker.aside():
                context = walker.outmost
                for node in self._document.lineage(marker):
                    context = walker.styled(node, self._document.style(node), context)
            self._contexts[marker] = context
        return self._contexts[marker]
