"""SVG bytes → a tree of elements that know their line. Nothing in the file can make this grow, read or fetch anything.

The standard library's ElementTree knows neither lines nor limits, so this drives expat itself: document type
declarations may define short flat entities (drawing programs do: names of name spaces), everything else that a
declaration could do is refused: entities inside entities, external entities, external subsets.
"""

from __future__ import annotations

import zlib
from typing import Any, Final
from xml.etree.ElementTree import Element
from xml.parsers import expat

from vfab.model.errors import BadResource

__all__ = ["SVG_NS", "Node", "parse_svg"]

SVG_NS: Final = "http://www.w3.org/2000/svg"
_BYTES_MAX: Final = 256 * 1024 * 1024
_DEPTH_MAX: Final = 200
_ELEMENTS_MAX: Final = 2_000_000
_ENTITY_MAX: Final = 10_000
_GROWTH_MAX: Final = 8
_XLINK_HREF: Final = "http://www.w3.org/1999/xlink}href"
_NOT_SVG_REMEDY: Final = "Give an SVG file: an XML document whose outermost element is <svg>."


class Node(Element):
    """One element. `tag` and attribute names have no name space when it is SVG's own; others read `{uri}name`."""

    __slots__ = ("line",)
    line: int

    @property
    def label(self) -> str:
        """How messages call it: `path#outline`, or `path (line 12)` when it has no id."""
        name = self.get("id")
        return f"{self.tag}#{name}" if name else f"{self.tag} (line {self.line})"


def parse_svg(data: bytes, *, source: str = "") -> Node:
    """The outermost element of an SVG document, given as text or gzip-compressed (svgz).

    Raises BadResource: empty, not XML, damaged, not SVG, or built to exhaust memory. The context has `file`,
    and `line` and `column` where there are any.
    """
    data = _plain(data, source)
    if not data.strip(b"\x00 \t\r\n"):
        raise _bad(source, "is empty", _NOT_SVG_REMEDY)
    reader = _Reader(source, len(data))
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as err:
        raise _not_xml(source, data, err) from err
    except (LookupError, ValueError) as err:
        raise _bad(source, f"cannot be decoded: {err}", "Save the file as UTF-8.") from err
    root = reader.root
    if root is None or root.tag != "svg":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise _bad(source, f"is not an SVG: its outermost element is {found}, not <svg>", _NOT_SVG_REMEDY)
    return root


def _bad(source: str, message: str, remedy: str, **context: Any) -> BadResource:
    name = source or "the drawing"
    return BadResource(f"{name} {message}", context={"file": source, **context}, remedy=remedy)


def _plain(data: bytes, source: str) -> bytes:
    """The document itself, unpacked when it is svgz; never more than the limit."""
    if data[:2] == b"\x1f\x8b":
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, _BYTES_MAX + 1)
        except zlib.error as err:
            raise _bad(source, f"is a damaged svgz: {err}", "Export or copy the file again.") from err
        if not unpacker.eof and len(data) <= _BYTES_MAX:
            raise _bad(source, "is a svgz that ends too early", "Export or copy the file again.")
    if len(data) > _BYTES_MAX:
        raise _bad(source, f"is larger than {_BYTES_MAX >> 20} MiB", "Split the drawing into several files.")
    return data


def _not_xml(source: str, data: bytes, err: expat.ExpatError) -> BadResource:
    where = {"line": err.lineno, "column": err.offset + 1}
    place = f"line {err.lineno}, column {err.offset + 1}"
    reason = expat.ErrorString(err.code)
    if b"<" not in data and b"<" not in data.replace(b"\x00", b""):
        return _bad(source, "is not an SVG: there is no XML in it", _NOT_SVG_REMEDY)
    early = (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN)
    if reason in early or reason == expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION:
        return _bad(source, f"ends too early, at {place}: {reason}", "Export or copy the file again.", **where)
    if reason == expat.errors.XML_ERROR_AMPLIFICATION_LIMIT_BREACH:
        return _bad(source, "is built to exhaust memory", "Do not use this file.", **where)
    if reason == expat.errors.XML_ERROR_INVALID_TOKEN and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        try:
            data.decode()
        except UnicodeDecodeError as wrong:
            if b"encoding" not in data[:200]:
                message = f"is not UTF-8: byte 0x{data[wrong.start]:02X} at {place}"
                return _bad(source, message, "Save it as UTF-8, or name its encoding in the first line.", **where)
    return _bad(source, f"is not well-formed XML at {place}: {reason}", "Export the file again.", **where)


class _Reader:
    """Builds the tree from expat's events and holds the limits."""

    def __init__(self, source: str, size: int) -> None:
        self.source = source
        self.root: Node | None = None
        self._open: list[Node] = []
        self._count = 0
        self._room = _GROWTH_MAX * size + (1 << 20)
        self._names: dict[str, str] = {}
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser = parser

    def _name(self, raw: str) -> str:
        if raw not in self._names:
            plain = raw.removeprefix(f"{SVG_NS}}}")
            if plain == _XLINK_HREF:
                plain = "href"
            self._names[raw] = f"{{{plain}" if "}" in plain else plain
        return self._names[raw]

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            message = f"is built to exhaust memory: its entities make it more than {_GROWTH_MAX} times larger"
            raise _bad(self.source, message, "Do not use this file.")

    def _start(self, raw: str, pairs: list[str]) -> None:
        self._count += 1
        line = self.parser.CurrentLineNumber
        if len(self._open) >= _DEPTH_MAX:
            message = f"is nested more than {_DEPTH_MAX} elements deep at line {line}"
            raise _bad(self.source, message, "Ungroup the drawing, then export it again.", line=line)
        if self._count > _ELEMENTS_MAX:
            raise _bad(self.source, f"has more than {_ELEMENTS_MAX} elements", "Split the drawing.", line=line)
        self._spend(sum(map(len, pairs)))
        node = Node(self._name(raw))
        node.line = line
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            name = self._name(key)
            if name not in node.attrib or key != _XLINK_HREF:
                node.set(name, value)
        if self._open:
            self._open[-1].append(node)
        else:
            self.root = node
        self._open.append(node)

    def _end(self, raw: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._spend(len(text))
        node = self._open[-1]
        if len(node):
            node[-1].tail = (node[-1].tail or "") + text
        else:
            node.text = (node.text or "") + text

    def _entity(  # noqa: PLR0917 (expat's own signature)
        self,
        name: str,
        is_parameter: int,
        value: str | None,
        base: str | None,
        system_id: str | None,
        public_id: str | None,
        notation: str | None,
    ) -> None:
        line = self.parser.CurrentLineNumber
        if value is None:
            message = f"declares the external entity {name!r} ({system_id or public_id}) at line {line}"
            remedy = "Remove the declaration: vfab reads nothing but the file itself."
        elif is_parameter or "&" in value or "%" in value or len(value) > _ENTITY_MAX:
            message = f"declares the entity {name!r} at line {line}, which is nested or longer than {_ENTITY_MAX}"
            remedy = "Remove the declaration, or export the drawing as plain SVG."
        else:
            return
        raise _bad(self.source, message, remedy, line=line)
