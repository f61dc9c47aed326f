"""HTTP Basic and Digest authentication, both sides: RFC 7617 and RFC 7616 (and RFC 2069, which old cameras speak).

Sans-IO; randomness is a parameter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Challenge", "Credentials", "Gate", "authorization", "parse_challenges"]

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),  # what the RFC calls it
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)[ \t]+(?=[^=\s,]+[ \t]*=)|\b(Basic|Negotiate|NTLM)\b(?![ \t]*=)", re.I)
_FIELD = re.compile(r'([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers.

    Attributes:
        scheme: `basic`, `digest` or another, in lower case.
        fields: its parameters, names in lower case: realm, nonce, qop, algorithm, opaque …
    """

    scheme: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password."""

    user: str
    password: str = field(repr=False)


def parse_challenges(headers: Sequence[str]) -> list[Challenge]:
    """The challenges in the values of WWW-Authenticate headers; several may stand in one."""
    found = []
    for value in headers:
        starts = list(_SCHEME.finditer(value))
        for number, start in enumerate(starts):
            end = starts[number + 1].start() if number + 1 < len(starts) else len(value)
            fields = {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
                for name, quoted, plain in _FIELD.findall(value[start.end() : end])
            }
            found.append(Challenge((start[1] or start[2]).lower(), fields))
    return found


def authorization(
    challenges: Sequence[Challenge], credentials: Credentials, method: str, uri: str, *, cnonce: str, count: int = 1
) -> str | None:
    """The Authorization header that answers the best of `challenges`: Digest before Basic; None when neither is there.

    Args:
        challenges: what the server offers.
        credentials: whose name and password.
        method: of the request, such as GET.
        uri: the request's target as it is sent.
        cnonce: random text, 16 hex digits or so.
        count: how often the server's nonce was used, with this request.
    """
    digests = [c for c in challenges if c.scheme == "digest" and _algorithm(c)[0] in _HASHES]
    digests.sort(key=lambda c: _algorithm(c)[0] != "SHA-256")
    if digests:
        return _digest(digests[0], credentials, method, uri, cnonce=cnonce, count=count)
    if any(challenge.scheme == "basic" for challenge in challenges):
        pair = f"{credentials.user}:{credentials.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")
    return None


def _algorithm(challenge: Challenge) -> tuple[str, bool]:
    """(hash, whether it is a -sess variant)."""
    name = challenge.fields.get("algorithm", "").upper() or "MD5"
    return name.removesuffix("-SESS"), name.endswith("-SESS")


def _response(fields: Mapping[str, str], secret: str, method: str, algorithm: tuple[str, bool]) -> str:
    """The response of RFC 7616, 3.4.1. `fields` are those of the Authorization header, `secret` user:realm:password."""
    digest = _HASHES[algorithm[0]]
    first = digest(secret.encode())
    if algorithm[1]:
        first = digest(f"{first}:{fields['nonce']}:{fields['cnonce']}".encode())
    second = digest(f"{method}:{fields['uri']}".encode())
    if "qop" not in fields:
        return digest(f"{first}:{fields['nonce']}:{second}".encode())
    middle = ":".join(fields[name] for name in ("nonce", "nc", "cnonce", "qop"))
    return digest(f"{first}:{middle}:{second}".encode())


def _digest(challenge: Challenge, who: Credentials, method: str, uri: str, *, cnonce: str, count: int) -> str:
    given = challenge.fields
    realm = given.get("realm", "")
    fields = {"username": who.user, "realm": realm, "nonce": given.get("nonce", ""), "uri": uri}
    if "auth" in re.split(r"[,\s]+", given.get("qop", "").lower()):
        fields |= {"qop": "auth", "nc": f"{count:08x}", "cnonce": cnonce}
    elif _algorithm(challenge)[1]:
        fields["cnonce"] = cnonce
    fields["response"] = _response(fields, f"{who.user}:{realm}:{who.password}", method, _algorithm(challenge))
    fields |= {name: given[name] for name in ("opaque", "algorithm") if given.get(name)}
    plain = {"qop", "nc", "algorithm"}
    quoted = (f"{name}={text}" if name in plain else f'{name}="{_escaped(text)}"' for name, text in fields.items())
    return "Digest " + ", ".join(quoted)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@dataclass(slots=True)
class Gate:
    """The server's side: what to ask for, and whether an answer is right.

    Attributes:
        credentials: who may come in.
        scheme: `basic`, `digest`, or `digest-sha256`; `digest-old` asks as RFC 2069 does, without qop.
        realm: what the door is called.
        nonce: random text of the server.
    """

    credentials: Credentials
    scheme: str = "digest"
    realm: str = "camera"
    nonce: str = "0123456789abcdef"

    def challenge(self) -> str:
        """The value of WWW-Authenticate."""
        if self.scheme == "basic":
            return f'Basic realm="{self.realm}"'
        qop = "" if self.scheme == "digest-old" else ', qop="auth"'
        algorithm = ", algorithm=SHA-256" if self.scheme == "digest-sha256" else ""
        return f'Digest realm="{self.realm}", nonce="{self.nonce}"{qop}{algorithm}'

    def admits(self, header: str, method: str) -> bool:
        """Whether the Authorization header lets the request in."""
        who = self.credentials
        scheme, _, rest = header.partition(" ")
        if scheme.lower() != self.scheme.partition("-")[0]:
            return False
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(rest, validate=True)
            except (binascii.Error, ValueError):
                return False
            return hmac.compare_digest(given, f"{who.user}:{who.password}".encode())
        fields = dict(parse_challenges([header])[0].fields) if "=" in rest else {}
        fields.setdefault("uri", "")
        if fields.get("nonce") != self.nonce or ("qop" in fields) == (self.scheme == "digest-old"):
            return False
        if "qop" in fields and not {"nc", "cnonce"} <= fields.keys():
            return False
        algorithm = ("SHA-256" if self.scheme == "digest-sha256" else "MD5", False)
        wanted = _response(fields, f"{who.user}:{self.realm}:{who.password}", method, algorithm)
        return hmac.compare_digest(wanted, fields.get("response", "")) and fields.get("username") == who.user
