from __future__ import annotations

import pytest

from vfab.model.identify import ANSWER_MAX, Identify


def test_an_answer_describes_the_device_by_the_names_of_the_groups() -> None:
    question = Identify(send="V\\r", expect=r"(?P<product>EBB)v\d.*Firmware Version (?P<firmware>\S+)(?P<other>x)?")
    assert question.send_bytes() == b"V\r"
    assert question.read(b"EBBv13_and_above EB Firmware Version 2.8.1 \r\n") == {"product": "EBB", "firmware": "2.8.1"}
    assert question.read(b"EBBv13") is None


def test_what_comes_after_a_flood_is_not_looked_at() -> None:
    assert Identify(expect="EBB").read(b"x" * ANSWER_MAX + b"EBB") is None


def test_bytes_beyond_ascii_are_latin_1() -> None:
    assert Identify(expect="(?P<unit>\xb5V)").read(b"1 \xb5V") == {"unit": "\xb5V"}


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (Identify(send="\\x1", expect="a"), "identify[0].send"),
        (Identify(expect="(a"), "identify[0].expect"),
        (Identify(expect="€"), "identify[0].expect"),
    ],
)
def test_what_cannot_be_asked_is_told(question: Identify, field: str) -> None:
    ((where, found, expected),) = question.problems("identify[0]")
    assert where == field
    assert found
    assert expected
