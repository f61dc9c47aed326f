"""What a configuration value may be, by a driver's JSON Schema: reading text by the field's type, checking, describing.

The keywords that drivers' schemas use are checked here, because importing `jsonschema` alone takes as long as a whole
`vfab driver list` may (docs/adr/0052). A schema with any other keyword is handed to `jsonschema`; tests hold both to
the same verdicts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vfab.model.alike import alike

__all__ = ["Fault", "allowed", "faults", "flatten", "is_secret", "leaves", "nearest", "parse_text", "types_of"]

Schema = Mapping[str, Any]

_NOTES = {"title", "description", "default", "examples", "format", "writeOnly", "readOnly", "deprecated", "$schema"}
_CHECKED = {
    *("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "items", "minItems", "maxItems"),
    *("properties", "additionalProperties", "required"),
}
_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing (null)",
}
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Fault:
    """A value that its schema forbids: the dotted field, what was found, what would be right."""

    field: str
    found: str
    expected: str


def types_of(schema: Schema) -> tuple[str, ...]:
    """The JSON types that the schema names; all of them when it names none."""
    given = schema.get("type")
    if given is None:
        return tuple(_WORDS)
    return (given,) if isinstance(given, str) else tuple(given)


def leaves(schema: Schema, where: str = "") -> Iterator[tuple[str, Schema]]:
    """Every field that holds a value, by dotted name. An object with named properties is not one itself."""
    for name, child in schema.get("properties", {}).items():
        field = f"{where}.{name}" if where else name
        if isinstance(child, Mapping) and child.get("properties"):
            yield from leaves(child, field)
        else:
            yield field, child if isinstance(child, Mapping) else {}


def flatten(data: Mapping[str, Any], schema: Schema, where: str = "") -> Iterator[tuple[str, Any]]:
    """`data` by dotted name, going down where the schema has named properties."""
    properties = schema.get("properties", {})
    for name, value in data.items():
        field = f"{where}.{name}" if where else str(name)
        child = properties.get(name)
        if isinstance(value, Mapping) and isinstance(child, Mapping) and child.get("properties"):
            yield from flatten(value, child, field)
        else:
            yield field, value


def is_secret(schema: Schema) -> bool:
    """Whether a value of this field is not to be shown."""
    return schema.get("writeOnly") is True or schema.get("format") == "password"


_LISTED = 24
"""Names that an error lists; more is a wall of words."""


def nearest(name: str, names: list[str]) -> str:
    """`did you mean …?`, or the names there are; of many only the first, and how many more."""
    near = alike(name, names, 1)
    if not near:
        beginnings = {known[: len(name) + 1]: known for known in reversed(names)}
        near = [beginnings[begun] for begun in alike(name, beginnings, 1, 0.7)]  # spped is speed_mm_s
    if near:
        return f"did you mean {near[0]}?"
    if len(names) > _LISTED:
        return f"there are {', '.join(names[:_LISTED])} and {len(names) - _LISTED} more"
    return "there are " + ", ".join(names) if names else "there are none"


def parse_text(text: str, schema: Schema) -> Any:
    """The value that `text` (an environment variable, a command line option) writes, by the field's type.

    Where several types are allowed, the first of null, boolean, integer, number, list, mapping, text that fits wins.
    Raises ValueError: it fits none; the message says what would be right.
    """
    if "type" not in schema and "enum" in schema:
        for member in schema["enum"]:
            if text == (member if isinstance(member, str) else json.dumps(member)):
                return member
        raise ValueError(allowed(schema))
    types = types_of(schema)
    for kind, read in _READERS:
        if kind in types:
            try:
                return read(text, schema)
            except ValueError:
                continue
    raise ValueError(allowed(schema))


def _read_null(text: str, schema: Schema) -> None:
    if text.casefold() not in {"null", "none"}:
        raise ValueError(text)


def _read_boolean(text: str, schema: Schema) -> bool:
    word = text.strip().casefold()
    if word not in _TRUTH or ("type" in schema and word in {"0", "1"} and len(types_of(schema)) > 1):
        raise ValueError(text)
    return _TRUTH[word]


def _read_integer(text: str, schema: Schema) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,1000}\s*", text):
        raise ValueError(text)
    return int(text)


def _read_number(text: str, schema: Schema) -> float:
    if not re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", text):
        raise ValueError(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _read_array(text: str, schema: Schema) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
            assert isinstance(value, list)
            return value
        except ValueError:
            inner = text.strip()[1:-1]
            if not text.rstrip().endswith("]") or set(inner) & set("\"'[]{}"):
                raise
            text = inner  # [holding 0 2, coils 0 4], as config.yaml would have it
    items = schema.get("items")
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return [parse_text(part, items) if isinstance(items, Mapping) else part for part in parts]


def _read_object(text: str, schema: Schema) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


_READERS: tuple[tuple[str, Any], ...] = (
    ("null", _read_null),
    ("boolean", _read_boolean),
    ("integer", _read_integer),
    ("number", _read_number),
    ("object", _read_object),
    ("string", lambda text, schema: text),
    ("array", _read_array),
)


def allowed(schema: Schema) -> str:
    """What the schema allows, in words: `a whole number from 1 to 10000`."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(
            member if isinstance(member, str) else json.dumps(member) for member in schema["enum"]
        )
    text = " or ".join(_WORDS.get(kind, kind) for kind in types_of(schema)) if "type" in schema else "any value"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        text += f" from {low} to {high}"
    elif low is not None:
        text += f", {low} or more"
    elif high is not None:
        text += f", {high} or less"
    for key, words in _LIMITS:
        if key in schema:
            text += f", {words.format(schema[key])}"
    return text


