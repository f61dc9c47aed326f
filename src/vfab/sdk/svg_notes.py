"""What is said of elements that are not drawn as the file has them: a reason, and what to do about it."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CIRCLE", "CLIP", "CONDITION", "EMPTY_BOX", "FLAT", "FOREIGN", "IMAGE", "INVALID", "MARKER", "PATTERN", "TEXT",
    "UNSEEN", "WARN_ON", "Notes",
]  # fmt: skip

_NAMED: Final = 3
_SHOWN_MAX: Final = 40

TEXT: Final = "text has no strokes and is not drawn; convert it to paths first (Inkscape: Path > Object to Path)"
IMAGE: Final = "a picture has no strokes and is not drawn; trace it first (Inkscape: Path > Trace Bitmap)"
FOREIGN: Final = "embedded content that is not SVG is not drawn; convert it to paths"
UNSEEN: Final = "with fill and stroke both 'none' it is invisible and not drawn; give it a stroke to have it drawn"
FLAT: Final = "its transform leaves it no width or no height, so it does not show and is not drawn"
CONDITION: Final = "systemLanguage or requiredExtensions say that it is not for here; remove them to have it drawn"
CLIP: Final = "this kind of clip-path is not applied, it is drawn whole; clip by a <clipPath> of shapes and paths"
MASK: Final = "masks are not applied, it is drawn whole; cut the paths themselves, or clip them"
FILTER: Final = "filters are not applied, it is drawn as it is without"
PATTERN: Final = "patterns and hatches are not drawn, only the outline; convert the pattern to paths"
MARKER: Final = "it refers to a marker that is not in this file; none is drawn"
WARN_ON: Final = {"mask": MASK, "filter": FILTER}
CIRCLE: Final = "it would show itself without end, so nothing of it is drawn; let it refer to something else"
EMPTY_BOX: Final = "its viewBox has no width or no height, so it does not show and is not drawn"
INVALID: Final = "this value is not valid and counts as not given, as browsers have it; correct it"


class Notes:
    """What was noted: for each reason, in the order of the first of each, the elements that it holds for."""

    def __init__(self) -> None:
        self._named: dict[str, list[str]] = {}

    def add(self, name: str, reason: str) -> None:
        """Note an element, once for all that follow each other with the same name."""
        names = self._named.setdefault(reason, [])
        if name not in names[-1:]:
            names.append(name)

    def add_invalid(self, name: str, attribute: str, found: str) -> None:
        """Note an attribute that a browser drops, as SVG 2 §4 and CSS have it: the rest of the file is drawn."""
        shown = found if len(found) <= _SHOWN_MAX else f"{found[: _SHOWN_MAX - 1]}…"
        self.add(f"{name} with {attribute}={shown!r}", INVALID)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each reason: elements, reason, remedy."""
        return tuple(f"{_some(names)}: {reason}" for reason, names in self._named.items())


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
