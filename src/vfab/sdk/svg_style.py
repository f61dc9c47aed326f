"""What SVG's attributes, `style=""` and `<style>` sheets say about an element: lengths, visibility, transforms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import cos, isfinite, radians, sin, tan
from typing import Any, Final

from vfab.sdk.svg_path import IDENTITY, Matrix, times
from vfab.sdk.svg_xml import Node

__all__ = [
    "PX_MM",
    "Measures",
    "Styles",
    "angle_deg",
    "fit_view_box",
    "inline_style",
    "length_px",
    "numbers",
    "origin_of",
    "transform_matrix",
]

PX_MM: Final = 25.4 / 96
"""Millimetres of one CSS pixel: 96 of them are an inch (CSS Values 4 §6.2)."""

_UNIT_PX: Final = {
    "": 1.0, "px": 1.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "q": 96 / 101.6, "pt": 96 / 72, "pc": 16.0,
}  # fmt: skip
_UNIT_EM: Final = {"em": 1.0, "ex": 0.5, "ch": 0.5, "ic": 1.0, "cap": 0.7, "lh": 1.2}
_UNIT_ROOT_EM: Final = {"rem": 1.0, "rlh": 1.2}
"""Nobody loads a font for a length: what depends on one is taken as CSS Values 4 §6.1.1 has it for such a case."""
_UNIT_PAGE: Final = {"vw": (1, 0), "vi": (1, 0), "vh": (0, 1), "vb": (0, 1)}
_FONT_PX: Final = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0,
                   "xx-large": 32.0, "xxx-large": 48.0}  # fmt: skip
_NUMBER: Final = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_LENGTH: Final = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]*|%)\s*\Z")
_SPLIT: Final = re.compile(r"[\s,]+")
_FUNCTION: Final = re.compile(r"\s*,?\s*([A-Za-z]+)\s*\(([^)]*)\)")
_TURN: Final = {"": 1.0, "deg": 1.0, "grad": 0.9, "rad": 180 / 3.141592653589793, "turn": 360.0}


@dataclass(frozen=True, slots=True)
class Measures:
    """What relative units are relative to, in user units.

    Attributes:
        font_px: the element's font size.
        root_px: the root element's.
        page_px: width and height of the page.
    """

    font_px: float = 16.0
    root_px: float = 16.0
    page_px: tuple[float, float] = (1000.0, 1000.0)

    def unit_px(self, unit: str) -> float | None:
        """One of a unit, in lower case, in user units; None when it is not known."""
        if unit in _UNIT_PX:
            return _UNIT_PX[unit]
        if unit in _UNIT_EM:
            return _UNIT_EM[unit] * self.font_px
        if unit in _UNIT_ROOT_EM:
            return _UNIT_ROOT_EM[unit] * self.root_px
        if unit in _UNIT_PAGE:
            across, down = _UNIT_PAGE[unit]
            return (across * self.page_px[0] + down * self.page_px[1]) / 100
        return {"vmin": min(self.page_px) / 100, "vmax": max(self.page_px) / 100}.get(unit)

    def with_font(self, style: Mapping[str, str]) -> Measures:
        """The same for an element whose style may name another font size; one that makes no sense is no other."""
        text = style.get("font-size", "")
        if not text and "font" in style:
            found = re.search(r"(?<![\w.])(\d*\.?\d+(?:px|pt|pc|in|mm|cm|q|em|rem|%))", style["font"], re.IGNORECASE)
            text = found.group(1) if found else ""
        if not text:
            return self
        relative = {"larger": 1.2, "smaller": 1 / 1.2}
        if text in _FONT_PX or text in relative:
            return replace(self, font_px=_FONT_PX.get(text) or self.font_px * relative[text])
        try:
            size = length_px(text, self.font_px, self)
        except ValueError:
            return self
        return replace(self, font_px=size) if size >= 0 else self


_USUAL: Final = Measures()


def length_px(text: str, whole_px: float, measures: Measures = _USUAL) -> float:
    """A length in user units (CSS pixels); a percentage is taken of `whole_px`.

    Raises ValueError: not a length, of an unknown unit, or not finite.
    """
    match = _LENGTH.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a length")
    value, unit = float(match.group(1)), match.group(2).lower()
    one = whole_px / 100 if unit == "%" else measures.unit_px(unit)
    if one is None:
        raise ValueError(f"{text!r} has the unit {unit!r}; known are px, mm, cm, in, pt, pc, Q, em, ex, vw and %")
    value *= one
    if not isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def numbers(text: str) -> list[float]:
    """The finite numbers of a list separated by spaces or commas.

    Raises ValueError: something else is in it; the argument's second item is the list up to there.
    """
    found: list[float] = []
    for word in filter(None, _SPLIT.split(text)):
        if re.fullmatch(_NUMBER, word) is None:
            close = re.findall(_NUMBER, word)
            if "".join(close) != word:
                raise ValueError(f"{word!r} is not a number", found)
            found.extend(map(float, close))
        else:
            found.append(float(word))
    return found


@lru_cache(maxsize=4096)
def transform_matrix(text: str) -> Matrix:
    """The matrix of an SVG or CSS transform list.

    Raises ValueError: a function is unknown, has the wrong number of arguments, or something else is in the list.
    """
    matrix, here = IDENTITY, 0
    if text.strip() in {"", "none"}:
        return matrix
    while text[here:].strip():
        match = _FUNCTION.match(text, here)
        if match is None:
            raise ValueError(f"{text[here:].strip()!r} is not a transform")
        words = _words(match.group(2))
        matrix = times(matrix, _function(match.group(1), words))
        here = match.end()
    if not all(map(isfinite, matrix)):
        raise ValueError(f"{text!r} is not finite")
    return matrix


def _words(text: str) -> list[str]:
    """A function's arguments; numbers without a unit may follow each other without anything between them."""
    words = []
    for word in filter(None, _SPLIT.split(text)):
        close = re.findall(_NUMBER, word)
        words.extend(close if len(close) > 1 and "".join(close) == word else [word])
    return words


