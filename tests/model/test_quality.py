"""quality.yaml: what a driver's author says of it, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError
from vfab.model.quality import RULES, Quality, quality_from_dict, quality_from_yaml


def refused(text: str) -> list[dict[str, object]]:
    with pytest.raises(ConfigurationError) as told:
        quality_from_yaml(text.encode(), file="there/quality.yaml")
    assert told.value.remedy and "there/quality.yaml" in told.value.message
    problems = told.value.context["problems"]
    assert isinstance(problems, list)
    return problems


def test_rules_statuses_and_exemptions_are_read() -> None:
    made = quality_from_yaml(
        b"simulator: {status: done}\nstreams: {status: exempt, why: it has none}\n"
        b"contract-exemptions:\n  slow-peer: the board forgets\n"
    )
    assert made.claims("simulator") and not made.claims("streams") and not made.claims("units")
    assert made.rules["streams"].why == "it has none"
    assert made.exemptions == {"slow-peer": "the board forgets"}
    assert set(made.unnamed) == set(RULES) - {"simulator", "streams"}


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        ("shiny: {status: done}", "shiny", 1),
        ("simulator: {status: done}\nunits: {status: perhaps}", "units.status", 2),
        ("units: {status: done, because: x}", "units.because", 1),
        ("units: {}", "units.status", 1),
        ("units: done", "units", 1),
        ("units: {status: todo}", "units.why", 1),
        ("units:\n  status: exempt\n  why: ' '", "units.why", 3),
        ("units: {status: exempt, why: 7}", "units.why", 1),
        ("contract-exemptions: [cancel]", "contract-exemptions", 1),
        ("contract-exemptions:\n  cancel: ''", "contract-exemptions.cancel", 2),
        ("contract-exemptions:\n  cancel:", "contract-exemptions.cancel", 2),
        ("[simulator]", "", 0),
        ("", "", 0),
        ("units: [status: done", "", 2),
    ],
)
def test_what_is_wrong_is_told_with_its_field_and_line(text: str, field: str, line: int) -> None:
    (problem,) = refused(text)
    assert (problem["field"], problem["line"]) == (field, line)
    assert problem["expected"]


def test_every_problem_is_told() -> None:
    assert len(refused("a: 1\nunits: 2\nstreams: {status: todo}")) == 3


def test_no_exemptions_may_be_written_as_nothing() -> None:
    assert quality_from_dict({"contract-exemptions": None}) == Quality()
    with pytest.raises(ConfigurationError):
        quality_from_dict({"units": 1})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from([*RULES, "contract-exemptions", "status", "why", "x"]), x)
        ),
    )
)
def test_whatever_it_says_is_read_or_refused(data: object) -> None:
    try:
        assert isinstance(quality_from_dict(data), Quality)
    except ConfigurationError as error:
        assert error.context["problems"]
