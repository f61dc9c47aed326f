"""YAML text to plain data, as manifests and config files need it: strict, bounded, with line numbers. No I/O.

The values are what `yaml.safe_load` (YAML 1.1) makes of them, but for four differences:

- a key is the text that was written (`off:` is the name "off", not false), and a key given twice is refused;
- a date stays the text that was written: no field of vfab is a date, and JSON has none;
- anchors, aliases, merge keys and tags other than `!!str !!int !!float !!bool !!null` are refused, so that a small file
  cannot become a large value;
- more than `MAX_BYTES` bytes or `MAX_DEPTH` levels are refused.

It builds the values straight from libyaml's events, which is more than twice as fast as PyYAML's own `CSafeLoader`
(docs/adr/0050).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Place", "YamlProblem", "line_of", "parse_yaml", "places"]

MAX_BYTES = 1 << 20
"""The longest text that is read, in bytes."""

MAX_DEPTH = 48
"""How many mappings and lists may lie within each other."""

_TAG = "tag:yaml.org,2002:"
_ALLOWED_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))
_AS_TEXT = frozenset(_TAG + kind for kind in ("str", "timestamp", "value", "merge"))


class YamlProblem(ValueError):
    """The text is not what `parse_yaml` reads.

    Attributes:
        found: what is there.
        expected: what would be right.
        line, column: where, from 1; 0 where no place can be named.
    """

    def __init__(self, found: str, expected: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}: found {found}; {expected}" if line else f"found {found}; {expected}")
        self.found = found
        self.expected = expected
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands: line and column from 1, and the scalar's text as written (None for a mapping or list)."""

    line: int
    column: int
    text: str | None = None


def parse_yaml(data: bytes) -> Any:
    """The plain value that the YAML text `data` (UTF-8) describes; None for an empty text.

    Raises YamlProblem: see the module's rules; line and column are given wherever libyaml knows them.
    """
    return _Builder(data, None).document()


def places(data: bytes) -> dict[str, Place]:
    """Where every field of `data` stands, by dotted name: `match[0].vid`. As far as the text can be read."""
    found: dict[str, Place] = {}
    with suppress(YamlProblem):
        _Builder(data, found).document()
    return found


def line_of(where: Mapping[str, Place], field: str) -> int:
    """The line of `field`, or of the nearest thing around it; 0 when nothing of it is there."""
    while field:
        if field in where:
            return where[field].line
        cut = max(field.rfind("."), field.rfind("["))
        field = field[:cut] if cut > 0 else ""
    return 0


class _Builder:
    """One pass over the events of one text."""

    def __init__(self, data: bytes, marks: dict[str, Place] | None) -> None:
        if len(data) > MAX_BYTES:
            raise YamlProblem(f"{len(data)} bytes", f"at most {MAX_BYTES} bytes (1 MiB) are read")
        self._yaml = _events()
        self._marks = marks
        self._data = data
        self._next: Callable[[], Any]

    def document(self) -> Any:
        y = self._yaml
        try:
            self._next = y.source(self._data)
            self._next()  # stream start
            if type(self._next()) is y.stream_end:
                return None
            value = self._value(self._next(), 0, "")
            self._next()  # document end
            event = self._next()
        except y.error as error:
            raise _translated(error) from error
        except UnicodeDecodeError as error:
            raise YamlProblem("bytes that are not UTF-8", "save the file as UTF-8") from error
        if type(event) is not y.stream_end:
            _refuse(event, "a second document", "a file holds one document: remove the line ---")
        return value

    def _value(self, event: Any, depth: int, where: str) -> Any:
        y = self._yaml
        kind = type(event)
        if kind is y.scalar:
            if event.anchor is not None:
                _refuse(event, f"the anchor &{event.anchor}", "anchors are not read: write the value where it is used")
            if self._marks is not None:
                self._mark(where, event, event.value)
            if event.implicit[0]:
                return y.plain(event.value) if len(event.value) < 64 else y.plain.__wrapped__(event.value)
            if event.implicit[1]:
                return event.value
            return self._tagged(event)
        if kind is y.alias:
            _refuse(event, f"the alias *{event.anchor}", "aliases are not read: write the value out")
        if event.anchor is not None:
            _refuse(event, f"the anchor &{event.anchor}", "anchors are not read: write the value where it is used")
        if not event.implicit:
            _refuse(event, f"the tag {event.tag}", "remove it: only plain mappings and lists are read")
        if depth >= MAX_DEPTH:
            _refuse(event, f"more than {MAX_DEPTH} levels", "write it flatter")
        if self._marks is not None:
            self._mark(where, event, None)
        return self._mapping(depth + 1, where) if kind is y.mapping else self._sequence(depth + 1, where)

    def _mapping(self, depth: int, where: str) -> dict[str, Any]:
        y = self._yaml
        end, scalar, advance = y.mapping_end, y.scalar, self._next
        made: dict[str, Any] = {}
        while type(event := advance()) is not end:
            if type(event) is not scalar:
                _refuse(event, "a key that is not a name", "write a name, then a colon")
            key = event.value
            if event.anchor is not None or (key == "<<" and event.implicit[0]):
                _refuse(event, f"the key {key!r} with YAML's merge or anchor", "write the fields out")
            if key in made:
                _refuse(event, f"the key {key!r} a second time", "keep one of the two")
            here = where
            if self._marks is not None:
                here = f"{where}.{key}" if where else key
                self._mark(here, event, None)
            made[key] = self._value(advance(), depth, here)
        return made

    def _sequence(self, depth: int, where: str) -> list[Any]:
        end, advance = self._yaml.sequence_end, self._next
        made: list[Any] = []
        while type(event := advance()) is not end:
            made.append(self._value(event, depth, f"{where}[{len(made)}]" if self._marks is not None else where))
        return made

    def _mark(self, where: str, event: Any, text: str | None) -> None:
        assert self._marks is not None
        known = self._marks.get(where)
        if known is None:
            known = Place(event.start_mark.line + 1, event.start_mark.column + 1)
        self._marks[where] = Place(known.line, known.column, text)

    def _tagged(self, event: Any) -> Any:
        if event.tag not in _ALLOWED_TAGS:
            _refuse(event, f"the tag {event.tag}", "remove it: values are text, numbers, true, false and null")
        try:
            return self._yaml.construct(event.tag, event.value)
        except (ValueError, KeyError, IndexError):
            _refuse(event, f"{event.value!r} tagged {event.tag}", "remove the tag, or write a value of that kind")


