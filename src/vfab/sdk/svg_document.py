"""An SVG's tree as a whole: which element has which name, what refers to it, and what is said about its looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vfab.sdk.svg_style import Styles
from vfab.sdk.svg_xml import Node

__all__ = ["Document", "fragment"]

_URL: Final = re.compile(r"url\(\s*[\"']?#([^\"')]+?)[\"']?\s*\)")


class Document:
    """The tree below `root`.

    Attributes:
        root: the outermost element.
        source: the file's name, for messages.
        elements: how many elements there are.
    """

    def __init__(self, root: Node, source: str) -> None:
        self.root = root
        self.source = source
        self.elements = 0
        self._styles = Styles(root)
        self._ids: dict[str, Node] = {}
        self._parents: dict[Node, Node] = {}
        for node in root.iter():
            self.elements += 1
            name = node.get("id")
            if name and isinstance(node, Node):
                self._ids.setdefault(name, node)

    def style(self, node: Node) -> Mapping[str, str]:
        """All that is said about one element by itself, inherited values left out."""
        return self._styles.of(node)

    def lineage(self, node: Node) -> list[Node]:
        """An element's ancestors, the outermost first, and the element itself."""
        if not self._parents:
            nodes = [node for node in self.root.iter() if isinstance(node, Node)]
            self._parents = {child: node for node in nodes for child in node if isinstance(child, Node)}
        found = [node]
        while found[-1] in self._parents:
            found.append(self._parents[found[-1]])
        return found[::-1]

    def used(self, node: Node) -> Node | None:
        """What a <use> refers to; None when that is not in the file."""
        href = node.get("href", "").strip()
        return self._ids.get(href[1:]) if href.startswith("#") else None

    def referred(self, value: str, *tags: str) -> Node | None:
        """The element that a value such as `url(#id)` refers to; None when there is none of these `tags`."""
        target = self._ids.get(fragment(value))
        return target if target is not None and target.tag in tags else None


def fragment(value: str) -> str:
    """The id in a value such as `url(#id)`; "" when it refers to nothing, or to another file."""
    found = _URL.match(value)
    return found.group(1) if found else ""