def _function(name: str, words: list[str]) -> Matrix:
    kind = name.lower()
    angles = kind in {"rotate", "skewx", "skewy"}
    values = [angle_deg(word) if angles and index == 0 else length_px(word, 0.0) for index, word in enumerate(words)]
    match kind, values:
        case "matrix", [a, b, c, d, e, f]:
            return a, b, c, d, e, f
        case (("translate" | "translatex"), [x]):
            return 1, 0, 0, 1, x, 0
        case "translate", [x, y]:
            return 1, 0, 0, 1, x, y
        case "translatey", [y]:
            return 1, 0, 0, 1, 0, y
        case "scale", [x]:
            return x, 0, 0, x, 0, 0
        case "scale", [x, y]:
            return x, 0, 0, y, 0, 0
        case "scalex", [x]:
            return x, 0, 0, 1, 0, 0
        case "scaley", [y]:
            return 1, 0, 0, y, 0, 0
        case "rotate", [turn]:
            co, si = cos(radians(turn)), sin(radians(turn))
            return co, si, -si, co, 0, 0
        case "rotate", [turn, x, y]:
            spun = times((1, 0, 0, 1, x, y), _function("rotate", [str(turn)]))
            return times(spun, (1, 0, 0, 1, -x, -y))
        case "skewx", [turn]:
            return 1, 0, tan(radians(turn)), 1, 0, 0
        case "skewy", [turn]:
            return 1, tan(radians(turn)), 0, 1, 0, 0
    raise ValueError(f"{name}({' '.join(words)}) is not a transform")


def angle_deg(word: str) -> float:
    """An angle in degrees. Raises ValueError: it is none."""
    match = re.fullmatch(rf"({_NUMBER})([a-z]*)", word)
    if match is None or match.group(2) not in _TURN:
        raise ValueError(f"{word!r} is not an angle")
    return float(match.group(1)) * _TURN[match.group(2)]


def origin_of(text: str, width_px: float, height_px: float, measures: Measures) -> tuple[float, float]:
    """The point that `transform-origin` names, in a reference box of that size at the origin (css-transforms 1 §4).

    Raises ValueError: it names none.
    """
    words = text.lower().split()[:2]
    if words and (words[0] in {"top", "bottom"} or words[1:] in (["left"], ["right"])):
        words = ["center", *words] if len(words) < 2 else words[::-1]
    shares = {"left": 0.0, "top": 0.0, "center": 0.5, "right": 1.0, "bottom": 1.0}
    found = [
        shares[word] * whole if word in shares else length_px(word, whole, measures)
        for word, whole in zip([*words, "center"][:2], (width_px, height_px), strict=True)
    ]
    return found[0], found[1]


