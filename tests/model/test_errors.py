from __future__ import annotations

import json

import pytest

from vfab.model import errors
from vfab.model.errors import DriverError, DriverErrorType, from_wire


def every_class(root: type[DriverError] = DriverError) -> list[type[DriverError]]:
    return [root, *(found for child in root.__subclasses__() for found in every_class(child))]


OURS = [kind for kind in dict.fromkeys(every_class()) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_process_border_and_comes_back_as_the_same_class(kind: type[DriverError]) -> None:
    sent = kind(
        "it broke",
        driver_name="axidraw",
        context={"field": "x", "line": 3},
        original_error=OSError("no such device"),
        remedy="mend it",
        retryable=True,
    )
    got = from_wire(json.loads(json.dumps(sent.to_wire())))
    assert type(got) is kind
    assert got.to_dict() == sent.to_dict()
    assert got.exit_code == sent.exit_code


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_class_has_a_code_of_its_own_and_its_familys_exit_code(kind: type[DriverError]) -> None:
    assert [other.code for other in OURS].count(kind.code) == 1
    error = kind("it broke")
    assert error.exit_code == 10 + list(DriverErrorType).index(error.error_type)
    assert error.remedy == kind.default_remedy
    assert error.retryable is kind.default_retryable
    assert error.to_dict()["original_error"] is None


def test_every_class_is_public() -> None:
    assert {kind.__name__ for kind in OURS} <= set(errors.__all__)


def test_the_exit_codes_of_the_families_are_different_and_not_the_shells() -> None:
    assert [family.exit_code for family in DriverErrorType] == [10, 11, 12, 13, 14, 15, 16]


def test_the_public_shape_names_the_driver_in_the_context() -> None:
    error = DriverError("it broke", driver_name="axidraw", context={"a": 1})
    assert error.to_public() == {
        "code": "driver_error",
        "message": "it broke",
        "remedy": "",
        "context": {"a": 1, "driver": "axidraw"},
    }
    assert DriverError("it broke").to_public()["context"] == {}


def test_an_unknown_code_becomes_a_plain_error_of_its_family() -> None:
    got = from_wire({"code": "future", "error": "new", "type": "timeout_error", "context": "not a mapping"})
    assert type(got) is DriverError
    assert got.error_type is DriverErrorType.TIMEOUT_ERROR
    assert got.context == {}


def test_an_unknown_family_is_the_classs_own() -> None:
    assert from_wire({"code": "timeout", "type": "luck"}).error_type is DriverErrorType.TIMEOUT_ERROR
    assert from_wire({}).message == ""
