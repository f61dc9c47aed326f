"""What an element asks of whoever shows it, and which child of a <switch> is shown therefore (SVG 2 §5.9)."""

from __future__ import annotations

import re
from typing import Final

from vfab.sdk.svg_shapes import SHAPES
from vfab.sdk.svg_use import GROUPS
from vfab.sdk.svg_xml import Node

__all__ = ["chosen", "suits"]

_KNOWN: Final = SHAPES | GROUPS | {"svg", "use", "text", "image"}


def chosen(node: Node) -> list[Node]:
    """The one child of a <switch> that is drawn: the first known one that asks for nothing special (SVG 2 §5.9)."""
    known = (child for child in node if isinstance(child, Node) and child.tag in _KNOWN)
    foreign = (child for child in node if isinstance(child, Node) and child.tag == "foreignObject")
    return next(([child] for children in (known, foreign) for child in children if suits(child)), [])


def suits(node: Node) -> bool:
    """Whether an element's conditions hold: English is read, extensions are unknown (SVG 2 §5.9)."""
    if node.get("systemLanguage") is None and not node.get("requiredExtensions"):
        return True
    languages = [word.strip().lower() for word in node.get("systemLanguage", "en").split(",")]
    return not node.get("requiredExtensions") and any(re.match(r"en(-|\Z)", word) for word in languages)
