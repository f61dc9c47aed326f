"""What an element takes over from its ancestors, and a stroke as the file has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vfab.sdk.drawing import Point
from vfab.sdk.svg_clip import Region
from vfab.sdk.svg_dash import SOLID, Dashes
from vfab.sdk.svg_marker import NO_MARKERS, Markers
from vfab.sdk.svg_path import Matrix
from vfab.sdk.svg_style import Measures
from vfab.sdk.svg_xml import Node

__all__ = ["Context", "RawStroke"]


@dataclass(frozen=True, slots=True)
class RawStroke:
    """One stroke as the file has it: before layers are chosen and strokes joined and sorted."""

    points: list[Point]
    element: str
    layer: int


class Context(NamedTuple):
    """What an element takes over from its ancestors.

    Attributes:
        matrix: its user units → millimetres on the page.
        view: width and height of the viewport around it, in user units.
        layer: the layer's number.
        hidden: whether `visibility` says so.
        fill, stroke: the paints; "" where nothing is said.
        uses: the <use> elements through which it is shown, the outermost first.
        measures: what relative units are relative to.
        clips: the areas that it is cut to.
        dashes: those of its strokes.
        markers: those on its corners.
    """

    matrix: Matrix
    view: tuple[float, float]
    layer: int = 1
    hidden: bool = False
    fill: str = ""
    stroke: str = ""
    uses: tuple[Node, ...] = ()
    measures: Measures = Measures()
    clips: tuple[Region, ...] = ()
    dashes: Dashes = SOLID
    markers: Markers = NO_MARKERS

    def name(self, node: Node) -> str:
        """How messages name an element here: with every <use> that shows it."""
        return " > ".join([*(use.label for use in self.uses), node.label])

    def styled(self, style: Mapping[str, str]) -> Context:
        """The same inside an element with that style."""
        hidden = self.hidden
        if "visibility" in style:
            seen = style["visibility"]
            hidden = hidden if seen == "inherit" else seen in {"hidden", "collapse"}
        fill, stroke = style.get("fill", "inherit"), style.get("stroke", "inherit")
        measures = self.measures.with_font(style)
        if hidden == self.hidden and fill == stroke == "inherit" and measures is self.measures:
            return self
        return self._replace(
            hidden=hidden,
            fill=self.fill if fill == "inherit" else fill,
            stroke=self.stroke if stroke == "inherit" else stroke,
            measures=measures,
        )