def fit_view_box(box: tuple[float, float, float, float], width: float, height: float, aspect: str) -> Matrix:
    """The transform from a viewBox into a viewport of that size at the origin (SVG 2 §8.2).

    Args:
        box: min-x, min-y, width and height of the viewBox; width and height above 0.
        width: the viewport's, in the user units outside.
        height: likewise.
        aspect: the value of preserveAspectRatio, or "".
    """
    x, y, box_width, box_height = box
    words = aspect.replace("defer", "").split() or ["xMidYMid"]
    align = words[0].lower()
    sx, sy = width / box_width, height / box_height
    if align != "none":
        sx = sy = max(sx, sy) if words[1:] == ["slice"] else min(sx, sy)
    share = {"min": 0.0, "mid": 0.5, "max": 1.0}
    fx, fy = (0.0, 0.0) if align == "none" else (share.get(align[1:4], 0.5), share.get(align[5:8], 0.5))
    return sx, 0, 0, sy, fx * (width - box_width * sx) - x * sx, fy * (height - box_height * sy) - y * sy


class Styles:
    """The cascade: `style=""` before `<style>` sheets before attributes; `!important` first of all.

    Selectors are matched by cssselect2; `@` rules are left out, so nothing is fetched.
    """

    def __init__(self, root: Node) -> None:
        sheets = "\n".join("".join(node.itertext()) for node in root.iter("style"))
        self._sheet: dict[Node, dict[str, str]] = _match(root, sheets) if sheets.strip() else {}

    def of(self, node: Node) -> Mapping[str, str]:
        """All that is said about one element by itself, inherited values left out."""
        inline = node.get("style")
        if node not in self._sheet and not inline:
            return node.attrib
        found = dict(node.attrib)
        found.update(self._sheet.get(node, {}))
        important = {key for key, value in found.items() if value.endswith("!important")}
        said = inline_style(inline or "")
        found.update({k: v for k, v in said.items() if k not in important or v.endswith("!important")})
        return {key: value.removesuffix("!important").strip() for key, value in found.items()}


@lru_cache(maxsize=4096)
def inline_style(text: str) -> Mapping[str, str]:
    """What a `style` attribute says, by name."""
    pairs = (part.partition(":") for part in text.split(";"))
    return _longhand((key.strip().lower(), value.strip()) for key, colon, value in pairs if colon)


def _longhand(said: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Declarations by name; `marker`, which only CSS has, stands for three."""
    found: dict[str, str] = {}
    for name, value in said:
        if name == "marker":
            found.update(dict.fromkeys(("marker-start", "marker-mid", "marker-end"), value))
        else:
            found[name] = value
    return found


def _match(root: Node, sheets: str) -> dict[Node, dict[str, str]]:
    """What the style sheets say, for every element that a selector matches."""
    import cssselect2
    import tinycss2

    matcher: Any = cssselect2.Matcher()
    for rule in tinycss2.parse_stylesheet(sheets, skip_comments=True, skip_whitespace=True):
        if rule.type != "qualified-rule":
            continue
        said = _longhand(
            (item.lower_name, tinycss2.serialize(item.value).strip() + ("!important" if item.important else ""))
            for item in tinycss2.parse_blocks_contents(rule.content)
            if item.type == "declaration"
        )
        try:
            selectors = cssselect2.compile_selector_list(rule.prelude)
        except cssselect2.SelectorError:
            continue
        for selector in selectors:
            matcher.add_selector(selector, said)
    found: dict[Node, dict[str, str]] = {}
    for element in cssselect2.ElementWrapper.from_xml_root(root).iter_subtree():
        merged: dict[str, str] = {}
        for _, _, pseudo, said in matcher.match(element):
            if pseudo is None:
                kept = {key for key, value in merged.items() if value.endswith("!important")}
                merged.update({k: v for k, v in said.items() if k not in kept or v.endswith("!important")})
        if merged:
            found[element.etree_element] = merged
    return found
