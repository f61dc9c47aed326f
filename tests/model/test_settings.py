from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vfab.model.settings import allowed, faults, flatten, is_secret, leaves, nearest, parse_text, types_of

TYPES = ["string", "integer", "number", "boolean", "null", "array", "object"]
numbers = st.integers(-20, 20) | st.sampled_from([0.5, -1.5, 2.0, 10.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text("ab1", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def schemas() -> st.SearchStrategy[Any]:
    flat: st.SearchStrategy[Any] = st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": st.integers(-5, 5),
            "maximum": st.integers(-5, 5),
            "exclusiveMinimum": st.integers(-5, 5),
            "exclusiveMaximum": st.integers(-5, 5),
            "multipleOf": st.sampled_from([1, 2, 5, 0.5]),
            "minLength": st.integers(0, 3),
            "maxLength": st.integers(0, 3),
            "pattern": st.sampled_from(["a", "^b", "1$"]),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "title": st.just("x"),
            "not": st.just({"type": "boolean"}),
        },
    )
    return st.recursive(
        flat | st.booleans(),
        lambda inner: st.fixed_dictionaries(
            {"type": st.sampled_from(["object", "array"])},
            optional={
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
                "additionalProperties": inner,
                "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
                "items": inner,
            },
        ),
        max_leaves=4,
    )


@settings(deadline=None)
@example({"properties": {"a": False}, "required": ["a"]}, {})
@given(schemas(), values)
def test_the_verdict_is_that_of_the_jsonschema_package(schema: Any, value: Any) -> None:
    assert (faults(schema, value) == []) is Draft202012Validator(schema).is_valid(value)


@settings(deadline=None)
@given(numbers | st.booleans())
def test_what_json_writes_of_a_number_or_truth_is_read_back(value: Any) -> None:
    kind = "boolean" if isinstance(value, bool) else "number"
    assert parse_text(json.dumps(value), {"type": kind}) == value


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("7", {"type": "integer"}, 7),
        (" -7 ", {"type": "integer"}, -7),
        ("7", {"type": "string"}, "7"),
        ("true", {"type": "string"}, "true"),
        ("7", {"type": "number"}, 7.0),
        ("1e3", {"type": "number"}, 1000.0),
        ("YES", {"type": "boolean"}, True),
        ("0", {"type": "boolean"}, False),
        ("1", {"type": ["boolean", "integer"]}, 1),
        ("on", {"type": ["boolean", "integer"]}, True),
        ("none", {"type": ["string", "null"]}, None),
        ("x", {"type": ["string", "null"]}, "x"),
        ("1, 2", {"type": "array", "items": {"type": "integer"}}, [1, 2]),
        ("a,b", {"type": "array"}, ["a", "b"]),
        ("", {"type": "array"}, []),
        ('["a,b"]', {"type": "array"}, ["a,b"]),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("[holding 0 2, coils 0 4]", {"type": "array"}, ["holding 0 2", "coils 0 4"]),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("2", {"enum": [1, 2, "x"]}, 2),
        ("x", {"enum": [1, 2, "x"]}, "x"),
        ("anything", {}, "anything"),
    ],
)
def test_a_text_is_read_by_the_type_of_its_field(text: str, schema: dict[str, Any], value: Any) -> None:
    got = parse_text(text, schema)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("7.5", {"type": "integer"}),
        ("1_000", {"type": "integer"}),
        ("", {"type": "integer"}),
        ("nan", {"type": "number"}),
        ("1e999", {"type": "number"}),
        ("maybe", {"type": "boolean"}),
        ("x", {"type": "null"}),
        ("[1", {"type": "array"}),
        ('["a", b]', {"type": "array"}),
        ("1,x", {"type": "array", "items": {"type": "integer"}}),
        ("[]", {"type": "object"}),
        ("nope", {"type": "object"}),
        ("3", {"enum": [1, 2]}),
    ],
)
def test_a_text_that_does_not_fit_its_type_is_refused_with_what_would(text: str, schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_text(text, schema)
    assert str(caught.value) == allowed(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "a whole number from 1 to 9"),
        ({"type": "number", "minimum": 1}, "a number, 1 or more"),
        ({"type": "number", "maximum": 1}, "a number, 1 or less"),
        ({"type": "number", "exclusiveMinimum": 0}, "a number, more than 0"),
        ({"type": ["string", "null"], "pattern": "^a"}, "a text or nothing (null), matching ^a"),
        ({"enum": ["a", 1, None]}, "one of a, 1, null"),
        ({"const": True}, "true"),
        ({}, "any value"),
    ],
)
def test_what_is_allowed_is_said_in_words(schema: dict[str, Any], words: str) -> None:
    assert allowed(schema) == words