def _refuse(event: Any, found: str, expected: str) -> NoReturn:
    raise YamlProblem(found, expected, event.start_mark.line + 1, event.start_mark.column + 1)


def _translated(error: Any) -> YamlProblem:
    """PyYAML's error as ours; its `problem` is the sentence that a person can use."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    found = "text that is not YAML"
    expected = f"{context}: {problem}" if context else str(problem)
    if mark is None:
        return YamlProblem(found, expected)
    return YamlProblem(found, expected, mark.line + 1, mark.column + 1)


@dataclass(frozen=True, slots=True)
class _Events:
    """What this module needs of PyYAML, looked up once: importing PyYAML costs more than reading a manifest."""

    source: Callable[[bytes], Callable[[], Any]]
    plain: Any
    construct: Callable[[str, str], Any]
    error: type[Exception]
    scalar: Any
    alias: Any
    mapping: Any
    mapping_end: Any
    sequence_end: Any
    stream_end: Any


@lru_cache(maxsize=1)
def _events() -> _Events:
    import yaml

    table: dict[str, list[tuple[str, Any]]] = yaml.SafeLoader.yaml_implicit_resolvers
    constructor = yaml.constructor.SafeConstructor()

    def construct(tag: str, text: str) -> Any:
        return constructor.yaml_constructors[tag](constructor, yaml.ScalarNode(tag, text))

    @lru_cache(maxsize=8192)
    def plain(text: str) -> Any:
        """The value of an untagged, unquoted scalar, by PyYAML's own resolvers and constructors."""
        for tag, pattern in table.get(text[:1], ()):
            if pattern.match(text):
                if tag in _AS_TEXT:
                    return text
                try:
                    return construct(tag, text)
                except ValueError as error:  # more digits than int() takes
                    raise YamlProblem(f"the number {text[:20]}…", "it is too long; put it in quotes") from error
        return text

    return _Events(
        source=_parser(yaml),
        plain=plain,
        construct=construct,
        error=yaml.YAMLError,
        scalar=yaml.ScalarEvent,
        alias=yaml.AliasEvent,
        mapping=yaml.MappingStartEvent,
        mapping_end=yaml.MappingEndEvent,
        sequence_end=yaml.SequenceEndEvent,
        stream_end=yaml.StreamEndEvent,
    )


def _parser(yaml: Any) -> Callable[[bytes], Callable[[], Any]]:
    """The parser of libyaml where PyYAML was built with it, else PyYAML's own (seven times slower, same events)."""
    if yaml.__with_libyaml__:
        fast = yaml.cyaml.CParser
        return lambda data: fast(data).get_event

    class Slow(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):  # type: ignore[misc]
        def __init__(self, data: bytes) -> None:
            yaml.reader.Reader.__init__(self, data)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)

    return lambda data: Slow(data).get_event