_LIMITS = (
    ("exclusiveMinimum", "more than {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "matching {}"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)


def faults(schema: Any, value: Any, where: str = "") -> list[Fault]:
    """Everything about `value` that the schema forbids; draft 2020-12's verdict."""
    if schema is True:
        return []
    if schema is False:
        return [Fault(where, _shown(value), "remove it: nothing is allowed here")]
    if not schema.keys() <= _CHECKED | _NOTES:
        return _by_jsonschema(schema, value, where)
    kind = _type(value)
    if "type" in schema and not _is_one_of(value, kind, types_of(schema)):
        hint = allowed(schema)
        if kind in {"number", "integer", "boolean"} and "string" in types_of(schema):
            hint += f'; put it in quotes: "{json.dumps(value)}"'
        return [Fault(where, _shown(value), hint)]
    if not _within_limits(schema, value, kind):
        return [Fault(where, _shown(value), allowed(schema))]
    if kind == "array" and "items" in schema:
        return [f for number, item in enumerate(value) for f in faults(schema["items"], item, f"{where}[{number}]")]
    return _object_faults(schema, value, where) if kind == "object" else []


def _object_faults(schema: Schema, value: Mapping[str, Any], where: str) -> list[Fault]:
    found: list[Fault] = []
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        field = f"{where}.{name}" if where else name
        if name in properties:
            found += faults(properties[name], item, field)
        elif others is False:
            found.append(Fault(field, "an unknown field", nearest(name, list(properties))))
        else:
            found += faults(others, item, field)
    for name in schema.get("required", ()):
        if name not in value:
            field = f"{where}.{name}" if where else name
            child = properties.get(name)
            words = allowed(child) if isinstance(child, Mapping) else "any value"
            found.append(Fault(field, "nothing", f"it is required: {words}"))
    return found


def _within_limits(schema: Schema, value: Any, kind: str) -> bool:
    if "const" in schema and not _same(schema["const"], value):
        return False
    if "enum" in schema and not any(_same(member, value) for member in schema["enum"]):
        return False
    if kind in {"integer", "number"}:
        return not (
            value < schema.get("minimum", -math.inf)
            or value > schema.get("maximum", math.inf)
            or value <= schema.get("exclusiveMinimum", -math.inf)
            or value >= schema.get("exclusiveMaximum", math.inf)
            or ("multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]))
            or not math.isfinite(value)
        )
    if kind == "string":
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf) and (
            "pattern" not in schema or re.search(schema["pattern"], value) is not None
        )
    if kind == "array":
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf))
    return True


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    quotient = value / step
    return abs(quotient - round(quotient)) < 1e-9 * max(1.0, abs(quotient))


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for python, name in ((int, "integer"), (float, "number"), (str, "string"), (Mapping, "object")):
        if isinstance(value, python):
            return name
    return "array" if isinstance(value, (list, tuple)) else type(value).__name__


def _is_one_of(value: Any, kind: str, types: tuple[str, ...]) -> bool:
    if kind == "integer":
        return "integer" in types or "number" in types
    return kind in types or (kind == "number" and "integer" in types and value.is_integer())


def _same(a: Any, b: Any) -> bool:
    """JSON's equality: 1 equals 1.0, and neither equals true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}…"


def _by_jsonschema(schema: Schema, value: Any, where: str) -> list[Fault]:
    from jsonschema import Draft202012Validator

    found: list[Fault] = []
    for error in Draft202012Validator(dict(schema)).iter_errors(value):
        field = where
        for part in error.absolute_path:
            field += f"[{part}]" if isinstance(part, int) else (f".{part}" if field else str(part))
        found.append(Fault(field, _shown(error.instance), error.message))
    return found
