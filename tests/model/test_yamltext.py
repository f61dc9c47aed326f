from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model import yamltext
from vfab.model.yamltext import MAX_BYTES, MAX_DEPTH, Place, YamlProblem, line_of, parse_yaml, places

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(plain, st.booleans())
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(value: Any, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True).encode()
    assert parse_yaml(text) == yaml.safe_load(text)


@settings(deadline=None)
@given(st.text(alphabet="aeflnorstuyTYN0123456789.+-_:eExob~ ", max_size=12))
def test_a_bare_word_is_what_pyyaml_says_it_is(word: str) -> None:
    text = f"a: {word}\n".encode()
    try:
        theirs = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        with pytest.raises(YamlProblem):
            parse_yaml(text)
        return
    if not isinstance(theirs, dict) or not all(isinstance(v, (str, int, float, type(None))) for v in theirs.values()):
        return
    ours = parse_yaml(text)
    assert ours == theirs or math.isnan(ours["a"])
    assert [type(v) for v in ours.values()] == [type(v) for v in theirs.values()]


@pytest.mark.parametrize("text", [b"", b"# only a comment\n", b"---\n", b"~\n"])
def test_an_empty_text_is_none(text: bytes) -> None:
    assert parse_yaml(text) is None


def test_a_key_is_the_text_that_was_written() -> None:
    assert parse_yaml(b"off: 1\n1: 2\nnull: 3\n") == {"off": 1, "1": 2, "null": 3}


def test_a_date_stays_a_text() -> None:
    assert parse_yaml(b"a: 2024-01-31\nb: =\n") == {"a": "2024-01-31", "b": "="}


def test_plain_tags_are_read() -> None:
    assert parse_yaml(b"a: !!str 5\nb: !!int '7'\nd: !!null ''\n") == {"a": "5", "b": 7, "d": None}


def test_a_long_word_is_read_too() -> None:
    assert parse_yaml(b"a: " + b"x" * 200) == {"a": "x" * 200}
    assert parse_yaml(b"a: " + b"1" * 200) == {"a": int("1" * 200)}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"a: 1\na: 2\n", 2, "a second time"),
        (b"x:\n  '1': 1\n  1: 2\n", 3, "a second time"),
        (b"a: &x 1\n", 1, "anchor"),
        (b"a: &x [1]\n", 1, "anchor"),
        (b"a: *x\n", 1, "alias"),
        (b"<<: {a: 1}\n", 1, "merge"),
        (b"&k a: 1\n", 1, "anchor"),
        (b"? [a]\n: 1\n", 1, "not a name"),
        (b"a: !!python/object:os.system x\n", 1, "the tag"),
        (b"a: !!set {x}\n", 1, "the tag"),
        (b"a: !!int x\n", 1, "tagged"),
        (b"a: !!bool x\n", 1, "tagged"),
        (b"a: 1\n---\nb: 2\n", 2, "second document"),
        (b"a: [1\n", 2, "not YAML"),
        (b"a: 1\n\tb: 2\n", 2, "not YAML"),
        (b"a: " + b"9" * 5000 + b"\n", 0, "too long"),
    ],
)
def test_what_is_refused_is_told_with_its_line(text: bytes, line: int, words: str) -> None:
    with pytest.raises(YamlProblem, match=words) as caught:
        parse_yaml(text)
    assert caught.value.line == line


@pytest.mark.parametrize("text", [b"a: \xff\xfe\n", b"\xff\xfea", b"a: \x01\n"])
def test_bytes_that_are_no_text_are_refused(text: bytes) -> None:
    with pytest.raises(YamlProblem):
        parse_yaml(text)


def test_a_text_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(YamlProblem, match="1 MiB"):
        parse_yaml(b"#" * (MAX_BYTES + 1))


def test_a_text_that_is_too_deep_is_refused() -> None:
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_yaml(deep) is not None
    with pytest.raises(YamlProblem, match="levels"):
        parse_yaml(b"[" + deep + b"]")
    with pytest.raises(YamlProblem):
        parse_yaml(b"[" * 100_000)


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    bomb = b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 110))
    with pytest.raises(YamlProblem, match="anchor"):
        parse_yaml(bomb)


def test_places_give_the_line_and_the_text_of_every_field() -> None:
    where = places(b"name: x\nmatch:\n  - vid: 0403\n    pid: a\n  - bus: usb\n")
    assert where["match[0].vid"] == Place(3, 5, "0403")
    assert where["match[1].bus"].line == 5
    assert where["match"] == Place(2, 1)
    assert line_of(where, "match[1].nothing.at.all") == 5
    assert line_of(where, "match[7]") == 2
    assert line_of(where, "elsewhere") == 0


def test_places_of_a_broken_text_are_those_before_the_break() -> None:
    assert places(b"a: 1\nb: [\n")["a"].line == 1


def test_without_libyaml_the_same_is_read_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    yamltext._events.cache_clear()
    try:
        assert parse_yaml(b"a: [1, yes, x]\n") == {"a": [1, True, "x"]}
        with pytest.raises(YamlProblem) as caught:
            parse_yaml(b"a: [1\n")
        assert caught.value.line == 2
        with pytest.raises(YamlProblem, match=r"UTF-8|not YAML"):
            parse_yaml(b"a: \xff\n")
    finally:
        yamltext._events.cache_clear()
