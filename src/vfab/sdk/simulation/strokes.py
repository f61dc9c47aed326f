"""What a simulated pen drew: strokes in millimetres, and their SVG."""

from __future__ import annotations

from math import hypot
from pathlib import Path

from vfab.sdk.whole_file import write_whole

__all__ = ["MERGE_STEPS", "StrokeRecord", "simplified"]

MERGE_STEPS = 0.05
"""A point this close to the line between its neighbours is left out when strokes are read."""

Point = tuple[float, float]


class StrokeRecord:
    """Follows a carriage and its pen. Positions come in steps, from the page's top-left corner, x right, y down.

    Args:
        steps_per_mm: along x and y.
    """

    def __init__(self, steps_per_mm: float = 1.0) -> None:
        self.steps_per_mm = steps_per_mm
        self.down = False
        """The pen touches the paper."""
        self.lifts = 0
        """How often the pen has left the paper."""
        self.pen_up_steps = 0.0
        """Length of all travel with the pen off the paper, in steps."""
        self._here: Point = (0.0, 0.0)
        self._strokes: list[list[Point]] = []

    def touch(self, down: bool) -> None:
        """The pen reaches or leaves the paper where it is."""
        if down and not self.down:
            self._strokes.append([self._here])
        elif self.down and not down:
            self.lifts += 1
        self.down = down

    def move(self, there: Point) -> None:
        """The carriage goes straight to `there`."""
        if there == self._here:
            return
        if self.down:
            self._strokes[-1].append(there)
        else:
            self.pen_up_steps += hypot(there[0] - self._here[0], there[1] - self._here[1])
        self._here = there

    def strokes_mm(self) -> list[list[Point]]:
        """What was drawn so far: each stroke's points (x, y) in millimetres from the page's top-left corner.

        A stroke of one point is a dot. Points on a straight line are left out.
        """
        per = self.steps_per_mm
        return [
            [(x / per, y / per) for x, y in simplified(stroke, MERGE_STEPS)]
            for stroke in [list(stroke) for stroke in self._strokes]
        ]

    def svg(self, page_mm: tuple[float, float]) -> str:
        """What was drawn, as SVG in millimetres, on a page of this width and height."""
        width, height = (f"{side:g}" for side in page_mm)
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" '
            f'viewBox="0 0 {width} {height}">',
            '<g id="pen" fill="none" stroke="black" stroke-width="0.3" stroke-linecap="round" stroke-linejoin="round">',
        ]
        for stroke in self.strokes_mm():
            shown = stroke if len(stroke) > 1 else stroke * 2
            points = " ".join(f"{round(x, 5) + 0.0:.9g},{round(y, 5) + 0.0:.9g}" for x, y in shown)
            lines.append(f'<polyline points="{points}"/>')
        return "\n".join([*lines, "</g>", "</svg>", ""])

    def save(self, path: Path, page_mm: tuple[float, float]) -> None:
        """Write the SVG; whoever reads the file sees either the old or the whole new one."""
        write_whole(path, self.svg(page_mm), durable=True)


def simplified(points: list[Point], tolerance: float) -> list[Point]:
    """The points without those that lie within `tolerance` of the line between the ones kept around them.

    A point where the path turns back is kept.
    """
    if len(points) < 3:
        return points
    kept = [points[0]]
    skipped: list[Point] = []
    for at in range(1, len(points) - 1):
        skipped.append(points[at])
        if len(skipped) > 200 or not _on_the_way(kept[-1], skipped, points[at + 1], tolerance):
            kept.append(points[at])
            skipped = []
    kept.append(points[-1])
    return kept


def _on_the_way(start: Point, between: list[Point], end: Point, tolerance: float) -> bool:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = hypot(dx, dy)
    if length < tolerance:
        return False
    ahead = 0.0
    for x, y in between:
        px, py = x - start[0], y - start[1]
        along = (px * dx + py * dy) / length
        if abs(px * dy - py * dx) > tolerance * length or along < ahead - tolerance or along > length + tolerance:
            return False
        ahead = max(ahead, along)
    return True
