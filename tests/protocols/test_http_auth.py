"""HTTP authentication: the examples of the RFCs, and both sides against each other and against urllib's."""

from __future__ import annotations

import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.protocols.http_auth import Challenge, Credentials, Gate, authorization, parse_challenges

RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={0}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
MUFASA = Credentials("Mufasa", "Circle of Life")
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=':"'), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    challenges = parse_challenges([RFC7616.format(algorithm)])
    said = authorization(challenges, MUFASA, "GET", "/dir/index.html", cnonce=CNONCE)
    assert said is not None
    assert f'response="{response}"' in said
    assert 'opaque="FQhe' in said


def test_the_example_of_rfc_7617() -> None:
    said = authorization([Challenge("basic", {})], Credentials("Aladdin", "open sesame"), "GET", "/", cnonce="")
    assert said == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_the_strongest_way_in_is_taken_and_none_is_none() -> None:
    several = parse_challenges(
        ['Basic realm="a, b=c", Digest realm="d", nonce="1", Digest nonce="2", algorithm=SHA-256']
    )
    assert [challenge.scheme for challenge in several] == ["basic", "digest", "digest"]
    assert several[0].fields["realm"] == "a, b=c"
    assert 'nonce="2"' in (authorization(several, MUFASA, "GET", "/", cnonce="c") or "")
    assert authorization(parse_challenges(["Negotiate"]), MUFASA, "GET", "/", cnonce="c") is None
    assert authorization(parse_challenges(['Digest algorithm=MD4, nonce="1"']), MUFASA, "GET", "/", cnonce="c") is None


@pytest.mark.parametrize("algorithm", ["MD5-sess", "SHA-256-sess"])
@pytest.mark.parametrize("qop", ["", ', qop="auth"'])
def test_a_session_variant_has_its_cnonce(algorithm: str, qop: str) -> None:
    (challenge,) = parse_challenges([f'Digest realm="r", nonce="n", algorithm={algorithm}{qop}'])
    assert 'cnonce="c"' in (authorization([challenge], MUFASA, "GET", "/", cnonce="c") or "")


@pytest.mark.parametrize("scheme", ["basic", "digest", "digest-old", "digest-sha256"])
@given(user=WORDS, password=WORDS, wrong=WORDS)
def test_a_gate_lets_in_who_knows_the_password_and_nobody_else(
    scheme: str, user: str, password: str, wrong: str
) -> None:
    gate = Gate(Credentials(user, password), scheme)
    challenges = parse_challenges([gate.challenge()])
    for given_password in (password, wrong):
        said = authorization(challenges, Credentials(user, given_password), "GET", "/a?b=c", cnonce="cc")
        assert said is not None
        assert gate.admits(said, "GET") == (given_password == password)
    assert not gate.admits("Digest x", "GET")
    assert not gate.admits("Basic %%%", "GET")
    assert not gate.admits('Digest nonce="0123456789abcdef", qop=auth', "GET")
    assert not gate.admits("", "GET")


def test_what_urllib_answers_is_admitted() -> None:
    gate = Gate(Credentials("u", "p w"))
    handler = urllib.request.AbstractDigestAuthHandler(urllib.request.HTTPPasswordMgr())
    handler.add_password("camera", "http://cam/", "u", "p w")
    request = urllib.request.Request("http://cam/stream")
    fields = dict(parse_challenges([gate.challenge()])[0].fields)
    said = handler.get_authorization(request, fields)
    assert said is not None
    assert gate.admits(f"Digest {said}", "GET")
