"""How many elements a drawing has once every <use> stands for what it shows, and how many are walked at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vfab.model.errors import BadResource
from vfab.sdk.svg_document import Document
from vfab.sdk.svg_shapes import SHAPES
from vfab.sdk.svg_xml import Node

__all__ = ["GROUPS", "USE_DEPTH_MAX", "Budget", "shown_elements"]

GROUPS: Final = frozenset({"g", "a", "switch"})
_CONTAINERS: Final = GROUPS | {"svg", "symbol"}
USE_DEPTH_MAX: Final = 32
"""So many <use>, and markers and what they mark, may be within each other."""
_ELEMENTS_MAX: Final = 1_000_000
_MEASURED_MAX: Final = 32
"""So often, on the average, an element may be walked: what is clipped or turned by its own box is measured first."""
_CIRCLES_MAX: Final = 4
"""The same where something contains itself, and so cannot be counted before."""
_VISITS_FREE: Final = 50_000
_REPEATED_MAX: Final = 200_000
"""So many elements may be shown by markers, which are not counted before they are walked."""
_DATA_CHARS: Final = 20
"""So much path data in a marker counts as one more element: it is followed each time."""
_SHOWN: Final = SHAPES | GROUPS | {"svg", "use"}


class Budget:
    """Counts the elements that are walked: a small file can stand for more than a machine can walk.

    Attributes:
        spent: how many were walked.

    Raises BadResource, from each method: there are more than may be.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._repeated = 0
        self.spent = 0
        shown, circular = shown_elements(document.root, document.used)
        if shown > _ELEMENTS_MAX:
            raise self._endless()
        likely = _CIRCLES_MAX * document.elements if circular else _MEASURED_MAX * shown
        self._most = _VISITS_FREE + min(likely, _ELEMENTS_MAX)
        self._marks: dict[Node, int] = {}

    def spend(self) -> None:
        """Walk one element."""
        self.spent += 1
        if self.spent > self._most:
            raise self._endless()

    def repeat(self, marker: Node) -> None:
        """Show a marker once more, which no count of the tree has foreseen."""
        if marker not in self._marks:
            parts = [child for child in marker if isinstance(child, Node) and child.tag in _SHOWN]
            elements = 1 + sum(shown_elements(part, self._document.used)[0] for part in parts)
            data = sum(len(node.get("d", "")) + len(node.get("points", "")) for node in marker.iter())
            self._marks[marker] = elements + data // _DATA_CHARS
        self._repeated += self._marks[marker]
        self._most += self._marks[marker] * _CIRCLES_MAX
        if self._repeated > _REPEATED_MAX:
            raise self._endless()

    def _endless(self) -> BadResource:
        return BadResource(
            f"{self._document.source or 'the drawing'} repeats itself through <use> into more than {_ELEMENTS_MAX} "
            f"elements, through markers into more than {_REPEATED_MAX}, or clips and turns itself by its own boxes as "
            "often",
            context={"file": self._document.source},
            remedy="Split the drawing, or do not use it.",
        )


def shown_elements(root: Node, target_of: Callable[[Node], Node | None]) -> tuple[int, bool]:
    """How many elements show, every <use> and all below it counted as often as it is used.

    Each element is looked at once, however often it is used, so a file that multiplies itself is known at once. What
    contains itself counts once there, so with a circle the number is too low or too high.

    Args:
        root: the outermost element.
        target_of: what a <use> refers to; None when that is not in the file.

    Returns: the number, and whether something contains itself.
    """
    counts: dict[Node, int] = {}
    opened: set[Node] = set()
    circular = False
    waiting = [root]
    while waiting:
        node = waiting[-1]
        parts = _parts(node, target_of)
        if node not in counts and node not in opened:
            opened.add(node)
            waiting += [part for part in parts if part not in counts and part not in opened]
            if waiting[-1] is not node:
                continue
        waiting.pop()
        opened.discard(node)
        circular = circular or any(part in opened or part is node for part in parts)
        counts[node] = 1 + sum(counts.get(part, 0) for part in parts)
    return counts[root], circular


def _parts(node: Node, target_of: Callable[[Node], Node | None]) -> list[Node]:
    if node.tag == "use":
        target = target_of(node)
        return [] if target is None else [target]
    if node.tag not in _CONTAINERS:
        return []
    return [child for child in node if isinstance(child, Node) and child.tag in _SHOWN]
