"""What authors write for `config_schema`, as JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from vfab.dialects.schemas import as_json_schema
from vfab.model.settings import faults


@pytest.mark.parametrize(
    ("written", "properties", "required"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": {"type": "string"}}, None),
        ({"properties": {"a": {"type": "int"}}, "required": ["a"]}, {"a": {"type": "integer"}}, ["a"]),
        (
            {"a": {"type": "float", "default": 1.5, "help": "A"}},
            {"a": {"type": "number", "default": 1.5, "description": "A"}},
            None,
        ),
        (
            {"a": {"type": "int", "min": 1, "max": 9, "required": True}},
            {"a": {"type": "integer", "minimum": 1, "maximum": 9}},
            ["a"],
        ),
        ({"a": {"choices": ["x", "y"]}, "b": {"options": "x or y"}}, {"a": {"enum": ["x", "y"]}, "b": {}}, None),
        (
            {"a": "int", "b": "string", "c": "COM3"},
            {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "string", "default": "COM3"}},
            None,
        ),
        (
            {"a": 5, "b": True, "c": None},
            {"a": {"type": "integer", "default": 5}, "b": {"type": "boolean", "default": True}, "c": {}},
            None,
        ),
        ({"a": {"type": "str", "default": None}}, {"a": {"type": "string"}}, None),
        ({"type": {"type": "str"}}, {"type": {"type": "string"}}, None),
        ({}, {}, None),
    ],
)
def test_a_mapping_of_settings_becomes_the_schema_that_it_means(
    written: dict[str, Any], properties: dict[str, Any], required: list[str] | None
) -> None:
    made = as_json_schema(written)
    assert made["properties"] == properties
    assert made.get("required") == required
    assert [fault.field for fault in faults(made, {})] == (required or [])


def test_a_schema_without_properties_stays_what_it_is() -> None:
    assert as_json_schema({"type": "object", "additionalProperties": False}) == {
        "type": "object",
        "additionalProperties": False,
    }
    assert as_json_schema({"anyOf": [{}]}) == {"anyOf": [{}]}


def test_what_breaks_the_schema_is_told() -> None:
    made = as_json_schema({"nplc": {"type": "float", "min": 0.1, "required": True}})
    assert [fault.field for fault in faults(made, {"nplc": 0})] == ["nplc"]
    assert [fault.field for fault in faults(made, {})] == ["nplc"]
    assert list(faults(made, {"nplc": 1, "more": "is allowed"})) == []
