"""How many elements a drawing has once every <use> stands for what it shows: counted without walking them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vfab.sdk.svg_shapes import SHAPES
from vfab.sdk.svg_xml import Node

__all__ = ["GROUPS", "shown_elements"]

GROUPS: Final = frozenset({"g", "a", "switch"})
_CONTAINERS: Final = GROUPS | {"svg", "symbol"}
_SHOWN: Final = SHAPES | GROUPS | {"svg", "use"}


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
