"""References within a driver's config_schema are written out when its manifest is read."""

from __future__ import annotations

from typing import Any

import pytest

from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest, manifest_from_dict
from vfab.model.settings import faults, leaves


def read(schema: dict[str, Any]) -> Manifest:
    named = {"name": "a", "version": "1.0", "author": "b", "description": "c", "driver_class": "driver.Driver"}
    return manifest_from_dict({**named, "config_schema": schema})


def test_a_field_that_refers_to_a_definition_is_checked_by_it() -> None:
    schema = {
        "type": "object",
        "properties": {
            "few": {"$ref": "#/$defs/few", "default": 3, "description": "how many"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/few"}},
            "most": {"$ref": "#/$defs/few", "maximum": 2},
            "odd": {"$ref": "#/$defs/a~1b"},
            "all": {"allOf": [{"type": "integer"}], "$ref": "#/$defs/any", "title": "x"},
            "never": {"$ref": "#/$defs/no", "title": "x"},
            "$ref": {"type": "string", "enum": ["$ref"], "default": {"$ref": "#/nowhere"}},
        },
        "$defs": {
            "few": {"$ref": "#/$defs/whole", "maximum": 5, "description": "d"},
            "whole": {"type": "integer"},
            "a/b": True,
            "any": {"allOf": [{"maximum": 3}]},
            "no": False,
        },
    }
    found = read(schema).config_schema
    assert found is not None
    fields = dict(leaves(found))
    assert fields["few"] == {"type": "integer", "maximum": 5, "default": 3, "description": "how many"}
    assert faults(fields["list"], [3, 9])[0].field == "[1]"
    assert [bool(faults(fields["most"], value)) for value in (2, 3, 9)] == [False, True, True]
    assert [bool(faults(fields["all"], value)) for value in (2, 4, 1.5)] == [False, True, True]
    assert fields["odd"] is not None
    assert faults(found["properties"]["never"], 1)
    assert fields["$ref"]["default"] == {"$ref": "#/nowhere"}
    assert "$defs" not in found


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("other.json#/a", "the schema itself"),
        ("#/$defs/none", "no such part"),
        ("#/$defs/loop", "contains itself"),
        ("#/$defs/bomb9", "at most 1000"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_named(reference: str, words: str) -> None:
    bombs = {f"bomb{n}": {"anyOf": [{"$ref": f"#/$defs/bomb{n - 1}"}] * 9} for n in range(1, 10)}
    defs = {"loop": {"items": {"$ref": "#/$defs/loop"}}, "bomb0": {}, **bombs}
    with pytest.raises(BadManifest, match=words) as caught:
        read({"type": "object", "properties": {"x": {"$ref": reference}}, "$defs": defs})
    assert caught.value.context["field"] == "config_schema"
    assert "$ref" in caught.value.context["found"]


def test_a_default_that_its_parameter_forbids_is_named() -> None:
    for parameter in (
        {"type": "integer", "default": "x"},
        {"type": "number", "maximum": 3, "default": 4},
        {"choices": ["red", "green"], "default": "blue"},
    ):
        named = {"name": "a", "version": "1.0", "author": "b", "description": "c", "driver_class": "driver.Driver"}
        with pytest.raises(BadManifest) as caught:
            manifest_from_dict({**named, "commands": {"go": {"help": "h", "parameters": {"p": parameter}}}})
        assert caught.value.context["field"] == "commands.go.parameters.p.default"
