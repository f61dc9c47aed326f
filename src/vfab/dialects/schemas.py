"""Seed 004 says of `config_schema` only that it is a mapping: what authors write there, as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["as_json_schema"]

_TYPES = {
    "int": "integer", "float": "number", "double": "number", "str": "string", "text": "string", "bool": "boolean",
    "dict": "object", "list": "array",
}  # fmt: skip
_WORDS = {
    "help": "description", "doc": "description", "min": "minimum", "max": "maximum",
    "choices": "enum", "options": "enum", "allowed": "enum", "values": "enum",
}  # fmt: skip
_OF_A_SCHEMA = frozenset({"properties", "additionalProperties", "$ref", "$schema", "$defs", "allOf", "anyOf", "oneOf"})


def as_json_schema(written: Mapping[str, Any]) -> dict[str, Any]:
    """`written` as the JSON Schema that it means.

    JSON Schema stays what it is, with `int` or `float` read as its types. A mapping of settings (`timeout: {type: int,
    default: 5}`, or `timeout: 5`, which is the default) becomes its properties; other settings are allowed, too.
    """
    if _OF_A_SCHEMA & written.keys() or isinstance(written.get("type"), str):
        properties = written.get("properties")
        if not isinstance(properties, Mapping):
            return dict(written)
        made, needed = _properties(properties)
        needed = [*(written.get("required") or ()), *needed]
        return {**written, "properties": made, **({"required": needed} if needed else {})}
    made, needed = _properties(written)
    return {"type": "object", "properties": made, **({"required": needed} if needed else {})}


def _properties(written: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings, and the names of those that say of themselves that they are required."""
    made: dict[str, Any] = {}
    needed: list[str] = []
    for name, said in written.items():
        made[str(name)] = _property(said)
        if isinstance(said, Mapping) and said.get("required") is True:
            needed.append(str(name))
    return made, needed


def _property(said: Any) -> dict[str, Any]:
    if isinstance(said, str) and said in {*_TYPES, *_TYPES.values()}:  # timeout: int
        return {"type": _TYPES.get(said, said)}
    if not isinstance(said, Mapping):  # timeout: 5
        kind = _TYPES.get(type(said).__name__)
        return {"default": said, **({"type": kind} if kind else {})} if said is not None else {}
    made: dict[str, Any] = {}
    for word, value in said.items():
        if word != "required" or not isinstance(value, bool):
            made[_WORDS.get(str(word), str(word))] = value
    if isinstance(kind := made.get("type"), str):
        made["type"] = _TYPES.get(kind, kind)
    if made.get("default", "") is None:  # nothing is no value of the type
        del made["default"]
    if not isinstance(made.get("enum", []), list):
        del made["enum"]
    return made