def test_a_fault_names_the_field_within_lists_and_mappings() -> None:
    schema = {"properties": {"pens": {"items": {"properties": {"mm": {"type": "number", "minimum": 0}}}}}}
    (fault,) = faults(schema, {"pens": [{"mm": 1}, {"mm": -2}]})
    assert (fault.field, fault.found, fault.expected) == ("pens[1].mm", "-2", "a number, 0 or more")


def test_a_number_where_a_text_is_meant_says_to_quote_it() -> None:
    (fault,) = faults({"type": "string"}, 5, "port")
    assert fault.expected == 'a text; put it in quotes: "5"'


def test_unknown_and_missing_fields_are_told() -> None:
    schema: dict[str, Any] = {
        "properties": {"speed": {"type": "integer"}},
        "required": ["speed"],
        "additionalProperties": False,
    }
    assert [(f.field, f.expected) for f in faults(schema, {"sped": 1}, "a")] == [
        ("a.sped", "did you mean speed?"),
        ("a.speed", "it is required: a whole number"),
    ]


def test_keywords_beyond_ours_are_left_to_jsonschema() -> None:
    schema: dict[str, Any] = {
        "anyOf": [{"properties": {"a": {"items": {"type": "string"}}}}],
        "properties": {"b": {"type": "null"}},
    }
    (fault,) = faults({"properties": {"x": schema}}, {"x": {"b": 1}})
    assert fault.field == "x.b"
    (fault,) = faults({"allOf": [{"items": {"type": "string"}}]}, [1], "list")
    assert fault.field == "list[0]"
    (fault,) = faults({"properties": {"a": {"type": "null"}}, "allOf": []}, {"a": 1})
    assert fault.field == "a"


def test_a_long_value_is_shortened() -> None:
    (fault,) = faults({"type": "integer"}, "x" * 500)
    assert len(fault.found) <= 80


def test_leaves_are_the_fields_that_hold_a_value() -> None:
    schema: dict[str, Any] = {"properties": {"a": {}, "b": {"properties": {"c": True, "d": {"type": "object"}}}}}
    assert [name for name, _ in leaves(schema)] == ["a", "b.c", "b.d"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.sampled_from("cd"), numbers, min_size=1)))
def test_flattening_goes_down_where_the_schema_has_names(data: dict[str, Any]) -> None:
    schema: dict[str, Any] = {"properties": {"a": {"properties": {"c": {}, "d": {}}}}}
    flat = dict(flatten(data, schema))
    assume("a" in data)
    assert {key for key in flat if key.startswith("a.")} == {f"a.{key}" for key in data["a"]}
    assert flat.get("b") == data.get("b")


def test_secrets_and_types_are_known_by_the_schema() -> None:
    assert is_secret({"writeOnly": True})
    assert is_secret({"format": "password"})
    assert not is_secret({"type": "string"})
    assert types_of({"type": ["a"]}) == ("a",)
    assert "null" in types_of({})


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("sped", ["speed", "port"]) == "did you mean speed?"
    assert nearest("zzz", ["speed", "port"]) == "there are speed, port"
    assert nearest("spped", ["port", "speed_mm_s", "travel_mm_s"]) == "did you mean speed_mm_s?"
    assert nearest("zzz", []) == "there are none"
    assert nearest("zzz", [f"field_{number}" for number in range(30)]).endswith("field_23 and 6 more")


@pytest.mark.parametrize(
    ("schema", "value", "good"),
    [
        ({"const": {"a": [1, {"b": None}]}}, {"a": [1.0, {"b": None}]}, True),
        ({"const": {"a": [1]}}, {"a": [True]}, False),
        ({"const": {"a": 1}}, {"b": 1}, False),
        ({"enum": [[1, 2], "x"]}, [1], False),
        ({"enum": [[1, 2], "x"]}, "x", True),
        ({"multipleOf": 0.1}, 0.3, True),
        ({"multipleOf": 5}, 7, False),
        ({"type": "integer"}, 2.0, True),
        ({"type": "integer"}, 2.5, False),
        ({"type": "number"}, float("inf"), False),
        ({"type": "object"}, {1}, False),
        (False, 1, False),
        (True, 1, True),
    ],
)
def test_values_are_equal_and_typed_as_json_has_it(schema: Any, value: Any, good: bool) -> None:
    assert (faults(schema, value) == []) is good
